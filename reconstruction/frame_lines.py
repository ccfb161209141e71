"""How relative depth lies over the robot's in every frame of a clip, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from reconstruction.line import fit_line
from reconstruction.ties import Ties

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
# Side in pixels of blocks within which errors count as one: networks' errors are smooth.
BLOCK = 16
# Robot pixels: for a clip's fit, and for that of one frame by itself; and how many suffice.
FEWEST, _FEWEST_OF_FRAME, _ENOUGH = 300, 150, 20_000
# Frames fitted alone, to tell their drift from chance.
_FEWEST_ALONE = 8
# No network is better than this, whatever it says of a robot that is one flat patch.
_LEAST_SIGMA = 1e-4


@dataclass(frozen=True)
class FrameLines:
    """unit = slope x + offset in each frame, x being depth or its inverse.

    Attributes:
        slope, offset: (T,).
        sigma: of relative errors of x.
        leverage: (T, 2, 2) covariance of (slope, offset) / slope, for a sigma of 1.
        borrowed: (T,) relative error that comes of a frame having its line from others.
    """

    slope: Floats
    offset: Floats
    sigma: float
    leverage: Floats
    borrowed: Floats


def fit_frames(unit: Floats, x: Floats, fitted: Mask, ties: Ties | None) -> FrameLines | str:
    """Lines for all frames, or why there are none.

    Args:
        unit, x: (T, H, W) relative depth, and what it stands for; x matters where ``fitted``.
        fitted: (T, H, W) robot pixels to fit to.
        ties: how frames compare, which leaves one line for all that are tied; None before a moving
            camera. A frame with neither ties nor robot has its line from its neighbours.
    """
    count = len(unit)
    slope, offset = np.full((2, count), np.nan)
    leverage = np.full((count, 2, 2), np.nan)
    sigmas = []
    groups = [np.array([t]) for t in range(count)]
    gain, level = np.ones(count), np.zeros(count)
    if ties is not None:
        tied = np.isfinite(ties.gain)
        gain, level = np.where(tied, ties.gain, 1), np.where(tied, ties.offset, 0)
        groups = [np.flatnonzero(tied), *(np.array([t]) for t in np.flatnonzero(~tied))]
    for frames in groups:
        at = np.nonzero(fitted[frames])
        if len(at[0]) < (FEWEST if len(frames) > 1 else _FEWEST_OF_FRAME):
            continue
        own = ((unit[frames] - level[frames, None, None]) / gain[frames, None, None])[at]
        true = x[frames][at]
        few = slice(None, None, max(1, len(true) // _ENOUGH))
        # Errors of depth networks grow with depth (and those of its inverse with that).
        line = fit_line(true[few], own[few], unit=true[few])
        if line is None or line.slope <= 0:
            continue
        slope[frames] = gain[frames] * line.slope
        offset[frames] = gain[frames] * line.offset + level[frames]
        leverage[frames] = _leverage(true, at)
        sigmas.append((len(frames), max(line.sigma / line.slope, _LEAST_SIGMA)))
    own = np.isfinite(slope)
    # Frames that are tied stand or fall together; without them the others have no neighbours.
    if not own.any() or (ties is not None and not own[np.isfinite(ties.gain)].all()):
        return "relative depth does not rise with the robot's"
    steps, borrowed = np.arange(count), np.zeros(count)
    frames_of, values = zip(*sigmas, strict=True)
    sigma = float(np.average(values, weights=frames_of))
    alone = own if ties is None else own & ~np.isfinite(ties.gain)
    if alone.sum() >= _FEWEST_ALONE:
        slope[alone], offset[alone] = _shrunk(
            slope[alone], offset[alone], sigma**2 * leverage[alone].mean(0)
        )
    borrowed[~own] = np.std(slope[own]) / np.mean(slope[own])
    slope, offset = (np.interp(steps, steps[own], v[own]) for v in (slope, offset))
    nearest = steps[own][np.abs(steps[:, None] - steps[own]).argmin(1)]
    return FrameLines(slope, offset, sigma, leverage[nearest], borrowed)


def _shrunk(slope: Floats, offset: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Lines (n,) drawn to their mean as far as their scatter is no more than chance.

    Empirical Bayes (Efron and Morris 1973), in the directions in which scatter and ``error``, the
    (2, 2) covariance that chance gives (slope, offset) / slope, are both diagonal: what a frame
    says well is kept, what it says badly follows the other frames.
    """
    unit = np.median(slope)
    lines = np.stack([slope, offset]) / unit
    mean = np.median(lines, axis=1, keepdims=True)
    scatter = (lines - mean) @ (lines - mean).T / len(slope)
    variance, direction = eigh(scatter, error + 1e-12 * np.trace(error) * np.eye(2))
    kept = np.clip(1 - 1 / np.maximum(variance, 1e-12), 0, None)
    back = np.linalg.inv(direction.T)
    lines = mean + back @ (kept[:, None] * (direction.T @ (lines - mean)))
    return unit * lines[0], unit * lines[1]


def _leverage(x: Floats, at: tuple[NDArray[np.integer], ...]) -> Floats:
    """(2, 2) covariance of a line's (slope, offset) / slope, of relative errors of sigma 1.

    Errors are smooth over the image and partly stay in place over time, so a block counts once,
    in however many frames and pixels it is seen.
    """
    design = np.stack([np.ones_like(x), 1 / x])
    blocks = len(np.unique(at[1] // BLOCK * 100_000 + at[2] // BLOCK))
    return np.linalg.pinv(design @ design.T / len(x)) / blocks

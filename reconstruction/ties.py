"""What rests before a fixed camera ties its frames together: one background, seen in each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.line import biweight, fit_line, robust_sigma

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
# Levels of 255 by which a resting pixel may differ from its usual colour: JPEG's noise, smoothed.
_SAME_COLOUR = 12
# Pixels to keep off the robot's outline, where networks blend its depth into the background's.
_OFF_ROBOT = 5
# Of a frame's pixels, for a line through them or a median; and how many suffice, evenly spread.
_FEWEST, _ENOUGH = 500, 4000
# Of `sparse` pixels, for a median.
FEWEST_SPARSE = 50
# Frames that suffice for a pixel's usual colour or depth; and rows at once, that stay in the cache.
_FRAMES, _ROWS = 32, 8
# A pixel has a background where it was seen in this share of frames.
_SEEN = 0.25
# A resting pixel's depth is the background's within this many sigma; wide, as colour is asked too.
_SAME_DEPTH = 6.0


@dataclass(frozen=True)
class Ties:
    """How frames compare with their common background.

    Attributes:
        gain, offset: (T,) frame = gain x background + offset; NaN where too little rests.
        background: (H, W) in the scale of one of the frames, NaN where it is never seen.
        resting: (T, H, W) pixels that look as they usually do and are off the robot.
    """

    gain: Floats
    offset: Floats
    background: Floats
    resting: Mask


def tie_frames(relative: Floats, rgb: NDArray[np.uint8], robot: Mask) -> Ties:
    """Align every frame's relative depth (T, H, W) by what rests; NaN is unknown.

    Args:
        rgb: (T, H, W, 3).
        robot: (T, H, W) where the robot is, hidden or not.
    """
    resting = resting_pixels(rgb, robot) & np.isfinite(relative)
    start = int(resting.sum((1, 2)).argmax())
    background = np.where(resting[start], relative[start], np.nan)
    # Against one frame first, then against the median of all, which has less noise and more reach.
    for _ in range(2):
        gain, offset = _align(relative, background, resting)
        background = _median(_undrift(relative, gain, offset), resting)
    gain, offset = _align(relative, background, resting)
    return Ties(gain, offset, background, resting)


def resting_pixels(rgb: NDArray[np.uint8], robot: Mask) -> Mask:
    """(T, H, W) pixels of a camera at rest that look as they usually do and are off the robot."""
    return _looks_as_usual(rgb) & ~_grown(robot)


def steady(level: Floats, background: Floats, resting: Mask) -> None:
    """Logarithms of depth (T, H, W) with resting pixels drawn to the background's (H, W), in place.

    A pixel that departs from it by more than noise does keeps its own depth, and there is no
    threshold at which it would jump.
    """
    few, known = sparse(background.shape), np.isfinite(background)
    for frame, rests in zip(level, resting, strict=True):
        usable = rests & known
        gap = np.where(usable, frame - background, 0)
        told = gap[few][usable[few]]
        if len(told) < FEWEST_SPARSE:
            told = gap[usable]
        told = told[np.isfinite(told)]
        sigma = robust_sigma(told) if len(told) else 0.0
        if sigma > 0:
            frame -= biweight(gap, _SAME_DEPTH * sigma) * gap


def sparse(size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of (H, W), evenly spread: enough pixels for a median over all."""
    step = max(1, round(np.sqrt(size[0] * size[1] / _ENOUGH)))
    return np.s_[::step, ::step]


def spread_out(count: int) -> slice:
    """Frames of a clip, evenly spread: enough for a pixel's median over all."""
    return slice(None, None, -(-count // _FRAMES))


def _looks_as_usual(rgb: NDArray[np.uint8]) -> Mask:
    smooth = np.empty(rgb.shape, np.uint8)
    for frame, out in zip(rgb, smooth, strict=True):
        cv2.blur(frame, (3, 3), dst=out)
    told = smooth[spread_out(len(smooth))]
    rows = range(0, rgb.shape[1], _ROWS)
    usual = np.concatenate([_middle(told[:, row : row + _ROWS]) for row in rows])
    limit = (float(_SAME_COLOUR),) * 3
    near = np.empty(rgb.shape[:3], bool)
    for frame, out in zip(smooth, near, strict=True):
        out[:] = cv2.inRange(cv2.absdiff(frame, usual), (0.0,) * 3, limit)
    return near


def _middle(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(...) the (n // 2)-th smallest of values (n, ...), bit by bit from the highest: exact, and
    a multiple as fast as sorting along the first axis.
    """
    found = np.zeros(values.shape[1:], np.uint8)
    counts = np.min_scalar_type(len(values))
    for bit in 1 << np.arange(7, -1, -1, dtype=np.uint8):
        raised = found | bit
        below = (values < raised).sum(0, dtype=counts)
        found = np.where(below <= len(values) // 2, raised, found)
    return found


def _grown(mask: Mask) -> Mask:
    kernel = np.ones((2 * _OFF_ROBOT + 1,) * 2, np.uint8)
    return np.stack([cv2.dilate(frame.view(np.uint8), kernel) for frame in mask]).view(bool)


def _align(relative: Floats, background: Floats, resting: Mask) -> tuple[Floats, Floats]:
    found = np.full((2, len(relative)), np.nan)
    for t, (frame, rests) in enumerate(zip(relative, resting, strict=True)):
        at = np.flatnonzero(rests & np.isfinite(background))
        if len(at) < _FEWEST:
            continue
        at = at[:: max(1, len(at) // _ENOUGH)]
        line = fit_line(background.flat[at], frame.flat[at])
        if line is not None and line.slope > 0:
            found[:, t] = line.slope, line.offset
    return found[0], found[1]


def _undrift(relative: Floats, gain: Floats, offset: Floats) -> Floats:
    return (relative - offset[:, None, None]) / gain[:, None, None]


def _median(aligned: Floats, resting: Mask) -> Floats:
    """(H, W) median over resting frames; NaN where there are too few."""
    ordered = np.sort(np.where(resting, aligned, np.nan), axis=0)  # NaN last
    count = np.isfinite(ordered).sum(0)
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    return np.where(count >= max(1, _SEEN * len(aligned)), middle, np.nan)

"""Where along a line across the predicted outline the image's own outline lies."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from reconstruction.camera.backdrop import Backdrop
from reconstruction.camera.contours import Lines, profiles

Floats = NDArray[np.floating]
_BINS = 12  # a colour channel
_RING = 12  # pixels around the robot whose colours count as its background
_STEP = 0.5
# Weights of a line's two cues, log odds of colours a pixel and strength of the edge, by how far it
# is looked: from afar colours lead, close by the edge does.
_COLOUR, _EDGE = 0.4, 4.0
_EDGE_HALF = 15.0  # grey levels over three channels at which an edge counts half
# Matting: share of a band's slope that is carried on across the edge. Shading does run on (0 draws
# outlines in by a tenth of a pixel), but bands reach into the blurred edge (1 holds outlines where
# they were taken to be).
_SLOPE = 0.6
# Pixels within which an edge is measured -> by what factor offsets come out too short, as the bands
# reach into an edge off the middle. Measured by moving lines by half a pixel on degraded twins.
_GAIN = {3.0: 0.87, 1.5: 0.55}
COARSE, FINE = _GAIN
_FINE_STEP = 0.25
# A backdrop is taken where it scatters at most this much more than a straight line, plus noise in
# squared grey levels: shadows and what was moved make it another.
_WORSE, _MORE = 1.5, 50.0
_NOISE = 100.0  # squared grey levels over three channels: JPEG's and the sensor's
# Grey levels a channel by which a pixel without the robot scatters about the backdrop, and how
# often it is something else: a shadow, what was moved.
_SCATTER, _OTHERWISE = 12.0, 0.2
_PEAK = (256 / _BINS) ** 3 / ((2 * np.pi) ** 1.5 * _SCATTER**3)  # share of a bin at no distance


def colour_shares(
    images: NDArray[np.float32], part: NDArray[np.uint8], links: int
) -> NDArray[np.float32]:
    """(2, links, bins) how often colours are a link's own, and the background's near that link.

    Histograms over all frames, after Tjaden et al. (2017) and Stoiber et al. (2020), who keep one
    a model: links differ in colour, and so does what is behind each.
    """
    size = _BINS**3
    own, other = np.zeros((links, size)), np.zeros((links, size))
    square = np.ones((3, 3), np.uint8)
    for image, parts in zip(images, part, strict=True):
        mask = (parts > 0).astype(np.uint8)
        if not mask.any():
            continue
        colours = _bin(image)
        core = cv2.erode(mask, square, iterations=2) > 0
        own += _count(parts[core].astype(np.int64) - 1, colours[core], links)
        away, nearest = cv2.distanceTransformWithLabels(
            1 - mask, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        link_of_label = np.zeros(nearest.max() + 1, np.int64)
        link_of_label[nearest[mask > 0]] = parts[mask > 0].astype(np.int64) - 1
        ring = (away > 2) & (away < _RING)
        other += _count(link_of_label[nearest[ring]], colours[ring], links)
    return np.stack([_share(own), _share(other)]).astype(np.float32)


def region_offsets(
    images: NDArray[np.float32],
    lines: Lines,
    shares: NDArray[np.float32],
    reach: float,
    backdrop: Backdrop | None = None,
) -> tuple[Floats, Floats]:
    """Mean and variance (N,) in pixels of the outline's place, within ``reach`` of the predicted.

    The posterior of a step from the link's colours to the background's, and of an edge there.

    Args:
        shares: as `colour_shares` gives them.
        backdrop: what other frames show behind the robot: where it is known, the background has
            its colour there, and not any that is seen around the robot.
    """
    offsets = np.arange(-reach - 2, reach + 2 + _STEP, _STEP)
    colours = profiles(images, lines, offsets)
    own, other = shares[:, lines.link[:, None], _bin(colours)]
    if backdrop is not None:
        behind, known = backdrop.along(lines, offsets)
        gap = ((colours - behind) ** 2).sum(-1)
        there = (1 - _OTHERWISE) * _PEAK * np.exp(-0.5 * gap / _SCATTER**2)
        other = np.where(known, there + _OTHERWISE * other, other)
    evidence = np.log(own / other).clip(-3, 3).astype(np.float64)
    inner = np.cumsum(evidence, 1) - evidence / 2
    region = (2 * inner - evidence.sum(1, keepdims=True)) * _STEP
    edge = np.zeros(colours.shape[:2])
    k = round(1 / _STEP)
    edge[:, k:-k] = np.linalg.norm(colours[:, 2 * k :] - colours[:, : -2 * k], axis=-1)
    within = np.abs(offsets) <= reach
    belief = (_COLOUR * region + _EDGE * edge / (edge + _EDGE_HALF))[:, within]
    weight = np.exp(belief - belief.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ offsets[within]
    variance = (weight * (offsets[within] - mean[:, None]) ** 2).sum(1)
    return mean, variance


def matte_offsets(
    images: NDArray[np.float32],
    lines: Lines,
    reach: float = FINE,
    backdrop: Backdrop | None = None,
) -> tuple[Floats, Floats]:
    """Offset (N,) of the image's outline in pixels, to a fraction of one, and its weight 0..1.

    A pixel across an edge mixes robot and background by the share that each covers. Both colours
    are extrapolated linearly from either side (shading runs on to the outline), the background's
    only where no backdrop tells it; the integral of the share along the line is where the edge is,
    blurred or not.

    Args:
        reach: `COARSE` or `FINE`.
        backdrop: what other frames show behind the robot.
    """
    near, far = 2 / 3 * reach, reach + 2
    offsets = np.arange(-far, far + 1e-6, _FINE_STEP)
    colours = profiles(images, lines, offsets)
    front, front_noise = _extrapolate(colours, offsets, offsets <= -near)
    back, back_noise = _extrapolate(colours, offsets, offsets >= near)
    if backdrop is not None:
        band = offsets >= near
        behind = backdrop.behind(lines, offsets)
        gap = colours[:, band] - behind[:, band]
        level = gap.mean(1, keepdims=True)
        scatter = ((gap - level) ** 2).mean(1).sum(1)
        holds = scatter < _WORSE * back_noise + _MORE  # False where unknown
        back = np.where(holds[:, None, None], behind + level, back)
        back_noise = np.where(holds, scatter, back_noise)
    contrast = front - back
    power = (contrast**2).sum(-1)
    share = (((colours - back) * contrast).sum(-1) / np.maximum(power, 100.0)).clip(-0.5, 1.5)
    share = share[:, np.abs(offsets) <= reach]
    place = (share[:, 1:] + share[:, :-1]).sum(1) / 2 * _FINE_STEP - reach
    clear = power[:, len(offsets) // 2] / (front_noise + back_noise + _NOISE)
    return place / _GAIN[reach], clear / (clear + 3)


def _extrapolate(
    colours: Floats, offsets: Floats, band: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Colours (N, K, 3) carried on from a band, and their scatter about a straight line (N,)."""
    x = offsets[band]
    seen = colours[:, band]
    middle = seen.mean(1)
    slope = np.einsum("j,njc->nc", (x - x.mean()) / ((x - x.mean()) ** 2).sum(), seen)
    line = middle[:, None] + slope[:, None] * (x - x.mean())[:, None]
    scatter = ((seen - line) ** 2).mean(1).sum(1)
    carried = middle[:, None] + _SLOPE * slope[:, None] * (offsets - x.mean())[:, None]
    return carried, scatter


def _bin(colours: Floats) -> NDArray[np.int64]:
    index = (colours * (_BINS / 256)).astype(np.int64).clip(0, _BINS - 1)
    return (index[..., 0] * _BINS + index[..., 1]) * _BINS + index[..., 2]


def _count(link: NDArray[np.int64], colour: NDArray[np.int64], links: int) -> Floats:
    size = _BINS**3
    counts = np.bincount(link * size + colour, minlength=links * size)
    return counts.reshape(links, size).astype(np.float64)


def _share(counts: Floats) -> Floats:
    """Smoothed, with a little of all links' colours for those of which little is seen."""
    cube = counts.reshape(-1, _BINS, _BINS, _BINS)
    for axis in (1, 2, 3):
        cube = gaussian_filter1d(cube, 0.7, axis=axis)
    flat = cube.reshape(len(counts), -1)
    everywhere = flat.sum(0)
    flat = flat + 0.05 * flat.sum(1, keepdims=True) * everywhere / max(everywhere.sum(), 1.0)
    return np.asarray(flat / (flat.sum(1, keepdims=True) + 1e-6) + 2e-4)

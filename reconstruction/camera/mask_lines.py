"""Where along lines across the predicted outline a learned mask ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.contours import Lines, profiles

Floats = NDArray[np.floating]
_STEP = 0.5
# Pixels either side of a mask's edge that tell how clearly it goes from robot to background.
_SIDE = 2.0
# Standard deviation of a clear edge in pixels. Networks draw outlines on a grid some 1.3 pixels
# wide, and err alike in all frames, which lines by themselves do not know.
_SPREAD = 2.0
_LEAST_REACH = 4.0  # pixels: a mask may lie further off than matting looks
_TUKEY = 3.0  # in standard deviations


def mask_offsets(shares: NDArray[np.float32], lines: Lines, reach: float) -> tuple[Floats, Floats]:
    """Offset (N,) in pixels of where the mask crosses one half, nearest to the line's middle on its
    way out, and its weight in 1/px²: 0 for lines inside the outline, or where nothing ends.

    Args:
        shares: (n, h, w) the robot's share 0..1; NaN where unknown.
        reach: pixels that are searched.
    """
    offsets = np.arange(-reach - _SIDE, reach + _SIDE + _STEP, _STEP)
    share = profiles(shares, lines, offsets).astype(np.float64)
    before, after = share[:, :-1], share[:, 1:]
    ends = (before >= 0.5) & (after < 0.5)
    part = (before - 0.5) / np.maximum(before - after, 1e-6)
    place = np.where(ends, offsets[:-1] + part * _STEP, np.inf)
    nearest = np.abs(place).argmin(1)
    rows = np.arange(len(lines))
    place = place[rows, nearest]
    found = np.abs(place) <= reach
    side = round(_SIDE / _STEP)
    inside = share[rows, (nearest - side).clip(0)]
    outside = share[rows, (nearest + 1 + side).clip(max=len(offsets) - 1)]
    clear = np.where(found & ~lines.inner, np.nan_to_num(inside - outside).clip(0, 1), 0)
    return np.where(found, place, 0), clear / _SPREAD**2


def join_masks(
    offset: Floats, weight: Floats, shares: NDArray[np.float32], lines: Lines, reach: float
) -> tuple[Floats, Floats]:
    """Offsets and weights (N,) of lines, with what masks say: as two measurements of one line."""
    other, power = mask_offsets(shares, lines, max(reach, _LEAST_REACH))
    known = power > 0
    if not known.any():
        return offset, weight
    scale = _TUKEY * max(1.4826 * float(np.median(np.abs(other[known]))), _SPREAD)
    power = power * np.where(np.abs(other) < scale, (1 - (other / scale) ** 2) ** 2, 0)
    both = weight + power
    return (weight * offset + power * other) / np.maximum(both, 1e-9), both

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
# In the last steps masks say which of the edges near a line are the robot's: pixels that are
# searched, and by which another way may differ, one sigma.
NEAR, _AGREES = 6.0, 1.0
# And they are a way of their own: pixels of deviation, how many times lines err together, what
# those share that lie at one place, pixels where robust weights fall to 0. Of deviations of 2, 1
# and 0.6 the second left halves of a real view's frames nearest together, and twins' cameras as
# near the truth as without masks (by masks alone, 4 mm off).
_OWN_SPREAD, _CORRELATION, _SAME_PLACE, _OWN_REACH = 1.0, 3.0, 0.3, 4.0


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


def agreement(offset: Floats, other: Floats, power: Floats) -> Floats:
    """(N,) 0..1, what is left of the weight of offsets (N,) that lie elsewhere than masks' edges.

    Args:
        other, power: (N,) as of `mask_offsets`; where masks say nothing, all is left.
    """
    clear = power * _SPREAD**2
    return np.asarray(1 - clear * (1 - np.exp(-0.5 * ((offset - other) / _AGREES) ** 2)))


def add_masked(
    joined: tuple[Floats, Floats, Floats],
    rows: Floats,
    other: Floats,
    power: Floats,
    together: NDArray[np.integer],
    own: int,
) -> tuple[Floats, Floats, Floats]:
    """What `two_ways.join_learned` gave of N lines, followed by what masks say of them.

    Args:
        joined: its rows (M, C), offsets and weights (M,).
        rows: (N, D) of the lines, of which the columns from ``own`` on are links' insets: masks
            have insets of their own.
        other, power: (N,) as of `mask_offsets`.
        together: (N,) how many lines lie at each one's place.
    """
    before, offset, weight = joined
    insets = rows.shape[1] - own
    first = np.hstack([before, np.zeros((len(before), insets))])
    skipped = np.zeros((len(rows), before.shape[1] - own))
    second = np.hstack([rows[:, :own], skipped, rows[:, own:]])
    power = power * _SPREAD**2 / (_OWN_SPREAD * _CORRELATION) ** 2
    power = power / (1 + _SAME_PLACE * (together - 1))
    power = power * np.where(np.abs(other) < _OWN_REACH, (1 - (other / _OWN_REACH) ** 2) ** 2, 0)
    return (
        np.concatenate([first, second]),
        np.concatenate([offset, other]),
        np.concatenate([weight, power]),
    )

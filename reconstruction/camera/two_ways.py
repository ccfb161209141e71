"""Contours localised in two ways at once: by matting, and by the learned localiser.

Either errs by a few tenths of a pixel, matting where surfaces are shaded, the network where they
look like none that it saw. Both count, half each: on twins nearly as near to the truth as by the
network alone, on real views about as steady as by matting alone (docs/camera.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.outline_net import learned_offsets
from reconstruction.camera.strips import Strips

Floats = NDArray[np.floating]
# Of each way's information. Matting's makes up for lines: 150 a frame here, 250 alone, where a
# frame has as many (DROID's and RT-1's have).
_MATTED, _LEARNED = 0.5 * 250 / 150, 0.5
# The network's, where `refine` has matting's: how many times lines err together, links' insets
# (pixels; the network knows shading), and what lines share that lie at one place.
_LEARNED_CORRELATION, LEARNED_INSET, _LEARNED_SAME_PLACE = 2.0, 0.15, 0.3


def join_learned(
    rows: Floats,
    offset: Floats,
    weight: Floats,
    strips: Strips,
    together: NDArray[np.integer],
    own: int,
    reach: float,
) -> tuple[Floats, Floats, Floats]:
    """What matting says of N lines, followed by what the network says of the same.

    Args:
        rows: (N, C) of the least squares, of which the columns from ``own`` on are links' insets.
        offset, weight: (N,) pixels and 1/px², by matting.
        strips: across the lines.
        together: (N,) how many lines lie at each one's place.
        reach: pixels; robust weights fall to 0 there.

    Returns:
        Rows (2 N, C + C - own): the network's insets are others. Offsets and weights (2 N,).
    """
    told, trust = learned_offsets(strips)
    trust = trust / _LEARNED_CORRELATION**2 / (1 + _LEARNED_SAME_PLACE * (together - 1))
    trust = trust * np.where(np.abs(told) < reach, (1 - (told / reach) ** 2) ** 2, 0)
    none = np.zeros((len(rows), rows.shape[1] - own))
    matted = np.hstack([rows, none])
    learned = np.hstack([rows[:, :own], none, rows[:, own:]])
    return (
        np.concatenate([matted, learned]),
        np.concatenate([offset, told]),
        np.concatenate([_MATTED * weight, _LEARNED * trust]),
    )

"""Contours localised in two ways at once: by matting, and by the learned localiser.

Either errs by tenths of a pixel, matting where surfaces are shaded, the network where they look
like none that it saw. Errors of both kinds keep to a side of a link: how far each way contradicts
itself from side to side tells which of them to believe (docs/camera.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.contours import Lines
from reconstruction.camera.mask_lines import agreement
from reconstruction.camera.outline_net import learned_offsets
from reconstruction.camera.strips import Strips

Floats = NDArray[np.floating]
# Of each way's information, where it is believed alone. Matting's makes up for lines: 150 a frame
# here, 250 alone, where a frame has as many (DROID's and RT-1's have).
_MATTED, _LEARNED = 250 / 150, 1.0
_SIDES = 8  # that contours of a link face
# How many times the network's variance is taken: what it never saw may mislead it from all sides
# alike. On twins it is believed to some 70 %, on real views to some 15.
_DOUBT = 2.0
_SILENT = 0.01  # share of the other's weight below which a way says nothing
# The network's, where `refine` has matting's: how many times lines err together, links' insets
# (pixels; the network knows shading), and what lines share that lie at one place.
_LEARNED_CORRELATION, LEARNED_INSET, _LEARNED_SAME_PLACE = 2.0, 0.15, 0.3


def join_learned(
    rows: Floats,
    offset: Floats,
    weight: Floats,
    strips: Strips,
    lines: Lines,
    together: NDArray[np.integer],
    own: int,
    reach: float,
    masked: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """What matting says of N lines, followed by what the network says of the same.

    Args:
        rows: (N, C) of the least squares, of which the columns from ``own`` on are links' insets.
        offset, weight: (N,) pixels and 1/px², by matting.
        strips: across the lines.
        lines: whose normals and links they are.
        together: (N,) how many lines lie at each one's place.
        reach: pixels; robust weights fall to 0 there.
        masked: (N,) offsets and weights by masks, which the network's must agree with; ``weight``
            is of what does.

    Returns:
        Rows (2 N, C + C - own): the network's insets are others. Offsets and weights (2 N,).
    """
    told, trust = learned_offsets(strips)
    trust = trust / _LEARNED_CORRELATION**2 / (1 + _LEARNED_SAME_PLACE * (together - 1))
    trust = trust * np.where(np.abs(told) < reach, (1 - (told / reach) ** 2) ** 2, 0)
    if masked is not None:
        trust = trust * agreement(told, *masked)
    believed = _belief(lines, rows[:, :own], (offset, weight), (told, trust))
    none = np.zeros((len(rows), rows.shape[1] - own))
    matted = np.hstack([rows, none])
    learned = np.hstack([rows[:, :own], none, rows[:, own:]])
    return (
        np.concatenate([matted, learned]),
        np.concatenate([offset, told]),
        np.concatenate([(1 - believed) * _MATTED * weight, believed * _LEARNED * trust]),
    )


def _belief(
    lines: Lines, rows: Floats, matting: tuple[Floats, Floats], network: tuple[Floats, Floats]
) -> float:
    """How far the network is believed, 0 to 1: by the square of variances, which decides sooner.

    Each way's offsets are first fitted by ``rows``, or a pose that is off, or was fitted to one of
    both, would look like contradiction.
    """
    heard, also = matting[1].sum(), network[1].sum()
    if min(heard, also) < _SILENT * max(heard, also):
        return float(also > heard)
    matte, net = (_by_side(lines, _left(rows, *way), way[1]) for way in (matting, network))
    return 1 / (1 + (_DOUBT * net / max(matte, 1e-9)) ** 2)


def _left(rows: Floats, offset: Floats, weight: Floats) -> Floats:
    """What least squares by ``rows`` leaves of offsets."""
    information = rows.T @ (weight[:, None] * rows)
    damped = information + np.diag(1e-6 * np.diag(information) + 1e-9)
    return np.asarray(offset - rows @ np.linalg.solve(damped, rows.T @ (weight * offset)))


def _by_side(lines: Lines, offset: Floats, weight: Floats) -> float:
    """Variance, px², of offsets' means by link and side, about each link's own (its inset)."""
    turn = np.arctan2(lines.normal[:, 1], lines.normal[:, 0]) / (2 * np.pi) + 0.5
    side = np.minimum((turn * _SIDES).astype(int), _SIDES - 1)
    links, link = np.unique(lines.link, return_inverse=True)
    place, count = link * _SIDES + side, len(links) * _SIDES
    total = np.bincount(place, weight, count).reshape(-1, _SIDES)
    pull = np.bincount(place, weight * offset, count).reshape(-1, _SIDES)
    mean = pull / np.maximum(total, 1e-12)
    own = pull.sum(1) / np.maximum(total.sum(1), 1e-12)
    return float((total * (mean - own[:, None]) ** 2).sum() / max(total.sum(), 1e-12))

"""Steps of least squares made longer where earlier ones show that they fall short.

An outline that is off by a pixel is told to be off by less: some lines see nothing of it, others an
edge that stays where it is. Along what the outline holds loosely a step then goes a fourth of the
way or less (eight real half views), and eight steps end millimetres before the goal. How steps
change from pose to pose tells by how much they fall short, and so where they lead: Broyden's idea,
with several secants at a time and a prior, for steps err by the lines that chance drew (as in
Anderson's acceleration; Fang and Saad, Numer. Linear Algebra Appl. 16, 2009).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.estimate import Estimate, between

Floats = NDArray[np.floating]
# What a step errs by, in standard deviations of the first one's covariance; what slopes (the share
# of its way that a step goes) scatter by about the usual one; and the slopes that are believed.
# Chosen on those eight, from three starts each: after eight steps 0.9 mm from where forty lead
# (without, 1.9), begun 5 to 17 mm further off 2.4 (4.1).
_STEP_ERROR, _SLOPE_SPREAD, _SLOPES = 0.2, 0.3, (0.25, 1.2)
_REMEMBERED = 5  # steps; older ones were made where lines saw other edges


class Secants:
    """Of steps of one kind.

    Args:
        first: where the first began; its frame is that of all.
        covariance: (8, 8) of an `Estimate`, in whose standard deviations all is measured.
        haste: what steps were made longer by until more is known.
    """

    def __init__(self, first: Estimate, covariance: Floats, haste: float) -> None:
        size = np.sqrt(np.diag(covariance))
        likeness = covariance / np.outer(size, size) + 1e-9 * np.eye(len(size))
        self._first, self._haste = first, haste
        self._root = size[:, None] * np.linalg.cholesky(likeness)
        self._seen: list[tuple[Floats, Floats]] = []

    def longer(self, before: Estimate, after: Estimate) -> Estimate:
        """``after`` a step from ``before``, moved to where that step leads to."""
        at = between(self._first, before)
        step = (between(self._first, after) - at) / self._haste
        here, told = np.linalg.solve(self._root, np.stack([at, step], 1)).T
        self._seen = [*self._seen[1 - _REMEMBERED :], (here, told)]
        slope, ways = np.linalg.eigh(self._slopes())
        there = at + self._root @ (ways @ (ways.T @ told / slope.clip(*_SLOPES)))
        return replace(self._first.moved(there), covariance=after.covariance)

    def _slopes(self) -> Floats:
        """(8, 8) by how much a step becomes shorter with each deviation nearer to the goal."""
        moves, steps = (np.array(values).T for values in zip(*self._seen, strict=True))
        moves = moves - moves.mean(1, keepdims=True)  # steps to one unknown goal
        doubt = (_STEP_ERROR / _SLOPE_SPREAD) ** 2 * np.eye(len(moves))
        slopes = (doubt / self._haste - steps @ moves.T) @ np.linalg.inv(doubt + moves @ moves.T)
        return np.asarray(slopes + slopes.T) / 2

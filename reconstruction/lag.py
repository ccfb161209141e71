"""By how many steps an observed motion lags behind a logged one, and how sure that is.

What is observed need not be in the log's units: at each lag it is explained by least squares from
the logged motion, and the lag that leaves least unexplained wins. Blocks of steps are drawn anew
many times (block bootstrap, Kuensch 1989) to see whether it still wins on part of the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# Lags are tried at this share of a step; a parabola through the best three finds the rest.
SUBSTEPS = 4
# Residuals of neighbouring steps resemble each other. Short, as Bridge and RT-1 leave few blocks.
_BLOCK = 3
_DRAWS = 200
# Share of a column's own variance added to its square: keeps a direction in which the robot
# hardly moves from explaining noise.
_RIDGE = 0.01


@dataclass(frozen=True)
class BestLag:
    """The lag that explains an observation best.

    Attributes:
        lag: steps, positive where what is observed is late.
        sigma: steps within which 68.3 % of the draws find it again.
        astray: share of the draws that find another, more than half a step away.
        at_edge: it is the first or the last that was tried: the true one may lie beyond.
        explained: share of the observed variance that the logged motion explains at it.
    """

    lag: float
    sigma: float
    astray: float
    at_edge: bool
    explained: float


@dataclass(frozen=True)
class LagProfile:
    """How badly each lag explains an observation; profiles of one log add up.

    Attributes:
        lags: (K,) steps, evenly spaced, positive where what is observed is late.
        cost: (1 + draws, K) minus twice the log likelihood of independent Gaussian residuals, up to
            a constant; the first row is of all steps, the others of draws.
        explained: (K,) share of the observed variance, mean of its signals, over all steps.
    """

    lags: Floats
    cost: Floats
    explained: Floats

    def __add__(self, other: LagProfile) -> LagProfile:
        """Both observations together; ``explained`` becomes the larger."""
        explained = np.maximum(self.explained, other.explained)
        return LagProfile(self.lags, self.cost + other.cost, explained)

    def best(self) -> BestLag:
        """The lag of all steps, and how it fares over the draws."""
        found = _vertices(self.cost, self.lags)
        miss = np.abs(found[1:] - found[0])
        at_edge = int(self.cost[0].argmin()) in (0, len(self.lags) - 1)
        return BestLag(
            lag=float(found[0]),
            sigma=float(np.quantile(miss, 0.683)),
            astray=float((miss > 0.5).mean()),
            at_edge=at_edge,
            explained=float(self.explained[self.cost[0].argmin()]),
        )


def profile_lags(observed: Floats, logged: Floats, reach: int) -> LagProfile:
    """Explain ``observed`` by ``logged`` at every lag from -reach to +reach steps.

    Args:
        observed: (n, m) signals of n consecutive intervals between steps, none of them constant.
        logged: (F, p) motion over one step that starts at every 1 / `SUBSTEPS` of a step, from
            ``reach`` steps before the first observed interval to ``reach`` after the last.
    """
    n = len(observed)
    shifts = np.arange(-reach * SUBSTEPS, reach * SUBSTEPS + 1)
    if len(logged) != (n - 1 + 2 * reach) * SUBSTEPS + 1:
        raise ValueError(f"logged has {len(logged)} rows for {n} observed and reach {reach}")
    seen = (observed - observed.mean(0)) / observed.std(0)
    scale = logged.std(0)
    # What is steady explains no more than the constant does, and scaled up would be rounding noise.
    varies = scale > 1e-3 * np.abs(logged).max()
    moves = logged[:, varies] / scale[varies]
    rows = reach * SUBSTEPS - shifts[:, None] + SUBSTEPS * np.arange(n)
    design = np.concatenate([moves[rows], np.ones((len(shifts), n, 1))], axis=2)  # (K, n, p + 1)
    blocks = max(n // _BLOCK, 2)
    first = np.arange(blocks) * n // blocks
    draws = np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), _DRAWS)
    weights = np.concatenate([np.ones((1, blocks)), draws])  # (1 + draws, blocks)

    def summed(values: Floats, axis: int) -> Floats:
        """Per draw, over the steps of its blocks, which come first in the result."""
        return np.tensordot(weights, np.add.reduceat(values, first, axis=axis), (1, axis))

    count = summed(np.ones(n), 0)
    gram = summed(design[..., :, None] * design[..., None, :], 1)
    mixed = summed(design[..., :, None] * seen[:, None, :], 1)
    square = summed(seen**2, 0)
    ridge = np.append(np.full(design.shape[2] - 1, _RIDGE), 1e-9)
    gram = gram + count[:, None, None, None] * np.diag(ridge)
    # Of the ridge's own minimum: square - mixed' gram^-1 mixed.
    left = square[:, None] - (mixed * np.linalg.solve(gram, mixed)).sum(2)
    # A fit to a thousandth of the variance is as good as it gets with 8-bit images.
    left = np.maximum(left, 1e-3 * count[:, None, None])
    cost = count[:, None] * np.log(left / count[:, None, None]).sum(2)
    return LagProfile(shifts / SUBSTEPS, cost, 1 - left[0].mean(1) / n)


def _vertices(cost: Floats, lags: Floats) -> Floats:
    """The minimum of each row, by a parabola through the lowest value and its neighbours."""
    low = np.clip(cost.argmin(1), 1, len(lags) - 2)
    row = np.arange(len(cost))
    before, at, after = cost[row, low - 1], cost[row, low], cost[row, low + 1]
    bend = before - 2 * at + after
    shift = np.where(bend > 0, (before - after) / np.where(bend > 0, 2 * bend, 1), 0)
    return lags[low] + np.clip(shift, -1, 1) * (lags[1] - lags[0])

"""A straight line through points of which many are wrong: least median of squares, then Tukey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# Pairs that are tried: with half of the points wrong a quarter of the pairs is right, so that 300
# all miss with a chance of 1e-37; most are there to find a pair that lies far apart.
_PAIRS, _JUDGES = 300, 1000
_ROUNDS = 12
# Tukey's biweight at 4.685 sigma keeps 95 % of least squares' efficiency on normal errors.
_TUKEY = 4.685
# Median of |normal| to its standard deviation.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Line:
    """y = slope x + offset, in whatever units x and y have.

    Attributes:
        sigma: standard deviation of residuals over ``unit``, robust.
    """

    slope: float
    offset: float
    sigma: float


def robust_sigma(residual: Floats) -> float:
    """Standard deviation of residuals around 0 that up to half of wild ones do not move."""
    return _MAD_TO_SIGMA * float(np.median(np.abs(residual)))


def biweight(residual: Floats, limit: float) -> Floats:
    """Tukey's weights: 1 at 0, smoothly to 0 at ``limit`` and beyond."""
    return np.clip(1 - (residual / limit) ** 2, 0, None) ** 2


def fit_line(x: Floats, y: Floats, unit: Floats | float = 1.0) -> Line | None:
    """The line through most of the points (N,); None where x does not vary, or N < 2.

    Args:
        unit: (N,) what one unit of error is at each point; residuals are judged as shares of it.
    """
    if len(x) < 2 or np.ptp(x) == 0:
        return None
    unit = np.broadcast_to(np.asarray(unit, float), x.shape)
    best = _best_pair(x, y, unit)
    if best is None:
        return None
    slope, offset = best
    design = np.stack([x, np.ones_like(x)], axis=1) / unit[:, None]
    target = y / unit
    for _ in range(_ROUNDS):
        residual = target - design @ [slope, offset]
        sigma = robust_sigma(residual)
        if sigma == 0:
            break
        weighted = design * biweight(residual, _TUKEY * sigma)[:, None]
        try:
            slope, offset = np.linalg.solve(weighted.T @ design, weighted.T @ target)
        except np.linalg.LinAlgError:  # what fits best lies at one x
            return None
    return Line(float(slope), float(offset), robust_sigma(target - design @ [slope, offset]))


def _best_pair(x: Floats, y: Floats, unit: Floats) -> tuple[float, float] | None:
    """(slope, offset) through two of the points, of the least median error (Rousseeuw 1984)."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(x), size=(2, _PAIRS))
    apart = np.abs(x[first] - x[second]) > 0.1 * np.ptp(x)
    first, second = first[apart], second[apart]
    if not len(first):
        first, second = np.array([x.argmin()]), np.array([x.argmax()])
    slope = (y[second] - y[first]) / (x[second] - x[first])
    offset = y[first] - slope * x[first]
    judges = rng.integers(len(x), size=min(_JUDGES, 4 * len(x)))
    error = np.abs(y[judges] - slope[:, None] * x[judges] - offset[:, None]) / unit[judges]
    best = int(np.median(error, axis=1).argmin())
    return float(slope[best]), float(offset[best])

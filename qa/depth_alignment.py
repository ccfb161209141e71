"""Estimated depth brought to metres, in the ways in which the field does so before it judges.

metric             as it is
scale_clip         times the median of truth over estimate (Zhou et al. 2017), of the whole clip
scale_frame        likewise, of each frame
scale_shift_clip   least squares of scale and shift to the truth (Ranftl et al. 2020), in depth, or
                   in inverse depth where the estimate is that; of the whole clip
scale_shift_frame  likewise, of each frame
robot              as builds do (`reconstruction.anchor_scale`): by the robot's surface, or by the
                   motion of a camera on it; never shown the truth

All but the first and the last are shown the truth: they tell a depth's shape from its size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qa.depth_clips import DepthClip
from reconstruction.anchor_scale import anchor_estimate
from reconstruction.depth import DepthEstimate
from schemas.reasons import UsageError, did_you_mean

Depths = NDArray[np.floating]
Mask = NDArray[np.bool_]

ALIGNMENTS = (
    "metric",
    "scale_clip",
    "scale_frame",
    "scale_shift_clip",
    "scale_shift_frame",
    "robot",
)
# What is shown unasked: as it is, its shape, the best that any anchoring could do, and ours.
DEFAULT_ALIGNMENTS = ("metric", "scale_clip", "scale_shift_frame", "robot")
# A line of negative or endless depth is kept within so many times the truth's range, as the field
# caps its estimates: one pixel near the horizon would outweigh an image.
_CAP = 2.0


def check_alignments(names: list[str]) -> list[str]:
    """The names, or the default ones.

    Raises:
        UsageError: there is no such alignment.
    """
    for name in names:
        if name not in ALIGNMENTS:
            raise UsageError(did_you_mean("alignment", name, ALIGNMENTS))
    return list(dict.fromkeys(names)) or list(DEFAULT_ALIGNMENTS)


def applies(how: str, estimate: DepthEstimate, clip: DepthClip) -> bool:
    """Whether an alignment means anything for what this estimate is, and the clip can do it."""
    if how == "robot":
        return clip.robot_depth is not None
    if how == "metric":
        return estimate.kind != "inverse"
    if clip.depth is None:
        return False
    return how.startswith("scale_shift") or estimate.kind != "inverse"


def align_depth(estimate: DepthEstimate, clip: DepthClip, how: str) -> Depths:
    """Depth (T, H, W) in m, 0 unknown; all 0 where the robot could not say.

    Args:
        how: one of `ALIGNMENTS` that `applies`.
    """
    values, inverse = estimate.depth, estimate.kind == "inverse"
    if how == "robot":
        robot = clip.robot()
        assert robot is not None
        return anchor_estimate(estimate, clip.rgb, clip.K, robot).depth
    if how == "metric":
        return values
    truth = clip.depth
    assert truth is not None
    fit = _shifted if how.startswith("scale_shift") else _scaled
    if how.endswith("clip"):
        return fit(values, truth, inverse)
    return np.stack([fit(v, t, inverse) for v, t in zip(values, truth, strict=True)])


def _scaled(values: Depths, truth: Depths, inverse: bool) -> Depths:
    both = (values > 0) & (truth > 0)
    if not both.any():
        return np.zeros_like(values)
    return values * values.dtype.type(np.median(truth[both] / values[both]))


def _shifted(values: Depths, truth: Depths, inverse: bool) -> Depths:
    """Least squares over known pixels; a scale below 0 is none, and counts as 0."""
    known = values != 0
    both = known & (truth > 0)
    if not both.any():
        return np.zeros_like(values)
    r, t = values[both].astype(float), truth[both].astype(float)
    x = 1 / t if inverse else t
    spread = r.var()
    # Of a constant only rounding is left, which has no slope.
    varies = spread > 1e-12 * r.mean() ** 2
    scale = max(((r - r.mean()) * (x - x.mean())).mean() / spread, 0.0) if varies else 0.0
    line = scale * (values.astype(float) - r.mean()) + x.mean()
    near, far = t.min() / _CAP, t.max() * _CAP
    depth = 1 / np.clip(line, 1 / far, 1 / near) if inverse else np.clip(line, near, far)
    return np.where(known, depth, 0).astype(np.float32)

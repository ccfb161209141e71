"""How good depth is, by the figures of the field: each a small function of arrays.

Depth is (T, H, W) z-depth in m, 0 unknown. Only pixels that both sides know are compared, so a
figure says little without `known_share` beside it. A figure that nothing was found for is None.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from robo4d.geometry import unproject

Depths = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Thresholds of the F-score in m: the width of what a gripper has to hit, and half and twice that.
# Kinema4D's Table 2 does not state its own.
F_THRESHOLDS = (0.01, 0.02, 0.05)
# A step in depth between neighbours that is an edge of something (DepthPro's smallest, 5 %).
_EDGE = 1.05
# Clouds and normals are compared in so many frames of a clip, spread evenly; clouds from so many
# points of each to the nearest among at most so many, which are all pixels of 256 x 256. Far clouds
# take a second a thousand points of each frame.
_FRAMES, _POINTS, _MOST = 8, 1000, 1 << 16
_SEED = 0
_SQUARE = np.ones((3, 3), np.uint8)


def known_share(depth: Depths, truth: Depths | None) -> float:
    """Share of the pixels with a true depth (of all, without truth) that the estimate knows."""
    asked = np.ones(depth.shape, bool) if truth is None else truth > 0
    return float((depth > 0)[asked].mean()) if asked.any() else 0.0


def abs_rel(depth: Depths, truth: Depths) -> float | None:
    """Mean of |d - d*| / d* (Eigen et al. 2014)."""
    d, t = _pairs(depth, truth)
    return float((np.abs(d - t) / t).mean()) if len(d) else None


def rmse(depth: Depths, truth: Depths) -> float | None:
    """Root of the mean of (d - d*)^2, in m (Eigen et al. 2014)."""
    d, t = _pairs(depth, truth)
    return float(np.sqrt(((d - t) ** 2).mean())) if len(d) else None


def delta1(depth: Depths, truth: Depths) -> float | None:
    """Share of pixels with max(d / d*, d* / d) < 1.25 (Eigen et al. 2014)."""
    d, t = _pairs(depth, truth)
    return float((np.maximum(d / t, t / d) < 1.25).mean()) if len(d) else None


@dataclass(frozen=True)
class CloudScore:
    """How far two point clouds are from each other.

    Attributes:
        accuracy: m, mean distance from estimated points to the nearest true one.
        completeness: m, mean distance from true points to the nearest estimated one.
        chamfer_l1: m, mean of the two (Mescheder et al. 2019).
        chamfer_l2: m^2, mean of both directions' mean squared distances (after Fan et al. 2017,
            who add them).
        f_scores: harmonic mean of the shares of either side's points within a threshold of the
            other (Knapitsch et al. 2017), at each of `F_THRESHOLDS`.
    """

    accuracy: float
    completeness: float
    chamfer_l1: float
    chamfer_l2: float
    f_scores: tuple[float, ...]


def compare_clouds(depth: Depths, truth: Depths, K: NDArray[np.floating]) -> CloudScore | None:
    """Compare what both depths unproject to, in the camera's frame, frame by frame.

    Points are a random subset of the pixels, the same for both sides and at every call. Frames
    without any estimate are left out.

    Args:
        K: (3, 3).
    """
    height, width = depth.shape[1:]
    order = np.random.default_rng(_SEED).permutation(height * width)[:_MOST]
    there: list[NDArray] = []
    back: list[NDArray] = []
    for t in _spread(len(depth)):
        ours, true = (_cloud(frames[t], K, order) for frames in (depth, truth))
        if len(ours) and len(true):
            there.append(cKDTree(true).query(ours[:_POINTS])[0])
            back.append(cKDTree(ours).query(true[:_POINTS])[0])
    if not there:
        return None
    to_truth, to_ours = np.concatenate(there), np.concatenate(back)
    accuracy, completeness = float(to_truth.mean()), float(to_ours.mean())
    return CloudScore(
        accuracy=accuracy,
        completeness=completeness,
        chamfer_l1=(accuracy + completeness) / 2,
        chamfer_l2=float((to_truth**2).mean() + (to_ours**2).mean()) / 2,
        f_scores=tuple(
            _harmonic(float((to_truth < at).mean()), float((to_ours < at).mean()))
            for at in F_THRESHOLDS
        ),
    )


def surface_normals(
    depth: Depths, K: NDArray[np.floating], reach: int | None = None
) -> NDArray[np.float32]:
    """Unit normals (T, H, W, 3) in the camera's frame, towards the camera; NaN where unknown.

    The cross product of the differences between neighbours, left to right and above to below, at
    ``reach`` pixels to either side, by default 1/64 of the width: stored depth is exact to 0.09 %,
    of which neighbours that touch would make 15 degrees. None at an edge of depth, for which the
    slope of a table that is seen from low down passes, too, the sooner the farther they reach.
    """
    reach = max(1, round(depth.shape[2] / 64)) if reach is None else reach
    points = unproject(depth, K)
    normals = np.full(points.shape, np.nan, np.float32)
    here = slice(reach, -reach)
    far, near = slice(2 * reach, None), slice(None, -2 * reach)
    across = points[:, here, far] - points[:, here, near]
    down = points[:, far, here] - points[:, near, here]
    cross = np.cross(down, across)
    around = np.stack(
        [points[:, r, c, 2] for r, c in ((here, far), (here, near), (far, here), (near, here))]
    )
    middle = points[:, here, here, 2]
    # NaN, unknown, fails either comparison.
    smooth = (around.max(0) < _EDGE * middle) & (around.min(0) > middle / _EDGE)
    length = np.linalg.norm(cross, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normals[:, here, here] = np.where(smooth[..., None], cross / length, np.nan)
    return normals


def normal_error(depth: Depths, truth: Depths, K: NDArray[np.floating]) -> float | None:
    """Mean angle in degrees between normals, where both sides have one; in some of the frames."""
    some = _spread(len(depth))
    ours, true = surface_normals(depth[some], K), surface_normals(truth[some], K)
    both = np.isfinite(ours[..., 0]) & np.isfinite(true[..., 0])
    if not both.any():
        return None
    a, b = ours[both].astype(float), true[both].astype(float)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))
    return float(np.degrees(angle.mean()))


def depth_edges(depth: Depths) -> Mask:
    """(T, H, W) the nearer pixels of neighbours whose depths differ by more than 5 %."""
    edges = np.zeros(depth.shape, bool)
    for axis in (1, 2):
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        a, b = depth[tuple(behind)], depth[tuple(ahead)]
        known = (a > 0) & (b > 0)
        edges[tuple(behind)] |= known & (b > _EDGE * a)
        edges[tuple(ahead)] |= known & (a > _EDGE * b)
    return edges


@dataclass(frozen=True)
class EdgeScore:
    """Whether steps in depth are where they belong.

    Attributes:
        precision: share of estimated edge pixels with a true one within a pixel.
        recall: share of true edge pixels with an estimated one within a pixel.
        f1: their harmonic mean; 0 where one side has no edge, None where neither has.
    """

    precision: float | None
    recall: float | None
    f1: float | None


def compare_edges(depth: Depths, truth: Depths) -> EdgeScore:
    """Compare occluding edges, after DepthPro's boundary score (Bochkovskii et al. 2024).

    Relative steps, so a wrong scale does not matter and a wrong shift does. Judged where the truth
    is known.
    """
    ours, true = depth_edges(np.where(truth > 0, depth, 0)), depth_edges(truth)
    precision = float(_widened(true)[ours].mean()) if ours.any() else None
    recall = float(_widened(ours)[true].mean()) if true.any() else None
    either = precision is not None or recall is not None
    f1 = _harmonic(precision or 0.0, recall or 0.0) if either else None
    return EdgeScore(precision, recall, f1)


def temporal_error(depth: Depths, still: Mask) -> float | None:
    """Mean of |d_t - d_t+1| / d_t where nothing moves: flicker.

    Args:
        still: (T - 1, H, W) pixels that show the same thing in a frame and the next.
    """
    before, after = depth[:-1], depth[1:]
    used = still & (before > 0) & (after > 0)
    if not used.any():
        return None
    a, b = before[used].astype(float), after[used].astype(float)
    return float((np.abs(a - b) / a).mean())


def robot_residual(depth: Depths, robot_depth: Depths, judged: Mask) -> float | None:
    """Median in m of |d - the robot's depth by forward kinematics|.

    A pixel without an estimate is as wrong as can be; None where most are.

    Args:
        judged: (T, H, W) robot pixels that nothing was fitted to.
    """
    if not judged.any():
        return None
    error = np.abs(depth[judged].astype(float) - robot_depth[judged])
    error[depth[judged] <= 0] = np.inf
    middle = float(np.median(error))
    return middle if np.isfinite(middle) else None


def _spread(count: int) -> NDArray[np.integer]:
    return np.unique(np.linspace(0, count - 1, min(_FRAMES, count)).round().astype(int))


def _pairs(depth: Depths, truth: Depths) -> tuple[NDArray, NDArray]:
    both = (depth > 0) & (truth > 0)
    return depth[both].astype(float), truth[both].astype(float)


def _cloud(depth: NDArray, K: NDArray[np.floating], order: NDArray[np.integer]) -> NDArray:
    points = unproject(depth, K).reshape(-1, 3)[order]
    return points[np.isfinite(points[:, 2])].astype(float)


def _widened(mask: Mask) -> Mask:
    """By a pixel, diagonals included."""
    return np.stack([cv2.dilate(frame.astype(np.uint8), _SQUARE) > 0 for frame in mask])


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0

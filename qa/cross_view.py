"""Whether the depths of two cameras of one scene agree: the judge where no true depth exists.

Every point that camera A sees is moved into camera B and held against what B's own depth says at
the pixel in which it lands: z of the point over z of B, less 1. Robot pixels of either side take no
part, since estimators are told of the robot, and anchoring fits to it.

What may be left out decides such a figure, so there are two. ``strict`` leaves out nothing that
lands in B's picture. ``seen`` leaves out what B cannot see: a point clearly behind B's surface
(10 %) may be hidden by it. That alone would excuse all depth that is too far, so the surface that
is said to hide the point has to be possible for A as well: moved into A, it must not stand clearly
before (5 %) what A sees there, or A would have seen it. A point clearly before B's surface is never
excused: B would have seen it. The share that was excused stands beside the figures.

Agreement is needed for depth to be true but does not suffice. Any one surface in the base's frame,
as a table's plane without anything on it, agrees with itself; and a bare plane seen by two cameras
of the same height stays one plane where both get the same wrong scale. Size is the robot's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import check_array, check_poses, invert, project, transform, unproject

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Relative differences from which a point is clearly behind B's surface, and from which what hides
# it is clearly before A's: the stricter one where something is to be excused.
BEHIND, BEFORE = 0.10, 0.05
# Pixels to keep off the robot's outline, where networks blend its depth into the background's.
_OFF_ROBOT = 5
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class PosedDepth:
    """What one camera says of the scene.

    Attributes:
        depth: (T, H, W) z-depth in m, 0 unknown.
        K: (3, 3) pixels.
        base_from_camera: (T, 4, 4), of a frame that all cameras share.
        robot: (T, H, W) where the robot is.
    """

    depth: Floats
    K: Floats
    base_from_camera: Floats
    robot: Mask

    def __post_init__(self) -> None:
        depth = check_array("PosedDepth.depth", self.depth, ["T", "H", "W"])
        check_array("PosedDepth.K", self.K, [3, 3])
        check_poses("PosedDepth.base_from_camera", self.base_from_camera, [len(depth)])
        check_array("PosedDepth.robot", self.robot, depth.shape, "b")


@dataclass(frozen=True)
class Agreement:
    """Relative differences of depths.

    Attributes:
        pixels: compared, in all frames.
        median: of |z / z of what it is held against - 1|; of A's points over B's depth.
        within_5, within_10: shares of at most 5 % and 10 %.
        signed: median without the bars.
    """

    pixels: int
    median: float
    within_5: float
    within_10: float
    signed: float


@dataclass(frozen=True)
class CrossView:
    """How A's points fit B's depth; see the module.

    Attributes:
        strict: of all points that land in B's picture, the nearest of a pixel; None: none does.
        seen: without ``hidden`` ones.
        hidden: share of the strict pixels that was excused.
        before: share of the strict pixels with a point clearly (10 %) before B's surface.
    """

    strict: Agreement | None
    seen: Agreement | None
    hidden: float
    before: float


def compare_views(a: PosedDepth, b: PosedDepth) -> CrossView:
    """A's points against B's depth, frame by frame; the frames of both are of the same moments.

    Raises:
        ShapeError: the two have not as many frames.
    """
    check_array("b.base_from_camera", b.base_from_camera, [len(a.depth), 4, 4])
    off_a, off_b = _grown(a.robot), _grown(b.robot)
    differences, excused = [], []
    for t in range(len(a.depth)):
        surface_a = np.where(off_a[t], 0, a.depth[t])
        surface_b = np.where(off_b[t], 0, b.depth[t])
        b_from_a = invert(b.base_from_camera[t]) @ a.base_from_camera[t]
        landed = _nearest(_moved(surface_a, a.K, b_from_a), b.K, surface_b.shape)
        at = np.isfinite(landed) & (surface_b > 0)
        apart = landed[at] / surface_b[at] - 1
        back = _moved(np.where(at, surface_b, 0), b.K, invert(b_from_a))
        # In the order of ``at``: both go through B's pixels by row.
        possible = ~_stands_before(back, a.K, surface_a)
        differences.append(apart)
        excused.append((apart > BEHIND) & possible)
    apart, hidden = np.concatenate(differences), np.concatenate(excused)
    return CrossView(
        strict=agreement(apart),
        seen=agreement(apart[~hidden]),
        hidden=float(hidden.mean()) if len(hidden) else 0.0,
        before=float((apart < -BEHIND).mean()) if len(apart) else 0.0,
    )


def common_steps(steps: Sequence[NDArray[np.integer]], most: int | None) -> NDArray[np.integer]:
    """Steps that all views of an episode have; of these ``most`` neighbours from the middle.

    Args:
        steps: of each view, (T,), ascending.
        most: None: all.
    """
    shared = steps[0]
    for other in steps[1:]:
        shared = np.intersect1d(shared, other)
    if most is None or most >= len(shared):
        return shared
    start = (len(shared) - most) // 2
    return shared[start : start + most]


def _moved(depth: Floats, K: Floats, pose: Floats) -> Floats:
    """Points (N, 3) in another camera of the pixels with depth, by row."""
    points = unproject(depth, K)[depth > 0]
    return transform(pose, points.astype(float))


def _nearest(points: Floats, K: Floats, size: tuple[int, ...]) -> Floats:
    """(H, W) z of the nearest point that lands in a pixel; infinite where none does."""
    z, row, column = _landing(points, K, size)
    buffer = np.full(size, np.inf)
    inside = row >= 0
    np.minimum.at(buffer, (row[inside], column[inside]), z[inside])
    return buffer


def _stands_before(points: Floats, K: Floats, surface: Floats) -> Mask:
    """(N,) whether a point is clearly before a camera's surface (H, W), so that it would be seen.

    The surface is the nearest within a pixel, since cameras are no better. Not where the point is
    out of the picture or the surface is unknown: there nobody says so.
    """
    z, row, column = _landing(points, K, surface.shape)
    nearest = cv2.erode(np.where(surface > 0, surface, np.inf).astype(np.float32), _SQUARE)
    nearest[np.isinf(nearest)] = 0
    there = np.where(row >= 0, nearest[row, column], 0)
    return (there > 0) & (z < (1 - BEFORE) * there)


def _landing(
    points: Floats, K: Floats, size: tuple[int, ...]
) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """(N,) each: z, and row and column; -1 out of the picture."""
    pixels, z = project(points, K)
    # Bounded before it is an integer: pixels near the camera's plane are as far as one likes.
    column, row = np.floor(np.clip(np.nan_to_num(pixels, nan=-1), -1, 1 << 30)).astype(np.intp).T
    inside = (row >= 0) & (column >= 0) & (row < size[0]) & (column < size[1])
    return z, np.where(inside, row, -1), np.where(inside, column, -1)


def agreement(apart: Floats) -> Agreement | None:
    """Of relative differences (N,); None of none."""
    if not len(apart):
        return None
    size = np.abs(apart)
    return Agreement(
        pixels=len(apart),
        median=float(np.median(size)),
        within_5=float((size <= 0.05).mean()),
        within_10=float((size <= 0.10).mean()),
        signed=float(np.median(apart)),
    )


def _grown(mask: Mask) -> Mask:
    kernel = np.ones((2 * _OFF_ROBOT + 1,) * 2, np.uint8)
    return np.stack([cv2.dilate(frame.astype(np.uint8), kernel) > 0 for frame in mask])

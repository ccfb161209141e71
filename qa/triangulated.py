"""Depth of single points by triangulation: truth for real clips that no depth estimator made.

SIFT points (Lowe 2004) of a picture are sought in the other pictures of the episode, of other
cameras and of a moving camera at other times. A match has to lie on its epipolar line, and depth
follows from the solved cameras alone. A point counts where pictures from at least two other places,
5 degrees apart as the point sees them, agree on its depth: a wrong match on the line gives another
depth from each. What moves agrees with nothing and drops out; robot pixels are not looked at.

Its errors are those of the cameras: a scale of everything is the robot's, through its kinematics.
Points are where there is texture, so plain tables and walls are hardly judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from qa.cross_view import Agreement, agreement
from robo4d.geometry import check_array, invert, transform

Floats = NDArray[np.floating]

# Lowe's ratio of the best match's distance to the second's.
_RATIO = 0.8
# Pixels that a match may lie off its epipolar line, and that it has to lie from where a point at
# infinity would: a pixel of error is 5 % of depth there.
_OFF_LINE, _FEWEST_MOVED = 1.5, 20.0
# Relative deviation within which depths agree, and the share of matches that has to.
_AGREE, _SHARE = 0.05, 0.7
# Cameras within so many m are in one place; and the cosine of the angle at a point, 5 degrees,
# from which two places are two witnesses.
_APART, _WITNESSES = 0.02, np.cos(np.radians(5))
# Points of a view that make a figure.
FEWEST = 20
# Pixels to keep off the robot's outline: a descriptor looks at its surroundings.
_OFF_ROBOT = 7
_FEWEST_CONTRAST = 0.02  # of SIFT, half of OpenCV's own: plain surfaces, small pictures


@dataclass(frozen=True)
class Pictures:
    """One camera's clip.

    Attributes:
        rgb: (T, H, W, 3).
        K: (3, 3) pixels.
        base_from_camera: (T, 4, 4), of a frame that all cameras share.
        robot: (T, H, W) where the robot is.
    """

    rgb: NDArray[np.uint8]
    K: Floats
    base_from_camera: Floats
    robot: NDArray[np.bool_]

    def __post_init__(self) -> None:
        rgb = check_array("Pictures.rgb", self.rgb, ["T", "H", "W", 3], "u")
        check_array("Pictures.base_from_camera", self.base_from_camera, [len(rgb), 4, 4])
        check_array("Pictures.robot", self.robot, rgb.shape[:3], "b")


@dataclass(frozen=True)
class SparseDepth:
    """Triangulated points of one clip.

    Attributes:
        frame, row, column: (N,) each, the pixel in which a point lies.
        depth: (N,) z-depth in m.
        spread: (N,) median relative deviation of the single matches from it.
    """

    frame: NDArray[np.integer]
    row: NDArray[np.integer]
    column: NDArray[np.integer]
    depth: Floats
    spread: Floats

    def of_frames(self, frames: NDArray[np.integer]) -> SparseDepth:
        """Those of some frames (n,), ascending, which are counted anew."""
        kept = np.isin(self.frame, frames)
        return SparseDepth(
            frame=np.searchsorted(frames, self.frame[kept]),
            row=self.row[kept],
            column=self.column[kept],
            depth=self.depth[kept],
            spread=self.spread[kept],
        )


@dataclass(frozen=True)
class _Frame:
    """A picture's points: pixels (N, 2), rays (N, 3) with z 1, descriptors (N, 128) of length 1."""

    pixels: Floats
    rays: Floats
    descriptors: Floats
    K: Floats
    base_from_camera: Floats


def triangulate(views: Sequence[Pictures]) -> list[SparseDepth]:
    """Points of each of an episode's cameras; the more frames, the more of them."""
    frames = [_look(view) for view in views]
    return [_found(frames, n) for n in range(len(views))]


def compare_points(depth: Floats, points: SparseDepth) -> Agreement | None:
    """Depth (T, H, W), 0 unknown, against the points' own; None: it knows fewer than 20 of them."""
    ours = depth[points.frame, points.row, points.column]
    known = ours > 0
    return agreement(ours[known] / points.depth[known] - 1) if known.sum() >= FEWEST else None


def _found(frames: list[list[_Frame]], which: int) -> SparseDepth:
    others = [frame for n, view in enumerate(frames) if n != which for frame in view]
    found = []
    for t, frame in enumerate(frames[which]):
        # Those of a camera at rest are from the same place, and match nothing.
        own = [other for other in frames[which] if other is not frame]
        found += [(t, *point) for point in _points(frame, others + own)]
    table = np.array(found).reshape(-1, 5)
    column, row = np.floor(table[:, 1:3]).astype(int).T
    return SparseDepth(table[:, 0].astype(int), row, column, table[:, 3], table[:, 4])


def _look(view: Pictures) -> list[_Frame]:
    # Without the flag, points lie a quarter of a pixel beside what they are of.
    sift = cv2.SIFT.create(contrastThreshold=_FEWEST_CONTRAST, enable_precise_upscale=True)
    kernel = np.ones((2 * _OFF_ROBOT + 1,) * 2, np.uint8)
    frames = []
    for rgb, robot, pose in zip(view.rgb, view.robot, view.base_from_camera, strict=True):
        free = 1 - cv2.dilate(robot.astype(np.uint8), kernel)
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        points, descriptors = sift.detectAndCompute(grey, free)
        # OpenCV has the first pixel's centre at 0.
        pixels = np.array([point.pt for point in points]).reshape(-1, 2) + 0.5
        known = np.zeros((0, 128)) if descriptors is None else descriptors
        # A point comes once for each of its orientations.
        pixels, first = np.unique(pixels.round(2), axis=0, return_index=True)
        known = known[first]
        rays = np.insert(pixels, 2, 1, axis=1) @ np.linalg.inv(view.K).T
        length = np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-9)
        frames.append(_Frame(pixels, rays, known / length, view.K, pose))
    return frames


def _points(frame: _Frame, others: Sequence[_Frame]) -> list[tuple[float, float, float, float]]:
    """Column, row, depth and spread of the points whose depth other pictures agree on."""
    depths: list[list[float]] = [[] for _ in frame.pixels]
    places: list[list[Floats]] = [[] for _ in frame.pixels]
    for other in others:
        which, z = _matched(frame, other)
        for i, depth in zip(which, z, strict=True):
            depths[i].append(depth)
            places[i].append(other.base_from_camera[:3, 3])
    points = []
    for pixel, ray, seen, where in zip(frame.pixels, frame.rays, depths, places, strict=True):
        if len(seen) < 2:
            continue
        z = np.array(seen)
        middle = float(np.median(z))
        off = np.abs(z / middle - 1)
        agree = off <= _AGREE
        from_point = np.array(where)[agree] - transform(frame.base_from_camera, middle * ray[None])
        from_point /= np.linalg.norm(from_point, axis=1, keepdims=True)
        if agree.mean() < _SHARE or (from_point @ from_point.T).min() > _WITNESSES:
            continue
        points.append((float(pixel[0]), float(pixel[1]), middle, float(np.median(off[agree]))))
    return points


def _matched(a: _Frame, b: _Frame) -> tuple[NDArray[np.intp], Floats]:
    """Indices of a's points with a match in b, and their depths in a."""
    nothing = np.zeros(0, np.intp), np.zeros(0)
    b_from_a = invert(b.base_from_camera) @ a.base_from_camera
    if np.linalg.norm(b_from_a[:3, 3]) < _APART or min(len(a.pixels), len(b.pixels)) < 2:
        return nothing
    alike = a.descriptors @ b.descriptors.T
    best = alike.argmax(1)
    mutual = alike.argmax(0)[best] == np.arange(len(best))
    second, first = np.partition(np.sqrt(np.maximum(2 - 2 * alike, 0)), (0, 1), axis=1)[:, 1::-1].T
    which = np.flatnonzero(mutual & (first < _RATIO * second))
    if not len(which):
        return nothing
    target, pixel = b.rays[best[which]], b.pixels[best[which]]
    turned = a.rays[which] @ b_from_a[:3, :3].T
    # z of a's ray where it passes b's nearest: z turned + shift is along target.
    across, shifted = np.cross(target, turned), np.cross(target, b_from_a[:3, 3])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = -(across * shifted).sum(1) / (across**2).sum(1)
        point = z[:, None] * turned + b_from_a[:3, 3]
        lands, endless = (_pixels(rays, b.K) for rays in (point, turned))
        good = (
            (z > 0)
            & (point[:, 2] > 0)
            & (np.linalg.norm(lands - pixel, axis=1) <= _OFF_LINE)
            # Behind b at infinity is as far as can be.
            & ((turned[:, 2] <= 0) | (np.linalg.norm(endless - pixel, axis=1) >= _FEWEST_MOVED))
        )
    return which[good], z[good]


def _pixels(points: Floats, K: Floats) -> Floats:
    return (points / points[:, 2:] @ K.T)[:, :2]

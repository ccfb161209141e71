"""Depth by the motion of a camera whose poses are known, as one on a robot's hand is.

Corners are followed through the frames and triangulated; what is still and lies where its rays meet
has metric depth, to some percent, whatever it looks like. There are a hundred or so a frame: too
few to be a depth map, enough to correct one. The correction of the logarithm of depth is a Gaussian
process over depth and time (Rasmussen and Williams 2006, chapter 2): a scale of the clip, its drift
from frame to frame, and what near and far differ by, each as far as points tell. Corrections by
place in the picture were tried, and made depth between the points worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from reconstruction.corners import follow_corners
from robo4d.geometry import check_array, check_poses, invert, transform

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Pixels that a still point may lie off its rays in any frame, and to keep off the robot.
_OFF, _MARGIN = 1.5, 4
# Root mean square angle (rad) by which a point's rays differ from their mean direction: half a
# pixel at a focal length of 250 is 8 % of depth there.
_SPREAD = np.radians(1.5)
_SHORTEST, _NEAREST = 3, 0.03
# Standard deviations of the logarithm of depth: of the clip's scale (of one that nobody told, and
# one that was told the robot), and of a point.
_SCALE, _SCALE_TOLD, _NOISE = 1.0, 0.12, 0.04
# Of frames, and of what near and far differ by; and how far either reaches: logarithm of depth,
# frames. Found on four twins of DROID (seed 6100); anything near it does as well.
_PARTS = ((0.06, np.array([np.inf, 5.0])), (0.03, np.array([0.3, 8.0])))
_ROBOT = 0.2  # logarithm of depth within which what is told of the robot is the robot
_BESIDE = 4  # frames to either side whose points count, once each
_MOST = 300  # points a frame
_LEVELS = 32  # of depth, at which the correction is computed
# One of so many places judges, each a cube of so many m: a corner that is found again under a new
# number is in the same place.
_JUDGES, _PLACE = 4, 0.03
# Tracks that judge, and that are fitted to; with fewer nothing is known.
FEWEST = 12
# Held-back points within this share of their depth are right: twice what triangulation is off.
RIGHT = 0.1


@dataclass(frozen=True)
class PointDepths:
    """Points in frames.

    Attributes:
        track, frame: (N,) of each.
        pixel: (N, 2).
        depth: (N,) m.
        judges: (N,) bool, whether it takes no part and judges.
    """

    track: NDArray[np.integer]
    frame: NDArray[np.integer]
    pixel: Floats
    depth: Floats
    judges: Mask

    def __len__(self) -> int:
        return len(self.track)

    def where(self, kept: Mask) -> PointDepths:
        """Those points."""
        return PointDepths(
            self.track[kept],
            self.frame[kept],
            self.pixel[kept],
            self.depth[kept],
            self.judges[kept],
        )

    def of(self, maps: NDArray) -> NDArray:
        """(N,) what maps (T, H, W) hold at the points."""
        j, i = self.pixel.astype(int).T
        return maps[self.frame, i, j]


@dataclass(frozen=True)
class Corrected:
    """Depth with the correction.

    Attributes:
        depth: (T, H, W) m.
        error: (T, H, W) relative error that is to be expected, no less than that of the points that
            took no part.
        prior: what it would be without any point.
        right: share of held-back tracks within 10 %.
        held_back: how many these are.
    """

    depth: Floats
    error: Floats
    prior: float
    right: float
    held_back: int


def triangulate_motion(
    rgb: NDArray[np.uint8], K: Floats, base_from_camera: Floats, robot: Mask
) -> PointDepths:
    """Still points of a clip.

    Args:
        rgb: (T, H, W, 3).
        K: (3, 3) pixels.
        base_from_camera: (T, 4, 4).
        robot: (T, H, W), where the robot is.
    """
    check_array("rgb", rgb, ["T", "H", "W", 3], "u")
    poses = check_poses("base_from_camera", base_from_camera, [len(rgb)])
    kernel = np.ones((2 * _MARGIN + 1,) * 2, np.uint8)
    near = np.stack([cv2.dilate(frame.astype(np.uint8), kernel) for frame in robot]) > 0
    track, frame, pixel = follow_corners(rgb)
    j, i = pixel.astype(int).T
    track, frame, pixel = _long(track, frame, pixel, ~near[frame, i, j])
    if not len(track):
        return PointDepths(track, frame, pixel, np.empty(0), np.empty(0, bool))
    rays = np.linalg.solve(K, np.c_[pixel, np.ones(len(pixel))].T).T
    rays = np.einsum("nij,nj->ni", poses[frame, :3, :3], rays)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    across = np.eye(3) - rays[:, :, None] * rays[:, None]
    count = np.bincount(track)
    # Least squares of the distances to the rays.
    square = _summed(track, across)
    points = np.linalg.solve(
        square + 1e-9 * np.eye(3),
        _summed(track, np.einsum("nij,nj->ni", across, poses[frame, :3, 3]))[..., None],
    )[..., 0]
    spread = np.sqrt(np.linalg.eigvalsh(square)[:, 0].clip(0) / count)
    seen = transform(invert(poses)[frame], points[track][:, None])[:, 0]
    on = seen @ K.T
    with np.errstate(divide="ignore", invalid="ignore"):  # beside the camera: nowhere
        off = np.linalg.norm(on[:, :2] / on[:, 2:] - pixel, axis=1)
    off = np.nan_to_num(off, nan=np.inf)
    worst, nearest = np.zeros(len(count)), np.full(len(count), np.inf)
    np.maximum.at(worst, track, off)
    np.minimum.at(nearest, track, seen[:, 2])
    good = (worst < _OFF) & (nearest > _NEAREST) & (spread > _SPREAD)
    judges = _judging(points)[track]
    return PointDepths(track, frame, pixel, seen[:, 2], judges).where(good[track])


def correct_depth(
    depth: Floats, points: PointDepths, robot_depth: Floats, *, told: bool
) -> Corrected | None:
    """Depth corrected by points; None where they are too few.

    Args:
        depth: (T, H, W) m up to a scale that drifts, 0 unknown.
        robot_depth: (T, H, W) m, 0 none: the robot itself is left as it is.
        told: whether the scale is in metres already, nearly.
    """
    points = points.where(points.of(depth) > 0)
    judge = points.judges
    if min(len(np.unique(points.track[part])) for part in (judge, ~judge)) < FEWEST:
        return None
    features = np.column_stack([np.log(points.of(depth)), points.frame])
    off = np.log(points.depth / points.of(depth))
    scale = _SCALE_TOLD if told else _SCALE
    out, error = depth.astype(np.float32), np.ones(depth.shape, np.float32)
    for t, frame in enumerate(depth):
        used = _beside(points, t, ~judge)
        known = frame > 0
        change, sure = _process(frame[known], t, features[used], off[used], scale)
        # A told estimate has the robot right already.
        robot = robot_depth[t][known]
        with np.errstate(divide="ignore"):
            apart = np.abs(np.log(frame[known]) - np.log(robot))
        own = told & (robot > 0) & (apart < _ROBOT)
        out[t][known] = np.where(own, frame[known], frame[known] * np.exp(change))
        error[t][known] = np.where(own, apart, sure)
    held = points.where(judge)
    ratio = held.of(out) / held.depth
    # The process knows its points' noise, not how far a solved camera is off.
    np.hypot(error, np.median(np.abs(np.log(ratio))), out=error)
    # A track, one vote: long ones are of little that is seen for long.
    _, named = np.unique(held.track, return_inverse=True)
    right = [np.median(np.abs(ratio[named == n] - 1)) < RIGHT for n in range(named.max() + 1)]
    return Corrected(out, error, _prior(scale), float(np.mean(right)), len(right))


def _judging(points: Floats) -> Mask:
    """(M,) of points (M, 3) m in the base's frame."""
    cell = np.floor(np.nan_to_num(points).clip(-1e3, 1e3) / _PLACE).astype(np.int64)
    # Primes of Teschner et al. 2003, for hashing cells of space.
    mixed = np.bitwise_xor.reduce(cell * [73856093, 19349663, 83492791], axis=1)
    return (mixed >> 4) % _JUDGES == 0


def _beside(points: PointDepths, t: int, usable: Mask) -> NDArray[np.integer]:
    """Which points tell of a frame: of each track the one that is nearest in time."""
    used = np.flatnonzero(usable & (np.abs(points.frame - t) <= _BESIDE))
    used = used[np.argsort(np.abs(points.frame[used] - t), kind="stable")]
    _, first = np.unique(points.track[used], return_index=True)
    used = used[np.sort(first)][:_MOST]
    return used


def _process(
    frame: Floats, t: int, features: Floats, off: Floats, scale: float
) -> tuple[Floats, Floats]:
    """Correction of a frame's logarithm of depth at its known pixels (N,), and its standard
    deviation.
    """
    if not len(frame):
        return frame, frame
    level = np.log(frame)
    levels = np.linspace(level.min(), level.max() + 1e-6, _LEVELS)
    fitted = _fit(features, off, features, scale)[0]
    # What lies off the process by more than any point should is no still point.
    kept = np.abs(off - fitted) < 3 * _NOISE
    asked = np.column_stack([levels, np.full(_LEVELS, float(t))])
    change, sure = _fit(features[kept], off[kept], asked, scale)
    return np.interp(level, levels, change), np.interp(level, levels, sure)


def _fit(known: Floats, values: Floats, asked: Floats, scale: float) -> tuple[Floats, Floats]:
    """Mean and standard deviation (M,) of the process where it is asked for (M, 2)."""
    prior = _prior(scale)
    if not len(known):
        return np.zeros(len(asked)), np.full(len(asked), prior)
    own = _covariance(known, known, scale) + _NOISE**2 * np.eye(len(known))
    cross = _covariance(asked, known, scale)
    solver = cho_factor(own, lower=True)
    variance = prior**2 - np.einsum("ij,ji->i", cross, cho_solve(solver, cross.T))
    return cross @ cho_solve(solver, values), np.sqrt(variance.clip(0))


def _prior(scale: float) -> float:
    return float(np.sqrt(scale**2 + sum(spread**2 for spread, _ in _PARTS)))


def _covariance(a: Floats, b: Floats, scale: float) -> Floats:
    apart = (a[:, None] - b[None]) ** 2
    out = np.full(apart.shape[:2], scale**2)
    for spread, reach in _PARTS:
        out += spread**2 * np.exp(-0.5 * (apart @ reach**-2.0))
    return out


def _long(
    track: NDArray, frame: NDArray, pixel: Floats, kept: Mask
) -> tuple[NDArray, NDArray, Floats]:
    """Tracks of what is kept, numbered anew, without the short ones."""
    track, frame, pixel = track[kept], frame[kept], pixel[kept]
    if len(track):
        enough = np.bincount(track)[track] >= _SHORTEST
        track, frame, pixel = track[enough], frame[enough], pixel[enough]
    _, track = np.unique(track, return_inverse=True)
    return track, frame, pixel


def _summed(track: NDArray, values: Floats) -> Floats:
    out = np.zeros((track.max() + 1, *values.shape[1:]))
    np.add.at(out, track, values)
    return out

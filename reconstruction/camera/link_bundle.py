"""The camera by patches on the links and what the outline said of it: one least squares.

Unknowns: 3 of turn (rad) and 3 of shift (m) in the camera's own frame, the logarithm of the focal
length, the images' lateness (s), every frame's joints near the log, and every track's point in its
link's frame. Points meet only their own track's views and are eliminated first, as in
`wrist_bundle`. What a link carries round tells of the camera: a point that rests tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruction.camera.estimate import Estimate, zoomed
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.link_tracks import LinkTracks, follow_links
from reconstruction.camera.refine import LATEST
from robo4d.geometry import invert, make_pose
from robots.kinematics import link_poses

Floats = NDArray[np.floating]
_OWN = 8  # unknowns beside joints
_FEWEST = 8  # tracks
_JOINT_SPREAD = 1e-3  # rad by which a logged joint may be off
# m by which points may lie off the model's surface, and along it off where they were seen first:
# what says where along it is the pose that is asked for, so that it tells next to nothing.
_OFF_MODEL, _ALONG = 0.02, 1.0
# Pixels: a residual at which weights have fallen to a quarter; and deviation of what all patches
# of one place say in one frame. Shading errs alike in many frames, so that it is some ten times
# the scatter: with 0.3, twins' cameras ended further off than by their outlines alone.
_SCALE, _DEVIATION = 0.3, 1.2
_PLACE = 0.01  # m, size of a place
_ROUNDS, _WIDE = 5, 4.0  # and how much wider the scale is in the first ones
_EPSILON = 1e-5  # rad, for derivatives of forward kinematics


def with_tracks(frames: FrameSet, estimate: Estimate, K: Floats) -> Estimate:
    """An outline's estimate, bettered by the texture that rides on the links.

    Args:
        estimate: its covariance is what the outline says of it.
        K: (3, 3) the guess at the working size, as in `refine`.
    """
    tracks = follow_links(frames, K, estimate)
    if tracks is None or len(tracks) < _FEWEST:
        return estimate
    found = adjust(tracks, frames, estimate, K)
    parts = (found.pose, found.covariance, found.log_zoom, found.late)
    sane = all(part is not None and np.isfinite(part).all() for part in parts)
    return found if sane else estimate


@dataclass(frozen=True)
class _State:
    estimate: Estimate
    joints: Floats  # (n, J) rad off the log
    points: Floats  # (M, 3)


def adjust(tracks: LinkTracks, frames: FrameSet, known: Estimate, K: Floats) -> Estimate:
    """Gauss-Newton steps from ``known``, whose covariance is the prior.

    Raises:
        ValueError: ``known`` has no covariance.
    """
    if known.covariance is None:
        raise ValueError("known has no covariance: give an estimate whose outline was seen")
    frames.set_late(known.late)
    state = _State(known, np.zeros(frames.joints.shape), tracks.point)
    information = np.linalg.inv(known.covariance)
    crowd = _crowd(tracks)
    for turn in range(_ROUNDS):
        scale = _SCALE * (_WIDE if 2 * turn < _ROUNDS else 1.0)
        state, covariance = _stepped(state, tracks, frames, known, information, K, scale, crowd)
    return replace(state.estimate, covariance=covariance[:_OWN, :_OWN])


def _stepped(
    state: _State,
    tracks: LinkTracks,
    frames: FrameSet,
    known: Estimate,
    information: Floats,
    K: Floats,
    scale: float,
    crowd: Floats,
) -> tuple[_State, Floats]:
    """The state a step on, and the covariance of all but points."""
    residual, rows, by_point = _linear(state, tracks, frames, K)
    squared = (residual**2).sum(1)
    # Geman and McClure's.
    weight = 1 / (1 + squared / scale**2) ** 2 / crowd[tracks.track] / _DEVIATION**2
    pulled = np.swapaxes(by_point, 1, 2) * weight[:, None, None]
    across = tracks.normal[:, :, None] * tracks.normal[:, None]
    near = across / _OFF_MODEL**2 + np.eye(3) / _ALONG**2
    own = _summed(pulled @ by_point, tracks) + near
    right = _summed((pulled @ residual[..., None])[..., 0], tracks)
    right += (near @ (tracks.point - state.points)[..., None])[..., 0]
    mixed = _summed(pulled @ rows, tracks)
    back = np.linalg.solve(own, np.concatenate([mixed, right[..., None]], 2))
    flat = (weight[:, None, None] * rows).reshape(-1, rows.shape[2])
    square = flat.T @ rows.reshape(-1, rows.shape[2])
    square -= np.einsum("miu,miv->uv", mixed, back[..., :-1], optimize=True)
    pull = flat.T @ residual.ravel() - np.einsum("miu,mi->u", mixed, back[..., -1])
    square[:_OWN, :_OWN] += information
    pull[:_OWN] += information @ _gap(state.estimate, known)
    square[_OWN:, _OWN:] += np.eye(state.joints.size) / _JOINT_SPREAD**2
    pull[_OWN:] -= state.joints.ravel() / _JOINT_SPREAD**2
    covariance = np.linalg.inv(square)
    change = covariance @ pull
    points = back[..., -1] - back[..., :-1] @ change
    late = state.estimate.late + float(change[7])
    moved = Estimate(
        state.estimate.pose @ make_pose(Rotation.from_rotvec(change[:3]).as_matrix(), change[3:6]),
        state.estimate.log_zoom + float(change[6]),
        float(np.clip(late, -LATEST * frames.dt, LATEST * frames.dt)),
    )
    joints = state.joints + change[_OWN:].reshape(state.joints.shape)
    return _State(moved, joints, state.points + points), covariance


def _linear(
    state: _State, tracks: LinkTracks, frames: FrameSet, K: Floats
) -> tuple[Floats, Floats, Floats]:
    """Residuals (N, 2), and what predicted pixels change by: (N, 2, 8 + n J) and (N, 2, 3)."""
    estimate = state.estimate
    frames.set_late(estimate.late)
    lens, turn = zoomed(K, estimate.log_zoom), estimate.pose[:3, :3]
    logged = frames.joints + state.joints
    frame, link = tracks.frame, tracks.link[tracks.track]
    pose = link_poses(frames.robot, logged, frames.fingers)[frame, link]
    placed = _whole(state.points[tracks.track])
    point = (pose @ placed)[:, :3, 0]
    x, y, z = there = ((point - estimate.pose[:3, 3]) @ turn).T
    fx, fy, o = lens[0, 0], lens[1, 1], np.zeros_like(z)
    pixel = np.stack([fx * x / z, fy * y / z], 1)
    by_there = np.stack(
        [np.stack([fx / z, o, -fx * x / z**2], 1), np.stack([o, fy / z, -fy * y / z**2], 1)], 1
    )
    by_base = by_there @ turn.T
    count, joints = logged.shape
    rows = np.zeros((len(frame), 2, _OWN + count * joints))
    rows[..., :3] = np.cross(by_there, there.T[:, None])
    rows[..., 3:6] = -by_there
    rows[..., 6] = pixel
    speed = (frames.velocity[frame, link] @ _whole(point))[:, :3]
    rows[..., 7] = -(by_base @ speed)[..., 0]
    for joint, step in enumerate(_EPSILON * np.eye(joints)):
        ahead, behind = (
            (link_poses(frames.robot, logged + way * step, frames.fingers)[frame, link] @ placed)
            for way in (1, -1)
        )
        moves = by_base @ (ahead - behind)[:, :3] / (2 * _EPSILON)
        rows[np.arange(len(frame)), :, _OWN + frame * joints + joint] = moves[..., 0]
    return tracks.pixel - pixel - lens[:2, 2], rows, by_base @ pose[:, :3, :3]


def _whole(points: Floats) -> Floats:
    """(N, 4, 1) homogeneous."""
    return np.column_stack([points, np.ones(len(points))])[..., None]


def _gap(here: Estimate, there: Estimate) -> Floats:
    """(8,) the step from one estimate to another."""
    move = invert(here.pose) @ there.pose
    turn = Rotation.from_matrix(move[:3, :3]).as_rotvec()
    other = there.log_zoom - here.log_zoom, there.late - here.late
    return np.concatenate([turn, move[:3, 3], other])


def _crowd(tracks: LinkTracks) -> Floats:
    """(M,) how many tracks lie in the same place of a link: they err together."""
    cell = np.column_stack([tracks.link, np.floor(tracks.point / _PLACE).astype(np.int64)])
    _, index, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[index.ravel()], float)


def _summed(values: Floats, tracks: LinkTracks) -> Floats:
    """Of each track."""
    first = np.searchsorted(tracks.track, np.arange(len(tracks)))
    return np.asarray(np.add.reduceat(values, first, axis=0))

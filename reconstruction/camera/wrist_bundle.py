"""A camera on a hand to a fraction of a pixel: bundle adjustment of mount, lens, clock and points.

Unknowns: 3 of turn (rad) and 3 of shift (m) in the camera's own frame, the logarithm of the focal
length, the images' lateness (s), every frame's joints, and the points of all tracks in the base
frame. Joints have a prior that holds them near the log; were they taken as exact, a milliradian of
noise would draw the camera by decimetres towards the wrist, where the joints' errors move it less.
Points meet only their own track's views and are eliminated first (Schur complement; Triggs et al.,
Bundle Adjustment - A Modern Synthesis, 2000).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation

from reconstruction.camera.estimate import zoomed
from reconstruction.camera.refine import LATE_SPREAD, LATEST
from reconstruction.camera.wrist_hand import NEAREST, Hand, Mount, into, misses
from reconstruction.camera.wrist_search import LEVER, rays_of
from reconstruction.camera.wrist_tracks import Tracks
from robo4d.geometry import make_pose

Floats = NDArray[np.floating]
TURN, SHIFT, ZOOM, LATE = slice(0, 3), slice(3, 6), 6, 7
_OWN = 8  # unknowns beside joints
# rad by which a logged joint may be off: encoders' noise, play, clocks that jitter.
_JOINT_SPREAD = 1e-3
_FARTHEST = 20.0  # m
_ROUNDS = 25
_STEP = 0.1  # rad, m, and share of the focal length, at most in one round
_FEWEST = 30  # tracks
_NOISE = 0.3  # pixels, least


@dataclass(frozen=True)
class Bundle:
    """What was adjusted.

    Attributes:
        offset: (F, J) rad by which joints are off the log.
        tracks: those that were used.
        weight: (N,) 0..1, robust.
        covariance: (8, 8) of turn, shift, zoom, lateness.
    """

    mount: Mount
    offset: Floats
    tracks: Tracks
    weight: Floats
    covariance: Floats


def adjust(
    tracks: Tracks,
    hand: Hand,
    K: Floats,
    spread: float,
    mount: Mount,
    wrong: float,
    offset: Floats | None = None,
) -> Bundle | None:
    """Bundle adjustment by Gauss-Newton; None where too few points are in view.

    Args:
        K, spread: (3, 3) the guess at the working size; relative deviation of its focal length.
        wrong: pixels, scale of residuals that lose their weight at the end.
        offset: (F, J) rad to begin with.
    """
    offset = np.zeros(hand.shape) if offset is None else offset
    points = triangulate(tracks, hand, K, mount, offset)
    tracks, points = _usable(tracks, points, hand, K, mount, offset)
    if len(tracks) < _FEWEST:
        return None
    scale = 4 * wrong
    for _ in range(_ROUNDS):
        if (misses(tracks, hand, K, mount, offset, points)[1] > NEAREST).sum() < _FEWEST:
            return None
        system = _System(tracks, hand, K, spread, mount, offset, points, scale)
        change, moved, turned = system.solve()
        points = points + np.clip(moved, -_STEP, _STEP)
        offset = offset + np.clip(turned, -_STEP, _STEP)
        mount = _moved(mount, change, hand.dt)
        settled = scale == wrong and np.abs(change[:6]).max() < 1e-5
        scale = max(wrong, 0.6 * scale)
        if settled:
            break
    system = _System(tracks, hand, K, spread, mount, offset, points, wrong)
    return Bundle(mount, offset, tracks, system.weight, system.covariance())


def triangulate(tracks: Tracks, hand: Hand, K: Floats, mount: Mount, offset: Floats) -> Floats:
    """(M, 3) points nearest to their rays, in the base frame; NaN where rays are parallel."""
    cameras = (hand.ee(mount.late, offset) @ mount.pose)[tracks.frame]
    rays = rays_of(tracks.pixel, zoomed(K, mount.log_zoom))
    way = (cameras[:, :3, :3] @ rays[..., None])[..., 0]
    across = np.eye(3) - way[:, :, None] * way[:, None]
    square = _summed(across, tracks)
    right = _summed((across @ cameras[:, :3, 3:])[..., 0], tracks)
    points = np.full((len(tracks), 3), np.nan)
    # Two rays at a small angle a leave a smallest eigenvalue of a^2 / 2.
    well = np.linalg.eigvalsh(square)[:, 0] > 1e-5
    points[well] = np.linalg.solve(square[well], right[well][..., None])[..., 0]
    return points


class _System:
    """The normal equations at one state, points eliminated."""

    def __init__(
        self,
        tracks: Tracks,
        hand: Hand,
        K: Floats,
        spread: float,
        mount: Mount,
        offset: Floats,
        points: Floats,
        scale: float,
    ) -> None:
        self._shape = hand.shape
        residual, depth = misses(tracks, hand, K, mount, offset, points)
        ahead = depth > NEAREST
        self.residual = np.where(ahead[:, None], residual, 0.0)
        squared = (self.residual**2).sum(1)
        # Geman and McClure's.
        self.weight = np.where(ahead, 1 / (1 + squared / scale**2) ** 2, 0.0)
        # Of two normal components the squared length has the median 1.386 s^2.
        noise = max(_NOISE, float(np.sqrt(np.median(squared[ahead]) / 1.386)))
        by_own, by_joint, by_point = _derivatives(
            tracks, hand, K, mount, offset, points, self.residual, ahead
        )
        rows = np.concatenate([by_own, by_joint], axis=2)
        weighted = np.swapaxes(rows, 1, 2) * (self.weight / noise**2)[:, None, None]
        point = np.swapaxes(by_point, 1, 2) * (self.weight / noise**2)[:, None, None]
        own = _summed(point @ by_point, tracks)
        # A point seen by rays that hardly meet moves little, rather than anywhere.
        own += (1e-9 * np.trace(own, axis1=1, axis2=2) + 1e-9)[:, None, None] * np.eye(3)
        self._root = np.linalg.inv(np.linalg.cholesky(own))  # own = (root^T root)^-1
        self._point_right = (
            self._root @ _summed((point @ self.residual[..., None])[..., 0], tracks)[..., None]
        )[..., 0]
        self._mixed = self._spread_out(self._root[tracks.track] @ (point @ rows), tracks)
        square = self._by_frame(weighted @ rows, tracks)
        right = self._sum_frames((weighted @ self.residual[..., None])[..., 0], tracks)
        square -= (self._mixed.T @ self._mixed).toarray()
        right -= self._mixed.T @ self._point_right.ravel()
        # Priors: a lens as guessed, a clock nearly right, a camera on the hand, joints as logged.
        prior, now = np.zeros((2, _OWN))
        prior[SHIFT], now[SHIFT] = LEVER**-2.0, mount.pose[:3, :3].T @ mount.pose[:3, 3]
        prior[ZOOM], now[ZOOM] = (spread or 1e-6) ** -2.0, mount.log_zoom
        prior[LATE], now[LATE] = (LATE_SPREAD * hand.dt) ** -2.0, mount.late
        square[:_OWN, :_OWN] += np.diag(prior)
        right[:_OWN] -= prior * now
        right[_OWN:] -= offset.ravel() / _JOINT_SPREAD**2
        square[np.diag_indices(len(right))] += np.append(
            np.zeros(_OWN), np.full(offset.size, _JOINT_SPREAD**-2.0)
        )
        self._square, self._right = square, right

    def solve(self) -> tuple[Floats, Floats, Floats]:
        """Steps of the unknowns (8,), the points (M, 3) and the joints (F, J)."""
        change = np.linalg.solve(self._square, self._right)
        left = self._point_right - (self._mixed @ change).reshape(-1, 3)
        points = (np.swapaxes(self._root, 1, 2) @ left[..., None])[..., 0]
        return change[:_OWN], points, change[_OWN:].reshape(self._shape)

    def covariance(self) -> Floats:
        """(8, 8)."""
        return np.linalg.inv(self._square)[:_OWN, :_OWN]

    def _columns(self, tracks: Tracks) -> NDArray[np.integer]:
        """(N, 8 + J) of each observation's unknowns."""
        joints = self._shape[1]
        own = np.broadcast_to(np.arange(_OWN), (len(tracks.frame), _OWN))
        return np.concatenate([own, _OWN + tracks.frame[:, None] * joints + np.arange(joints)], 1)

    def _spread_out(self, parts: Floats, tracks: Tracks) -> csr_array:
        """(3 M, U) of parts (N, 3, 8 + J)."""
        columns = np.broadcast_to(self._columns(tracks)[:, None], parts.shape)
        rows = np.broadcast_to(3 * tracks.track[:, None, None] + np.arange(3)[:, None], parts.shape)
        size = (3 * len(tracks), _OWN + self._shape[0] * self._shape[1])
        return csr_array((parts.ravel(), (rows.ravel(), columns.ravel())), size)

    def _by_frame(self, blocks: Floats, tracks: Tracks) -> Floats:
        """(U, U) of blocks (N, 8 + J, 8 + J)."""
        frames, joints = self._shape
        order = np.argsort(tracks.frame, kind="stable")
        present, first = np.unique(tracks.frame[order], return_index=True)
        summed = np.zeros((frames, *blocks.shape[1:]))
        summed[present] = np.add.reduceat(blocks[order], first)
        out = np.zeros((_OWN + frames * joints,) * 2)
        out[:_OWN, :_OWN] = summed[:, :_OWN, :_OWN].sum(0)
        for frame, block in enumerate(summed):
            at = slice(_OWN + frame * joints, _OWN + (frame + 1) * joints)
            out[at, at] = block[_OWN:, _OWN:]
            out[:_OWN, at], out[at, :_OWN] = block[:_OWN, _OWN:], block[_OWN:, :_OWN]
        return out

    def _sum_frames(self, parts: Floats, tracks: Tracks) -> Floats:
        """(U,) of parts (N, 8 + J)."""
        out = np.zeros(_OWN + self._shape[0] * self._shape[1])
        np.add.at(out, self._columns(tracks), parts)
        return out


def _derivatives(
    tracks: Tracks,
    hand: Hand,
    K: Floats,
    mount: Mount,
    offset: Floats,
    points: Floats,
    residual: Floats,
    ahead: NDArray[np.bool_],
) -> tuple[Floats, Floats, Floats]:
    """Of the predicted pixels by our own (N, 2, 8), the joints (N, 2, J) and points (N, 2, 3).

    The pose is turned and shifted in the camera's own frame, as in `refine`.
    """
    lens = zoomed(K, mount.log_zoom)
    cameras = hand.ee(mount.late, offset) @ mount.pose
    speed, by_joint = (
        np.swapaxes(cameras[:, None, :3, :3], 2, 3) @ moves[..., :3, :]
        for moves in (s if s.ndim == 4 else s[:, None] for s in hand.speeds(mount.late, offset))
    )  # (F, n, 3, 4)
    placed = points[tracks.track]
    there = np.where(ahead[:, None], into(cameras[tracks.frame], placed), 1.0)
    x, y, z = there.T
    fx, fy, o = lens[0, 0], lens[1, 1], np.zeros_like(z)
    by_there = np.stack(
        [np.stack([fx / z, o, -fx * x / z**2], 1), np.stack([o, fy / z, -fy * y / z**2], 1)], 1
    )
    whole = np.column_stack([placed, np.ones(len(placed))])[:, None, :, None]
    own = np.empty((len(z), 2, _OWN))
    own[..., TURN] = np.cross(by_there, there[:, None])
    own[..., SHIFT] = -by_there
    own[..., ZOOM] = tracks.pixel - residual - lens[:2, 2]
    own[..., LATE] = (by_there @ (speed[tracks.frame] @ whole)[:, 0])[..., 0]
    joint = -by_there @ np.swapaxes((by_joint[tracks.frame] @ whole)[..., 0], 1, 2)
    return own, joint, by_there @ np.swapaxes(cameras[tracks.frame][:, :3, :3], 1, 2)


def _moved(mount: Mount, change: Floats, dt: float) -> Mount:
    change = np.clip(change, -_STEP, _STEP)
    step = make_pose(Rotation.from_rotvec(change[TURN]).as_matrix(), change[SHIFT])
    late = float(np.clip(mount.late + change[LATE], -LATEST * dt, LATEST * dt))
    return Mount(np.asarray(mount.pose @ step), mount.log_zoom + float(change[ZOOM]), late)


def _usable(
    tracks: Tracks, points: Floats, hand: Hand, K: Floats, mount: Mount, offset: Floats
) -> tuple[Tracks, Floats]:
    """Tracks whose points lie before the camera, near enough to tell something."""
    found = np.asarray(np.isfinite(points).all(1))
    tracks, points = tracks.where(found[tracks.track]), points[found]
    _, depth = misses(tracks, hand, K, mount, offset, points)
    whole = np.ones(len(points), bool)
    np.logical_and.at(whole, tracks.track, (depth > NEAREST) & (depth < _FARTHEST))
    return tracks.where(whole[tracks.track]), points[whole]


def _summed(values: Floats, tracks: Tracks) -> Floats:
    """Of each track."""
    first = np.searchsorted(tracks.track, np.arange(len(tracks)))
    return np.add.reduceat(values, first, axis=0)

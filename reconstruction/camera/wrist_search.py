"""Which way a camera on a hand looks: a search over all rotations, the lever arm in closed form.

A scene point seen from two poses of the hand obeys e = N . ((R - 1) t + T) = 0, where (R, T) is
the hand's motion in its own frame, t the camera's position on the hand, and N = R q x p the normal
of the two rays, turned into the hand's frame by the camera's rotation. Given that rotation,
everything is linear in t: six unknowns are searched as three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruction.camera.wrist_tracks import Tracks
from robo4d.geometry import invert, make_pose

Floats = NDArray[np.floating]
# Of the camera from the hand's frame, m: a prior of a hand's size, which data soon outweigh.
LEVER = 0.1
# Of all rotations 95 % have one of so many random ones within 12 degrees; 40 are followed.
_ROTATIONS, _PAIRS, _MORE_PAIRS, _FOLLOWED = 6000, 400, 1500, 40
# Rounds of random steps from each: how far (rad), and the residual (pixels) that counts as wrong.
_ROUNDS = ((0.2, 24.0), (0.12, 16.0), (0.07, 10.0), (0.04, 6.0), (0.02, 4.0), (0.01, 3.0))
_TRIES = 8
_APART = 0.2  # rad
_BATCH = 200
_NEAREST = 0.02  # m; nothing is seen closer, and nothing behind the camera
_PARALLAX = 3.0  # pixels from which two rays tell on which side of the camera they meet


@dataclass(frozen=True)
class Pairs:
    """Points seen from two poses of the hand.

    Attributes:
        ray, other: (N, 3) unit, in the two cameras.
        motion: (N, 4, 4) the hand's second pose in its first.
    """

    ray: Floats
    other: Floats
    motion: Floats

    def some(self, count: int, rng: np.random.Generator) -> Pairs:
        """At most ``count``, at random."""
        if len(self.ray) <= count:
            return self
        chosen = rng.choice(len(self.ray), count, replace=False)
        return Pairs(self.ray[chosen], self.other[chosen], self.motion[chosen])


def rays_of(pixels: Floats, K: Floats) -> Floats:
    """(N, 3) unit rays through pixels (N, 2)."""
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(K).T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def widest_pairs(tracks: Tracks, ee: Floats, K: Floats) -> Pairs:
    """Of each track, its first view with its middle and its last one."""
    count = np.bincount(tracks.track, minlength=len(tracks))
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    a = np.concatenate([first, first])
    b = np.concatenate([first + count - 1, first + count // 2])
    rays = rays_of(tracks.pixel, K)
    motion = invert(ee[tracks.frame[a]]) @ ee[tracks.frame[b]]
    return Pairs(rays[a], rays[b], motion)


def search_mount(pairs: Pairs, focal: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Candidates (n, 4, 4) for ee_from_camera, best first, and the cost of each, 0 to 1.

    Args:
        focal: pixels, in which residuals are told.
    """
    few, more = pairs.some(_PAIRS, rng), pairs.some(_MORE_PAIRS, rng)
    turn = Rotation.random(_ROTATIONS, rng).as_matrix()
    cost, _ = _scored(few, turn, focal, _ROUNDS[0][1])
    turn = _apart(turn[np.argsort(cost, kind="stable")])
    for reach, wrong in _ROUNDS:
        tries = rng.normal(0, reach, (len(turn), _TRIES, 3))
        tries[:, 0] = 0
        tried = turn[:, None] @ Rotation.from_rotvec(tries.reshape(-1, 3)).as_matrix().reshape(
            *tries.shape, 3
        )
        cost, _ = _scored(few, tried.reshape(-1, 3, 3), focal, wrong)
        best = cost.reshape(tries.shape[:2]).argmin(1)
        turn = tried[np.arange(len(turn)), best]
    cost, lever = _scored(more, turn, focal, _ROUNDS[-1][1])
    order = np.argsort(cost, kind="stable")
    return make_pose(turn, lever)[order], cost[order]


def _apart(turn: Floats) -> Floats:
    """The first `_FOLLOWED` rotations that differ, so that one valley does not take all places."""
    kept: list[Floats] = []
    least = 1 + 2 * np.cos(_APART)
    for one in turn:
        if all(np.trace(one.T @ other) < least for other in kept):
            kept.append(one)
        if len(kept) == _FOLLOWED:
            break
    return np.stack(kept)


def _scored(pairs: Pairs, turn: Floats, focal: float, wrong: float) -> tuple[Floats, Floats]:
    """Cost (n,) and lever arms (n, 3) of rotations (n, 3, 3)."""
    parts = [_score(pairs, turn[i : i + _BATCH], focal, wrong) for i in range(0, len(turn), _BATCH)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _score(pairs: Pairs, turn: Floats, focal: float, wrong: float) -> tuple[Floats, Floats]:
    R, T = pairs.motion[:, :3, :3], pairs.motion[:, :3, 3]
    p = pairs.ray @ np.swapaxes(turn, 1, 2)  # (n, N, 3) in the hand
    q = (R @ (pairs.other @ np.swapaxes(turn, 1, 2))[..., None])[..., 0]
    normal = np.cross(q, p)
    arm = np.einsum("bni,nij->bnj", normal, R - np.eye(3))  # what a unit of t adds to e
    given = np.einsum("bni,ni->bn", normal, T)
    lever = np.zeros((len(turn), 3))
    for _ in range(3):
        across = T + np.einsum("nij,bj->bni", R - np.eye(3), lever)
        # Sampson's first order: e over its change by a turn of either ray.
        slope = np.sqrt((np.cross(across, p) ** 2 + np.cross(across, q) ** 2).sum(2)) + 1e-9
        residual = focal * (given + np.einsum("bni,bi->bn", arm, lever)) / slope
        weight = (focal / slope) ** 2 / (1 + (residual / wrong) ** 2) ** 2 / wrong**2
        square = np.einsum("bni,bn,bnj->bij", arm, weight, arm) + np.eye(3) / LEVER**2
        right = -np.einsum("bni,bn,bn->bi", arm, weight, given)
        lever = np.linalg.solve(square, right[..., None])[..., 0]
    across = T + np.einsum("nij,bj->bni", R - np.eye(3), lever)
    slope = np.sqrt((np.cross(across, p) ** 2 + np.cross(across, q) ** 2).sum(2)) + 1e-9
    residual = focal * (given + np.einsum("bni,bi->bn", arm, lever)) / slope
    # Depths along both rays where they pass each other: (across x q) . n / n.n, likewise p.
    size = (normal**2).sum(2)
    nearest = np.minimum(
        (np.cross(across, q) * -normal).sum(2), (np.cross(across, p) * -normal).sum(2)
    )
    behind = (nearest < _NEAREST * size) & (size > (_PARALLAX / focal) ** 2)
    squared = (residual / wrong) ** 2
    cost = np.where(behind, 1.0, squared / (1 + squared)).mean(1)
    return cost, lever

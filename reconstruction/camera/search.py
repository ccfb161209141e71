"""Find a camera pose from nothing: random poses scored by flow, the best improved by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruction.camera.flow_score import FlowPairs, FlowScorer
from robo4d.geometry import make_pose

Floats = NDArray[np.floating]
_RANDOM = 9000
_AROUND = 400  # perturbed copies of each start
_COARSE_CELL, _COARSE_POINTS, _COARSE_PAIRS = 8, 400, 6
_FINE_CELL, _FINE_POINTS = 4, 3000
_SURVIVORS, _FINALISTS, _ROUNDS = 60, 12, 60
# m and rad of a search step at scale 1.
_STEP = 0.25


@dataclass(frozen=True)
class Lens:
    """What is known of the intrinsics.

    Attributes:
        K: (3, 3) pixels, the best guess.
        spread: standard deviation of the focal length's logarithm; 0: K is known.
    """

    K: Floats
    spread: float = 0.0

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """(count,) logarithms of focal length over the guess; within 2.5 deviations."""
        if self.spread == 0:
            return np.zeros(count)
        return self.spread * np.clip(rng.standard_normal(count), -2.5, 2.5)

    def vectors(self, log_zoom: Floats) -> Floats:
        """(n, 4) fx, fy, cx, cy."""
        K = self.K
        zoom = np.exp(log_zoom)
        flat = np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]])
        return np.stack([zoom, zoom, np.ones_like(zoom), np.ones_like(zoom)], 1) * flat


@dataclass(frozen=True)
class Found:
    """Finalists, best first: poses (n, 4, 4), log zoom (n,), scores (n,), and what scored them."""

    poses: Floats
    log_zoom: Floats
    scores: Floats
    scorer: FlowScorer


def search_pose(
    pairs: FlowPairs,
    lens: Lens,
    centre: Floats,
    starts: Sequence[Floats],
    rng: np.random.Generator,
) -> Found:
    """Finalists of a population search.

    Args:
        centre: (3,) m, the middle of the hand's path in the base frame.
        starts: base_from_camera (4, 4) to be tried beside the random ones.
    """
    loud = np.argsort(-pairs.motion_seen(), kind="stable")[:_COARSE_PAIRS]
    coarse = FlowScorer(pairs.thinned(loud, _COARSE_POINTS), _COARSE_CELL)
    fine = FlowScorer(pairs.thinned(np.arange(len(pairs.flow)), _FINE_POINTS), _FINE_CELL)
    poses = np.concatenate(
        [random_poses(rng, centre, _RANDOM)]
        + [_around(np.asarray(start), rng) for start in starts]
        + [np.asarray(start)[None] for start in starts]
    )
    zoom = lens.draw(rng, len(poses))
    population = _best(poses, zoom, coarse(poses, lens.vectors(zoom)), _SURVIVORS)
    population = _improve(population, coarse, lens, rng, 0.4, 0.03)
    poses, zoom, _ = population
    population = _best(poses, zoom, fine(poses, lens.vectors(zoom)), _FINALISTS)
    poses, zoom, scores = _improve(population, fine, lens, rng, 0.15, 0.01)
    order = np.argsort(-scores, kind="stable")
    return Found(poses[order], zoom[order], scores[order], fine)


def random_poses(rng: np.random.Generator, centre: Floats, count: int) -> Floats:
    """base_from_camera (count, 4, 4) around a robot: anywhere from which its hand can be watched."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = np.where(direction[:, 2] < -0.4, -direction[:, 2], direction[:, 2])
    distance = np.exp(rng.uniform(np.log(0.35), np.log(2.0), (count, 1)))
    forward = rng.normal(0, 0.2, (count, 3)) - direction * distance
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.maximum(np.linalg.norm(right, axis=1, keepdims=True), 1e-6)
    level = np.stack([right, np.cross(forward, right), forward], axis=2)
    roll = rng.normal(0, np.where(rng.uniform(size=count) < 0.1, 0.8, 0.15))
    turn = Rotation.from_rotvec(roll[:, None] * [0.0, 0.0, 1.0]).as_matrix()
    return make_pose(level @ turn, centre + direction * distance)


def moved(poses: Floats, turn: Floats, shift: Floats) -> Floats:
    """Poses (n, 4, 4) turned by rotation vectors (n, 3) rad and shifted by (n, 3) m, in their own
    frame."""
    return np.asarray(poses @ make_pose(Rotation.from_rotvec(turn).as_matrix(), shift))


_Population = tuple[Floats, Floats, Floats]


def _around(start: Floats, rng: np.random.Generator) -> Floats:
    scale = np.exp(rng.uniform(np.log(0.02), 0, (_AROUND, 1)))
    turn, shift = rng.normal(0, _STEP, (2, _AROUND, 3)) * scale
    return moved(np.repeat(start[None], _AROUND, 0), turn, shift)


def _best(poses: Floats, zoom: Floats, scores: Floats, count: int) -> _Population:
    top = np.argsort(-scores, kind="stable")[:count]
    return poses[top], zoom[top], scores[top]


def _improve(
    population: _Population,
    scorer: FlowScorer,
    lens: Lens,
    rng: np.random.Generator,
    step: float,
    least: float,
) -> _Population:
    """Each member tries a random step a round; steps grow on success and shrink on failure."""
    poses, zoom, scores = (values.copy() for values in population)
    scale = np.full(len(poses), step)
    for _ in range(_ROUNDS):
        turn, shift = rng.normal(0, _STEP, (2, len(poses), 3)) * scale[:, None]
        tried = moved(poses, turn, shift)
        limit = 2.5 * lens.spread
        tried_zoom = np.clip(zoom + lens.spread * scale * rng.standard_normal(len(zoom)), -limit, limit)
        value = scorer(tried, lens.vectors(tried_zoom))
        better = value > scores
        poses[better], zoom[better], scores[better] = tried[better], tried_zoom[better], value[better]
        scale = np.where(better, scale * 1.1, np.maximum(scale * 0.93, least))
    return poses, zoom, scores

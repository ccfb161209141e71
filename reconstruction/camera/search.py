"""Find a camera pose from nothing: random poses scored by flow, the best improved by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruction.camera.flow_score import FlowPairs, FlowScorer
from robo4d.geometry import invert, make_pose, transform

Floats = NDArray[np.floating]
_RANDOM = 20000
_AROUND = 400  # perturbed copies of each start
# rad and m of a start's perturbations at scale 1.
_STEP = 0.25
# Of a search step at scale 1: rad of an orbit about the hand, rad of a turn in place, and the share
# of the distance. An orbit keeps the hand where it is in the image, as flow does: poses that
# explain it about as well lie along orbits.
_ORBIT, _TURN, _DOLLY = 0.4, 0.1, 0.25


@dataclass(frozen=True)
class _Stage:
    """A pass over the population: all are scored, the best kept and improved.

    Attributes:
        pairs, points, cell: how closely is looked; pairs are spread over the clip, as the fastest
            alone let wrong poses win.
        kept: members.
        rounds: of random steps, from scale ``step``, no smaller than ``least``.
    """

    pairs: int
    points: int
    cell: int
    kept: int
    rounds: int
    step: float
    least: float


_STAGES = (
    _Stage(pairs=4, points=200, cell=8, kept=100, rounds=0, step=0, least=0),
    _Stage(pairs=8, points=400, cell=8, kept=100, rounds=30, step=0.4, least=0.05),
    _Stage(pairs=16, points=1000, cell=8, kept=40, rounds=40, step=0.2, least=0.02),
    _Stage(pairs=20, points=2000, cell=4, kept=14, rounds=40, step=0.1, least=0.01),
)


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
    """Finalists of a population search, ever fewer looked at ever more closely.

    Args:
        centre: (3,) m, the middle of the hand's path in the base frame.
        starts: base_from_camera (4, 4) to be tried beside the random ones.
    """
    poses = np.concatenate(
        [random_poses(rng, centre, _RANDOM)]
        + [_around(np.asarray(start), rng) for start in starts]
        + [np.asarray(start)[None] for start in starts]
    )
    zoom = lens.draw(rng, len(poses))
    for stage in _STAGES:
        even = np.unique(np.linspace(0, len(pairs.flow) - 1, stage.pairs).round().astype(int))
        thinned = pairs.thinned(even, stage.points)
        scorer = FlowScorer(thinned, stage.cell, afar=stage is not _STAGES[-1])
        scores = scorer(poses, lens.vectors(zoom))
        top = np.argsort(-scores, kind="stable")[: stage.kept]
        population = poses[top], zoom[top], scores[top]
        poses, zoom, scores = _improve(population, scorer, lens, centre, rng, stage)
    order = np.argsort(-scores, kind="stable")
    return Found(poses[order], zoom[order], scores[order], scorer)


def random_poses(rng: np.random.Generator, centre: Floats, count: int) -> Floats:
    """base_from_camera (count, 4, 4) anywhere from which a robot's hand can be watched."""
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
    frame.
    """
    return np.asarray(poses @ make_pose(Rotation.from_rotvec(turn).as_matrix(), shift))


_Population = tuple[Floats, Floats, Floats]


def _around(start: Floats, rng: np.random.Generator) -> Floats:
    scale = np.exp(rng.uniform(np.log(0.02), 0, (_AROUND, 1)))
    turn, shift = rng.normal(0, _STEP, (2, _AROUND, 3)) * scale
    return moved(np.repeat(start[None], _AROUND, 0), turn, shift)


def _improve(
    population: _Population,
    scorer: FlowScorer,
    lens: Lens,
    centre: Floats,
    rng: np.random.Generator,
    stage: _Stage,
) -> _Population:
    """Each member tries a random step a round; steps grow on success and shrink on failure."""
    poses, zoom, scores = (values.copy() for values in population)
    scale = np.full(len(poses), stage.step)
    limit = 2.5 * lens.spread
    for _ in range(stage.rounds):
        orbit, turn = (
            scale[:, None] * rng.normal(0, size, (len(poses), 3)) for size in (_ORBIT, _TURN)
        )
        nearer = scale * rng.normal(0, _DOLLY, len(poses))
        tried_zoom = np.clip(
            zoom + lens.spread * scale * rng.standard_normal(len(zoom)), -limit, limit
        )
        # From as much further as the lens is longer the hand looks as large.
        nearer -= tried_zoom - zoom
        hand = transform(invert(poses), centre[None])[:, 0]
        tried = moved(poses, orbit, hand - Rotation.from_rotvec(orbit).apply(hand))
        tried = moved(tried, turn, hand * nearer[:, None])
        value = scorer(tried, lens.vectors(tried_zoom))
        better = value > scores
        poses[better], zoom[better], scores[better] = (
            tried[better],
            tried_zoom[better],
            value[better],
        )
        scale = np.where(better, scale * 1.1, np.maximum(scale * 0.93, stage.least))
    return poses, zoom, scores

"""The hand in its own camera's picture: where its outline lies tells where the camera stands.

A camera on the hand sees a gripper that only opens and closes: it stands still before a robot whose
arm rests, and `refine` follows the outline as any other camera's.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruction.camera.appearance import COARSE, FINE
from reconstruction.camera.estimate import Estimate
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.problem import CameraProblem, Steps
from reconstruction.camera.quality import outline_fit
from reconstruction.camera.refine import Known, Round, refine
from robo4d.geometry import invert, make_pose
from robots.kinematics import ee_poses
from robots.rasterizer import RobotRasterizer

Floats = NDArray[np.floating]
_FRAMES, _CHOSEN = 24, 6
_TO_BASIN = [Round(reach, 8, 100) for reach in (20, 14, 10, 10, 7, 7, 4, 4)]
_TO_SUBPIXEL = [
    *[Round(4, 12, 120)] * 2,
    Round(COARSE, 12, 150, "matte", most=8),
    Round(FINE, 24, 250, "matte", most=5),
]
# Tracks err by this many times their deviations (twins), and real ones lie about so far from the
# outline on every axis (rad and m; what joints and clocks do beyond the noise that is modelled);
# along the direction that tracks know least, outlines decide alone.
_DOUBT, _FLOOR = 3.0, np.array([0.025] * 3 + [0.01] * 3)
_OPEN = 0.5
_LEVER = 0.2  # m in which rotations are compared with shifts: how far off a hand is seen
# m: deviation from which it is open, between starts along it, and from the hand's frame at most.
_LOOSE, _SLIDE, _FARTHEST = 0.02, 0.02, 0.3
_NEAR = 0.02  # m by which starts are shifted where that settles nothing
_FINALISTS, _APART = 4, 0.005  # m
_SETTLED = 0.8  # share of the outline
_LEAST_SEEN = 0.004  # share of the image that the hand must cover


@dataclass(frozen=True)
class OutlineFit:
    """A mount by outlines and tracks together.

    Attributes:
        pose: ee_from_camera (4, 4).
        covariance: (6, 6) of turn (rad) and shift (m) in the camera's frame.
        share, edge_px: of the outline that has a clear edge within 1.5 pixels, and how far edges
            lie from it (median), on steps held back.
        apart: how far it lies from what tracks alone say, in their doubted deviations.
        scene_sd: m, the tracks' own doubted deviation along the direction that they know least.
    """

    pose: Floats
    covariance: Floats
    share: float
    edge_px: float | None
    apart: float
    scene_sd: float


def fit_outline(
    problems: Sequence[CameraProblem],
    K: Floats,
    pose: Floats,
    covariance: Floats,
    late: float,
    rng: np.random.Generator,
) -> OutlineFit | None:
    """Follow the hand's outline from what tracks say; None where the camera sees too little of it.

    Args:
        K: (3, 3) at the working size.
        pose, covariance: ee_from_camera by tracks, and (6, 6) of its turn and shift.
    """
    still = [_resting(problem) for problem in problems]
    base_from_ee = ee_poses(still[0].robot, still[0].joints[:1])[0]
    renderer = RobotRasterizer(still[0].robot, *still[0].working_size)
    frames = _frames(still, [p.solving() for p in still], renderer, late)
    doubted, weak, deviation = _doubted(covariance)
    known = Known(base_from_ee @ pose, np.linalg.inv(doubted))
    tried: list[tuple[float, Estimate]] = []
    for steps in (_slides(pose, weak, deviation), _around(_NEAR), _around(_NEAR, corners=True)):
        for step in steps:
            begin = Estimate(known.pose @ step, late=late)
            found = refine(frames, begin, K, 0.0, _TO_BASIN, rng, known)
            if found.covariance is None:
                continue
            _, share, seen = _fit(frames, K, found, _CHOSEN)
            if seen >= _LEAST_SEEN:
                tried.append((share, found))
        if max((share for share, _ in tried), default=0.0) >= _SETTLED:
            break
    final, most = None, 0.0
    for near in _finalists(tried):
        found = refine(frames, near, K, 0.0, _TO_SUBPIXEL, rng, known)
        if found.covariance is None or _spread(found) > _LOOSE:
            continue  # a fingertip alone confirms nearly anything
        # Neither kind of evidence makes up for the other.
        gap = _gap(known, found.pose)
        worth = _fit(frames, K, found, _FRAMES)[1] / (1 + (gap / 2) ** 2)
        if worth > most:
            final, most = found, worth
    if final is None or final.covariance is None:
        return None
    held = _frames(still, [p.held_back() for p in still], renderer, late)
    edge_px, share, seen = _fit(held, K, final, _FRAMES)
    if seen < _LEAST_SEEN:
        return None
    return OutlineFit(
        pose=np.asarray(invert(base_from_ee) @ final.pose),
        covariance=final.covariance[:6, :6],
        share=share,
        edge_px=edge_px,
        apart=_gap(known, final.pose),
        scene_sd=deviation,
    )


def outline_at(
    problems: Sequence[CameraProblem], K: Floats, pose: Floats, late: float
) -> tuple[float | None, float]:
    """``edge_px`` and ``share``, see `OutlineFit`, of a given mount."""
    still = [_resting(problem) for problem in problems]
    base_from_ee = ee_poses(still[0].robot, still[0].joints[:1])[0]
    renderer = RobotRasterizer(still[0].robot, *still[0].working_size)
    held = _frames(still, [p.held_back() for p in still], renderer, late)
    return _fit(held, K, Estimate(base_from_ee @ pose, late=late), _FRAMES)[:2]


def relative(a: Floats, b: Floats) -> Floats:
    """(6,) turn (rad) and shift (m) in a's frame that take pose a (4, 4) to b."""
    move = invert(a) @ b
    return np.concatenate([Rotation.from_matrix(move[:3, :3]).as_rotvec(), move[:3, 3]])


def doubt(covariance: Floats) -> Floats:
    """(6, 6) what tracks are worth: their own covariance, made larger as true errors are."""
    return _DOUBT**2 * covariance + np.diag(_FLOOR**2)


def _resting(problem: CameraProblem) -> CameraProblem:
    rest = np.asarray(problem.robot.rest, float)
    return replace(problem, joints=np.repeat(rest[None], len(problem), 0))


def _frames(
    problems: Sequence[CameraProblem],
    steps: Sequence[Steps],
    renderer: RobotRasterizer,
    late: float,
) -> FrameSet:
    share = -(-_FRAMES // len(problems))
    chosen = [
        np.unique(some[np.linspace(0, len(some) - 1, share).round().astype(int)]) for some in steps
    ]
    frames = FrameSet(problems, chosen, renderer, on_hand=True)
    frames.set_late(late)
    return frames


def _fit(
    frames: FrameSet, K: Floats, estimate: Estimate, count: int
) -> tuple[float | None, float, float]:
    """`outline_fit` on ``count`` frames, and the share of the image that the hand covers."""
    frames.set_late(estimate.late)
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    depth, part = frames.rendered(chosen, K, estimate.pose)
    return *outline_fit(frames.images[chosen], depth, part), float((part > 0).mean())


def _doubted(covariance: Floats) -> tuple[Floats, Floats, float]:
    """The tracks' covariance, doubted and left open where it is loose; along which way, how loose.

    That way (6,) is of a metre's shift, its deviation in m.
    """
    scale = np.diag([_LEVER] * 3 + [1.0] * 3)
    doubted = doubt(covariance)
    values, vectors = np.linalg.eigh(scale @ doubted @ scale)
    deviation = float(np.sqrt(values[-1]))
    weak = np.linalg.inv(scale) @ vectors[:, -1]
    weak /= np.linalg.norm(weak[3:])
    if deviation >= _LOOSE:
        doubted = doubted + _OPEN**2 * np.outer(weak, weak)
    return doubted, weak, deviation


def _finalists(tried: list[tuple[float, Estimate]]) -> list[Estimate]:
    """The best estimates that differ: colours alone do not always rank the right one first."""
    kept: list[Estimate] = []
    for _, one in sorted(tried, key=lambda pair: -pair[0]):
        away = [relative(other.pose, one.pose) for other in kept]
        if all(np.linalg.norm(a[3:] + _LEVER * a[:3]) > _APART for a in away):
            kept.append(one)
        if len(kept) == _FINALISTS:
            break
    return kept


def _gap(known: Known, pose: Floats) -> float:
    """Deviations, root mean square over six axes, by which a pose misses what is known."""
    away = relative(known.pose, pose)
    return float(np.sqrt(away @ known.information @ away / 6))


def _spread(estimate: Estimate) -> float:
    """Deviation of the place in m."""
    assert estimate.covariance is not None
    return float(np.sqrt(np.trace(estimate.covariance[3:6, 3:6])))


def _slides(pose: Floats, weak: Floats, deviation: float) -> list[Floats]:
    """Starts (4, 4) along the weak direction that leave the camera on the hand; none is one."""
    out: list[Floats] = [np.eye(4)]
    if deviation < _LOOSE:
        return out
    reach = _FARTHEST + float(np.linalg.norm(pose[:3, 3]))
    for s in np.arange(_SLIDE, reach, _SLIDE):
        for way in (s, -s):
            turn = Rotation.from_rotvec(weak[:3] * way).as_matrix()
            step: Floats = make_pose(turn, weak[3:] * way)
            if np.linalg.norm((pose @ step)[:3, 3]) < _FARTHEST:
                out.append(step)
    return out


def _around(reach: float, corners: bool = False) -> list[Floats]:
    """Starts (4, 4) shifted along the camera's axes, or all combinations of them."""
    shifts = np.array(list(itertools.product((-reach, 0, reach), repeat=3)))
    axes = np.count_nonzero(shifts, axis=1)
    chosen = shifts[axes > 1] if corners else shifts[axes == 1]
    return [make_pose(np.eye(3), shift) for shift in chosen]

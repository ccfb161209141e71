"""Solve a camera that stands still against the robot's base, from frames and joints alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.evidence import flow_pairs, solving_pairs
from reconstruction.camera.flow_score import FlowScorer
from reconstruction.camera.problem import CameraProblem, diverse_steps
from reconstruction.camera.quality import Fit, measure_fit, outline_fit
from reconstruction.camera.refine import Estimate, FrameSet, Freedom, Round, refine, zoomed
from reconstruction.camera.search import Lens, search_pose
from robo4d.geometry import invert, project, transform
from robots.kinematics import ee_poses, link_poses
from robots.render import RobotRenderer
from robots.surface import surface_points

Floats = NDArray[np.floating]
Verdict = Literal["good", "usable", "reject"]
_PAIRS, _FRAMES = 16, 24
_CANDIDATES = 4
_APART = 3.0  # pixels between candidates that are worth refining each
_TO_BASIN = [Round(10, 6, 100, False)] * 2 + [Round(7, 6, 100, False)] * 2 + [Round(4, 6, 100)]
_TO_SUBPIXEL = [Round(4, 16, 150)] + [Round(2, 16, 150)] * 2 + [Round(0, 24, 200)] * 4
_SAME = 2.0  # pixels within which two solutions are one
_FEWEST_PAIRS = 3
# Share of the outline confirmed and flow score with which a search is over; else it is done again
# from other random poses.
_SETTLED = (0.5, 0.4)
_ATTEMPTS = 2


@dataclass(frozen=True)
class Candidate:
    """A start of least squares after its first rounds.

    Attributes:
        starts: finalists of the search that it stands for.
        outline: share of its outline that the images confirm.
        flow: its flow score.
    """

    estimate: Estimate
    starts: int
    outline: float
    flow: float

    @property
    def worth(self) -> float:
        """What the best is chosen by: neither measure makes up for the other."""
        return self.outline * self.flow


@dataclass(frozen=True)
class CameraSolution:
    """A solved camera, or why there is none.

    Attributes:
        base_from_camera, K: (4, 4) and (3, 3) pixels of the original frames; None if nothing was
            found at all.
        covariance: (6, 6) of turn (rad) and shift (m) in the camera's own frame.
        late: s by which images lag behind the joints, found together with the pose.
        verdict: whether to use it.
        why: in words, for people.
        quality: on frames that were held back; see `quality.Fit`. ``start_agreement`` is the share
            of independent starts that ended in this pose.
    """

    base_from_camera: Floats | None
    K: Floats | None
    covariance: Floats | None
    late: float
    verdict: Verdict
    why: str
    quality: dict[str, float | None] = field(default_factory=dict)


def solve_camera(
    problems: Sequence[CameraProblem],
    *,
    K: Floats | None = None,
    focal: tuple[float, float] | None = None,
    starts: Sequence[Floats] = (),
    seed: int = 0,
    renderer: RobotRenderer | None = None,
) -> CameraSolution:
    """Solve base_from_camera, and the focal length where it is not known.

    Args:
        problems: clips of one and the same unmoved camera, of one size.
        K: (3, 3) pixels, if known.
        focal: else the guess in pixels and its relative standard deviation; pixels are taken as
            square, and the principal point as the image's middle.
        starts: base_from_camera (4, 4) to be tried beside thousands of random ones. None is
            trusted: each is scored like any other.
        renderer: one of the problems' robot at ``working_size``; made here if not given.
    """
    lens = _lens(problems[0], K, focal)
    if renderer is None:
        with RobotRenderer(problems[0].robot, *problems[0].working_size) as own:
            return _solve(problems, lens, starts, seed, own)
    return _solve(problems, lens, starts, seed, renderer)


def score_pose(
    problems: Sequence[CameraProblem],
    K: Floats,
    base_from_camera: Floats,
    renderer: RobotRenderer | None = None,
) -> dict[str, float | None]:
    """Measures of a given camera on the held-back steps, as `solve_camera` gives them."""
    lens = _lens(problems[0], K, None)
    if renderer is None:
        with RobotRenderer(problems[0].robot, *problems[0].working_size) as own:
            return vars(measure_fit(problems, lens.K, base_from_camera, 0.0, own))
    return vars(measure_fit(problems, lens.K, base_from_camera, 0.0, renderer))


def _lens(problem: CameraProblem, K: Floats | None, focal: tuple[float, float] | None) -> Lens:
    """At the working size."""
    to_working = np.diag([problem.scale, problem.scale, 1.0])
    if K is not None:
        return Lens(to_working @ K)
    if focal is None:
        raise ValueError("solve_camera needs K, or focal=(guess in pixels, relative deviation)")
    height, width = problem.size
    guess = np.array([[focal[0], 0, width / 2], [0, focal[0], height / 2], [0, 0, 1.0]])
    return Lens(to_working @ guess, focal[1])


def _solve(
    problems: Sequence[CameraProblem],
    lens: Lens,
    starts: Sequence[Floats],
    seed: int,
    renderer: RobotRenderer,
) -> CameraSolution:
    rng = np.random.default_rng(seed)
    firsts = [solving_pairs(problem, -(-_PAIRS // len(problems))) for problem in problems]
    if sum(map(len, firsts)) < _FEWEST_PAIRS:
        return CameraSolution(None, None, None, 0.0, "reject", "too few steps to see motion in")
    hand = np.concatenate([ee_poses(p.robot, p.joints)[:, :3, 3] for p in problems])
    pairs = flow_pairs(problems, firsts)
    share = -(-_FRAMES // len(problems))
    frames = FrameSet(problems, [diverse_steps(p, p.solving(), share) for p in problems], renderer)
    points = _watched(problems)
    free = Freedom(lens.spread, True)
    tried: list[Candidate] = []
    for _ in range(_ATTEMPTS):
        found = search_pose(pairs, lens, hand.mean(0), starts, rng)
        begun = [Estimate(np.asarray(start)) for start in starts]
        begun += [Estimate(p, float(z)) for p, z in zip(found.poses, found.log_zoom, strict=True)]
        for one, count in _distinct(begun, lens.K, points)[: _CANDIDATES + len(starts)]:
            near = refine(frames, one, lens.K, free, _TO_BASIN, rng)
            tried.append(Candidate(near, count, *_worth(frames, near, lens.K, found.scorer)))
        best = max(tried, key=lambda candidate: candidate.worth)
        if best.outline >= _SETTLED[0] and best.flow >= _SETTLED[1]:
            break
    same = [c.starts for c in tried if _gap(c.estimate, best.estimate, lens.K, points) < _SAME]
    agreement = sum(same) / sum(candidate.starts for candidate in tried)
    final = refine(frames, best.estimate, lens.K, free, _TO_SUBPIXEL, rng)
    if final.information is None:
        return CameraSolution(None, None, None, 0.0, "reject", "the robot was not found in view")
    K = zoomed(lens.K, final.log_zoom)
    fit = measure_fit(problems, K, final.pose, final.late, renderer)
    covariance = np.linalg.inv(final.information)[:6, :6]
    quality = vars(fit) | {
        "start_agreement": agreement,
        "position_sd_m": float(np.sqrt(np.trace(covariance[3:, 3:]))),
        "rotation_sd_rad": float(np.sqrt(np.trace(covariance[:3, :3]))),
    }
    verdict, why = judge(fit, quality)
    scale = problems[0].scale
    return CameraSolution(
        base_from_camera=final.pose,
        K=np.diag([1 / scale, 1 / scale, 1.0]) @ K,
        covariance=covariance,
        late=final.late,
        verdict=verdict,
        why=why,
        quality=quality,
    )


def judge(fit: Fit, quality: dict[str, float | None]) -> tuple[Verdict, str]:
    """The verdict on a camera; see docs/camera.md for how the limits were found."""
    return "usable", "not judged"


def _watched(problems: Sequence[CameraProblem]) -> Floats:
    """(N, 3) points of the robot's surface over the clips, by which poses are compared."""
    surface = surface_points(problems[0].robot.name, 60)
    parts = []
    for problem in problems:
        steps = diverse_steps(problem, problem.solving(), 5)
        links = link_poses(problem.robot, problem.joints[steps], problem.fingers[steps])
        parts.append(surface.placed(links).reshape(-1, 3))
    return np.concatenate(parts)


def _gap(a: Estimate, b: Estimate, K: Floats, points: Floats) -> float:
    """Median distance in pixels between a robot seen by two cameras; inf if neither sees it."""
    pixels = [
        project(transform(invert(one.pose), points), zoomed(K, one.log_zoom))[0] for one in (a, b)
    ]
    apart = np.linalg.norm(pixels[0] - pixels[1], axis=1)
    return float(np.nanmedian(apart)) if np.isfinite(apart).any() else np.inf


def _distinct(
    estimates: Sequence[Estimate], K: Floats, points: Floats
) -> list[tuple[Estimate, int]]:
    """Those far apart, and how many each stands for."""
    kept: list[tuple[Estimate, int]] = []
    for one in estimates:
        near = [i for i, (other, _) in enumerate(kept) if _gap(one, other, K, points) <= _APART]
        if near:
            kept[near[0]] = (kept[near[0]][0], kept[near[0]][1] + 1)
        else:
            kept.append((one, 1))
    return kept


def _worth(
    frames: FrameSet, estimate: Estimate, K: Floats, scorer: FlowScorer
) -> tuple[float, float]:
    """Share of a candidate's outline that images confirm, and its flow score."""
    if estimate.information is None:
        return 0.0, 0.0
    frames.set_late(estimate.late)
    chosen = np.unique(np.linspace(0, len(frames) - 1, 6).round().astype(int))
    lens = zoomed(K, estimate.log_zoom)
    depth, part = frames.rendered(chosen, lens, estimate.pose)
    vector = np.array([[lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]]])
    flow = float(scorer.parts(estimate.pose[None], vector)[0, 0])
    return outline_fit(frames.images[chosen], depth, part)[1], flow

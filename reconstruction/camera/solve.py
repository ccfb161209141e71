"""Solve a camera that stands still against the robot's base, from frames and joints alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.evidence import flow_pairs, solving_pairs
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
_SAME = 1.0  # pixels within which two solutions are one
_FEWEST_PAIRS = 3
# Lines along one outline, and the same outline in the next frame, err together. Twins' true errors
# are this many times what independent lines would have.
_CORRELATION = 4.0


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
    found = search_pose(flow_pairs(problems, firsts), lens, hand.mean(0), starts, rng)
    share = -(-_FRAMES // len(problems))
    frames = FrameSet(problems, [diverse_steps(p, p.solving(), share) for p in problems], renderer)
    points = _watched(problems)
    begun = [
        Estimate(pose, float(zoom))
        for pose, zoom in zip(found.poses, found.log_zoom, strict=True)
    ]
    begun = [Estimate(np.asarray(start)) for start in starts] + begun
    begun = _distinct(begun, lens.K, points)[: _CANDIDATES + len(starts)]
    free = Freedom(lens.spread, True)
    near = [refine(frames, one, lens.K, free, _TO_BASIN, rng) for one in begun]
    worth = [_worth(frames, one, lens.K) for one in near]
    best = near[int(np.argmax(worth))]
    agreeing = [_gap(one, best, lens.K, points) < 2 * _SAME for one in near]
    final = refine(frames, best, lens.K, free, _TO_SUBPIXEL, rng)
    if final.information is None:
        return CameraSolution(None, None, None, 0.0, "reject", "the robot was not found in view")
    K = zoomed(lens.K, final.log_zoom)
    fit = measure_fit(problems, K, final.pose, final.late, renderer)
    covariance = np.linalg.inv(final.information)[:6, :6] * _CORRELATION**2
    quality = vars(fit) | {
        "start_agreement": float(np.mean(agreeing)),
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


def _distinct(estimates: Sequence[Estimate], K: Floats, points: Floats) -> list[Estimate]:
    kept: list[Estimate] = []
    for one in estimates:
        if all(_gap(one, other, K, points) > _APART for other in kept):
            kept.append(one)
    return kept


def _worth(frames: FrameSet, estimate: Estimate, K: Floats) -> float:
    """What a candidate is chosen by: the share of its outline that the images confirm."""
    if estimate.information is None:
        return -1.0
    frames.set_late(estimate.late)
    chosen = np.unique(np.linspace(0, len(frames) - 1, 6).round().astype(int))
    depth, part = frames.rendered(chosen, zoomed(K, estimate.log_zoom), estimate.pose)
    return outline_fit(frames.images[chosen], depth, part)[1]

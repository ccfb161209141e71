"""Solve a camera that stands still against the robot's base, from frames and joints alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.appearance import COARSE, FINE
from reconstruction.camera.evidence import flow_pairs, solving_pairs
from reconstruction.camera.flow_score import FLOOR, FlowScorer
from reconstruction.camera.learned_masks import MaskBackend
from reconstruction.camera.problem import CameraProblem, diverse_steps
from reconstruction.camera.quality import Fit, measure_fit, outline_fit
from reconstruction.camera.refine import Estimate, FrameSet, Round, refine, zoomed
from reconstruction.camera.search import Lens, moved, search_pose
from robo4d.geometry import invert, project, transform
from robots.kinematics import ee_poses, link_poses
from robots.rasterizer import RobotRasterizer
from robots.surface import surface_points

Floats = NDArray[np.floating]
Verdict = Literal["good", "usable", "reject"]
_PAIRS, _FRAMES = 32, 24
_CANDIDATES = 4
_APART = 3.0  # pixels between candidates that are worth refining each
# From what a search leaves to within a pixel: first as if it were some ten pixels, which clutter
# disturbs least; where that settles nothing, from twice as far. Matting here would bind wrong
# candidates to clutter, which then look right.
_TO_BASIN = (
    [Round(reach, 8, 100) for reach in (10, 10, 7, 7, 4, 4)],
    [Round(reach, 8, 100) for reach in (20, 20, 20, 14, 14, 14, 8, 8, 8, 4, 4)],
)
# The best candidate is shaken, and falls back or into something better; deviations in rad and m.
_SHAKES, _SHAKE = 2, 0.04
# Colours alone end up to four pixels off where the robot is close: matting has some way to go.
_TO_SUBPIXEL = [
    *[Round(4, 12, 120)] * 2,
    *[Round(COARSE, 12, 150, matte=True)] * 8,
    *[Round(FINE, 24, 250, matte=True)] * 8,
]
# Where masks alone lead from the best candidate is taken where images confirm it better; where they
# confirm it much worse, the masks are of something else. Up to so many pixels away, as from colours
# to matting, the starts that agreed with the candidate agree with it still.
_BY_MASKS = [Round(reach, 12, 120, images=False) for reach in (20, 20, 14, 10, 7, 4)]
_AS_GOOD, _LED = 0.8, 4.0
_SAME = 2.0  # pixels within which two solutions are one
_FEWEST_PAIRS = 3
_LEAST_SIDE = 32  # pixels at the working size; flow and outlines need room
_LEAST_MOTION = 0.001  # share of the images, over the fastest steps
_AGREEING = 2  # starts far apart that must have ended in one pose
# Starts that agree, share of the outline confirmed, and flow score, with any of which a search is
# over; else it is done again from other random poses. Colours alone may leave an outline that
# nothing confirms yet, but not three starts in one such place.
_SETTLED = ((_AGREEING, 0.5, 0.35), (3, 0.0, 0.25))
_ATTEMPTS = 2
# Verdicts: share of the outline, and flow score; see docs/camera.md.
_GOOD, _USABLE = (0.68, 0.35), (0.6, 0.25)
# Standard deviations in m and rad up to which a pose is good, and beyond which it is of no use.
# True errors were 0.4 to 0.8 of them on whole clips, up to twice on 12 steps or at 64 pixels.
_PRECISE, _LOOSE = (0.006, np.radians(0.45)), (0.012, np.radians(1.0))


@dataclass(frozen=True)
class Candidate:
    """A start of least squares after its first rounds.

    Attributes:
        start: number of the start that was followed, whatever the rounds; None: a shaken candidate.
        outline: share of its outline that the images confirm.
        flow: its flow score.
    """

    estimate: Estimate
    start: int | None
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
        quality: on frames that were held back; see `quality.Fit`. ``agreeing_starts`` is how many
            starts far apart ended in this pose, ``start_agreement`` their share.
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
    K: Floats,
    *,
    spread: float = 0.0,
    starts: Sequence[Floats] = (),
    seed: int = 0,
    renderer: RobotRasterizer | None = None,
    masks: MaskBackend | None = None,
) -> CameraSolution:
    """Solve base_from_camera, and the focal length where it is not known.

    Args:
        problems: clips of one and the same unmoved camera, of one size.
        K: (3, 3) pixels of the frames, known or guessed.
        spread: relative standard deviation of the guessed focal lengths; 0: ``K`` is known. Their
            ratio and the principal point are taken as they are.
        starts: base_from_camera (4, 4) to be tried beside thousands of random ones. None is
            trusted: each is scored like any other.
        renderer: one of the problems' robot at ``working_size``; made here if not given.
        masks: shows where the robot is, near a pose that was found: evidence beside the images.
    """
    # A clip without a step held back is no use, and would be in the way.
    problems = [problem for problem in problems if len(problem.held_back())]
    if not problems:
        return _nothing("too few steps to hold one back")
    if min(problems[0].working_size) < _LEAST_SIDE:
        return _nothing(f"images of {problems[0].size} pixels are too narrow")
    lens = Lens(_at_working_size(problems[0], K), spread)
    renderer = renderer or RobotRasterizer(problems[0].robot, *problems[0].working_size)
    return _solve(problems, lens, starts, seed, renderer, masks)


def score_pose(
    problems: Sequence[CameraProblem],
    K: Floats,
    base_from_camera: Floats,
    renderer: RobotRasterizer | None = None,
    late: float = 0.0,
    masks: MaskBackend | None = None,
) -> dict[str, float | None]:
    """Measures of a given camera, ``late`` s behind, on the held-back steps; see `quality.Fit`."""
    problems = [problem for problem in problems if len(problem.held_back())]
    if not problems or min(problems[0].working_size) < _LEAST_SIDE:
        return vars(Fit(None, None, 0.0, None, 0.0))
    K = _at_working_size(problems[0], K)
    renderer = renderer or RobotRasterizer(problems[0].robot, *problems[0].working_size)
    return vars(measure_fit(problems, K, base_from_camera, late, renderer, masks))


def _at_working_size(problem: CameraProblem, K: Floats) -> Floats:
    return np.asarray(np.diag([problem.scale, problem.scale, 1.0]) @ K)


def _solve(
    problems: Sequence[CameraProblem],
    lens: Lens,
    starts: Sequence[Floats],
    seed: int,
    renderer: RobotRasterizer,
    masks: MaskBackend | None,
) -> CameraSolution:
    rng = np.random.default_rng(seed)
    firsts = [solving_pairs(problem, -(-_PAIRS // len(problems))) for problem in problems]
    if sum(map(len, firsts)) < _FEWEST_PAIRS:
        return _nothing("too few steps to see motion in")
    hand = np.concatenate([ee_poses(p.robot, p.joints)[:, :3, 3] for p in problems])
    pairs = flow_pairs(problems, firsts)
    moving = float((np.linalg.norm(pairs.flow, axis=-1) > FLOOR).mean())
    if moving < _LEAST_MOTION:
        why = f"nothing moves: {moving:.2%} of the images, in the fastest steps, by over a pixel"
        return _nothing(why)
    share = -(-_FRAMES // len(problems))
    frames = FrameSet(problems, [diverse_steps(p, p.solving(), share) for p in problems], renderer)
    points = _watched(problems)
    tried: list[Candidate] = []
    for attempt in range(_ATTEMPTS):
        # Once: a start that is followed again would agree with itself.
        given = starts if attempt == 0 else ()
        found = search_pose(pairs, lens, hand.mean(0), given, rng)
        begun = [Estimate(np.asarray(start)) for start in given]
        begun += [Estimate(p, float(z)) for p, z in zip(found.poses, found.log_zoom, strict=True)]
        distinct = _distinct(begun, lens.K, points)[: _CANDIDATES + len(given)]
        if len(distinct) < _AGREEING + len(given):
            # All that was found looks alike: what is furthest off in space is another start.
            away = np.linalg.norm((found.poses - found.poses[0])[:, :3, 3], axis=1)
            distinct.append(begun[len(given) + int(np.argmax(away))])
        follow = _Follow(frames, lens, rng, found.scorer)
        for rounds in _TO_BASIN:
            numbered = enumerate(distinct, attempt * (_CANDIDATES + len(starts)))
            tried += [follow(one, rounds, start) for start, one in numbered]
            for _ in range(_SHAKES):
                top = max(tried, key=lambda candidate: candidate.worth).estimate
                turn, shift = rng.normal(0, _SHAKE, (2, 1, 3))
                shaken = replace(top, pose=moved(top.pose[None], turn, shift)[0])
                tried.append(follow(shaken, _TO_BASIN[0], None))
            best = max(tried, key=lambda candidate: candidate.worth)
            near = [c for c in tried if _gap(c.estimate, best.estimate, lens.K, points) < _SAME]
            # One start followed by both sets of rounds is one start.
            agreeing = len({c.start for c in near} - {None})
            reached = (agreeing, best.outline, best.flow)
            if any(np.all(np.greater_equal(reached, least)) for least in _SETTLED):
                break
        else:
            continue
        break
    if masks is not None:
        frames.ask(masks, lens.K, best.estimate)
        # Chance of its own: masks that are dropped leave no trace.
        led = replace(follow, rng=np.random.default_rng(seed))(best.estimate, _BY_MASKS, None)
        if led.worth > best.worth:
            if _gap(led.estimate, best.estimate, lens.K, points) > _LED:
                agreeing, near = 0, [led, best]  # nobody else was there
            best = led
        elif led.worth < _AS_GOOD * best.worth:
            frames.shares = None
    final = refine(frames, best.estimate, lens.K, lens.spread, _TO_SUBPIXEL, rng)
    # They were asked about this pose; others must get here by themselves.
    frames.shares = None
    if final.covariance is None:
        return _nothing("the robot was not found in view")
    if agreeing < _AGREEING:
        # Colours alone may stop on the way to where matting takes them.
        known, others = {None, *(c.start for c in near)}, []
        for candidate in sorted(tried, key=lambda candidate: -candidate.worth):
            if candidate.start not in known:
                known.add(candidate.start)
                others.append(candidate)
        for other in others[:_AGREEING]:
            end = refine(frames, other.estimate, lens.K, lens.spread, _TO_SUBPIXEL, rng)
            seen = end.covariance is not None
            agreeing += seen and _gap(end, final, lens.K, points) < _SAME
    K = zoomed(lens.K, final.log_zoom)
    fit = measure_fit(problems, K, final.pose, final.late, renderer, masks)
    scale = problems[0].scale
    covariance = final.covariance[:6, :6]
    quality: dict[str, float | None] = vars(fit) | {
        "start_agreement": agreeing / len({c.start for c in tried} - {None}),
        "agreeing_starts": float(agreeing),
        "position_sd_m": float(np.sqrt(np.trace(covariance[3:, 3:]))),
        "rotation_sd_rad": float(np.sqrt(np.trace(covariance[:3, :3]))),
    }
    verdict, why = judge(quality)
    return CameraSolution(
        base_from_camera=final.pose,
        K=np.diag([1 / scale, 1 / scale, 1.0]) @ K,
        covariance=covariance,
        late=final.late,
        verdict=verdict,
        why=why,
        quality=quality,
    )


def judge(quality: dict[str, float | None]) -> tuple[Verdict, str]:
    """The verdict on a camera, by its measures, and why."""
    outline, flow = quality["edge_share"] or 0.0, quality["flow_score"] or 0.0
    agreeing = quality["agreeing_starts"] or 0.0
    position, turn = quality["position_sd_m"] or np.inf, quality["rotation_sd_rad"] or np.inf
    says = f"{outline:.0%} of the outline has an image edge, flow score {flow:.2f}"
    if not (position <= _LOOSE[0] and turn <= _LOOSE[1]):  # nan neither
        return "reject", f"the pose is loose: {1000 * position:.0f} mm, {np.degrees(turn):.1f} deg"
    if outline < _USABLE[0] or flow < _USABLE[1]:
        return "reject", says
    says += f", {agreeing:.0f} starts agree, to {1000 * position:.0f} mm"
    if agreeing < _AGREEING:
        return "reject", f"too few starts ended in this pose; {says}"
    precise = position <= _PRECISE[0] and turn <= _PRECISE[1]
    if outline >= _GOOD[0] and flow >= _GOOD[1] and precise:
        return "good", says
    return "usable", says


def _nothing(why: str) -> CameraSolution:
    return CameraSolution(None, None, None, 0.0, "reject", why)


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
    """Those far apart, in their order."""
    kept: list[Estimate] = []
    for one in estimates:
        if all(_gap(one, other, K, points) > _APART for other in kept):
            kept.append(one)
    return kept


@dataclass(frozen=True)
class _Follow:
    """Follows a start to a candidate."""

    frames: FrameSet
    lens: Lens
    rng: np.random.Generator
    scorer: FlowScorer

    def __call__(self, begin: Estimate, rounds: Sequence[Round], start: int | None) -> Candidate:
        near = refine(self.frames, begin, self.lens.K, self.lens.spread, rounds, self.rng)
        if near.covariance is None:
            return Candidate(near, start, 0.0, 0.0)
        self.frames.set_late(near.late)
        chosen = np.unique(np.linspace(0, len(self.frames) - 1, 6).round().astype(int))
        lens = zoomed(self.lens.K, near.log_zoom)
        depth, part = self.frames.rendered(chosen, lens, near.pose)
        outline = outline_fit(self.frames.images[chosen], depth, part)[1]
        vector = np.array([[lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]]])
        flow = float(self.scorer.parts(near.pose[None], vector)[0, 0])
        return Candidate(near, start, outline, flow)

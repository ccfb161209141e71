"""Solve a camera that stands still against the robot's base, from frames and joints alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.estimate import zoomed
from reconstruction.camera.evidence import flow_pairs, solving_pairs
from reconstruction.camera.flow_score import FLOOR
from reconstruction.camera.follow import AGREEING, find_camera
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.learned_masks import MaskBackend
from reconstruction.camera.problem import CameraProblem, diverse_steps
from reconstruction.camera.quality import Fit, measure_fit
from reconstruction.camera.search import Lens
from robots.rasterizer import RobotRasterizer

Floats = NDArray[np.floating]
Verdict = Literal["good", "usable", "reject"]
_PAIRS, _FRAMES = 32, 24
_FEWEST_PAIRS = 3
_LEAST_SIDE = 32  # pixels at the working size; flow and outlines need room
_LEAST_MOTION = 0.001  # share of the images, over the fastest steps
# Verdicts: share of the outline, and flow score; see docs/camera.md. Real outlines have fewer clear
# edges than twins', so that much flow makes up for a little outline. (Twins below 0.65: 3 of 11
# right; a real view of moving cloths, ten pixels off, had 0.6 and 0.25.)
_GOOD, _USABLE = (0.68, 0.35), ((0.65, 0.25), (0.6, 0.6))
# Where the robot moves less than so many pixels, all frames show the same outline, and a wrong
# pose that fits one of them fits all: then so much of it must be confirmed. Of twins at a
# twentieth of their motion (six pixels at most) wrong poses with two starts had up to 0.80, right
# ones 0.81 to 0.95; the real DROID views move by 11 to 46 pixels.
_LITTLE_MOTION, _CLEARLY = 7.0, 0.85
# Standard deviations in m and rad up to which a pose is good, and beyond which it is of no use.
# True errors were 0.4 to 0.8 of them on whole clips, up to twice on 12 steps or at 64 pixels.
_PRECISE, _LOOSE = (0.006, np.radians(0.45)), (0.012, np.radians(1.0))


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
    pairs = flow_pairs(problems, firsts)
    moving = float((np.linalg.norm(pairs.flow, axis=-1) > FLOOR).mean())
    if moving < _LEAST_MOTION:
        why = f"nothing moves: {moving:.2%} of the images, in the fastest steps, by over a pixel"
        return _nothing(why)
    share = -(-_FRAMES // len(problems))
    frames = FrameSet(problems, [diverse_steps(p, p.solving(), share) for p in problems], renderer)
    found = find_camera(problems, frames, pairs, lens, starts, rng, masks)
    final = found.estimate
    if final.covariance is None:
        return _nothing("the robot was not found in view")
    K = zoomed(lens.K, final.log_zoom)
    fit = measure_fit(problems, K, final.pose, final.late, renderer, masks)
    scale = problems[0].scale
    covariance = final.covariance[:6, :6]
    quality: dict[str, float | None] = vars(fit) | {
        "start_agreement": found.agreeing / found.starts,
        "agreeing_starts": float(found.agreeing),
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


def is_confirmed(quality: dict[str, float | None]) -> bool:
    """Whether images confirm a camera at all, however loosely they hold it."""
    outline, flow = quality.get("edge_share") or 0.0, quality.get("flow_score") or 0.0
    if outline < _CLEARLY and _moves_little(quality):
        return False
    return any(outline >= least and flow >= also for least, also in _USABLE)


def _moves_little(quality: dict[str, float | None]) -> bool:
    """Or whether it is not known to move."""
    swept = quality.get("swept_px")
    return swept is None or swept < _LITTLE_MOTION


def _told_motion(quality: dict[str, float | None]) -> str:
    swept = quality.get("swept_px")
    return "its motion is unknown" if swept is None else f"it moves by {swept:.0f} pixels only"


def is_loose(quality: dict[str, float | None]) -> bool:
    """Whether a camera is held too loosely to be of use."""
    position, turn = (
        quality.get("position_sd_m") or np.inf,
        quality.get("rotation_sd_rad") or np.inf,
    )
    return not (position <= _LOOSE[0] and turn <= _LOOSE[1])  # nan neither


def judge(quality: dict[str, float | None]) -> tuple[Verdict, str]:
    """The verdict on a camera, by its measures, and why."""
    outline, flow = quality["edge_share"] or 0.0, quality["flow_score"] or 0.0
    agreeing = quality["agreeing_starts"] or 0.0
    position, turn = quality["position_sd_m"] or np.inf, quality["rotation_sd_rad"] or np.inf
    says = f"{outline:.0%} of the outline has an image edge, flow score {flow:.2f}"
    if is_loose(quality):
        return "reject", f"the pose is loose: {1000 * position:.0f} mm, {np.degrees(turn):.1f} deg"
    if not is_confirmed(quality):
        if is_confirmed(quality | {"swept_px": np.inf}):
            says += f", of which {_CLEARLY:.0%} are asked where {_told_motion(quality)}"
        return "reject", says
    says += f", {agreeing:.0f} starts agree, to {1000 * position:.0f} mm"
    if agreeing < AGREEING:
        return "reject", f"too few starts ended in this pose; {says}"
    precise = position <= _PRECISE[0] and turn <= _PRECISE[1]
    if outline >= _GOOD[0] and flow >= _GOOD[1] and precise:
        return "good", says
    return "usable", says


def _nothing(why: str) -> CameraSolution:
    return CameraSolution(None, None, None, 0.0, "reject", why)

"""Solve a camera that does not stand still against the robot, or the background, all the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.learned_masks import MaskBackend
from reconstruction.camera.moved import Stillness
from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.solve import CameraSolution, Verdict, solve_camera

Floats = NDArray[np.floating]
# Below it poses err by more than they say; see docs/camera.md.
LEAST_STEPS = 12


@dataclass(frozen=True)
class Section:
    """Steps ``first`` to before ``past`` of a clip, and what was found of the camera there.

    Attributes:
        jump: pixels by which the background moved, or more, since the section before; 0 of the
            first.
    """

    first: int
    past: int
    jump: float
    solution: CameraSolution

    def __len__(self) -> int:
        return self.past - self.first

    def describe(self) -> dict[str, Any]:
        """In plain types."""
        found = self.solution
        return {
            "first": self.first,
            "past": self.past,
            "jump_px": self.jump if np.isfinite(self.jump) else None,
            "verdict": found.verdict,
            "why": found.why,
            "quality": found.quality,
            "late_s": found.late,
            "covariance": None if found.covariance is None else found.covariance.tolist(),
        }


@dataclass(frozen=True)
class SectionedSolution:
    """A camera that was moved on the way.

    Attributes:
        best: what was found of the longest section that is not rejected; if all are, the longest.
        poses: (T, 4, 4) base_from_camera, of no meaning where not ``known``; None if nowhere is.
        known: (T,) bool.
        verdict: the worst of those that count.
        why: in words.
    """

    sections: tuple[Section, ...]
    best: CameraSolution
    poses: Floats | None
    known: NDArray[np.bool_]
    verdict: Verdict
    why: str


def part_of(problem: CameraProblem, first: int, past: int) -> CameraProblem:
    """The clip's steps ``first`` to before ``past``."""
    part = slice(first, past)
    return replace(
        problem,
        decode=lambda steps: problem.decode(steps + first),
        joints=problem.joints[part],
        fingers=problem.fingers[part],
        time=problem.time[part],
    )


def solve_sections(
    problem: CameraProblem,
    stillness: Stillness,
    K: Floats,
    *,
    spread: float = 0.0,
    starts: Sequence[Floats] = (),
    seed: int = 0,
    masks: MaskBackend | None = None,
) -> SectionedSolution:
    """Solve each still section by itself, the longest first: the lens that it finds is all others'.

    Args:
        K, spread, starts, seed, masks: as `solve_camera` takes them.
    """
    spans = stillness.sections
    solutions: dict[int, CameraSolution] = {}
    for i in sorted(range(len(spans)), key=lambda i: spans[i][0] - spans[i][1]):
        first, past = spans[i]
        if past - first < LEAST_STEPS:
            why = f"{past - first} steps are too few; {LEAST_STEPS} are needed"
            solutions[i] = CameraSolution(None, None, None, 0.0, "reject", why)
            continue
        part = part_of(problem, first, past)
        found = solve_camera([part], K, spread=spread, starts=starts, seed=seed, masks=masks)
        if found.verdict != "reject" and found.K is not None:
            K, spread = found.K, 0.0
        solutions[i] = found
    jumps = (0.0, *stillness.jumps)
    sections = tuple(Section(*spans[i], jumps[i], solutions[i]) for i in range(len(spans)))
    return _put_together(sections, len(problem))


def _put_together(sections: tuple[Section, ...], steps: int) -> SectionedSolution:
    kept = [section for section in sections if section.solution.verdict != "reject"]
    best = max(kept or sections, key=len)
    known, poses = np.zeros(steps, bool), None
    if kept:
        poses = np.repeat(np.asarray(best.solution.base_from_camera)[None], steps, 0)
        for section in kept:
            known[section.first : section.past] = True
            poses[section.first : section.past] = section.solution.base_from_camera
    worst: Verdict = "reject"
    if kept:
        all_good = all(section.solution.verdict == "good" for section in kept)
        worst = "good" if all_good else "usable"
    says = "; ".join(
        f"steps {s.first} to {s.past - 1}: {s.solution.verdict}, {s.solution.why}" for s in sections
    )
    moves = " and ".join(
        f"by {s.jump:.1f} pixels or more before step {s.first}" for s in sections[1:]
    )
    why = f"the camera, or all that it sees, is moved {moves}; {says}"
    return SectionedSolution(sections, best.solution, poses, known, worst, why)


def solve_riding(
    problem: CameraProblem,
    spans: Sequence[tuple[int, int]],
    K: Floats,
    *,
    spread: float = 0.0,
    seed: int = 0,
    masks: MaskBackend | None = None,
) -> CameraSolution:
    """Solve a camera that rides on a robot's moving base, where the base stands still longest.

    Its pose against the base is the same at all other steps; only the background is not.

    Args:
        spans: (first, past) steps over which the base stands still.
        K, spread, seed, masks: as `solve_camera` takes them.
    """
    first, past = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
    if past - first < LEAST_STEPS:
        why = f"the base moves, and stands still for {past - first} steps; {LEAST_STEPS} are needed"
        return CameraSolution(None, None, None, 0.0, "reject", why)
    found = solve_camera([part_of(problem, first, past)], K, spread=spread, seed=seed, masks=masks)
    where = f"the base moves; solved where it stands, steps {first} to {past - 1}"
    return replace(found, why=f"{where}; {found.why}")

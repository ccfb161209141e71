"""From what a search finds to one camera: starts are followed until some from afar end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.appearance import COARSE, FINE
from reconstruction.camera.flow_score import FlowPairs, FlowScorer
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.learned_masks import MaskBackend
from reconstruction.camera.link_bundle import with_tracks
from reconstruction.camera.problem import CameraProblem, diverse_steps
from reconstruction.camera.quality import outline_fit
from reconstruction.camera.refine import Estimate, Round, refine, zoomed
from reconstruction.camera.search import Lens, moved, search_pose
from robo4d.geometry import invert, project, transform
from robots.kinematics import ee_poses, link_poses
from robots.surface import surface_points

Floats = NDArray[np.floating]
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
_TO_PIXEL = [*[Round(4, 12, 120)] * 2, Round(COARSE, 12, 150, "matte", most=32)]
# More frames show links from more sides: what shading does averages out. Loose directions settle
# slowly, so that the cheap steps are the many.
_TO_SUBPIXEL = [Round(FINE, 24, 100, "both", most=8), Round(FINE, 48, 150, "both", most=3)]
# The network learned from pictures that were enlarged by 1.25 at most. Of a synthetic disc made
# five times as large an earlier one said 0.4 pixels too much, of one twice as large 0.2.
_MOST_ENLARGED, _TO_SUBPIXEL_ENLARGED = 1.5, [Round(FINE, 24, 250, "matte", most=16)]
# Where masks alone lead from there is taken where images confirm it better; where they confirm it
# much worse, the masks are of something else.
_BY_MASKS = [Round(reach, 12, 120, images=False) for reach in (20, 20, 14, 10, 7, 4)]
_AS_GOOD = 0.8
_SAME = 2.0  # pixels within which two solutions are one
# Pixels from the best by colours within which another may yet end in one pose with it.
_CLOSE, _ENDS = 8.0, 3  # and how many of those are followed to the end
AGREEING = 2  # starts far apart that must have ended in one pose
# Starts that agree, share of the outline confirmed, and flow score, with any of which a search is
# over; else it is done again from other random poses. Colours alone may leave an outline that
# nothing confirms yet, but not three starts in one such place; after matting it must be confirmed.
_SETTLED = ((AGREEING, 0.5, 0.35), (AGREEING, 0.7, 0.25), (3, 0.0, 0.25))
_SETTLED_AT_END = ((AGREEING, 0.6, 0.25),)
_ATTEMPTS = 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """A start of least squares after some rounds.

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
class Found:
    """Where the best start ended.

    Attributes:
        estimate: its ``covariance`` is None where the robot was lost from view.
        agreeing: how many starts, far apart or of another search, ended there, itself counted.
        starts: how many were followed.
    """

    estimate: Estimate
    agreeing: int
    starts: int


def last_rounds(enlarged: float) -> list[Round]:
    """To a fraction of a pixel, in images that were made larger by so much."""
    return _TO_SUBPIXEL_ENLARGED if enlarged > _MOST_ENLARGED else _TO_SUBPIXEL


def find_camera(
    problems: Sequence[CameraProblem],
    frames: FrameSet,
    pairs: FlowPairs,
    lens: Lens,
    starts: Sequence[Floats],
    rng: np.random.Generator,
    masks: MaskBackend | None = None,
) -> Found:
    """Search, follow what is found, and search again where no two starts end together.

    Args:
        starts: base_from_camera (4, 4) that are followed beside the search's.
        masks: asked about the best alone, and only then: where starts end is theirs.
    """
    centre = np.concatenate([ee_poses(p.robot, p.joints)[:, :3, 3] for p in problems]).mean(0)
    for attempt in range(_ATTEMPTS):
        # Once: a start that is followed again would agree with itself.
        given = starts if attempt == 0 else ()
        found = search_pose(pairs, lens, centre, given, rng)
        begun = [Estimate(np.asarray(start)) for start in given]
        begun += [Estimate(p, float(z)) for p, z in zip(found.poses, found.log_zoom, strict=True)]
        if attempt == 0:
            trail = _Trail(frames, lens, rng, found.scorer, _watched(problems))
        distinct = trail.distinct(begun)[: _CANDIDATES + len(given)]
        if len(distinct) < AGREEING + len(given):
            # All that was found looks alike: what is furthest off in space is another start.
            away = np.linalg.norm((found.poses - found.poses[0])[:, :3, 3], axis=1)
            distinct.append(begun[len(given) + int(np.argmax(away))])
        for rounds in _TO_BASIN:
            for start, one in enumerate(distinct, attempt * (_CANDIDATES + len(starts))):
                trail.follow(one, rounds, start)
            for _ in range(_SHAKES):
                turn, shift = rng.normal(0, _SHAKE, (2, 1, 3))
                top = trail.best.estimate
                shaken = replace(top, pose=moved(top.pose[None], turn, shift)[0])
                trail.follow(shaken, _TO_BASIN[0], None)
            agreeing = len(trail.within(_SAME))
            if _reached(_SETTLED, agreeing, trail.best):
                return trail.found(agreeing, masks)
            # Matting may take starts together that colours left some pixels apart.
            if agreeing >= AGREEING or len(trail.within(_CLOSE)) >= AGREEING:
                agreeing = max(agreeing, trail.agreeing_ends(_CLOSE))
                if _reached(_SETTLED_AT_END, agreeing, trail.end(trail.best)):
                    return trail.found(agreeing, masks)
    if agreeing < AGREEING:
        agreeing = trail.agreeing_ends(np.inf)
    return trail.found(agreeing, masks)


def _reached(
    settled: Sequence[tuple[int, float, float]], agreeing: int, candidate: Candidate
) -> bool:
    measures = (agreeing, candidate.outline, candidate.flow)
    return any(all(np.greater_equal(measures, least)) for least in settled)


@dataclass
class _Trail:
    """All that was followed so far."""

    frames: FrameSet
    lens: Lens
    rng: np.random.Generator
    scorer: FlowScorer
    points: Floats
    tried: list[Candidate] = field(default_factory=list)
    ends: dict[Candidate, Candidate] = field(default_factory=dict)

    @property
    def best(self) -> Candidate:
        return max(self.tried, key=lambda candidate: candidate.worth)

    @property
    def starts(self) -> int:
        """How many were followed; by both sets of rounds it is one start."""
        return len({c.start for c in self.tried} - {None})

    def follow(self, begin: Estimate, rounds: Sequence[Round], start: int | None) -> None:
        near = refine(self.frames, begin, self.lens.K, self.lens.spread, rounds, self.rng)
        self.tried.append(self._measured(near, start))

    def end(self, candidate: Candidate) -> Candidate:
        """Where matting takes a candidate, to about half a pixel."""
        if candidate not in self.ends:
            K, spread = self.lens.K, self.lens.spread
            end = refine(self.frames, candidate.estimate, K, spread, _TO_PIXEL, self.rng)
            self.ends[candidate] = self._measured(end, candidate.start)
        return self.ends[candidate]

    def found(self, agreeing: int, masks: MaskBackend | None) -> Found:
        """The best, to a fraction of a pixel."""
        end = self.end(self.best)
        if masks is not None and end.estimate.covariance is not None:
            end, agreeing = self._led(end, agreeing, masks)
        final = end.estimate
        if final.covariance is not None:
            rounds = last_rounds(self.frames.enlarged)
            frames = self.frames.more(max(turn.frames for turn in rounds))
            final = refine(frames, final, self.lens.K, self.lens.spread, rounds, self.rng)
        if final.covariance is not None:
            final = with_tracks(self.frames, final, self.lens.K)
        self.frames.shares = None
        return Found(final, agreeing, self.starts)

    def _led(self, end: Candidate, agreeing: int, masks: MaskBackend) -> tuple[Candidate, int]:
        """Where masks lead, and how many starts ended there; leaves masks with the frames unless
        images contradict them.
        """
        begin, K = end.estimate, self.lens.K
        self.frames.ask(masks, zoomed(K, begin.log_zoom), begin.pose, begin.late)
        # Chance of its own: masks that are dropped leave no trace.
        rng = np.random.default_rng(0)
        near = refine(self.frames, begin, K, self.lens.spread, [*_BY_MASKS, *_TO_PIXEL], rng)
        led = self._measured(near, end.start)
        if led.worth < _AS_GOOD * end.worth:
            self.frames.shares = None
        if led.worth <= end.worth:
            return end, agreeing
        if self.gap(near, begin) > _SAME:
            starts = (c.start for c, e in self.ends.items() if self.gap(e.estimate, near) < _SAME)
            agreeing = len(set(starts) - {None})
        return led, agreeing

    def within(self, pixels: float) -> list[Candidate]:
        """Of each start within so many pixels of the best the nearest, nearest first."""
        best = self.best
        gaps = [(self.gap(c.estimate, best.estimate), i) for i, c in enumerate(self.tried)]
        nearest: dict[int, Candidate] = {}
        for gap, i in sorted(gaps):
            start = self.tried[i].start
            if gap < pixels and start is not None:
                nearest.setdefault(start, self.tried[i])
        return list(nearest.values())

    def agreeing_ends(self, pixels: float) -> int:
        """Of the starts within so many pixels of the best by colours, at most `_ENDS` and the
        nearest first, how many matting takes to where it takes the best; itself counts if it is a
        start.
        """
        best = self.best
        final = self.end(best).estimate
        others = [c for c in self.within(pixels) if c.start != best.start][:_ENDS]
        ends = [self.end(c).estimate for c in others]
        same = sum(e.covariance is not None and self.gap(e, final) < _SAME for e in ends)
        return same + (best.start is not None)

    def gap(self, a: Estimate, b: Estimate) -> float:
        """Median distance in pixels between a robot seen by two cameras, of what is in either's
        picture; inf if neither sees it.
        """
        first, second = (
            project(transform(invert(one.pose), self.points), zoomed(self.lens.K, one.log_zoom))[0]
            for one in (a, b)
        )
        size = np.array(self.frames.images.shape[2:0:-1])
        seen = [((pixels >= 0) & (pixels < size)).all(1) for pixels in (first, second)]
        apart = np.linalg.norm(first - second, axis=1)[seen[0] | seen[1]]
        return float(np.nanmedian(apart)) if np.isfinite(apart).any() else np.inf

    def distinct(self, estimates: Sequence[Estimate]) -> list[Estimate]:
        """Those far apart, in their order."""
        kept: list[Estimate] = []
        for one in estimates:
            if all(self.gap(one, other) > _APART for other in kept):
                kept.append(one)
        return kept

    def _measured(self, estimate: Estimate, start: int | None) -> Candidate:
        if estimate.covariance is None:
            return Candidate(estimate, start, 0.0, 0.0)
        self.frames.set_late(estimate.late)
        chosen = np.unique(np.linspace(0, len(self.frames) - 1, 6).round().astype(int))
        lens = zoomed(self.lens.K, estimate.log_zoom)
        depth, part = self.frames.rendered(chosen, lens, estimate.pose)
        outline = outline_fit(self.frames.images[chosen], depth, part)[1]
        vector = np.array([[lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]]])
        flow = float(self.scorer.parts(estimate.pose[None], vector)[0, 0])
        return Candidate(estimate, start, outline, flow)


def _watched(problems: Sequence[CameraProblem]) -> Floats:
    """(N, 3) points of the robot's surface over the clips, by which poses are compared."""
    surface = surface_points(problems[0].robot.name, 60)
    parts = []
    for problem in problems:
        steps = diverse_steps(problem, problem.solving(), 5)
        links = link_poses(problem.robot, problem.joints[steps], problem.fingers[steps])
        parts.append(surface.placed(links).reshape(-1, 3))
    return np.concatenate(parts)

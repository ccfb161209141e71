"""Starts followed to where least squares take them, and which of them is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.appearance import COARSE, FINE
from reconstruction.camera.estimate import Estimate, zoomed
from reconstruction.camera.flow_score import FlowScorer
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.learned_masks import MaskBackend
from reconstruction.camera.link_bundle import with_tracks
from reconstruction.camera.problem import CameraProblem, diverse_steps
from reconstruction.camera.quality import outline_fit
from reconstruction.camera.refine import Round, refine
from reconstruction.camera.search import Lens
from robo4d.geometry import invert, project, transform
from robots.kinematics import link_poses
from robots.surface import surface_points

Floats = NDArray[np.floating]
# Colours alone end up to four pixels off where the robot is close: matting has some way to go.
_TO_PIXEL = [*[Round(4, 12, 120)] * 2, Round(COARSE, 12, 150, "matte", most=32)]
# Enough to see whether another one may end better; only one that does is followed to its end.
_TOWARDS_PIXEL = [Round(4, 12, 120), Round(COARSE, 12, 120, "matte", most=8)]
# More frames show links from more sides: what shading does averages out. (By six and two steps
# halves of real views ended 4.8 mm apart, by three and five 3.4.)
_TO_SUBPIXEL = [Round(FINE, 24, 100, "both", most=3), Round(FINE, 48, 150, "both", most=5)]
# The network learned from pictures that were enlarged by 1.25 at most. Of a synthetic disc made
# five times as large an earlier one said 0.4 pixels too much, of one twice as large 0.2.
_MOST_ENLARGED, _TO_SUBPIXEL_ENLARGED = 1.5, [Round(FINE, 24, 250, "matte", most=16)]
# Masks alone lead on from there, asked anew where they led, for a network leans on the robot that
# is shown to it. Where images confirm what comes of it much worse, the masks are of something else.
_BY_MASKS = [Round(reach, 24, 150, images=False) for reach in (20, 14, 10, 7, 5, 5)]
_ASKED, _STAYS = 2, 0.5  # times at most, and pixels by which the last one moved nothing
_MASKED, _MASKED_LAST = 12, 48  # frames that are asked about, and for the last steps
_AS_GOOD = 0.8
_APART = 3.0  # pixels between candidates that are worth refining each
SAME = 2.0  # pixels within which two solutions are one
# Pixels from the best by colours within which another may yet end in one pose with it.
CLOSE, _ENDS = 8.0, 3  # and how many of those are followed to the end
# Of the best by colours, how many are compared by their ends, of what share of the first's worth
# and so many pixels from each other; and by how much better one must end to be taken instead. (Of
# 12 pairs of poses 20 to 195 mm apart, found in halves of real short clips, both halves' frames
# preferred the same one by the share of the outline in 11; by masks drawn by hand it is the right
# one wherever they lie over 60 mm apart, nearer by chance: docs/camera.md.)
_COMPARED, _COMPARABLE, _OTHER, _MUCH_BETTER = 3, 0.8, 1.0, 1.1


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


def _confirmed(end: Candidate) -> float:
    return end.outline**2 * end.flow


@dataclass(frozen=True)
class Found:
    """Where the best start ended.

    Attributes:
        estimate: its ``covariance`` is None where the robot was lost from view.
        agreeing: how many starts, far apart or of another search, ended there, or within `CLOSE`
            of it together, from where masks led on; itself counted.
        starts: how many were followed.
    """

    estimate: Estimate
    agreeing: int
    starts: int


def last_rounds(enlarged: float) -> list[Round]:
    """To a fraction of a pixel, in images that were made larger by so much."""
    return _TO_SUBPIXEL_ENLARGED if enlarged > _MOST_ENLARGED else _TO_SUBPIXEL


@dataclass
class Trail:
    """All that was followed so far.

    Args:
        lens: as the search has it; the last steps take a deviation of their own.
        points: `watched`, by which poses are compared.
    """

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
            self.ends[candidate] = self._ended(candidate, _TO_PIXEL)
        return self.ends[candidate]

    def _ended(self, candidate: Candidate, rounds: Sequence[Round]) -> Candidate:
        K, spread = self.lens.K, self.lens.spread
        end = refine(self.frames, candidate.estimate, K, spread, rounds, self.rng)
        return self._measured(end, candidate.start)

    def found(self, agreeing: int, spread: float, masks: MaskBackend | None) -> Found:
        """The best, to a fraction of a pixel.

        Args:
            spread: of the focal length, that the last steps go by.
        """
        chosen = self.chosen()
        end = self.end(chosen)
        if chosen is not self.best and self.gap(end.estimate, self.end(self.best).estimate) > SAME:
            agreeing = max(len(self.within(SAME, chosen)), self.agreeing_ends(CLOSE, chosen))
        if masks is not None and end.estimate.covariance is not None:
            end, agreeing = self._led(end, agreeing, masks)
        final = end.estimate
        if final.covariance is not None:
            rounds = last_rounds(self.frames.enlarged)
            frames = self.frames.more(max(turn.frames for turn in rounds))
            if masks is not None and self.frames.shares is not None:
                lens = zoomed(self.lens.K, final.log_zoom)
                frames.ask(masks, lens, final.pose, final.late, _MASKED_LAST)
            final = refine(frames, final, self.lens.K, spread, rounds, self.rng)
        if final.covariance is not None:
            final = with_tracks(self.frames, final, self.lens.K)
        self.frames.shares = None
        return Found(final, agreeing, self.starts)

    def _led(self, end: Candidate, agreeing: int, masks: MaskBackend) -> tuple[Candidate, int]:
        """Where masks lead, and how many starts ended there, or there from where masks lead on;
        leaves masks with the frames unless images contradict them.
        """
        K, near = self.lens.K, end.estimate
        # Chance of its own: masks that are dropped leave no trace.
        rng = np.random.default_rng(0)
        for _ in range(_ASKED):
            self.frames.ask(masks, zoomed(K, near.log_zoom), near.pose, near.late, _MASKED)
            before, near = near, refine(self.frames, near, K, self.lens.spread, _BY_MASKS, rng)
            if near.covariance is None or self.gap(before, near) < _STAYS:
                break
        led = self._measured(near, end.start)
        if near.covariance is None or led.worth < _AS_GOOD * end.worth:
            self.frames.shares = None
            return end, agreeing
        if self.gap(near, end.estimate) > CLOSE:  # those that end with it are led with it
            starts = (c.start for c, e in self.ends.items() if self.gap(e.estimate, near) < SAME)
            agreeing = len(set(starts) - {None})
        return led, agreeing

    def chosen(self) -> Candidate:
        """The best by colours, or another of the few best that ends much better: there the outline
        tells more than flow, by which it was the best.
        """
        chosen, begun = self.best, [self.best]
        for one in sorted(self.tried, key=lambda candidate: -candidate.worth):
            if len(begun) == _COMPARED or one.worth < _COMPARABLE * self.best.worth:
                break
            if any(
                one is other or self.gap(one.estimate, other.estimate) <= _OTHER for other in begun
            ):
                continue
            begun.append(one)
            least = _MUCH_BETTER * _confirmed(self.end(chosen))
            soon = self.ends.get(one) or self._ended(one, _TOWARDS_PIXEL)
            if _confirmed(soon) > least and _confirmed(self.end(one)) > least:
                chosen = one
        return chosen

    def within(self, pixels: float, of: Candidate | None = None) -> list[Candidate]:
        """Of each start the nearest within so many pixels of the best, or another; in order."""
        best = of or self.best
        gaps = [(self.gap(c.estimate, best.estimate), i) for i, c in enumerate(self.tried)]
        nearest: dict[int, Candidate] = {}
        for gap, i in sorted(gaps):
            start = self.tried[i].start
            if gap < pixels and start is not None:
                nearest.setdefault(start, self.tried[i])
        return list(nearest.values())

    def agreeing_ends(self, pixels: float, of: Candidate | None = None) -> int:
        """Of the starts within so many pixels of the best by colours, or another, at most `_ENDS`
        and the nearest first, how many matting takes to where it takes that one; itself counts if
        it is a start.
        """
        best = of or self.best
        final = self.end(best).estimate
        others = [c for c in self.within(pixels, best) if c.start != best.start][:_ENDS]
        ends = [self.end(c).estimate for c in others]
        same = sum(e.covariance is not None and self.gap(e, final) < SAME for e in ends)
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


def watched(problems: Sequence[CameraProblem]) -> Floats:
    """(N, 3) points of the robot's surface over the clips, by which poses are compared."""
    surface = surface_points(problems[0].robot.name, 60)
    parts = []
    for problem in problems:
        steps = diverse_steps(problem, problem.solving(), 5)
        links = link_poses(problem.robot, problem.joints[steps], problem.fingers[steps])
        parts.append(surface.placed(links).reshape(-1, 3))
    return np.concatenate(parts)

"""Whether a camera stood still over a clip, told by the background in its images alone.

What moves against the camera may be the camera or all that it sees: a base that is driven, a toy
kitchen that is pushed. Where it matters, who calls must know more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.problem import CameraProblem

Grey = NDArray[np.uint8]
# Pixels at the working size beyond which the camera is elsewhere. In 12 real views of DROID the
# background wanders by 0.29 at most, in 75 of Bridge by 0.66, but for a shake of 0.96
# (`benchmarks.camera_moved`). A pixel is 0.4 degrees or, at a metre, 8 mm of DROID's cameras.
MOVED = 1.0
_SAMPLES = 17  # steps looked at; a clip is looked at more closely where two of them differ
_BLIP = 2  # samples off between samples in one place: a shake, or a hand before the lens
_RECENT = 3  # places that a picture is compared with; a blip may lie between it and its own
_CORNERS, _APART = 200, 5
_FOLLOWED = 0.5  # pixels from its start that a corner ends, followed there and back
# The robot, what it carries and people move, but fewer than three in four corners that are found
# again: most of theirs are not. Far walls move less than a table where a camera is shifted.
_QUANTILE = 0.25
_FEWEST, _FEWEST_SHARE = 12, 0.15  # corners that must be found again, also of those looked for
_RATIO, _FIT = 0.75, 2.0  # Lowe's ratio (IJCV 2004), and pixels


@dataclass(frozen=True)
class Stillness:
    """When a camera stood still.

    Attributes:
        sections: (first, past) steps of each place that it stood in, in order, at least one. Steps
            between two sections show it on the way.
        jumps: pixels at the working size that the background moved by, or more, from each section
            to the next; inf: by more than can be recognised.
    """

    sections: tuple[tuple[int, int], ...]
    jumps: tuple[float, ...]


def still_sections(problem: CameraProblem) -> Stillness:
    """The sections over which a camera's background stays within `MOVED` pixels.

    A shake that ends where it began does not part a section. Pictures without texture cannot tell
    and are passed over.
    """
    steps = np.unique(np.linspace(0, len(problem) - 1, _SAMPLES).round().astype(int))
    watch = _Watch(problem)
    steps = steps[[_corners(watch.grey(int(step))) is not None for step in steps]]
    if len(steps) == 0:
        return Stillness(((0, len(problem)),), ())
    places, at = [int(steps[0])], [0]  # steps that each place is known by; the place of each sample
    for step in steps[1:].tolist():
        recent = list(dict.fromkeys(reversed(at)))[:_RECENT]
        near = [place for place in recent if watch.same(places[place], step)][:1]
        if not near:
            near = [len(places)]
            places.append(step)
        at += near
    runs = _runs(_without_blips(at))
    sections: list[tuple[int, int]] = []
    jumps: list[float] = []
    for i, (place, begin, end) in enumerate(runs):
        first, past = 0, len(problem)
        if i > 0:
            left = runs[i - 1][2]  # the last sample in the place before
            first = max(sections[-1][1], int(steps[begin - 1]) + 1)
            first = watch.edge(places[place], int(steps[begin]), first - 1)
            before = places[runs[i - 1][0]]
            jumps.append(max(watch.shift(before, int(s)) for s in steps[left + 1 : begin + 1]))
        if i + 1 < len(runs):
            past = watch.edge(places[place], int(steps[end]), int(steps[end + 1])) + 1
        sections.append((first, past))
    return Stillness(tuple(sections), tuple(jumps))


def group_clips(problems: Sequence[CameraProblem]) -> list[list[int]]:
    """Numbers of the clips of one camera by where it stood, as the background of their first
    pictures tells: each belongs to the place, of those within `MOVED` pixels, that is nearest.
    """
    pictures = [grey_at(problem, 0) for problem in problems]
    tells = [_corners(picture) is not None for picture in pictures]
    places: list[list[int]] = []
    # Those that cannot tell come last, and go with the first place.
    for i in sorted(range(len(pictures)), key=lambda i: not tells[i]):
        away = [background_shift(pictures[p[0]], pictures[i]) if tells[i] else 0.0 for p in places]
        if min(away, default=np.inf) > MOVED:
            places.append([i])
        else:
            places[int(np.argmin(away))].append(i)
    return places


def background_shift(before: Grey, after: Grey) -> float:
    """Pixels by which the background of a grey picture (h, w) lies elsewhere in another.

    A lower quartile over corners followed by Lucas and Kanade's method, there and back; where too
    few are, over SIFT features that fit one similarity.

    Returns:
        NaN: the first picture has too little texture; inf: it is not recognised in the second.
    """
    begin = _corners(before)
    if begin is None:
        return np.nan
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, begin, None, maxLevel=4)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, maxLevel=4)
    followed = (found[:, 0] > 0) & (again[:, 0] > 0)
    followed &= np.linalg.norm(back - begin, axis=2)[:, 0] < _FOLLOWED
    if followed.sum() >= max(_FEWEST, _FEWEST_SHARE * len(begin)):
        moved = np.linalg.norm(there - begin, axis=2)[followed]
        return float(np.quantile(moved, _QUANTILE))
    return _recognised_shift(before, after)


def _corners(picture: Grey) -> NDArray[np.float32] | None:
    """(n, 1, 2) pixels; None of a picture with too little texture."""
    found = cv2.goodFeaturesToTrack(picture, _CORNERS, 0.01, _APART, blockSize=5)
    return None if found is None or len(found) < _FEWEST else found


def grey_at(problem: CameraProblem, step: int) -> Grey:
    """(h, w) at the working size."""
    image = problem.frames(np.array([step]))[0]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def _recognised_shift(before: Grey, after: Grey) -> float:
    sift = cv2.SIFT.create()
    (points, words), (others, their) = (
        sift.detectAndCompute(image, None) for image in (before, after)
    )
    if min(len(points), len(others)) < _FEWEST:
        return np.inf
    pairs = cv2.BFMatcher().knnMatch(words, their, k=2)
    kept = [best for best, second in pairs if best.distance < _RATIO * second.distance]
    if len(kept) < _FEWEST:
        return np.inf
    begin = np.array([points[match.queryIdx].pt for match in kept])
    end = np.array([others[match.trainIdx].pt for match in kept])
    _, fits = cv2.estimateAffinePartial2D(begin, end, ransacReprojThreshold=_FIT)
    if fits is None or fits.sum() < _FEWEST:
        return np.inf
    return float(np.quantile(np.linalg.norm(end - begin, axis=1)[fits[:, 0] > 0], _QUANTILE))


@dataclass(frozen=True)
class _Watch:
    """Compares steps of a clip, decoding each once."""

    problem: CameraProblem
    seen: dict[int, Grey] = field(default_factory=dict)

    def grey(self, step: int) -> Grey:
        if step not in self.seen:
            self.seen[step] = grey_at(self.problem, step)
        return self.seen[step]

    def shift(self, a: int, b: int) -> float:
        return background_shift(self.grey(a), self.grey(b))

    def same(self, a: int, b: int) -> bool:
        return not self.shift(a, b) > MOVED  # nan: cannot tell

    def edge(self, ref: int, inside: int, outside: int) -> int:
        """The step nearest to ``outside`` that still shows what ``ref`` does, as ``inside`` does;
        either may come first, and ``outside`` itself is not looked at.
        """
        while abs(outside - inside) > 1:
            middle = (inside + outside) // 2
            if self.same(ref, middle):
                inside = middle
            else:
                outside = middle
        return inside


def _without_blips(at: list[int]) -> list[int]:
    """Places of samples, those of a blip being that on both its sides."""
    out = list(at)
    for begin, place in enumerate(out):
        for past in range(begin + _BLIP + 1, begin, -1):
            if past < len(out) and out[past] == place:
                out[begin:past] = [place] * (past - begin)
                break
    return out


def _runs(at: list[int]) -> list[tuple[int, int, int]]:
    """(place, first, last) of samples in one place; a single sample within a clip is on the way."""
    edges = [0, *(i for i in range(1, len(at)) if at[i] != at[i - 1]), len(at)]
    runs = [(at[begin], begin, past - 1) for begin, past in pairwise(edges)]
    return [run for run in runs if run[1] < run[2] or run[1] == 0 or run[2] == len(at) - 1]

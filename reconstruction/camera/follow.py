"""From what a search finds to one camera: starts are followed until some from afar end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.estimate import Estimate
from reconstruction.camera.flow_score import FlowPairs
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.learned_masks import MaskBackend
from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.refine import Round
from reconstruction.camera.search import Lens, moved, search_pose
from reconstruction.camera.trail import CLOSE, SAME, Candidate, Found, Trail, watched
from robots.kinematics import ee_poses

Floats = NDArray[np.floating]
_CANDIDATES = 4
# From what a search leaves to within a pixel: first as if it were some ten pixels, which clutter
# disturbs least; where that settles nothing, from twice as far. Matting here would bind wrong
# candidates to clutter, which then look right.
_TO_BASIN = (
    [Round(reach, 8, 100) for reach in (10, 10, 7, 7, 4, 4)],
    [Round(reach, 8, 100) for reach in (20, 20, 20, 14, 14, 14, 8, 8, 8, 4, 4)],
)
# The best candidate is shaken, and falls back or into something better; deviations in rad and m.
_SHAKES, _SHAKE = 2, 0.04
AGREEING = 2  # starts far apart that must have ended in one pose
# Starts that agree, share of the outline confirmed, and flow score, with any of which a search is
# over; else it is done again from other random poses. Colours alone may leave an outline that
# nothing confirms yet, but not three starts in one such place; after matting it must be confirmed.
_SETTLED = ((AGREEING, 0.5, 0.35), (AGREEING, 0.7, 0.25), (3, 0.0, 0.25))
_SETTLED_AT_END = ((AGREEING, 0.6, 0.25),)
_ATTEMPTS = 2
# By how much more than known focal lengths are open until the last steps, up to what deviation:
# outlines that are pixels off pull at them.
_LOOSER, _LOOSE_LENS = 2.0, 0.02


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
    loose = Lens(lens.K, max(lens.spread, min(_LOOSER * lens.spread, _LOOSE_LENS)))
    centre = np.concatenate([ee_poses(p.robot, p.joints)[:, :3, 3] for p in problems]).mean(0)
    for attempt in range(_ATTEMPTS):
        # Once: a start that is followed again would agree with itself.
        given = starts if attempt == 0 else ()
        found = search_pose(pairs, loose, centre, given, rng)
        begun = [Estimate(np.asarray(start)) for start in given]
        begun += [Estimate(p, float(z)) for p, z in zip(found.poses, found.log_zoom, strict=True)]
        if attempt == 0:
            trail = Trail(frames, loose, rng, found.scorer, watched(problems))
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
            agreeing = len(trail.within(SAME))
            if _reached(_SETTLED, agreeing, trail.best):
                return trail.found(agreeing, lens.spread, masks)
            # Matting may take starts together that colours left some pixels apart.
            if agreeing >= AGREEING or len(trail.within(CLOSE)) >= AGREEING:
                agreeing = max(agreeing, trail.agreeing_ends(CLOSE))
                if _reached(_SETTLED_AT_END, agreeing, trail.end(trail.best)):
                    return trail.found(agreeing, lens.spread, masks)
    if agreeing < AGREEING:
        agreeing = trail.agreeing_ends(np.inf)
    return trail.found(agreeing, lens.spread, masks)


def _reached(
    settled: Sequence[tuple[int, float, float]], agreeing: int, candidate: Candidate
) -> bool:
    measures = (agreeing, candidate.outline, candidate.flow)
    return any(all(np.greater_equal(measures, least)) for least in settled)

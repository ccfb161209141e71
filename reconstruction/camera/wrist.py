"""Solve where a camera sits on the hand, from frames and joints alone.

The hand's poses are known, in metres, by forward kinematics. A still scene seen from two of them
tells how the camera sits on the hand: its rotation from any motion, its place from turns only (of
a hand that never turns, every place fits). Where turns are about one axis, the place along that
axis is loose; there the hand itself, as the camera sees it, decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.estimate import zoomed
from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.solve import Verdict
from reconstruction.camera.wrist_bundle import ZOOM, Bundle, adjust, triangulate
from reconstruction.camera.wrist_hand import Hand, Mount, misses
from reconstruction.camera.wrist_outline import OutlineFit, doubt, fit_outline, outline_at
from reconstruction.camera.wrist_search import search_mount, widest_pairs
from reconstruction.camera.wrist_tracks import Tracks, follow_points
from robo4d.geometry import rotation_angle
from robots.kinematics import ee_poses

Floats = NDArray[np.floating]
# Pixels of width or height below which frames hold too few corners that can be told apart.
_LEAST_SIDE = 100
_FEWEST_TRACKS, _FEWEST_FRAMES = 60, 12
_LEAST_TURN = np.radians(5)  # of the hand over the clips; less fixes no lever arm
_TRACKS = 1200  # adjusted; more tell little that these do not
_CANDIDATES, _APART = 4, np.radians(12)
_ROUGH, _ROUGH_TRACKS = 4.0, 400
_FINE = (2.0, 1.5)  # pixels
_NEAR = 2.0  # pixels within which a held-back view confirms its point
# Least share of held-back views that confirm (of mounts in a wrong valley some 7 % do), least share
# of the outline, and most by which both kinds of evidence may disagree, for good and for usable.
_GOOD, _USABLE = (0.5, 0.68, 1.2), (0.3, 0.5, 1.4)
# Steps that are followed, those over which the hand turns most: the joints of each are unknowns,
# and memory and time grow with their square and cube.
_MOST_STEPS = 250
# Deviation in m of what the scene says from which the outline decides alone, and its share then:
# on twins wrong outlines reached 0.73, right ones 0.81 and more.
_ALONE, _CLEAR = 0.02, 0.8
# The outline's deviations once more: scene and hand disagree on real views by more than they say.
_SYSTEMATIC = 2.0
_PRECISE, _LOOSE = (0.008, np.radians(0.6)), (0.02, np.radians(1.5))


@dataclass(frozen=True)
class WristSolution:
    """A solved mount, or why there is none.

    Attributes:
        ee_from_camera, K: (4, 4) and (3, 3) pixels of the original frames; None if nothing was
            found at all.
        covariance: (6, 6) of turn (rad) and shift (m) in the camera's own frame.
        late: s by which images lag behind the joints, found together with the mount.
        verdict, why: whether to use it, and in words.
        quality: on frames that were held back: ``track_share`` of views within 2 pixels of their
            point as other frames have it, ``track_px`` their median distance, ``edge_share`` and
            ``edge_px`` of the hand's outline (see `quality.Fit`), ``evidence_gap`` between tracks
            and outline in deviations, ``scene_sd_m`` the tracks' own along their loosest way.
    """

    ee_from_camera: Floats | None
    K: Floats | None
    covariance: Floats | None
    late: float
    verdict: Verdict
    why: str
    quality: dict[str, float | None] = field(default_factory=dict)


def solve_wrist(
    problems: Sequence[CameraProblem], K: Floats, *, spread: float = 0.0, seed: int = 0
) -> WristSolution:
    """Solve ee_from_camera, and the focal length where it is not known.

    Args:
        problems: clips of one camera on one and the same mount, of one size.
        K: (3, 3) pixels of the frames, known or guessed.
        spread: relative standard deviation of the guessed focal lengths; 0: ``K`` is known. Their
            ratio and the principal point are taken as they are.
    """
    problems = [_liveliest(problem) for problem in problems]
    scale = problems[0].scale
    lens = np.asarray(np.diag([scale, scale, 1.0]) @ K)
    rng = np.random.default_rng(seed)
    hand = Hand(problems)
    ee = hand.ee()
    refused = _too_little(problems, ee)
    if refused:
        return _nothing(refused)
    tracks = follow_points(problems, ee, float(lens[0, 0]))
    solving = _some(tracks.where(~tracks.held).longer(3), _TRACKS, rng)
    if len(solving) < _FEWEST_TRACKS:
        return _nothing(f"{len(solving)} points of the scene could be followed")
    bundle = _solve_tracks(solving, hand, ee, lens, spread, rng)
    if bundle is None:
        return _nothing("no mount puts the points before the camera")
    K_found = zoomed(lens, bundle.mount.log_zoom)
    outline = fit_outline(
        problems, K_found, bundle.mount.pose, bundle.covariance[:6, :6], bundle.mount.late, rng
    )
    pose, covariance = bundle.mount.pose, doubt(bundle.covariance[:6, :6])
    if outline is not None and outline.share >= _USABLE[1]:
        pose, covariance = outline.pose, _SYSTEMATIC**2 * outline.covariance
    final = Mount(pose, bundle.mount.log_zoom, bundle.mount.late)
    quality = _held_back(tracks, hand, lens, final) | _of_outline(outline)
    quality["tracks"] = float(len(bundle.tracks))
    quality["position_sd_m"] = float(np.sqrt(np.trace(covariance[3:, 3:])))
    quality["rotation_sd_rad"] = float(np.sqrt(np.trace(covariance[:3, :3])))
    quality["focal_spread"] = spread
    quality["focal_sd"] = float(np.sqrt(bundle.covariance[ZOOM, ZOOM]))
    verdict, why = judge_mount(quality)
    return WristSolution(
        pose,
        np.diag([1 / scale, 1 / scale, 1.0]) @ K_found,
        covariance,
        bundle.mount.late,
        verdict,
        why,
        quality,
    )


def score_mount(
    problems: Sequence[CameraProblem], K: Floats, ee_from_camera: Floats, late: float = 0.0
) -> dict[str, float | None]:
    """Measures of a given mount on the held-back steps; see `WristSolution`."""
    problems = [_liveliest(problem) for problem in problems]
    scale = problems[0].scale
    lens = np.asarray(np.diag([scale, scale, 1.0]) @ K)
    hand = Hand(problems)
    if _too_little(problems, hand.ee()):
        return {"track_share": None, "track_px": None, "edge_share": None, "edge_px": None}
    tracks = follow_points(problems, hand.ee(), float(lens[0, 0]))
    edge_px, share = outline_at(problems, lens, ee_from_camera, late)
    measured = _held_back(tracks, hand, lens, Mount(ee_from_camera, late=late))
    return {**measured, "edge_share": share, "edge_px": edge_px}


def judge_mount(quality: dict[str, float | None]) -> tuple[Verdict, str]:
    """The verdict on a mount, by its measures, and why."""
    share, outline = quality["track_share"] or 0.0, quality["edge_share"] or 0.0
    position, turn = quality["position_sd_m"] or np.inf, quality["rotation_sd_rad"] or np.inf
    gap = np.inf if quality["evidence_gap"] is None else quality["evidence_gap"]
    says = f"{share:.0%} of held-back views confirm their points"
    if share < _USABLE[0]:
        return "reject", says
    alone = (quality["scene_sd_m"] or 0.0) >= _ALONE
    if outline < (_CLEAR if alone else _USABLE[1]):
        seen = f"{outline:.0%} of the hand's outline has an image edge" if outline else "no hand"
        return "reject", f"{says}, but {seen}: the scene alone leaves the mount loose"
    says += f", {outline:.0%} of the hand's outline has an image edge"
    if not gap <= _USABLE[2]:  # nan neither
        return "reject", f"scene and hand disagree, by {gap:.1f} deviations; {says}"
    says += f", to {1000 * position:.1f} mm; scene and hand agree to {gap:.1f} deviations"
    if not (position <= _LOOSE[0] and turn <= _LOOSE[1]):
        return "reject", f"the mount is loose; {says}"
    precise = position <= _PRECISE[0] and turn <= _PRECISE[1]
    measures = share >= _GOOD[0] and outline >= _GOOD[1] and gap <= _GOOD[2]
    if quality["focal_spread"]:  # found focal lengths err by up to 5 %, and mounts with them
        return "usable", f"{says}; the focal length was guessed"
    return "good" if measures and precise else "usable", says


def _liveliest(problem: CameraProblem) -> CameraProblem:
    """`_MOST_STEPS` steps in a row over which the hand turns most, or all of fewer."""
    if len(problem) <= _MOST_STEPS:
        return problem
    turns = ee_poses(problem.robot, problem.joints)[:, :3, :3]
    turned = np.concatenate([[0.0], np.cumsum(rotation_angle(turns[1:], turns[:-1]))])
    first = int(np.argmax(turned[_MOST_STEPS - 1 :] - turned[: 1 - _MOST_STEPS]))
    part = slice(first, first + _MOST_STEPS)
    return replace(
        problem,
        decode=lambda steps: problem.decode(steps + first),
        joints=problem.joints[part],
        fingers=problem.fingers[part],
        time=problem.time[part],
    )


def _nothing(why: str) -> WristSolution:
    return WristSolution(None, None, None, 0.0, "reject", why)


def _too_little(problems: Sequence[CameraProblem], ee: Floats) -> str:
    """Why these clips cannot tell, whatever they show; empty if they may."""
    side, frames = min(problems[0].size), len(ee)
    if side < _LEAST_SIDE:
        return f"frames are {side} pixels high or wide; a mount is solved from {_LEAST_SIDE} on"
    if frames < _FEWEST_FRAMES:
        return f"{frames} frames; at least {_FEWEST_FRAMES} are needed"
    first = 0
    most = 0.0
    for problem in problems:
        turns = ee[first : first + len(problem), :3, :3]
        most = max(most, float(rotation_angle(turns, turns[:1]).max()))
        first += len(problem)
    if most < _LEAST_TURN:
        return f"the hand turns by {np.degrees(most):.1f} degrees at most: no lever arm shows"
    return ""


def _some(tracks: Tracks, count: int, rng: np.random.Generator) -> Tracks:
    """At most ``count`` tracks, at random."""
    if len(tracks) <= count:
        return tracks
    kept = np.zeros(len(tracks), bool)
    kept[rng.choice(len(tracks), count, replace=False)] = True
    return tracks.where(kept[tracks.track])


def _solve_tracks(
    tracks: Tracks, hand: Hand, ee: Floats, K: Floats, spread: float, rng: np.random.Generator
) -> Bundle | None:
    """The best of the search's candidates that differ, adjusted."""
    poses, _ = search_mount(widest_pairs(tracks, ee, K), float(K[0, 0]), rng)
    distinct: list[Floats] = []
    for pose in poses:
        if all(rotation_angle(pose[:3, :3], d[:3, :3]) > _APART for d in distinct):
            distinct.append(pose)
    few = _some(tracks, _ROUGH_TRACKS, rng)
    rough = [adjust(few, hand, K, spread, Mount(p), _ROUGH) for p in distinct[:_CANDIDATES]]
    best = max(
        (bundle for bundle in rough if bundle is not None),
        key=lambda bundle: float(bundle.weight.sum()),
        default=None,
    )
    for wrong in _FINE:
        if best is None:
            return None
        best = adjust(tracks, hand, K, spread, best.mount, wrong, best.offset)
    return best


def _held_back(tracks: Tracks, hand: Hand, K: Floats, mount: Mount) -> dict[str, float | None]:
    """How near views that were held back come to points that the others fix, joints as logged."""
    count = len(tracks)
    used = np.bincount(tracks.track[~tracks.held], minlength=count) >= 3
    used &= np.bincount(tracks.track[tracks.held], minlength=count) >= 1
    tracks = tracks.where(used[tracks.track])
    if not len(tracks):
        return {"track_share": None, "track_px": None}
    offset = np.zeros(hand.shape)
    # Each track has views of both kinds, so its number stays.
    points = triangulate(tracks.where(~tracks.held), hand, K, mount, offset)
    residual, _ = misses(tracks, hand, K, mount, offset, np.nan_to_num(points, nan=1e3))
    told = tracks.held & np.isfinite(points[tracks.track]).all(axis=1)
    away = np.nan_to_num(np.linalg.norm(residual[told], axis=1), nan=np.inf)
    if not len(away):
        return {"track_share": None, "track_px": None}
    middle = float(np.median(away))
    share = float((away < _NEAR).mean())
    return {"track_share": share, "track_px": middle if np.isfinite(middle) else None}


def _of_outline(outline: OutlineFit | None) -> dict[str, float | None]:
    if outline is None:
        return {"edge_share": None, "edge_px": None, "evidence_gap": None, "scene_sd_m": None}
    return {
        "edge_share": outline.share,
        "edge_px": outline.edge_px,
        "evidence_gap": outline.apart,
        "scene_sd_m": outline.scene_sd,
    }

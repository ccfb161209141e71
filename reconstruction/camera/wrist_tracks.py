"""Points of a still scene followed through the frames of a camera that a hand carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.problem import CameraProblem

Floats = NDArray[np.floating]
Whole = NDArray[np.integer]
# Corners kept alive in a frame, how far apart (pixels), and how clear against the clearest.
_CORNERS, _APART, _CLEAR = 350, 6, 0.005
_WINDOW, _LEVELS = 15, 4
_BACK = 0.6  # pixels by which following forth and back may differ
# Fewer views fix no point and test nothing; longer ones drift, as each step adds its error.
_SHORTEST, _LONGEST = 3, 14
# What rides on the hand stays put: share that a track spans of what a scene one metre away would,
# told where that is so many pixels. Such points fit any mount that does not turn the view.
_STILL, _DUE = 0.15, 5.0


@dataclass(frozen=True)
class Tracks:
    """Observations of scene points, sorted by track.

    Attributes:
        track: (N,) of each observation, 0 to M - 1, none missing.
        frame: (N,) of each, counted over all clips.
        pixel: (N, 2) at the working size.
        held: (N,) bool: of a frame that only scores.
    """

    track: Whole
    frame: Whole
    pixel: Floats
    held: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.track[-1]) + 1 if len(self.track) else 0

    def where(self, kept: NDArray[np.bool_]) -> Tracks:
        """Those observations, tracks numbered anew."""
        _, track = np.unique(self.track[kept], return_inverse=True)
        return Tracks(track, self.frame[kept], self.pixel[kept], self.held[kept])

    def longer(self, least: int) -> Tracks:
        """Tracks of at least so many observations."""
        return self.where(np.bincount(self.track, minlength=len(self))[self.track] >= least)


def follow_points(problems: Sequence[CameraProblem], ee: Floats, focal: float) -> Tracks:
    """Corners followed from frame to frame by KLT, and back; what stays put with the hand left out.

    Args:
        ee: (F, 4, 4) base_from_ee of all clips' frames, one clip after the other.
        focal: pixels at the working size, roughly.
    """
    parts: list[tuple[Whole, Whole, Floats]] = []
    held, first, count = [], 0, 0
    for problem in problems:
        track, frame, pixel = follow_corners(problem.frames(np.arange(len(problem))))
        parts.append((track + count, frame + first, pixel))
        count += int(track.max(initial=-1)) + 1
        held.append(np.isin(np.arange(len(problem)), problem.held_back()))
        first += len(problem)
    track, frame, pixel = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((frame, track))
    track, frame, pixel = track[order], frame[order], pixel[order]
    tracks = Tracks(track, frame, pixel, np.concatenate(held)[frame])
    return _moving(tracks.longer(_SHORTEST), ee, focal)


def follow_corners(images: NDArray[np.uint8]) -> tuple[Whole, Whole, Floats]:
    """Track (N,), frame (N,) and pixel (N, 2) of each observation in one clip (T, H, W, 3)."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    alive, since = np.empty((0, 2), np.float32), np.empty(0, int)
    name, named = np.empty(0, int), 0
    out: list[tuple[Whole, Whole, Floats]] = []
    for t, image in enumerate(grey):
        if t and len(alive):
            moved, well = _tracked(grey[t - 1], image, alive)
            well &= t - since < _LONGEST
            alive, since, name = moved[well], since[well], name[well]
        fresh = _corners(image, alive)
        alive = np.concatenate([alive, fresh])
        since = np.concatenate([since, np.full(len(fresh), t)])
        name = np.concatenate([name, np.arange(named, named + len(fresh))])
        named += len(fresh)
        # OpenCV's pixel centres lie at integers, ours at + 0.5.
        out.append((name, np.full(len(name), t), alive.astype(np.float64) + 0.5))
    track, frame, pixel = (np.concatenate(values) for values in zip(*out, strict=True))
    return track, frame, pixel


def _corners(image: NDArray, taken: NDArray) -> NDArray[np.float32]:
    """(n, 2) new corners away from those followed already."""
    wanted = _CORNERS - len(taken)
    if wanted <= 0:
        return np.empty((0, 2), np.float32)
    free = np.full(image.shape, 255, np.uint8)
    for x, y in taken:
        cv2.circle(free, (round(float(x)), round(float(y))), _APART, 0, -1)
    found = cv2.goodFeaturesToTrack(image, wanted, _CLEAR, _APART, mask=free, blockSize=5)
    return np.empty((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def _tracked(
    before: NDArray, after: NDArray, points: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points went, and whether they come back to where they were."""
    how: dict[str, Any] = {"winSize": (_WINDOW, _WINDOW), "maxLevel": _LEVELS}
    # cv2's stubs know no empty first guess, though it is OpenCV's default.
    empty: Any = None
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, points, empty, **how)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, empty, **how)
    height, width = after.shape
    inside = ((there > 1) & (there < [width - 2, height - 2])).all(1)
    same = np.linalg.norm(back - points, axis=1) < _BACK
    return there, same & inside & (seen[:, 0] > 0) & (again[:, 0] > 0)


def _moving(tracks: Tracks, ee: Floats, focal: float) -> Tracks:
    """Less those that stay where they are in the image although the hand turns."""
    if not len(tracks):
        return tracks
    first = np.searchsorted(tracks.track, np.arange(len(tracks)))
    start = first[tracks.track]
    away = np.linalg.norm(tracks.pixel - tracks.pixel[start], axis=1)
    a, b = ee[tracks.frame[start]], ee[tracks.frame]
    turn = np.linalg.norm(a[:, :3, :3] - b[:, :3, :3], axis=(1, 2)) / np.sqrt(2)
    shift = np.linalg.norm(a[:, :3, 3] - b[:, :3, 3], axis=1)
    ought = focal * np.maximum(turn, shift)
    span, due = np.maximum.reduceat(away, first), np.maximum.reduceat(ought, first)
    still = (span < _STILL * due) & (due > _DUE)
    return tracks.where(~still[tracks.track])

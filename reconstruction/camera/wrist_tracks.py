"""Points of a still scene followed through the frames of a camera that a hand carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.problem import CameraProblem
from reconstruction.corners import follow_corners

Floats = NDArray[np.floating]
Whole = NDArray[np.integer]
# Fewer views fix no point and test nothing.
_SHORTEST = 3
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

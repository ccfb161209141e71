"""Corners followed from frame to frame by KLT (Lucas and Kanade 1981), and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Whole = NDArray[np.integer]
# Corners kept alive in a frame, how far apart (pixels), and how clear against the clearest.
_CORNERS, _APART, _CLEAR = 350, 6, 0.005
_WINDOW, _LEVELS = 15, 4
_BACK = 0.6  # pixels by which following forth and back may differ
# Frames after which a track ends: each step adds its error.
_LONGEST = 14


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

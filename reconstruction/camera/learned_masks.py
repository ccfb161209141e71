"""Where a network sees the robot: a backend, asked by a robot rendered nearby.

What it says is evidence, never the answer: a network that takes the table for the arm must not
move a camera that outlines confirm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import check_array

Floats = NDArray[np.floating]
ROBOT, ELSEWHERE, UNUSED = 1, 0, -10  # labels of points; transformers pads points with -10
_INSIDE, _OUTSIDE = 4, 3  # points a frame, at most
# Pixels at the working size: room around the robot in the box, and how far from its outline points
# lie. The poses that prompts come from are some four pixels off.
_ROOM = 8
_DEEP, _AWAY = 2.0, 12.0
# Fewer pixels of robot say too little of where it is; such frames are not asked about.
_FEWEST = 150


@dataclass(frozen=True)
class Prompts:
    """Where to look, a robot a frame, in pixels whose centres lie at +0.5.

    Attributes:
        boxes: (n, 4) left, top, right, bottom around the robot.
        points: (n, P, 2) x, y.
        labels: (n, P) `ROBOT`, `ELSEWHERE`, or `UNUSED`: no point.
        robot: (n, h, w) bool, the robot as it was rendered: all of it, though something may hide
            a part.
    """

    boxes: Floats
    points: Floats
    labels: NDArray[np.int64]
    robot: NDArray[np.bool_]


class MaskBackend(Protocol):
    """Anything that tells robots from what is around them."""

    def __call__(self, frames: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.float32]:
        """Frames (n, h, w, 3) and what to look for, to (n, h, w) the robot's share 0..1: its
        outline is where that crosses one half.
        """
        ...


def prompts_of(part: NDArray[np.uint8]) -> Prompts:
    """Prompts from rendered parts (n, h, w), each with some robot in it: a box, points well inside
    and well outside.
    """
    boxes, points, labels = [], [], []
    for robot in part > 0:
        y, x = np.nonzero(robot)
        height, width = robot.shape
        left, top = max(x.min() - _ROOM, 0), max(y.min() - _ROOM, 0)
        right, bottom = min(x.max() + 1 + _ROOM, width), min(y.max() + 1 + _ROOM, height)
        boxes.append([left, top, right, bottom])
        window = robot[top:bottom, left:right].astype(np.uint8)
        found = [
            *_spread(window, _INSIDE, _DEEP, ROBOT),
            *_spread(1 - window, _OUTSIDE, _AWAY, ELSEWHERE),
        ]
        points.append([[x + left + 0.5, y + top + 0.5] for x, y, _ in found])
        labels.append([label for _, _, label in found])
    return Prompts(
        np.array(boxes, float), np.array(points, float), np.array(labels, np.int64), part > 0
    )


def _spread(
    mask: NDArray[np.uint8], count: int, least: float, label: int
) -> list[tuple[int, int, int]]:
    """``count`` pixels (x, y, label) of a mask, far from its edge and from each other."""
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    row, column = np.indices(mask.shape)
    deep = np.where(depth >= least, np.minimum(depth, 2 * least), 0)
    found: list[tuple[int, int, int]] = []
    worth = depth * (deep > 0)
    while len(found) < count and worth.any():
        y, x = np.unravel_index(int(np.argmax(worth)), worth.shape)
        found.append((int(x), int(y), label))
        away = np.hypot(row - y, column - x)
        worth = np.minimum(worth, deep * away) if len(found) > 1 else deep * away
    return found + [(0, 0, UNUSED)] * (count - len(found))


def ask_masks(
    backend: MaskBackend, images: NDArray[np.floating], part: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The robot's share (n, h, w) in images (n, h, w, 3), prompted by parts rendered nearby.

    NaN in frames that show too little robot to ask.

    Raises:
        ShapeError: the backend gave another shape, or what is no number.
        ValueError: it gave shares outside 0..1.
    """
    shares = np.full(part.shape, np.nan, np.float32)
    asked = (part > 0).sum((1, 2)) >= _FEWEST
    if not asked.any():
        return shares
    given = backend(images[asked].round().astype(np.uint8), prompts_of(part[asked]))
    given = check_array("a mask backend's shares", given, part[asked].shape)
    low, high = float(given.min()), float(given.max())
    if low < 0 or high > 1:
        raise ValueError(f"a mask backend gave shares from {low:g} to {high:g}; expected 0..1")
    shares[asked] = given
    return shares


def mask_iou(shares: NDArray[np.float32], part: NDArray[np.uint8]) -> float | None:
    """Median over frames of intersection over union of masks (n, h, w) and a rendered robot.

    The median: of single frames a network may say anything. None where none was asked.
    """
    known = ~np.isnan(shares).any((1, 2))
    if not known.any():
        return None
    seen, drawn = shares[known] >= 0.5, part[known] > 0
    both, either = (seen & drawn).sum((1, 2)), (seen | drawn).sum((1, 2))
    return float(np.median(both / either))

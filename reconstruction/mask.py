"""Which of the robot's pixels are seen: its own depth against the scene's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import check_array

Floats = NDArray[np.floating]
# A robot pixel counts as visible if nothing stands closer than this in front of it, in m: more
# than the depth codec's error at 2 m (1.8 mm), less than a thin object lying on the robot.
VISIBLE_MARGIN = 0.003
# With noisy depth, nearer by this many sigma; one alone would hide a sixth of a bare robot.
_SIGMAS = 2.0
# Of the guided filter: half its window in pixels, about twice the blur of a network's edges, and
# the variance of grey (0..1) below which an area counts as plain: sensor and JPEG noise.
_RADIUS, _PLAIN = 4, 0.02**2


def visible_robot(
    robot_depth: NDArray[np.floating],
    depth: NDArray[np.floating],
    *,
    noise: float = 0.0,
    rgb: NDArray[np.uint8] | None = None,
) -> NDArray[np.bool_]:
    """(T, H, W) where the robot is and nothing known stands before it.

    Args:
        robot_depth: (T, H, W) m, amodal, 0 none.
        depth: (T, H, W) m, of the scene, 0 unknown: what is unknown hides nothing.
        noise: standard deviation of relative errors of ``depth``; 0 is exact. The tolerance grows
            with it.
        rgb: (T, H, W, 3); with it, and noise, what hides the robot ends at edges of the image.

    Raises:
        ShapeError: arrays do not fit together.
    """
    robot_depth = check_array("robot_depth", robot_depth, ["T", "H", "W"])
    depth = check_array("depth", depth, robot_depth.shape)
    robot = robot_depth > 0
    known = robot & (depth > 0)
    if noise <= 0:
        return robot & ~(known & (depth < robot_depth - VISIBLE_MARGIN))
    if rgb is not None:
        check_array("rgb", rgb, [*depth.shape, 3], "u")
    hidden = np.zeros(depth.shape, bool)
    for t, there in enumerate(known):
        # The robot's part of the picture alone: beyond the filter's window nothing is known.
        part = t, *around(there, _RADIUS)
        away, sigma = robot_depth[part], noise * np.maximum(robot_depth[part], 1e-6)
        nearer = (away - VISIBLE_MARGIN - depth[part]) / sigma - _SIGMAS
        if rgb is not None and there.any():
            # Bounded: how far something stands before the robot says nothing of where it ends.
            bounded = np.where(known[part], np.clip(nearer, -1, 1), 0).astype(np.float32)
            nearer = _guided(bounded, rgb[part], known[part])
        hidden[part] = nearer > 0
    return robot & ~(known & hidden)


def around(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns of what holds all of a mask (H, W) and as many pixels around it."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows = slice(max(0, top - margin), top + height + margin)
    return rows, slice(max(0, left - margin), left + width + margin)


def _guided(
    value: NDArray[np.float32], rgb: NDArray[np.uint8], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Guided filter (He, Sun and Tang 2013) by grey, over known pixels alone."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    weight = known.astype(np.float32)

    def mean(image: NDArray[np.float32]) -> NDArray[np.float32]:
        size = (2 * _RADIUS + 1,) * 2
        return cv2.boxFilter(image * weight, -1, size) / share

    share = np.maximum(cv2.boxFilter(weight, -1, (2 * _RADIUS + 1,) * 2), 1e-6)
    middle, level = mean(grey), mean(value)
    slope = (mean(grey * value) - middle * level) / (mean(grey * grey) - middle**2 + _PLAIN)
    return mean(slope) * grey + mean(level - slope * middle)

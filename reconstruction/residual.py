"""How far the robot's surface, by joints and camera, lies from the scene's metric depth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.mask import visible_robot
from robo4d.geometry import check_array

# Before the robot by more than this share of its depth, doubled (`mask.visible_robot`), something
# hides it: 10 cm at a metre. What is seen must not be what agrees: by the mask's own 3 mm a robot
# rendered 3 cm too far away would count as hidden all over, and what juts out beside it be judged.
_HIDES = 0.05
# Share of the robot that may be hidden so; beyond it a wrong camera is likelier, and all counts.
_MOST_HIDDEN = 0.5
_FEWEST = 100  # pixels in all frames, or nothing is said
_SQUARE = np.ones((3, 3), np.uint8)


def surface_residual(
    robot_depth: NDArray[np.floating], depth: NDArray[np.floating]
) -> float | None:
    """Median in m of |scene depth - robot depth| over the visible robot, less a pixel of its rim.

    None where fewer than 100 pixels have both. A wrong camera shows as the distance between
    surfaces along the line of sight, background included where the robot is rendered beside itself.

    Args:
        robot_depth: (T, H, W) m, of the robot alone, 0 none.
        depth: (T, H, W) m, of the scene, 0 unknown, by something that knows nothing of the robot:
            depth that was anchored at the robot agrees with it whatever the camera.

    Raises:
        ShapeError: arrays do not fit together.
    """
    robot_depth = check_array("robot_depth", robot_depth, ["T", "H", "W"])
    depth = check_array("depth", depth, robot_depth.shape)
    # The picture's border is no rim.
    whole = [cv2.erode((frame > 0).view(np.uint8), _SQUARE) for frame in robot_depth]
    both = np.stack(whole).view(bool) & (depth > 0)
    robot, scene = robot_depth[both], depth[both]
    if len(robot) < _FEWEST:
        return None
    seen = visible_robot(robot[None, None], scene[None, None], noise=_HIDES)[0, 0]
    gap = np.abs(scene - robot)
    return float(np.median(gap[seen] if seen.mean() >= 1 - _MOST_HIDDEN else gap))

"""Points on the robot, judged by what MuJoCo renders there."""

import numpy as np
import pytest

from robo4d.geometry import intrinsics, invert, make_pose, project, transform
from robots.kinematics import link_poses
from robots.models import get_robot
from robots.render import RobotRenderer
from robots.surface import surface_points


@pytest.mark.parametrize("name", ["panda_robotiq", "panda_hand", "widowx_250s", "google_robot"])
def test_points_lie_on_the_rendered_surface_or_behind_it(name, menagerie):
    robot = get_robot(name)
    joints, gripper = [robot.rest], [0.5]
    points = surface_points(name, 400).placed(link_poses(robot, joints, gripper))[0]
    middle = points.mean(0)
    eye = middle + [3.0, 1.0, 1.0]
    forward = (middle - eye) / np.linalg.norm(middle - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = make_pose(np.stack([right, np.cross(forward, right), forward], 1), eye)
    K = intrinsics(900, 900, 320, 240)
    with RobotRenderer(robot, 480, 640) as render:
        depth = render(joints, gripper, K[None], pose[None])[0][0]
    uv, z = project(transform(invert(pose), points), K)
    inside = (uv >= 1).all(1) & (uv < [639, 479]).all(1)
    column, row = uv[inside].astype(int).T
    # The nearest and farthest of the pixels around, as a point may lie at an edge.
    near = np.stack([depth[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    assert (near.max(0) > 0).mean() > 0.99
    gap = z[inside] - np.where(near > 0, near, np.inf).min(0)
    assert gap.min() > -0.005
    assert (np.abs(gap) < 0.01).mean() > 0.15  # the side that faces the camera

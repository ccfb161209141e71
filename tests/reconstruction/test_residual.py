"""The robot's surface against scene depth: exact cameras, displaced ones, what hides a robot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconstruction.residual import surface_residual
from robo4d.geometry import intrinsics, make_pose
from robots.models import get_robot
from robots.render import RobotRenderer

SIZE = (120, 160)
K = intrinsics(130, 130, 80, 60)
# Looks at the robot from 1.5 m before it.
POSE = make_pose(np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]]), [1.7, 0, 0.5])


@pytest.fixture(scope="module")
def render():
    """(n, H, W) robot depth by a pose, at three postures."""
    robot = get_robot("panda_robotiq")
    joints = np.asarray(robot.rest) + np.linspace(-0.3, 0.3, 3)[:, None]
    with RobotRenderer(robot, *SIZE) as renderer:
        yield lambda pose: renderer(
            joints, np.ones(3), np.repeat(K[None], 3, 0), np.repeat(pose[None], 3, 0)
        )[0].astype(np.float64)


@pytest.fixture(scope="module")
def scene(render):
    """Depth of the robot before a wall and with a box before a part of it."""
    robot = render(POSE)
    depth = np.where(robot > 0, robot, 2.6)
    depth[:, 40:70, 60:80] = 0.8
    assert (robot[:, 40:70, 60:80] > 0.95).any()
    return depth


def moved(*shift):
    return POSE @ make_pose(np.eye(3), np.array(shift, float))


def test_the_exact_camera_leaves_nothing_though_the_robot_is_hidden_in_part(render, scene):
    assert surface_residual(render(POSE), scene) < 1e-4


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_camera_3_cm_off_along_its_sight_shows_3_cm_either_way(render, scene, sign):
    found = surface_residual(render(moved(0, 0, sign * 0.03)), scene)
    assert found == pytest.approx(0.03, abs=0.004)


@pytest.mark.parametrize("shift", [(0.03, 0, 0), (0, 0.03, 0)])
def test_a_camera_3_cm_off_to_the_side_shows(render, scene, shift):
    assert surface_residual(render(moved(*shift)), scene) > 0.003


@pytest.mark.parametrize("far", [-0.4, -0.2, 0.2, 0.4])
def test_a_camera_far_off_never_passes_for_a_right_one(render, scene, far):
    """Also where the scene lies before the robot everywhere, as if it were hidden."""
    assert surface_residual(render(moved(0, 0, far)), scene) > 0.05


def test_few_pixels_and_unknown_depth_say_nothing(render, scene):
    robot = render(POSE)
    assert surface_residual(robot, np.zeros_like(scene)) is None
    assert surface_residual(np.zeros_like(robot), scene) is None


@given(st.floats(-0.04, 0.04), st.integers(0, 2**31))
def test_a_flat_robots_distance_is_the_residual_whatever_a_third_of_it_is_hidden_by(gap, seed):
    rng = np.random.default_rng(seed)
    robot = np.zeros((2, 60, 80))
    robot[:, 10:50, 10:70] = 1.2
    depth = np.where(robot > 0, 1.2 + gap, 3.0)
    hidden = rng.integers(10, 30)
    depth[:, 10:50, hidden : hidden + 20] = rng.uniform(0.3, 0.9)
    assert surface_residual(robot, depth) == pytest.approx(abs(gap), abs=1e-9)

"""What is seen of the robot, judged by scenes that say so."""

import numpy as np
import pytest

from reconstruction.mask import visible_robot

H, W = 80, 100


@pytest.fixture
def hidden():
    """(robot depth, scene depth, rgb, truly visible): a dark board hides the robot's middle."""
    robot = np.zeros((1, H, W), np.float32)
    robot[:, 10:70, 20:80] = 1.0
    board = np.zeros((1, H, W), bool)
    board[:, :, 40:60] = True
    depth = np.where(board, 0.9, np.where(robot > 0, robot, 2.0)).astype(np.float32)
    rgb = np.where(board[..., None], 40, 200).astype(np.uint8).repeat(3, axis=-1)
    return robot, depth, rgb, (robot > 0) & ~board


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_with_exact_depth_it_is_the_order_of_the_two(hidden):
    robot, depth, rgb, truth = hidden
    np.testing.assert_array_equal(visible_robot(robot, depth), truth)
    np.testing.assert_array_equal(visible_robot(robot, depth, rgb=rgb), truth)


@pytest.mark.parametrize(("before", "seen"), [(0.002, True), (0.004, False)])
def test_what_lies_on_the_robot_hides_it_from_three_millimetres_on(before, seen):
    robot = np.full((1, 4, 4), 1.0)
    assert visible_robot(robot, robot - before).all() == seen


def test_unknown_depth_hides_nothing_and_no_robot_is_never_seen(hidden):
    robot, depth, rgb, _ = hidden
    for noise in (0.0, 0.01):
        seen = visible_robot(robot, np.zeros_like(depth), noise=noise, rgb=rgb)
        np.testing.assert_array_equal(seen, robot > 0)
    assert not visible_robot(np.zeros_like(robot), depth, noise=0.01, rgb=rgb).any()


def test_the_tolerance_grows_with_noise_and_colour_mends_what_is_left(hidden):
    robot, depth, rgb, truth = hidden
    noise = 0.03
    noisy = depth * (1 + noise * np.random.default_rng(0).standard_normal(depth.shape))
    exact = iou(visible_robot(robot, noisy), truth)
    tolerant = iou(visible_robot(robot, noisy, noise=noise), truth)
    guided = iou(visible_robot(robot, noisy, noise=noise, rgb=rgb), truth)
    assert exact < 0.65 < tolerant < 0.95
    assert guided > 0.99


def test_an_edge_that_depth_has_blurred_is_drawn_where_the_image_has_it(hidden):
    robot, depth, rgb, truth = hidden
    wide = np.minimum(depth, np.minimum(np.roll(depth, 3, axis=2), np.roll(depth, -3, axis=2)))
    plain = iou(visible_robot(robot, wide, noise=0.01), truth)
    assert iou(visible_robot(robot, wide, noise=0.01, rgb=rgb), truth) >= plain

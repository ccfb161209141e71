"""Depth by the motion of a camera: of a rendered scene, and what the process makes of points."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconstruction.anchor_motion import anchor_by_motion
from reconstruction.anchor_scale import anchor_estimate
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.parallax import FEWEST, correct_depth, triangulate_motion
from robo4d.geometry import intrinsics, invert, make_pose
from schemas.episode import Provenance

T, H, W = 12, 120, 160
K = intrinsics(140, 140, W / 2, H / 2)
HAND = np.s_[:, 95:, 50:110]  # rides with the camera, and hides the scene


def film(still=False):
    """A camera that nears a patterned slope: frames, true depth, the hand's depth, poses."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (90, 90, 3)).astype(np.uint8)
    pattern = cv2.GaussianBlur(cv2.resize(coarse, (720, 720)), (0, 0), 2)
    normal, distance = np.array([0.0, 0.35, 1.0]), 0.6
    v, u = np.indices((H, W)) + 0.5
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((H, W))], -1)
    frames, depths, poses = [], [], []
    for t in range(T):
        turn, _ = cv2.Rodrigues(np.array([0.01, -0.015, 0.02]) * (0 if still else t))
        pose = make_pose(turn, np.array([0.01, 0.004, 0.015]) * (0 if still else t))
        world = rays @ turn.T
        z = (distance - pose[:3, 3] @ normal) / (world @ normal)
        at = (pose[:3, 3] + world * z[..., None])[..., :2] * 500 + 360
        frames.append(
            cv2.remap(pattern, at.astype(np.float32), None, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
        )
        depths.append(z)
        poses.append(pose)
    rgb, depth, robot = np.stack(frames), np.stack(depths), np.zeros((T, H, W))
    robot[HAND] = 0.08
    rgb[HAND] = cv2.resize(coarse, (60, 25))[None]
    return rgb, np.where(robot > 0, robot, depth), robot, np.stack(poses)


RGB, DEPTH, ROBOT, POSES = film()
SCENE = ROBOT == 0


@pytest.fixture(scope="module")
def points():
    return triangulate_motion(RGB, K, POSES, ROBOT > 0)


def test_still_points_have_their_depth(points):
    assert len(points) > 30 * FEWEST
    off = points.depth / points.of(DEPTH) - 1
    assert abs(np.median(off)) < 0.005
    # Half a pixel at the least spread of rays is 13 % of depth here.
    assert np.percentile(np.abs(off), 90) < 0.05
    assert not points.of(ROBOT > 0).any()


def test_points_lie_where_the_cameras_say_in_any_frame():
    """As seen from elsewhere: nothing depends on where the base is."""
    away = make_pose(cv2.Rodrigues(np.array([0.4, -1.0, 0.3]))[0], np.array([0.5, -2.0, 1.0]))
    there = triangulate_motion(RGB, K, away @ POSES, ROBOT > 0)
    here = triangulate_motion(RGB, K, invert(away) @ away @ POSES, ROBOT > 0)
    np.testing.assert_allclose(there.depth, here.depth, rtol=1e-6)


def test_a_camera_that_rests_tells_nothing():
    rgb, _, robot, poses = film(still=True)
    assert len(triangulate_motion(rgb, K, poses, robot > 0)) == 0


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.8, 1.25), drift=st.floats(0, 0.05))
def test_a_scale_that_drifts_is_undone(points, scale, drift):
    wrong = scale * np.exp(drift * np.sin(np.arange(T) / 2))[:, None, None]
    found = correct_depth(np.where(SCENE, DEPTH * wrong, DEPTH), points, ROBOT, told=True)
    assert np.median(np.abs(found.depth / DEPTH - 1)[SCENE]) < 0.02
    np.testing.assert_allclose(found.depth[~SCENE], DEPTH[~SCENE], rtol=1e-6)  # known already
    assert found.right > 0.9


def test_any_scale_is_undone_of_what_nobody_told(points):
    found = correct_depth(4 * DEPTH, points, ROBOT, told=False)
    assert np.median(np.abs(found.depth / DEPTH - 1)[SCENE]) < 0.02


def test_what_moves_by_itself_does_not_count(points):
    """A fifth of the points has any depth: the rest still says what the scale is."""
    rng = np.random.default_rng(0)
    liars = rng.uniform(size=points.track.max() + 1) < 0.2
    lied = points.depth * np.where(liars[points.track], 1.6, 1.0)
    told = replace(points, depth=lied)
    found = correct_depth(DEPTH * 1.1, told, ROBOT, told=True)
    assert np.median(np.abs(found.depth / DEPTH - 1)[SCENE]) < 0.04
    assert found.right > 0.7


def estimate(depth, told=True):
    sure = np.full(depth.shape, 128, np.uint8)
    return DepthEstimate(depth.astype(np.float32), sure, "scaled", Provenance.ESTIMATED, told)


def test_a_hand_cameras_estimate_is_anchored_by_its_motion():
    robot = RobotView(ROBOT.astype(np.float32), POSES)
    found = anchor_estimate(estimate(np.where(SCENE, DEPTH * 1.15, DEPTH)), RGB, K, robot)
    assert found.metric
    assert np.median(np.abs(found.depth / DEPTH - 1)[SCENE]) < 0.02
    assert found.describe()["points"] >= FEWEST
    assert found.describe()["points_right"] > 0.9
    assert (found.confidence[SCENE] > 128).mean() > 0.9  # points made it surer than it was
    np.testing.assert_allclose(found.scale, 1 / 1.15, rtol=0.03)


def test_a_robot_that_is_off_is_not_trusted():
    """Points say nothing of the hand: its own pixels do."""
    robot = RobotView(ROBOT.astype(np.float32), POSES)
    found = anchor_by_motion(estimate(np.where(SCENE, DEPTH, 1.15 * DEPTH)), RGB, K, robot)
    assert found.confidence[~SCENE].max() < 30
    assert found.noise > 0.1


def test_a_few_tracks_judge_nothing(points):
    few = points.where(np.isin(points.track, np.unique(points.track)[: FEWEST + 10]))
    assert correct_depth(DEPTH, few, ROBOT, told=True) is None


def test_what_judges_is_elsewhere_than_what_is_fitted(points):
    judging, fitted = (np.unique(points.track[part]) for part in (points.judges, ~points.judges))
    assert not set(judging) & set(fitted)
    assert 0.1 < len(judging) / (len(judging) + len(fitted)) < 0.45


def test_depth_that_points_contradict_is_no_depth():
    noise = np.exp(np.random.default_rng(1).normal(0, 1.0, DEPTH.shape))
    robot = RobotView(ROBOT.astype(np.float32), POSES)
    found = anchor_by_motion(estimate(DEPTH * noise), RGB, K, robot)
    assert not found.metric
    assert "held-back still points" in found.reason
    assert found.describe()["points_right"] < 0.5
    assert found.told
    assert not found.depth.any()


def test_a_picture_without_corners_says_nothing():
    """Not even the hand: it shows one depth, which anything can be scaled to."""
    robot = RobotView(ROBOT.astype(np.float32), POSES)
    found = anchor_estimate(estimate(DEPTH), np.full_like(RGB, 90), K, robot)
    assert not found.metric
    assert found.reason.startswith("0 still points")

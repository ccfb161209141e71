"""Depth that is right up to a scale, made metric by the robot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconstruction.anchor_scale import anchor_estimate, anchor_scale
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.ties import _middle
from schemas.episode import Provenance

T, H, W = 6, 96, 128
rng = np.random.default_rng(0)


def scene(moving_camera=False):
    """True depth of a slanted wall with a leaning robot of two parts passing before it."""
    wall = np.linspace(0.9, 1.6, W)[None, None].repeat(T, 0).repeat(H, 1)
    if moving_camera:
        wall = wall * np.linspace(1, 0.7, T)[:, None, None]
    robot = np.zeros((T, H, W))
    for t in range(T):
        robot[t, 20:70, 10 + 8 * t : 40 + 8 * t] = 0.6 + 0.01 * t
        robot[t, 60:90, 15 + 8 * t : 60 + 8 * t] = 0.75
    robot *= 1 + 0.002 * np.arange(H)[:, None]
    truth = np.where(robot > 0, robot, wall)
    rgb = rng.integers(0, 255, (1, H, W, 3)).astype(np.uint8).repeat(T, 0)
    rgb = np.where(robot[..., None] > 0, np.uint8(200), rgb)
    return truth, robot, rgb


SURE = np.full((T, H, W), 255, np.uint8)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.2, 5), drift=st.floats(0, 0.1), still=st.booleans())
def test_any_scale_that_drifts_is_undone(scale, drift, still):
    truth, robot, rgb = scene(moving_camera=not still)
    per_frame = scale * np.exp(drift * np.sin(np.arange(T)))[:, None, None]
    if not still:
        per_frame = scale  # before a moving camera neighbours share a scale
    found = anchor_scale(truth / per_frame, SURE, robot, rgb, camera_rests=still)
    assert found.metric
    assert np.allclose(found.depth, truth, rtol=0.01)
    assert found.held_back.median_m < 0.005


def test_what_was_told_the_robot_keeps_its_scale_and_loses_its_drift():
    truth, robot, rgb = scene()
    drift = np.exp(0.02 * np.sin(np.arange(T)))[:, None, None]
    # 4 % off at the robot, as an estimate may be: the scene's own scale is what counts.
    depth = np.where(robot > 0, 1.04 * truth, truth) * drift
    found = anchor_scale(depth, SURE, robot, rgb, camera_rests=True, told=True)
    assert found.metric
    scene_only = robot == 0
    assert np.allclose(found.depth[scene_only], truth[scene_only], rtol=0.021)
    per_frame = [
        np.median((d / t)[s]) for d, t, s in zip(found.depth, truth, scene_only, strict=True)
    ]
    assert np.ptp(per_frame) < 1e-3
    assert not anchor_scale(1.3 * depth, SURE, robot, rgb, camera_rests=True, told=True).metric


def test_a_robot_of_one_depth_makes_no_slope_of_nothing():
    truth, robot, rgb = scene()
    robot = np.where(robot > 0, 0.6, 0.0)
    truth = np.where(robot > 0, 0.6, truth)
    found = anchor_scale(truth / 1.7, SURE, robot, rgb, camera_rests=True)
    assert np.allclose(found.depth, truth, rtol=1e-3)
    assert (found.shift == 0).all()


def test_what_hides_the_robot_is_not_taken_for_it():
    truth, robot, rgb = scene()
    hidden = truth.copy()
    hidden[:, 20:50] = 0.3  # something before a third of the robot
    found = anchor_scale(hidden / 2, SURE, robot, rgb, camera_rests=True)
    assert np.allclose(found.depth, hidden, rtol=0.01)


def test_depth_that_does_not_fit_the_robot_is_no_depth():
    truth, robot, rgb = scene()
    noise = np.exp(rng.normal(0, 0.5, truth.shape))
    found = anchor_scale(truth * noise, SURE, robot, rgb, camera_rests=True)
    assert not found.metric
    assert "held-back robot pixels" in found.reason
    assert not found.depth.any()


def test_without_a_robot_nobody_knows_the_scale():
    truth, robot, rgb = scene()
    found = anchor_scale(truth, SURE, 0 * robot, rgb, camera_rests=True)
    assert not found.metric
    assert "0 robot pixels" in found.reason


def test_confidence_falls_with_the_error_at_the_robot_and_away_from_it():
    truth, robot, rgb = scene()
    smooth = np.exp(0.03 * np.sin(np.arange(W) / 3))[None, None]
    good = anchor_scale(truth, SURE, robot, rgb, camera_rests=True)
    poor = anchor_scale(truth * smooth, SURE, robot, rgb, camera_rests=True)
    assert good.confidence.min() > 240
    assert np.median(poor.confidence) < np.median(good.confidence)
    wall = robot == 0
    near, far = wall & (truth < 1.0), wall & (truth > 1.5)
    assert poor.confidence[near].mean() > poor.confidence[far].mean()
    unsure = anchor_scale(truth, SURE // 2, robot, rgb, camera_rests=True)
    assert unsure.confidence.max() <= 127


@pytest.mark.parametrize("kind", ["scaled", "inverse"])
def test_both_kinds_of_estimates_become_metric(kind):
    truth, robot, rgb = scene()
    values = truth * 2 if kind == "scaled" else 3 / truth + 0.5
    estimate = DepthEstimate(values.astype(np.float32), SURE, kind, Provenance.ESTIMATED)
    still = RobotView(robot.astype(np.float32), np.repeat(np.eye(4)[None], T, 0))
    found = anchor_estimate(estimate, rgb, np.eye(3), still)
    assert found.metric
    assert np.median(np.abs(found.depth - truth) / truth) < 0.01


@given(count=st.integers(1, 300), seed=st.integers(0, 99))
def test_the_usual_colour_is_the_one_that_sorting_finds(count, seed):
    colours = np.random.default_rng(seed).integers(0, 256, (count, 2, 3)).astype(np.uint8)
    assert (_middle(colours) == np.sort(colours, axis=0)[count // 2]).all()


def test_long_clips_and_other_memory_layouts_are_anchored_as_well():
    truth, robot, rgb = scene()
    long = [np.concatenate([part] * 6) for part in (truth, robot, rgb)]  # 36 frames
    sure = np.full(long[0].shape, 255, np.uint8)
    found = anchor_scale(2 * long[0], sure, *long[1:], camera_rests=True)
    assert np.allclose(found.depth, long[0], rtol=0.01)
    as_torch_has_it = np.ascontiguousarray(long[2].transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    again = anchor_scale(2 * long[0], sure, long[1], as_torch_has_it, camera_rests=True)
    assert np.array_equal(again.depth, found.depth)


def test_a_robot_that_is_only_near_in_millimetres_gives_no_depth_but_a_reason():
    truth, robot, rgb = scene()
    close = np.where(robot > 0, 0.02, 0)  # 8 mm off are within a centimetre, and 40 %
    found = anchor_scale(
        np.where(robot > 0, 0.028, truth), SURE, close, rgb, camera_rests=True, told=True
    )
    assert not found.metric
    assert "within a factor of 1.25" in found.reason

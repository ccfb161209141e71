"""Relative depth to metres, judged by scenes whose true depth is known."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from reconstruction.anchor import anchor_depth
from reconstruction.line import fit_line

T, H, W = 9, 96, 128


@dataclass(frozen=True)
class Scene:
    """A slanted floor, an arm that sweeps over it, a ball that rolls; true depth in m."""

    rgb: np.ndarray
    depth: np.ndarray
    robot: np.ndarray

    @property
    def bare(self):
        return self.robot == 0


def scene(frames=T, robot_from=0):
    rows, columns = np.indices((H, W)).astype(float)
    floor = 2.4 - 1.2 * rows / H + 0.2 * np.sin(columns / 20)
    grain = np.random.default_rng(1).integers(60, 200, (H, W, 3), dtype=np.uint8)
    depth, rgb, robot = (np.zeros((frames, H, W, *more)) for more in ((), (3,), ()))
    for t in range(frames):
        arm = np.where(np.abs(columns - 30 - 6 * t - 0.2 * rows) < 14, 0.8 + 0.4 * rows / H, 0)
        arm *= (t >= robot_from) & (rows > 10)
        ball = (rows - 80) ** 2 + (columns - 115 + 5 * t) ** 2 < 36
        depth[t] = np.where(ball, 1.0, floor)
        rgb[t] = np.where(ball[..., None], [250, 20, 20], grain)
        depth[t] = np.where(arm > 0, np.minimum(arm, depth[t]), depth[t])
        rgb[t] = np.where((arm > 0)[..., None], [235, 235, 240], rgb[t])
        robot[t] = arm
    return Scene(rgb.astype(np.uint8), depth, robot)


def relative(depth, kind="inverse", drift=0.0, noise=0.0, seed=0):
    """Up to scale and shift, which drift; smooth relative noise that is new in every frame."""
    rng = np.random.default_rng(seed)
    rough = rng.standard_normal(depth.shape)
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in rough])
    z = depth * np.exp(noise * smooth / smooth.std())
    x = z if kind == "depth" else 1 / z
    scale = 3.7 * (1 + drift * rng.standard_normal(len(x)))[:, None, None]
    shift = 2.0 + 0.5 * drift * rng.standard_normal(len(x))[:, None, None]
    return scale * x + shift


def anchor(made, values, kind="inverse", rests=True):
    return anchor_depth(values, kind, made.robot, made.rgb, camera_rests=rests)


def off(anchored, true, where):
    return (np.abs(anchored.depth - true) / true)[where]


@pytest.mark.parametrize("kind", ["depth", "inverse"])
@pytest.mark.parametrize("rests", [True, False])
def test_unknown_scale_and_shift_that_drift_are_undone(kind, rests):
    made = scene()
    result = anchor(made, relative(made.depth, kind, drift=0.05), kind, rests)
    assert result.metric
    assert off(result, made.depth, np.ones_like(made.bare)).max() < 1e-4
    assert result.held_back.median_m < 1e-4
    assert result.held_back.right > 0.95  # the ball passes before the arm


@pytest.mark.parametrize("kind", ["depth", "inverse"])
def test_scale_and_shift_say_what_was_done(kind):
    made = scene()
    values = relative(made.depth, kind, drift=0.05)
    result = anchor(made, values, kind)
    x = result.scale[:, None, None] * values + result.shift[:, None, None]
    np.testing.assert_allclose(x, made.depth if kind == "depth" else 1 / made.depth, rtol=1e-4)


@settings(max_examples=15)
@given(st.floats(1e-3, 1e3), st.floats(0.0, 1e2), st.sampled_from(["depth", "inverse"]))
def test_the_result_does_not_depend_on_the_scale_and_shift_it_came_in(scale, shift, kind):
    made = scene(frames=4)
    values = relative(made.depth, kind, drift=0.03, noise=0.005)
    one = anchor(made, values, kind)
    other = anchor(made, scale * (values + shift), kind)
    np.testing.assert_allclose(other.depth, one.depth, rtol=2e-3)
    assert np.abs(other.confidence.astype(int) - one.confidence).max() <= 3
    assert other.noise == pytest.approx(one.noise, rel=0.02)


def test_what_hides_a_third_of_the_robot_moves_nothing():
    made = scene()
    hidden = made.depth.copy()
    hidden[:, 20:50] = np.minimum(hidden[:, 20:50], 0.45)
    hider = replace(made, depth=hidden)
    covered = (made.robot > 0) & (hidden < made.robot)
    assert 0.3 < covered.sum() / (made.robot > 0).sum() < 0.45
    result = anchor(hider, relative(hidden, drift=0.04, noise=0.002))
    assert np.median(off(result, hidden, made.bare)) < 0.02
    assert np.median(off(result, hidden, (made.robot > 0) & ~covered)) < 0.005
    assert 0.5 < result.held_back.right < 0.75  # what is hidden is counted as it came out


def test_wrong_outlines_of_the_robot_move_nothing():
    made = scene()
    late = replace(made, robot=np.roll(made.robot, 3, axis=2))
    # The arm is the same 3 pixels aside, but for its slant: no more than its own slope is lost.
    result = anchor(late, relative(made.depth, drift=0.04))
    assert np.median(off(result, made.depth, made.bare)) < 0.01


def test_a_frame_without_robot_is_tied_by_the_background():
    made = scene(robot_from=3)
    assert not made.robot[:3].any()
    result = anchor(made, relative(made.depth, drift=0.08))
    assert off(result, made.depth, np.ones_like(made.bare)).max() < 1e-4
    assert (result.confidence == result.confidence[-1, 0, 0]).any(axis=(1, 2)).all()


def test_before_a_moving_camera_a_frame_without_robot_follows_its_neighbours_and_says_so():
    made = scene(robot_from=2)
    result = anchor(made, relative(made.depth, drift=0.05, seed=3), rests=False)
    assert off(result, made.depth, np.ones_like(made.bare))[2 * H * W :].max() < 1e-4
    np.testing.assert_array_equal(result.scale[:2], result.scale[2])
    assert result.confidence[:2].max() < result.confidence[2:].min()


def test_flicker_of_what_rests_falls_fivefold_and_what_moves_stays_where_it_is():
    made = scene(frames=20)
    values = relative(made.depth, drift=0.04, noise=0.004)
    result = anchor(made, values)
    rests = made.bare & (made.depth != 1.0)
    rests = rests[1:] & rests[:-1]
    line = np.polyfit(values.ravel(), 1 / made.depth.ravel(), 1)
    before = np.abs(np.diff(1 / np.polyval(line, values), axis=0))[rests].mean()
    assert np.abs(np.diff(result.depth, axis=0))[rests].mean() < before / 5
    assert off(result, made.depth, made.bare & (made.depth == 1.0)).mean() < 0.01


def test_the_half_that_judges_takes_no_part_in_the_fit():
    made = scene()
    values = relative(made.depth)
    result = anchor(made, values)
    row, column = np.indices((H, W)) // 16
    judged = ((row + column) % 2 == 1) & (made.robot > 0)
    spoilt = anchor(made, np.where(judged, values * 1.03, values))
    np.testing.assert_array_equal(spoilt.scale, result.scale)
    assert spoilt.held_back.median_m > 100 * result.held_back.median_m
    assert spoilt.held_back.count == result.held_back.count > 1000


def test_held_back_residuals_are_the_true_errors():
    made = scene()
    result = anchor(made, relative(made.depth, noise=0.02))
    robot = off(result, made.depth, made.robot > 0)
    median = np.median(np.abs(result.depth - made.depth)[made.robot > 0])
    assert result.held_back.median_m == pytest.approx(median, rel=0.3)
    assert result.noise == pytest.approx(1.4826 * np.median(robot), rel=0.4)


def test_confidence_falls_away_from_the_robots_depths():
    made = scene()
    result = anchor(made, relative(made.depth, noise=0.02))
    near = result.confidence[made.bare & (np.abs(made.depth - 1.2) < 0.1)].mean()
    far = result.confidence[made.depth > 2.3].mean()
    assert 0 < far < near - 10
    clean = anchor(made, relative(made.depth))
    assert clean.confidence.min() > 250


def test_unknown_stays_unknown():
    made = scene()
    values = relative(made.depth)
    values[:, :5] = 0
    result = anchor(made, values)
    assert not result.depth[:, :5].any()
    assert not result.confidence[:, :5].any()
    assert (result.depth[:, 5:] > 0).all()


def no_robot(made, values):
    return replace(made, robot=np.zeros_like(made.robot)), values


def against(made, values):
    return made, 20 - values


def unrelated(made, values):
    return made, np.random.default_rng(0).uniform(1, 2, values.shape)


def flat(made, values):
    flat = np.where(made.robot > 0, 0.8, 0)
    depth = np.where(made.robot > 0, flat, made.depth)
    return replace(made, robot=flat), relative(depth, noise=0.02)


def unknown(made, values):
    return made, np.zeros_like(values)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (no_robot, "0 robot pixels"),
        (against, "does not rise with the robot's"),
        (unrelated, "held-back|does not rise"),
        (flat, "too much alike|does not rise"),
        (unknown, "unknown everywhere"),
    ],
)
@pytest.mark.parametrize("rests", [True, False])
def test_without_evidence_nothing_is_metric_and_why_is_said(spoil, why, rests):
    made = scene()
    made, values = spoil(made, relative(made.depth))
    result = anchor(made, values, rests=rests)
    assert not result.metric
    assert re.search(why, result.reason), result.reason
    assert not result.depth.any()
    assert not result.confidence.any()


def test_a_line_is_scipys_robust_one_and_holds_with_two_fifths_wrong():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 3, 3000)
    y = 1.7 * x - 0.4 + 0.02 * rng.standard_normal(len(x))
    y[:1200] += rng.uniform(1, 4, 1200)
    line = fit_line(x, y)
    # Cauchy's loss from the true line on: another robust estimator, with its own code.
    judge = least_squares(lambda p: p[0] * x + p[1] - y, [1.7, -0.4], loss="cauchy", f_scale=0.02).x
    assert [line.slope, line.offset] == pytest.approx(judge, abs=0.01)
    assert line.slope == pytest.approx(1.7, abs=0.005)


def test_a_line_needs_two_places():
    assert fit_line(np.ones(50), np.arange(50.0)) is None
    assert fit_line(np.ones(1), np.ones(1)) is None

"""Clips: uniform over the moving part, native order, never padded."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import droid_values, example_bytes, write_droid

from converters import droid
from converters.rlds import decode_record, open_rlds
from pipeline.clip import plan_clip
from schemas.config import ClipConfig
from schemas.reasons import EpisodeError, Reason


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """60 steps; the arm moves in steps 10 to 49 only."""
    values = droid_values(steps=60)
    joints = values["steps/observation/joint_position"]
    joints[:, 0] = np.clip(np.arange(60) - 10, 0, 39) * 0.02
    values["steps/observation/gripper_position"] = np.zeros((60, 1))
    root = tmp_path_factory.mktemp("clip")
    write_droid(root, [])
    dataset = open_rlds(str(root), droid.REQUIRED)
    record = decode_record(example_bytes(values), dataset.features, "train", "f", 0)
    return droid.convert(record, dataset, None)


def test_a_clip_covers_the_moving_part_and_nothing_else(episode):
    clip = plan_clip(episode, ClipConfig())
    assert clip.moving == (10, 49)
    np.testing.assert_array_equal(clip.steps, np.arange(10, 50))
    assert clip.fps == pytest.approx(15)


@given(st.integers(2, 80))
def test_steps_increase_are_even_and_never_repeat(episode, frames):
    clip = plan_clip(episode, ClipConfig(frames=frames))
    assert len(clip.steps) == min(frames, 40)
    assert (clip.steps[0], clip.steps[-1]) == (10, 49)
    gaps = np.diff(clip.steps)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1
    span = episode.time[clip.steps[-1]] - episode.time[clip.steps[0]]
    assert clip.fps == pytest.approx((len(clip.steps) - 1) / span)


def test_an_episode_that_never_moves_is_kept_whole(episode):
    still = replace(episode.robot, joints=np.repeat(episode.robot.joints[:1], 60, 0))
    assert plan_clip(replace(episode, robot=still), ClipConfig()).moving == (0, 59)


def test_a_clip_stays_within_what_the_source_says_is_not_idle(episode):
    kept = replace(episode, keep=((0, 5), (20, 31), (44, 55)))
    assert plan_clip(kept, ClipConfig()).moving == (20, 49)
    assert plan_clip(replace(episode, keep=()), ClipConfig()).moving == (10, 49)


def test_too_short_and_unordered_time_have_their_reasons(episode):
    with pytest.raises(EpisodeError) as caught:
        plan_clip(episode, ClipConfig(min_frames=61))
    assert caught.value.reason == Reason.TOO_SHORT
    time = episode.time.copy()
    time[7] = time[6]
    with pytest.raises(EpisodeError) as caught:
        plan_clip(replace(episode, time=time), ClipConfig())
    assert caught.value.reason == Reason.NON_MONOTONIC_TIME


@pytest.mark.parametrize(("late", "moving"), [(-1.5, (9, 47)), (0, (10, 49)), (2.4, (13, 51))])
def test_late_images_show_the_moving_part_that_much_later(episode, late, moving):
    assert plan_clip(episode, ClipConfig(), late / 15).moving == moving


def test_steps_whose_image_shows_what_the_log_lacks_are_left_out(episode):
    still = replace(
        episode, robot=replace(episode.robot, joints=episode.robot.joints[:1].repeat(60, 0))
    )
    log = still.robot
    still = replace(still, robot=replace(log, gripper=np.linspace(0, 1, 60)))  # moves throughout
    assert plan_clip(still, ClipConfig()).moving == (0, 59)
    assert plan_clip(still, ClipConfig(), 2.5 / 15).moving == (3, 59)
    assert plan_clip(still, ClipConfig(), -2.5 / 15).moving == (0, 56)
    with pytest.raises(EpisodeError) as error:
        plan_clip(still, ClipConfig(), 100.0)
    assert error.value.reason == Reason.TOO_SHORT

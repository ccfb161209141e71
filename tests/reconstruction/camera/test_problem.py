"""Which steps a camera is solved from, and at which size."""

from dataclasses import replace

import numpy as np
import pytest

from reconstruction.camera.evidence import scoring_pairs, solving_pairs
from reconstruction.camera.problem import CameraProblem, diverse_steps
from robots.models import ROBOTS


def problem(steps: int, size: tuple[int, int] = (180, 320)) -> CameraProblem:
    t = np.arange(steps) / 5
    robot = ROBOTS["panda_robotiq"]
    joints = np.asarray(robot.rest) + 0.3 * np.sin(t[:, None] * np.arange(1, 8))
    frames = np.zeros((steps, *size, 3), np.uint8)
    return CameraProblem(robot, lambda s: frames[s], size, joints, np.ones(steps), t)


@pytest.mark.parametrize("steps", [3, 10, 33, 80])
def test_no_step_is_both_solved_from_and_scored_on(steps):
    clip = problem(steps)
    held = set(clip.held_back())
    first = solving_pairs(clip, 32)
    assert not held & ({*first} | {*(first + 1)})
    assert not held & {*diverse_steps(clip, clip.solving(), 24)}
    scored = scoring_pairs(clip, 8)
    assert all(t in held or t + 1 in held for t in scored)
    assert held | set(clip.solving()) == set(range(steps))


@pytest.mark.parametrize(
    ("size", "working"), [((64, 64), 320), ((180, 320), 320), ((720, 1280), 320)]
)
def test_every_image_is_solved_at_about_one_width(size, working):
    clip = problem(4, size)
    assert clip.working_size[1] == working
    assert clip.frames(np.array([0, 2])).shape == (2, *clip.working_size, 3)


def test_states_between_steps_are_smooth_and_held_at_the_ends():
    clip = problem(10)
    joints, fingers = clip.states_at(np.array([-1.0, 99.0]))
    np.testing.assert_allclose(joints, clip.joints[[0, -1]])
    assert fingers.shape == (2,)
    steps, halfway = clip.states_at(clip.time)[0], clip.states_at(clip.time[:-1] + 0.1)[0]
    np.testing.assert_allclose(steps, clip.joints, atol=1e-9)
    low, high = np.sort([clip.joints[:-1], clip.joints[1:]], axis=0)
    assert ((halfway >= low - 1e-9) & (halfway <= high + 1e-9)).all()


def test_states_between_steps_follow_a_motion_that_is_logged_slowly():
    time = np.arange(12) / 3  # RT-1's steps
    clip = replace(problem(12), joints=np.column_stack([np.sin(2 * time)] * 7), time=time)
    between = time[1:-2] + 0.5 / 3
    true = np.sin(2 * between)[:, None]
    off = np.sqrt(((clip.states_at(between)[0] - true) ** 2).mean())
    straight = (clip.joints[1:-2] + clip.joints[2:-1]) / 2 - true
    assert off < 0.8 * np.sqrt((straight**2).mean())

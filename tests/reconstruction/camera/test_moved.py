"""Cameras that are moved on the way, judged by pictures warped by known homographies, and films."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._moved_film import film_moved
from reconstruction.camera.moved import MOVED, background_shift, group_clips, still_sections
from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.sections import solve_sections
from robo4d.geometry import rotation_angle
from robots.models import get_robot

HEIGHT, WIDTH, STEPS = 180, 320, 60
ROBOT = get_robot("panda_robotiq")


def room(seed: int = 0) -> np.ndarray:
    """(240, 380, 3) a picture with texture, larger than a view of it."""
    rng = np.random.default_rng(seed)
    picture = np.full((240, 380, 3), 120, np.uint8)
    for _ in range(90):
        at, size = rng.integers(0, [380, 240]), rng.integers(8, 40, 2)
        colour = rng.integers(0, 256, 3).tolist()
        cv2.rectangle(picture, at.tolist(), (at + size).tolist(), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def views(shifts: np.ndarray, seed: int = 0, hand: bool = True) -> np.ndarray:
    """(T, H, W, 3) of the room, shifted by (T, 2) pixels, with noise and a textured thing in front
    that crosses the picture.
    """
    rng = np.random.default_rng(seed)
    whole, thing = room(seed), rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    thing = cv2.resize(thing, (70, 90), interpolation=cv2.INTER_CUBIC)
    out = []
    for t, (x, y) in enumerate(shifts):
        move = np.array([[1, 0, x - 30], [0, 1, y - 30]], float)
        view = cv2.warpAffine(whole, move, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        if hand:
            left = int(20 + 200 * t / len(shifts))
            view[60:150, left : left + 70] = thing
        noise = rng.normal(0, 3, view.shape)
        out.append(np.clip(view + noise, 0, 255).astype(np.uint8))
    return np.stack(out)


def problem(frames: np.ndarray) -> CameraProblem:
    count = len(frames)
    joints = np.zeros((count, 7))
    size = frames.shape[1], frames.shape[2]
    return CameraProblem(
        ROBOT, lambda steps: frames[steps], size, joints, np.zeros(count), np.arange(count) / 15
    )


def shifted(*parts: tuple[int, float], steps: int = STEPS) -> np.ndarray:
    """(T, 2): from each step on, that many pixels to the right of where the camera began."""
    out = np.zeros((steps, 2))
    for first, pixels in parts:
        out[first:, 0] = pixels
    return out


def test_a_camera_that_stands_still_has_one_section_whatever_moves_before_it():
    found = still_sections(problem(views(shifted())))
    assert (found.sections, found.jumps) == (((0, STEPS),), ())


@settings(max_examples=8, deadline=None)
@given(at=st.integers(8, 52), pixels=st.floats(1.6, 25), seed=st.integers(0, 5))
def test_a_jump_is_found_at_its_step_and_measured(at, pixels, seed):
    found = still_sections(problem(views(shifted((at, pixels)), seed)))
    assert found.sections == ((0, at), (at, STEPS))
    assert found.jumps[0] == pytest.approx(pixels, abs=0.25)


def test_a_jump_too_far_to_follow_is_recognised_and_one_to_another_place_is_without_measure():
    far = still_sections(problem(views(shifted((25, 60.0)))))
    assert far.sections == ((0, 25), (25, STEPS))
    assert far.jumps[0] == pytest.approx(60, abs=1)
    frames = views(shifted())
    frames[25:] = views(shifted(), seed=1)[25:]
    away = still_sections(problem(frames))
    assert away.sections == ((0, 25), (25, STEPS))
    assert away.jumps == (np.inf,)


def test_a_shake_that_returns_is_no_move():
    assert still_sections(problem(views(shifted((30, 6), (34, 0))))).sections == ((0, STEPS),)


def test_steps_on_the_way_are_of_no_section():
    shifts = shifted((40, 12.0))
    shifts[20:40, 0] = np.linspace(0, 12, 20)
    (first, past), (second, end) = still_sections(problem(views(shifts))).sections
    assert (first, end) == (0, STEPS)
    # Within a pixel of where it was, and of where it comes to rest.
    assert 20 <= past <= 22
    assert 38 <= second <= 40


def test_a_slow_drift_is_parted_where_it_has_gone_a_pixel():
    shifts = np.stack([np.linspace(0, 3.5, STEPS), np.zeros(STEPS)], 1)
    found = still_sections(problem(views(shifts)))
    assert len(found.sections) > 1
    for first, past in found.sections:
        assert np.ptp(shifts[first:past, 0]) < 2.3 * MOVED


def test_light_that_is_switched_is_no_move():
    frames = views(shifted())
    frames[30:] = (0.6 * frames[30:]).astype(np.uint8)
    assert still_sections(problem(frames)).sections == ((0, STEPS),)


def test_pictures_that_show_nothing_cannot_tell():
    grey = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert np.isnan(background_shift(grey, grey))
    assert still_sections(problem(np.repeat(grey[None, ..., None], 3, 3)[[0] * 20])).jumps == ()


@pytest.mark.parametrize("dark", [[0], [STEPS - 1], range(25, 40), [0, 1, STEPS - 1]])
def test_black_pictures_are_passed_over(dark):
    frames = views(shifted())
    frames[list(dark)] = 0
    assert still_sections(problem(frames)).jumps == ()
    frames = views(shifted((45, 10)))
    frames[list(dark)] = 0
    (first, past), (second, end) = still_sections(problem(frames)).sections
    assert (first, past, second, end) == (0, 45, 45, STEPS)


def test_a_clip_that_begins_in_the_dark_is_no_place_for_all_others():
    black = np.zeros((STEPS, HEIGHT, WIDTH, 3), np.uint8)
    clips = [problem(f) for f in (black, views(shifted()), views(shifted(), 1), views(shifted()))]
    assert [sorted(place) for place in group_clips(clips)] == [[0, 1, 3], [2]]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_clips_of_few_steps_are_looked_at_whole(steps):
    assert still_sections(problem(views(shifted(steps=steps)))).sections == ((0, steps),)


def test_a_long_clip_costs_no_more_pictures_than_a_short_one():
    frames = views(shifted((30, 5)))
    asked = []

    def decode(steps):
        asked.extend(steps)
        return frames[steps * STEPS // 6000]

    long = CameraProblem(
        ROBOT, decode, (HEIGHT, WIDTH), np.zeros((6000, 7)), np.zeros(6000), np.arange(6000) / 15
    )
    assert still_sections(long).sections == ((0, 3000), (3000, 6000))
    assert len(asked) == len(set(asked)) < 40


@pytest.mark.slow
def test_films_of_a_camera_that_is_shifted_and_turned_are_parted_and_others_are_not():
    film = film_moved("rt1", 1005, [(0, 0.05), (3, 0.0)], past=30)
    for view in (0, 1, 2):
        found = still_sections(film.problem(film.spliced((0, 0), (view, 13))))
        assert found.sections == (((0, 13), (13, 30)) if view else ((0, 30),))


@pytest.mark.slow
def test_each_place_of_a_film_is_solved_to_its_own_true_pose():
    film = film_moved("droid", 1001, [(0, 0.05)])
    clip = film.problem(film.spliced((0, 0), (1, 34)))
    found = solve_sections(clip, still_sections(clip), film.K)
    assert found.verdict in ("good", "usable")
    assert found.known.all()
    for span, true in ((slice(0, 34), film.poses[0]), (slice(34, None), film.poses[1])):
        for pose in found.poses[span]:
            assert np.degrees(rotation_angle(pose[:3, :3], true[:3, :3])) < 0.6
            assert np.linalg.norm(pose[:3, 3] - true[:3, 3]) < 0.012

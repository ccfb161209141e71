"""What a mask backend is asked, and what of its answer is taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconstruction.camera.learned_masks import (
    ELSEWHERE,
    ROBOT,
    UNUSED,
    ask_masks,
    mask_iou,
    prompts_of,
)
from robo4d import ShapeError

SIZE = (90, 120)


def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1).astype(np.uint8)


@given(st.floats(10, 110), st.floats(10, 80), st.floats(7, 50), st.floats(7, 40), st.integers(1, 9))
def test_prompts_lie_on_the_robot_and_off_it_as_they_say(cx, cy, rx, ry, link):
    part = ellipse(cx, cy, rx, ry) * np.uint8(link)
    prompts = prompts_of(part[None])
    left, top, right, bottom = prompts.boxes[0]
    y, x = np.nonzero(part)
    assert left <= x.min() < x.max() < right <= SIZE[1]
    assert top <= y.min() < y.max() < bottom <= SIZE[0]
    used = prompts.labels[0] != UNUSED
    column, row = prompts.points[0][used].astype(int).T
    assert ((column >= left) & (column < right) & (row >= top) & (row < bottom)).all()
    assert np.array_equal(part[row, column] > 0, prompts.labels[0][used] == ROBOT)
    # Off by the pixels that a pose may be off, a point inside is inside still.
    assert (prompts.labels[0] == ROBOT).any()


def test_points_spread_over_a_long_arm():
    prompts = prompts_of(ellipse(60, 45, 50, 6)[None])
    on = prompts.points[0][prompts.labels[0] == ROBOT]
    assert np.ptp(on[:, 0]) > 40
    off = prompts.points[0][prompts.labels[0] == ELSEWHERE]
    assert len(off) == 0 or (ellipse(60, 45, 50, 6)[tuple(off.astype(int).T[::-1])] == 0).all()


class Told:
    """A backend that gives what it is told to, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer, self.frames = answer, None

    def __call__(self, frames, prompts):
        self.frames = frames
        return self.answer(frames)


def test_frames_without_a_robot_are_not_asked_about():
    part = np.stack([ellipse(60, 45, 20, 20), ellipse(5, 5, 3, 3), np.zeros(SIZE, np.uint8)])
    backend = Told(lambda frames: np.full(frames.shape[:3], 0.25, np.float32))
    images = np.arange(3)[:, None, None, None] * np.ones((*SIZE, 3)) + 0.4
    shares = ask_masks(backend, images, part)
    assert backend.frames.shape == (1, *SIZE, 3)
    assert backend.frames.dtype == np.uint8
    assert np.isnan(shares[1:]).all()
    assert (shares[0] == 0.25).all()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda f: np.zeros(f.shape[:2]), ShapeError),
        (lambda f: np.full(f.shape[:3], np.nan), ShapeError),
        (lambda f: np.full(f.shape[:3], -3.0), ValueError),
    ],
)
def test_what_is_no_share_is_refused(answer, error):
    part = ellipse(60, 45, 20, 20)[None]
    with pytest.raises(error, match="mask backend"):
        ask_masks(Told(answer), np.zeros((1, *SIZE, 3)), part)


def test_iou_is_that_of_discs_and_outlives_a_wrong_frame():
    drawn = np.stack([ellipse(60, 45, 30, 30)] * 5)
    seen = drawn.astype(np.float32)
    assert mask_iou(seen, drawn) == 1
    smaller = np.stack([ellipse(60, 45, 30 * np.sqrt(0.8), 30 * np.sqrt(0.8))] * 5)
    seen = smaller.astype(np.float32)
    seen[0] = 1  # all of the picture
    seen[1] = np.nan  # not asked
    assert mask_iou(seen, drawn) == pytest.approx(0.8, abs=0.01)
    assert mask_iou(np.full_like(seen, np.nan), drawn) is None

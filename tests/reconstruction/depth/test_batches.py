"""Batches over time, judged by one run over all frames."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconstruction.depth.batches import in_batches
from robo4d import ShapeError
from schemas.reasons import UsageError

torch = pytest.importorskip("torch")


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 6, 3), np.uint8)


def brightness(part: np.ndarray) -> tuple[np.ndarray, ...]:
    return part.mean(-1), part.reshape(len(part), -1).max(1)


class Memory:
    """Holds so many frames, no more."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, []

    def __call__(self, part: np.ndarray) -> tuple[np.ndarray, ...]:
        self.sizes.append(len(part))
        if len(part) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return brightness(part)


@given(count=st.integers(1, 40), size=st.integers(1, 50), room=st.integers(1, 50))
def test_any_batch_and_any_memory_give_what_all_frames_at_once_give(count, size, room):
    memory = Memory(room)
    for got, wanted in zip(
        in_batches(frames(count), memory, size), brightness(frames(count)), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    assert max(memory.sizes) <= min(size, count)
    # Halves from what was tried: no size is tried in vain twice.
    failed = [n for n in memory.sizes if n > room]
    assert failed == sorted(set(failed), reverse=True)


def test_too_large_a_batch_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING, "robo4d"):
        in_batches(frames(32), Memory(3), 32)
    assert [record.getMessage() for record in caplog.records] == [
        "out of GPU memory for 32 frames at once: batches are halved"
    ]


def test_one_frame_that_does_not_fit_is_an_error_that_says_so():
    with pytest.raises(UsageError, match="out of GPU memory for one frame of 4x6"):
        in_batches(frames(5), Memory(0), 4)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(part):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        in_batches(frames(4), broken, 2)


def test_what_is_no_clip_is_refused():
    with pytest.raises(ShapeError):
        in_batches(np.zeros((2, 4, 6), np.uint8), brightness, 2)
    with pytest.raises(ValueError, match="got 0 frames"):
        in_batches(np.zeros((0, 4, 6, 3), np.uint8), brightness, 2)

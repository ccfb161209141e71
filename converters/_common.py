"""What the RLDS converters share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.rlds import Record
from schemas.reasons import EpisodeError, Reason


def finite(record: Record, path: str, width: int | None = None) -> NDArray[np.float64]:
    """A numeric feature as float64; with ``width``, (T, width).

    Raises:
        EpisodeError: `WRONG_DTYPE`, `WRONG_SHAPE`, or `NON_FINITE` naming the first bad step.
    """
    values = record[path]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise EpisodeError(Reason.WRONG_DTYPE, f"{path} holds no numbers")
    values = values.astype(np.float64)
    if width is not None and (values.ndim != 2 or values.shape[1] != width):
        raise EpisodeError(
            Reason.WRONG_SHAPE, f"{path} has shape {values.shape}; expected (T, {width})"
        )
    if not np.isfinite(values).all():
        step = int(np.argwhere(~np.isfinite(values))[0][0])
        raise EpisodeError(Reason.NON_FINITE, f"{path} has {values[step]} at step {step}")
    return values


def encoded_images(record: Record, path: str) -> list[bytes]:
    """An image feature's encoded frames, one a step.

    Raises:
        EpisodeError: `WRONG_DTYPE` if the feature is no sequence of encoded images.
    """
    frames = record[path]
    if not isinstance(frames, list):
        raise EpisodeError(Reason.WRONG_DTYPE, f"{path} holds no encoded images")
    return frames


def require_steps(record: Record) -> None:
    """Raises `EMPTY_EPISODE` for a record without steps."""
    if record.steps == 0:
        raise EpisodeError(Reason.EMPTY_EPISODE, "the episode has no step")


def unique_texts(record: Record, *paths: str) -> tuple[str, ...]:
    """Non-empty texts of the first step, in order, without repeats."""
    texts = [record.text(path) for path in paths if path in record.values]
    return tuple(dict.fromkeys(text for text in texts if text))

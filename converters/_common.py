"""What the RLDS converters share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.rlds import Record
from schemas.reasons import EpisodeError, Reason


def finite(record: Record, path: str) -> NDArray[np.float64]:
    """A float feature as float64.

    Raises:
        EpisodeError: `NON_FINITE`, naming the first bad step.
    """
    values = np.asarray(record[path], np.float64)
    if not np.isfinite(values).all():
        step = int(np.argwhere(~np.isfinite(values))[0][0])
        raise EpisodeError(Reason.NON_FINITE, f"{path} has {values[step]} at step {step}")
    return values


def require_steps(record: Record) -> None:
    """Raises `EMPTY_EPISODE` for a record without steps."""
    if record.steps == 0:
        raise EpisodeError(Reason.EMPTY_EPISODE, "the episode has no step")


def unique_texts(record: Record, *paths: str) -> tuple[str, ...]:
    """Non-empty texts of the first step, in order, without repeats."""
    texts = [record.text(path) for path in paths if path in record.values]
    return tuple(dict.fromkeys(text for text in texts if text))

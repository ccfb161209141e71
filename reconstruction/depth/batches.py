"""Frames through a network a batch at once, in smaller batches where memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import check_array
from schemas.reasons import UsageError

_log = logging.getLogger("robo4d.depth")

Run = Callable[..., tuple[NDArray, ...]]


def in_batches(
    frames: NDArray[np.uint8], run: Run, size: int, *beside: NDArray
) -> tuple[NDArray, ...]:
    """What ``run`` returns for all frames, of at most ``size`` at once, joined over time.

    Where a GPU's memory does not suffice, the batch is halved for the rest of the clip.

    Args:
        frames: (T, H, W, 3) uint8, T at least 1.
        run: n frames, and as many of each array beside, to arrays whose first axis is n; a frame's
            result must not depend on the others in its batch.
        beside: (T, ...) each, of the same frames.

    Raises:
        UsageError: not even one frame fits.
    """
    check_array("frames", frames, ["T", "H", "W", 3], "u")
    if len(frames) == 0 or size < 1:
        raise ValueError(f"in_batches got {len(frames)} frames, {size} at once; expected 1 or more")
    parts: list[tuple[NDArray, ...]] = []
    first = 0
    warned = False
    while first < len(frames):
        part = _fitting(run, *(array[first : first + size] for array in (frames, *beside)))
        if part is not None:
            parts.append(part)
            first += size
            continue
        tried = min(size, len(frames) - first)
        if tried == 1:
            height, width = frames.shape[1:3]
            raise UsageError(
                f"out of GPU memory for one frame of {height}x{width}: take a smaller network, "
                "or a GPU that nobody else uses"
            )
        size = tried // 2
        if not warned:
            _log.warning("out of GPU memory for %d frames at once: batches are halved", tried)
            warned = True
    if len(parts) == 1:
        return parts[0]  # nothing to join: a copy of a clip takes longer than it came from a GPU
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _fitting(run: Run, *arrays: NDArray) -> tuple[NDArray, ...] | None:
    """What ``run`` returns; None where memory does not suffice."""
    # Imported here: who runs networks has torch, and this module's readers need not.
    import torch

    try:
        return run(*arrays)
    except torch.OutOfMemoryError:
        pass
    # Only here, past the handler, does nothing hold the failed batch's tensors any more.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None

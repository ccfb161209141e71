"""Memory that two processes share: an anonymous file whose size is sealed, and arrays in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layout = Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]
# Bytes; 49 frames of 720x1280 are 0.6e9.
MOST = 1 << 32
_ALIGNED = 64
# Else a peer that cuts it short would end this process (SIGBUS).
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_MOST_ARRAYS, _MOST_AXES = 8, 4


class SharedArrays:
    """Arrays one after another from the start, each at a multiple of 64 bytes.

    Args:
        file: descriptor; the caller's, who may close it: memory lives as long as this, or views.

    Attributes:
        size: bytes.

    Raises:
        ValueError: the file is no sealed one of at most `MOST` bytes.
    """

    def __init__(self, file: int) -> None:
        self.size = os.fstat(file).st_size
        _refuse_unsealed(file, self.size)
        self._memory = mmap(file, self.size)

    def views(self, layout: Layout) -> dict[str, NDArray]:
        """The arrays of a layout, by name; what is written to them the peer sees.

        Raises:
            ValueError: they do not fit.
        """
        if (needed := size_of(layout)) > self.size:
            raise ValueError(f"arrays of {needed} bytes in shared memory of {self.size}")
        out: dict[str, NDArray] = {}
        start = 0
        for name, dtype, shape in layout:
            out[name] = np.frombuffer(self._memory, dtype, prod(shape), start).reshape(shape)
            start += _padded(dtype, shape)
        return out


@contextmanager
def sealed_file(size: int) -> Iterator[int]:
    """Descriptor of new memory while the context lasts; pages cost nothing until written."""
    file = os.memfd_create("robo4d-depth", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(file, size)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        yield file
    finally:
        os.close(file)


def _refuse_unsealed(file: int, size: int) -> None:
    try:
        seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0  # no anonymous file at all
    if seals & _SEALS != _SEALS or not 0 < size <= MOST:
        raise ValueError(
            f"shared memory of {size} bytes, seals {seals}; expected 1 to {MOST} bytes "
            f"and seals {_SEALS}"
        )


def size_of(layout: Layout) -> int:
    """Bytes that arrays need."""
    return sum(_padded(dtype, shape) for _, dtype, shape in layout)


def _padded(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return -(-prod(shape) * dtype.itemsize // _ALIGNED) * _ALIGNED


def layout_of(arrays: dict[str, NDArray]) -> Layout:
    """That of arrays as they are."""
    return [(name, array.dtype, array.shape) for name, array in arrays.items()]


def told_layout(layout: Layout) -> list[list[Any]]:
    """Plain values."""
    return [[name, dtype.str, list(shape)] for name, dtype, shape in layout]


def read_layout(told: Any, names: Iterable[str]) -> Layout:
    """A layout from a peer's plain values.

    Args:
        names: that are expected at most.

    Raises:
        ValueError: it is none of plain numbers by these names.
    """
    known, layout = set(names), []
    if not isinstance(told, list) or len(told) > _MOST_ARRAYS:
        raise ValueError(f"a layout of {told!r:.80}, expected at most {_MOST_ARRAYS} arrays")
    for entry in told:
        match entry:
            case [str(name), str(kind), list(shape)] if (
                name in known
                and len(shape) <= _MOST_AXES
                and all(type(side) is int and 0 <= side <= MOST for side in shape)
            ):
                known.remove(name)
                layout.append((name, _plain(kind), tuple(shape)))
            case _:
                raise ValueError(f"an array of {entry!r:.80}, expected [name, dtype, shape]")
    return layout


def _plain(kind: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(kind)
    except (TypeError, ValueError) as error:
        raise ValueError(f"an array of dtype {kind!r:.40}") from error
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of dtype {kind!r:.40}, expected plain numbers")
    return dtype

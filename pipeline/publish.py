"""Files appear under their final name whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SCRATCH = ".tmp"


class OutputError(Exception):
    """The output cannot be written (full, read-only, in use); the message says what to do."""


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Turn the operating system's errors about ``out`` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write under {out}: {error.strerror or error}; free space or choose another "
            "--out, and run the same command again: finished shards are kept"
        ) from error


def prepare(out: Path) -> None:
    """Make the output folder and clear what an interrupted build left in its scratch folder.

    Raises:
        OutputError: it cannot be made or written.
    """
    with explained(out):
        scratch = out / SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        for left in scratch.iterdir():
            left.unlink()


def publish(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file in the scratch folder, flush it to disk, and rename it to ``path``."""
    scratch = path.parent / SCRATCH
    scratch.mkdir(exist_ok=True)
    partial = scratch / f"{path.name}.{os.getpid()}"
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def publish_bytes(path: Path, data: bytes) -> None:
    """`publish` for bytes at hand."""
    publish(path, lambda file: file.write(data))

"""Global heaps of an HDF5 file, checked before the library reads them.

Texts of variable length lie there. The library (1.14 and 2.0) walks a heap's objects by their own
sizes, and never ends where one says 0: a damaged file would hang a build, with no way out, since
the walk is in C and holds Python's lock. Layout: HDF5 File Format Specification, III.E.
"""

from __future__ import annotations

import mmap
import struct
from functools import lru_cache
from pathlib import Path

from schemas.reasons import EpisodeError, Reason

_SIGNATURE, _SUPERBLOCK = b"GCOL", b"\x89HDF\r\n\x1a\n"
_HEAP = struct.Struct("<4sB3xQ")  # signature, version, size with this header
_OBJECT = struct.Struct("<HH4xQ")  # index, references, size without this header


def check_heaps(path: Path) -> None:
    """Every global heap's objects lie one behind the other within it. A file is looked at once.

    Raises:
        EpisodeError: `UNDECODABLE_RECORD`, they do not; or the file is written with lengths of
            another size than 8 bytes, which no known writer does.
    """
    about = path.stat()
    problem = _problem(str(path), about.st_size, about.st_mtime_ns)
    if problem:
        raise EpisodeError(Reason.UNDECODABLE_RECORD, f"{path.name} is damaged: {problem}")


@lru_cache(maxsize=64)
def _problem(path: str, size: int, stamp: int) -> str:
    del stamp  # part of the key
    if size == 0:  # nothing to map
        return "the file is empty"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return heap_problem(data)


def heap_problem(data: mmap.mmap | bytes) -> str:
    """What is wrong with the global heaps of a whole file; empty for nothing."""
    if len(data) < 16 or data[:8] != _SUPERBLOCK:
        return "the superblock is not at its beginning"
    # Sizes of offsets and lengths, in versions 0 and 1, and in 2 and 3.
    sizes = data[13:15] if data[8] < 2 else data[9:11]
    if sizes != b"\x08\x08":
        return f"offsets and lengths of {tuple(sizes)} bytes; expected 8"
    at = data.find(_SIGNATURE)
    while at >= 0:
        if not _whole(data, at):
            return f"the global heap at byte {at} has objects that do not fit into it"
        at = data.find(_SIGNATURE, at + 1)
    return ""


def _whole(data: mmap.mmap | bytes, start: int) -> bool:
    if start + _HEAP.size > len(data):
        return True  # the four letters by chance, or cut off: the library says so
    _, version, size = _HEAP.unpack_from(data, start)
    if version != 1:
        return True  # by chance: the library reads version 1 alone
    end, at = start + size, start + _HEAP.size
    if end > len(data):
        return True  # likewise
    while at + _OBJECT.size <= end:
        index, _, length = _OBJECT.unpack_from(data, at)
        # The free space, object 0, counts its own header; others are padded to 8 bytes.
        step = length if index == 0 else _OBJECT.size + (length + 7) // 8 * 8
        if step <= 0 or at + step > end:
            return False
        at += step
    return True

"""HDF5 files from strangers: numbers and texts, out of this file only, bounded in size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from converters._hdf5_heaps import check_heaps
from schemas.reasons import EpisodeError, Reason

# The longest logs have a few thousand steps of a few dozen values. A header that claims more than
# these is a mistake or an attack, and is refused before memory is set aside.
MAX_VALUES = 1 << 24
_MAX_CHUNK_BYTES = 1 << 26
_MAX_CHUNKS = 1 << 12  # HDF5 keeps some hundred bytes for each, whether it is in the file or not
_MAX_MEMBERS = 4096
# deflate, shuffle, fletcher32: what h5py writes. Others may load plug-ins from the machine.
_FILTERS = (1, 2, 3)
# A text's length stands in the file's own heap, unseen until it is read: the file bounds it.
_MAX_TEXT_FILE = 1 << 34
# What h5py raises for a file whose bytes are wrong.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)

T = TypeVar("T")


class NumberFile:
    """A file opened read-only, of which only numeric data sets and plain attributes can be had.

    Raises:
        EpisodeError: `UNDECODABLE_RECORD`, it is no HDF5 file or a damaged one.
        OSError: it is not there or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        path.open("rb").close()  # what the system refuses is not the file's fault
        self._path = path
        self._file = self._try("/", lambda: h5py.File(path, "r", locking=False))

    def __enter__(self) -> NumberFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()

    def names(self, group: str) -> list[str]:
        """Names in a group, sorted; none if it is not there."""
        found = self._find(group)
        if not isinstance(found, h5py.Group):
            return []
        count = self._try(group, found.id.get_num_objs)
        if count > _MAX_MEMBERS:
            raise EpisodeError(
                Reason.TOO_LARGE, f"{group!r} holds {count} names; at most {_MAX_MEMBERS}"
            )
        names = self._try(group, lambda: list(found.keys()))
        odd = next((name for name in names if not isinstance(name, str)), None)
        if odd is not None:  # h5py gives bytes for what is no UTF-8
            raise EpisodeError(Reason.UNDECODABLE_RECORD, f"{group!r} holds the name {odd!r:.99}")
        return sorted(names)

    def numbers(
        self, name: str, tail: tuple[int, ...] | None = (), rows: int | None = None
    ) -> NDArray | None:
        """A numeric data set of shape (T, *tail); None if it is not there.

        Args:
            tail: None is one axis of any length.
            rows: T, where it is known; checked before anything is read.

        Raises:
            EpisodeError: a link, virtual or external storage or a foreign filter
                (`UNDECODABLE_RECORD`), no numbers (`WRONG_DTYPE`), another shape (`WRONG_SHAPE`),
                or more than the bounds (`TOO_LARGE`).
        """
        found = self._find(name)
        if found is None:
            return None
        if not isinstance(found, h5py.Dataset):
            raise EpisodeError(Reason.WRONG_DTYPE, f"{name!r} is a group; expected a data set")
        return self._try(name, lambda: self._read(name, found, tail, rows))

    def text(self, group: str, attribute: str, limit: int) -> str | None:
        """A text attribute of a group, ``/`` for the file's own; None if it is not there.

        Raises:
            EpisodeError: it is no single text in UTF-8 (`WRONG_DTYPE`), or longer than ``limit``
                characters (`TOO_LARGE`).
        """
        value = self._attribute(group, attribute, (h5py.h5t.STRING,))
        if value is None:
            return None
        if isinstance(value, bytes):  # of fixed length
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise EpisodeError(
                    Reason.WRONG_DTYPE, f"{attribute!r} of {group!r} is no UTF-8"
                ) from error
        if len(value) > limit:
            raise EpisodeError(
                Reason.TOO_LARGE,
                f"{attribute!r} of {group!r} has {len(value)} characters; at most {limit}",
            )
        return str(value)

    def count(self, group: str, attribute: str) -> int | None:
        """An integer attribute of a group; None if it is not there.

        Raises:
            EpisodeError: `WRONG_DTYPE`, it is no single integer.
        """
        value = self._attribute(group, attribute, (h5py.h5t.INTEGER,))
        return None if value is None else int(value)

    def _attribute(self, group: str, attribute: str, kinds: tuple[int, ...]) -> Any:
        found = self._find(group)
        if found is None or not self._try(group, lambda: attribute in found.attrs):
            return None
        kept = self._try(group, lambda: found.attrs.get_id(attribute))
        kind, size = kept.get_type(), kept.get_storage_size()
        if kind.get_class() not in kinds or kept.shape != ():
            raise EpisodeError(
                Reason.WRONG_DTYPE,
                f"{attribute!r} of {group!r} holds {kept.dtype} {kept.shape}; not one plain value",
            )
        if max(size, self._path.stat().st_size) > _MAX_TEXT_FILE:
            raise EpisodeError(
                Reason.TOO_LARGE, f"{self._path.name} has over {_MAX_TEXT_FILE} bytes"
            )
        check_heaps(self._path)
        return self._try(group, lambda: found.attrs[attribute])

    def _read(
        self, name: str, found: h5py.Dataset, tail: tuple[int, ...] | None, rows: int | None
    ) -> NDArray:
        stored = found.id.get_create_plist()
        if stored.get_layout() == h5py.h5d.VIRTUAL or stored.get_external_count():
            raise EpisodeError(
                Reason.UNDECODABLE_RECORD, f"{name!r} keeps its values in other files; refused"
            )
        filters = [stored.get_filter(i)[0] for i in range(stored.get_nfilters())]
        if any(number not in _FILTERS for number in filters):
            raise EpisodeError(
                Reason.UNDECODABLE_RECORD, f"{name!r} has filters {filters}; only {_FILTERS}"
            )
        if found.dtype.kind not in "fiub":
            raise EpisodeError(Reason.WRONG_DTYPE, f"{name!r} holds {found.dtype}; not numbers")
        shape: tuple[int, ...] = found.shape or ()
        chunks = found.chunks or shape
        chunk = np.prod(chunks, dtype=float) * found.dtype.itemsize if found.chunks else 0
        count = np.prod(
            [-(-n // max(c, 1)) for n, c in zip(shape, chunks, strict=True)], dtype=float
        )
        size = np.prod(shape, dtype=float)
        if size > MAX_VALUES or chunk > _MAX_CHUNK_BYTES or count > _MAX_CHUNKS:
            raise EpisodeError(
                Reason.TOO_LARGE,
                f"{name!r} claims shape {shape} in chunks of {found.chunks}; at most {MAX_VALUES} "
                f"values in {_MAX_CHUNKS} chunks of {_MAX_CHUNK_BYTES} bytes",
            )
        fits = len(shape) == 2 if tail is None else shape and shape[1:] == tail
        if not fits:
            wanted = ", ".join(["T", "*"] if tail is None else ["T", *map(str, tail)])
            raise EpisodeError(
                Reason.WRONG_SHAPE, f"{name!r} has shape {shape}; expected ({wanted})"
            )
        if rows is not None and shape[0] != rows:
            raise EpisodeError(
                Reason.WRONG_SHAPE, f"{name!r} has {shape[0]} rows; the log has {rows}"
            )
        return np.asarray(found[()])

    def _find(self, name: str) -> h5py.Group | h5py.Dataset | None:
        """Follow hard links alone: soft and external ones may lead out of the file."""
        here: h5py.Group | h5py.Dataset = self._file
        for part in filter(None, name.split("/")):
            if not isinstance(here, h5py.Group):
                return None
            there = self._try(name, partial(self._step, here, name, part))
            if there is None:
                return None
            here = there
        return here

    def _step(self, group: h5py.Group, name: str, part: str) -> h5py.Group | h5py.Dataset | None:
        links, key = group.id.links, part.encode()
        if not links.exists(key):
            return None
        if links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise EpisodeError(
                Reason.UNDECODABLE_RECORD, f"{name!r} is reached by a link; refused, copy the data"
            )
        return group[part]

    def _try(self, name: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except _DAMAGE as error:
            raise EpisodeError(
                Reason.UNDECODABLE_RECORD, f"{self._path.name} is damaged at {name!r}: {error}"
            ) from error

"""A few texts of a record without the record: seeks from value to value of a tf.train.Example.

On the wire (tensorflow/core/example/example.proto, protobuf's encoding guide) an Example is
``features`` (1), which repeats ``feature`` (1): map entries of ``key`` (1) and ``value`` (2). A
value holds a ``bytes_list`` (1), whose ``value`` (1) repeats. All of these are preceded by their
length, so whatever is not asked for is stepped over.

A peek decides nothing: it chooses where a record goes, not whether it is good. What it cannot make
sense of gives empty texts, and the record shows its reason when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fsspec

from converters._cache import entry_path, read_entry, write_entry
from converters.tfrecord import RecordSpan

# Steps over small values without asking the file again: most numeric features are shorter.
_WINDOW = 1024
# Paths and names in published data stay under 300 bytes; features of a record under 60.
_MAX_TEXT = 4096
_MAX_FIELDS = 4096
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Malformed(Exception):
    """The bytes are no Example, or larger than any published one."""


@dataclass
class _Window:
    """One record seen through a small buffer; positions are the file's own."""

    file: IO[bytes]
    end: int
    fields: int = 0
    _start: int = 0
    _data: bytes = b""

    def read(self, at: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``at``, fewer only at the record's end."""
        length = min(length, self.end - at)
        if at < self._start or at + length > self._start + len(self._data):
            self.file.seek(at)
            self._data = self.file.read(min(max(length, _WINDOW), self.end - at))
            self._start = at
        return self._data[at - self._start : at - self._start + length]

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, position behind it) of a base-128 number that ends before ``end``."""
        value = 0
        for n, byte in enumerate(self.read(at, min(10, end - at))):
            value |= (byte & 0x7F) << 7 * n
            if byte < 0x80:
                return value, at + n + 1
        raise _Malformed

    def parts(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(number, start, end) of the fields with a length; others are stepped over."""
        while at < end:
            self.fields += 1
            if self.fields > _MAX_FIELDS:
                raise _Malformed
            tag, at = self.varint(at, end)
            kind, number = tag & 7, tag >> 3
            if kind == _LENGTH:
                length, at = self.varint(at, end)
                if length > end - at:
                    raise _Malformed
                yield number, at, at + length
                at += length
            elif kind == _VARINT:
                _, at = self.varint(at, end)
            elif kind in (_FIXED32, _FIXED64):
                at += 4 if kind == _FIXED32 else 8
            else:
                raise _Malformed


def peek_texts(
    url: str, spans: Sequence[RecordSpan], names: Sequence[str], cache: Path | None = None
) -> list[list[str]]:
    """For each record, the first value of each named text feature, stripped; "" where none is.

    Args:
        cache: remembered there by file and names, as record indexes are.
    """
    fs, path = fsspec.core.url_to_fs(url)
    kept = None if cache is None else entry_path(cache, url, fs.info(path), "peek", *names)
    if kept is not None:
        found = read_entry(kept)
        if _fits(found, len(spans), len(names)):
            return found
    with fs.open(path, "rb", cache_type="none") as file:
        found = [peek_record(file, span, names) for span in spans]
    if kept is not None:
        write_entry(kept, found)
    return found


def peek_record(file: IO[bytes], span: RecordSpan, names: Sequence[str]) -> list[str]:
    """`peek_texts` of one record; stops reading as soon as all names were met."""
    window = _Window(file, span.offset + span.length)
    found: dict[str, str] = {}
    try:
        for number, start, end in window.parts(span.offset, window.end):
            if number != 1:
                continue
            for inner, entry, stop in window.parts(start, end):
                if inner == 1:
                    _look_at(window, entry, stop, set(names), found)
                if len(found) == len(set(names)):
                    return [found[name] for name in names]
    except _Malformed:
        return [""] * len(names)
    return [found.get(name, "") for name in names]


def _look_at(window: _Window, at: int, end: int, names: set[str], found: dict[str, str]) -> None:
    """Take one map entry's text, if it is asked for; a value may stand before its key."""
    key, value = b"", None
    for number, start, stop in window.parts(at, end):
        if number == 1:
            key = window.read(start, min(stop - start, _MAX_TEXT))
        elif number == 2:
            value = (start, stop)
    name = key.decode(errors="replace")
    if name in names:
        found[name] = "" if value is None else _first_text(window, *value)


def _first_text(window: _Window, at: int, end: int) -> str:
    for kind, start, stop in window.parts(at, end):
        if kind != 1:
            continue
        for number, first, last in window.parts(start, stop):
            if number == 1:
                return _text(window, first, last)
    return ""


def _text(window: _Window, start: int, stop: int) -> str:
    if stop - start > _MAX_TEXT:
        return ""
    try:
        return window.read(start, stop - start).decode().strip()
    except UnicodeDecodeError:
        return ""


def _fits(found: object, records: int, names: int) -> bool:
    return (
        isinstance(found, list)
        and len(found) == records
        and all(
            isinstance(row, list) and len(row) == names and all(isinstance(t, str) for t in row)
            for row in found
        )
    )

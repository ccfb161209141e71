"""TFRecord framing without TensorFlow: an index of records by seeking, and checked reads.

A record is: length (uint64), masked CRC32C of the length, payload, masked CRC32C of the payload,
all little-endian (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import fsspec
import google_crc32c

from converters._cache import entry_path, read_entry, write_entry
from schemas.reasons import EpisodeError, Reason

_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_FRAMING = _HEAD.size + _CRC.size
# The largest published record (a 27-minute DROID episode) is under 200 MB.
MAX_RECORD_BYTES = 2 << 30
_MASK_DELTA = 0xA282EAD8


@dataclass(frozen=True)
class RecordSpan:
    """Where one payload lies, and the masked CRC32C stored behind it (0 if it cannot be read)."""

    offset: int
    length: int
    crc: int


@dataclass(frozen=True)
class FileIndex:
    """The records of one file.

    Attributes:
        records: every record whose framing is whole.
        defect, message: what ends the file early, if something does.
    """

    records: tuple[RecordSpan, ...]
    defect: Reason | None = None
    message: str = ""


def masked_crc(data: bytes) -> int:
    """CRC32C rotated and offset, as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """One payload with its framing; what a writer appends to a file."""
    length = struct.pack("<Q", len(payload))
    crcs = _CRC.pack(masked_crc(length)), _CRC.pack(masked_crc(payload))
    return length + crcs[0] + payload + crcs[1]


def scan_file(file: IO[bytes], size: int) -> FileIndex:
    """Index a file by seeking from length to length; payloads are not read.

    Each hop reads 16 bytes: the payload's checksum and the next record's header. A damaged
    length ends the scan, since nothing behind it can be found.
    """
    records: list[RecordSpan] = []
    offset = 0
    head = _read_at(file, 0, _HEAD.size)
    while offset < size:
        if len(head) < _HEAD.size:
            return FileIndex(
                tuple(records),
                Reason.TRUNCATED_RECORD,
                f"{size - offset} bytes left at {offset}, too few for a record header",
            )
        length, crc = _HEAD.unpack(head)
        if masked_crc(head[:8]) != crc:
            return FileIndex(
                tuple(records),
                Reason.BAD_CRC,
                f"the length at {offset} fails its checksum; "
                f"the {size - offset} bytes from there on cannot be read",
            )
        end = offset + length + _FRAMING
        if end > size:
            return FileIndex(
                tuple(records),
                Reason.TRUNCATED_RECORD,
                f"record at {offset} has {length} bytes, {end - size} past the end of the file",
            )
        tail = _read_at(file, end - _CRC.size, _FRAMING)
        records.append(RecordSpan(offset + _HEAD.size, length, _CRC.unpack_from(tail)[0]))
        offset, head = end, tail[_CRC.size :]
    return FileIndex(tuple(records))


def index_file(url: str, cache: Path | None = None) -> FileIndex:
    """`scan_file` on a local path or fsspec URL, remembered in ``cache`` until the file changes."""
    fs, path = fsspec.core.url_to_fs(url)
    info = fs.info(path)
    kept = None if cache is None else entry_path(cache, url, info)
    if kept is not None:
        raw = read_entry(kept)
        try:
            spans = tuple(RecordSpan(*span) for span in raw["records"])
            defect = Reason(raw["defect"]) if raw["defect"] else None
            return FileIndex(spans, defect, raw["message"])
        except (ValueError, KeyError, TypeError):
            pass  # none, or damaged: made anew below
    index = _scan(fs, path, int(info["size"]))
    if index.defect is not None and "://" in url:
        # Over a network a damaged length may be a damaged answer, which nobody should remember.
        index = _scan(fs, path, int(info["size"]))
    if kept is not None:
        plain = asdict(replace(index, records=()))
        plain["records"] = [(r.offset, r.length, r.crc) for r in index.records]
        write_entry(kept, plain)
    return index


def _scan(fs: fsspec.AbstractFileSystem, path: str, size: int) -> FileIndex:
    with fs.open(path, "rb", cache_type="none") as file:
        return scan_file(file, size)


class RecordReader:
    """Reads records of one file by their spans; opens it once."""

    def __init__(self, url: str) -> None:
        fs, path = fsspec.core.url_to_fs(url)
        self._url = url
        # A record is read whole and once: read-ahead would only fetch what nobody asked for.
        self._file = fs.open(path, "rb", cache_type="none")

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, span: RecordSpan) -> bytes:
        """One payload, its checksum verified.

        Raises:
            EpisodeError: `BAD_CRC`, `TRUNCATED_RECORD`, or `TOO_LARGE` (over 2 GiB).
        """
        if span.length > MAX_RECORD_BYTES:
            raise EpisodeError(
                Reason.TOO_LARGE, f"record of {span.length} bytes; at most {MAX_RECORD_BYTES}"
            )
        data = _read_at(self._file, span.offset, span.length + _CRC.size)
        if len(data) < span.length + _CRC.size:
            raise EpisodeError(
                Reason.TRUNCATED_RECORD, f"{self._url} ends inside the record at {span.offset}"
            )
        payload, (crc,) = data[: span.length], _CRC.unpack_from(data, span.length)
        if crc != span.crc:
            raise EpisodeError(
                Reason.BAD_CRC, f"{self._url} changed at {span.offset} since it was indexed"
            )
        if masked_crc(payload) != crc:
            raise EpisodeError(
                Reason.BAD_CRC, f"record of {span.length} bytes at {span.offset} fails its CRC32C"
            )
        return payload


def read_records(url: str, cache: Path | None = None) -> Iterator[bytes]:
    """Every whole record of a file in order; a reader for tools, not for builds.

    Raises:
        EpisodeError: at the first damaged record, or at the end of a file that is cut short.
    """
    index = index_file(url, cache)
    with RecordReader(url) as reader:
        for span in index.records:
            yield reader.read(span)
    if index.defect is not None:
        raise EpisodeError(index.defect, index.message)


def _read_at(file: IO[bytes], offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)

"""Reconstructed arrays, kept so that no build makes them twice: one zipped Zarr 3 group a part.

A file is named by the record that a view comes from, by the view, by the part of it (see
`pipeline.recall`) and by the key of all that the part was made from. So parts of another
configuration or code lie beside each other, nothing is ever overwritten by something else, and a
file that is there is whole: `pipeline.store.Store` writes it aside and renames or uploads it.
Each file opens with ``zarr.open_group(zarr.storage.ZipStore(path), mode="r")``: images are sharded
arrays in chunks of a few frames, each under its own CRC32C.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer.cpu import Buffer
from zarr.errors import BaseZarrError
from zarr.storage import MemoryStore

from pipeline.kept import Kept
from pipeline.retries import said, store_errors
from pipeline.store import OutputError, Store
from robo4d.sample import to_json

_log = logging.getLogger("robo4d.build")
# Of the files themselves: names, codecs, what attributes hold. Part of every key, and said inside.
LAYOUT = "robo4d-staging/1"
SUFFIX = ".zarr.zip"
# A 256x320 depth frame is 0.3 MB: a reader of one frame decodes a few MB at most.
_CHUNK_FRAMES = 8
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same bytes every time


@dataclass(frozen=True)
class Staging:
    """A folder of reconstructed parts, of this machine or of an object store."""

    store: Store

    @classmethod
    def at(cls, path: str | None) -> Staging | None:
        """The staging folder that ``staging.path`` names; None: nothing is kept.

        Raises:
            UsageError: nothing that is installed opens such a URL.
        """
        return None if path is None else cls(Store.at(path))

    def read(self, name: str, key: str) -> Kept | None:
        """The part kept under ``name`` and ``key``; None: there is none that can be trusted.

        What is damaged, or of another layout, is told in the log and counts as not there.

        Raises:
            OutputError: the folder cannot be read.
        """
        place = _place(name, key)
        try:
            data = self.store.read(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except store_errors() as error:
            raise OutputError(
                f"cannot read {self.store.path(place)}: {said(error)}; mend the folder that "
                "staging.path names, or build without it (--set staging.path=null)"
            ) from error
        try:
            return _unpack(data, key)
        except _Damaged as error:
            facts = {"file": self.store.path(place), "why": str(error)}
            _log.warning("staged part is made again", extra={"facts": facts})
            return None

    def write(self, name: str, key: str, kept: Kept) -> None:
        """Keep a part: whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        self.store.publish_bytes(_place(name, key), _pack(kept, key))


class _Damaged(Exception):
    """A file that is not what was written, or that other code wrote."""


def _place(name: str, key: str) -> str:
    """Name of the file; 64 bits of the key are enough for names, the whole is inside."""
    return f"{name}.{key[:16]}{SUFFIX}"


def digest_of(values: Mapping[str, Any]) -> str:
    """sha256 over names and values in order of names: arrays by type, shape and bytes, else json.

    Raises:
        TypeError, ValueError: a value that is neither.
    """
    digest = hashlib.sha256()
    for name, value in sorted(values.items()):
        if isinstance(value, np.ndarray):
            head, data = f"{value.dtype.str}{value.shape}", np.ascontiguousarray(value).tobytes()
        else:
            head, data = "json", to_json({"value": value})
        digest.update(f"{name}\0{head}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _pack(kept: Kept, key: str) -> bytes:
    """The bytes of the file: a zip, stored as it is since chunks are compressed."""
    files: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(files), mode="w", zarr_format=3)
    for name, values in kept.arrays.items():
        _put(group, name, values)
    group.attrs.update({"layout": LAYOUT, "key": key, "facts": kept.facts})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path, _FIXED_DATE), files[path].to_bytes())
    return out.getvalue()


def _put(group: zarr.Group, name: str, values: NDArray) -> None:
    shape = values.shape
    # An exact copy: depth stays float32, to the last bit.
    codecs = [BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()]
    if values.ndim < 3 or values.shape[0] <= _CHUNK_FRAMES or values.size == 0:
        chunks = tuple(max(1, side) for side in shape) or "auto"
        group.create_array(name, data=values, chunks=chunks, compressors=codecs)
        return
    frames = -(-len(values) // _CHUNK_FRAMES) * _CHUNK_FRAMES
    group.create_array(
        name,
        data=values,
        chunks=(_CHUNK_FRAMES, *shape[1:]),
        shards=(frames, *shape[1:]),
        compressors=codecs,
    )


def _unpack(data: bytes, key: str) -> Kept:
    """What `_pack` packed.

    Raises:
        _Damaged: it did not pack this, or not for this key.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Each entry's CRC-32 is checked as it is read.
            files = {name: Buffer.from_bytes(archive.read(name)) for name in archive.namelist()}
        group = zarr.open_group(MemoryStore(files, read_only=True), mode="r", zarr_format=3)
        said = dict(group.attrs)
        if (said.get("layout"), said.get("key")) != (LAYOUT, key):
            raise _Damaged(f"it is {said.get('layout')!r} of key {said.get('key')!r}")
        arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
        return Kept(arrays, dict(said["facts"]))
    except (zipfile.BadZipFile, BaseZarrError, LookupError, ValueError, TypeError) as error:
        raise _Damaged(repr(error)) from error

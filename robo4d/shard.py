"""A shard: an uncompressed tar whose bytes depend on its samples alone, and the index beside it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from robo4d._errors import FormatError
from robo4d.sample import FORMAT

# Names become file names wherever somebody unpacks a shard: no separators, no dots in the key.
_KEY = re.compile(r"[0-9A-Za-z_-]{1,64}")
_MEMBER = re.compile(r"[0-9a-z_]{1,32}(\.[0-9a-z_]{1,16}){1,2}")
INDEX_SUFFIX = ".index.json"


@dataclass(frozen=True)
class IndexedSample:
    """Where the members of one sample lie: name -> (offset, length, crc32) in the tar."""

    key: str
    members: dict[str, tuple[int, int, int]]

    def __post_init__(self) -> None:
        bad = [name for name in self.members if not _MEMBER.fullmatch(name)]
        if not _KEY.fullmatch(self.key) or bad:
            raise FormatError(f"sample key {self.key!r} or member names {bad} are not plain names")


@dataclass(frozen=True)
class ShardIndex:
    """What the index file beside a shard says: the shard's size and hash, and its samples."""

    shard: str
    size: int
    sha256: str
    samples: list[IndexedSample]
    build: dict[str, Any] = field(default_factory=dict)  # the factory's own record; readers skip it

    def to_json(self) -> bytes:
        """Bytes of the index file."""
        samples = [{"key": s.key, "members": s.members} for s in self.samples]
        return json.dumps(
            {
                "format": FORMAT,
                "shard": self.shard,
                "bytes": self.size,
                "sha256": self.sha256,
                "samples": samples,
                "build": self.build,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardIndex:
        """Read an index file.

        Raises:
            FormatError: not an index, of another format, or with offsets outside the shard.
        """
        try:
            raw = json.loads(data)
            if raw["format"] != FORMAT:
                raise FormatError(f"index has format {raw['format']!r}; this reads {FORMAT!r}")
            samples = [
                IndexedSample(
                    s["key"], {k: (int(a), int(b), int(c)) for k, (a, b, c) in s["members"].items()}
                )
                for s in raw["samples"]
            ]
            index = cls(raw["shard"], int(raw["bytes"]), raw["sha256"], samples, raw["build"])
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"not a shard index: {error!r}") from error
        if "/" in index.shard or index.shard.startswith("."):
            raise FormatError(f"index names the shard {index.shard!r}; expected a plain file name")
        for sample in samples:
            for name, (offset, length, _) in sample.members.items():
                if offset < 0 or length < 0 or offset + length > index.size:
                    raise FormatError(
                        f"{sample.key}.{name} lies at {offset}+{length}, past {index.size} bytes"
                    )
        return index


class ShardWriter:
    """Writes samples to an open binary file as a tar, hashing as it goes.

    Fixed owner, mode and mtime, plain ustar headers: the same samples give the same bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0
        self._hash = hashlib.sha256()
        self._samples: list[IndexedSample] = []
        self._keys: set[str] = set()

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._position

    def add(self, key: str, members: Mapping[str, bytes]) -> IndexedSample:
        """Append one sample; its members stay together and in the order given."""
        if key in self._keys:
            raise FormatError(f"sample key {key!r} is in this shard already")
        self._keys.add(key)
        placed = {}
        for name, data in members.items():
            info = tarfile.TarInfo(f"{key}.{name}")
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            self._write(info.tobuf(tarfile.USTAR_FORMAT))
            placed[name] = (self._position, len(data), zlib.crc32(data))
            self._write(data)
            self._write(b"\0" * (-len(data) % tarfile.BLOCKSIZE))
        sample = IndexedSample(key, placed)
        self._samples.append(sample)
        return sample

    def finish(self, shard: str, build: dict[str, Any] | None = None) -> ShardIndex:
        """Write the tar's end and return the index; does not close the file."""
        self._write(b"\0" * (2 * tarfile.BLOCKSIZE))
        self._write(b"\0" * (-self._position % tarfile.RECORDSIZE))
        return ShardIndex(shard, self._position, self._hash.hexdigest(), self._samples, build or {})

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._position += len(data)


def scan_shard(file: IO[bytes], name: str) -> ShardIndex:
    """Index a tar by reading its headers; for shards whose index file was lost.

    The sha256 is left empty and each crc32 is -1 (not known), since the data is not read.
    """
    samples: dict[str, dict[str, tuple[int, int, int]]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                key, _, member = info.name.partition(".")
                if not info.isreg():
                    raise FormatError(f"{name} holds {info.name!r}, which is not a plain file")
                samples.setdefault(key, {})[member] = (info.offset_data, info.size, -1)
    except tarfile.TarError as error:
        raise FormatError(f"{name} is no readable tar: {error}") from error
    size = file.seek(0, io.SEEK_END)
    return ShardIndex(name, size, "", [IndexedSample(k, m) for k, m in samples.items()])

"""Random access to built shards, in a folder or any fsspec URL; only what is asked for is read."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from robo4d import geometry
from robo4d._errors import FieldAbsentError, FormatError
from robo4d.sample import FIELDS, MEMBER_OF_FIELD, decode_member
from robo4d.shard import INDEX_SUFFIX, IndexedSample, ShardIndex, scan_shard

Frame = Literal["camera", "first_camera", "base"]


class Sample:
    """One clip of one camera. Attributes are the fields of `robo4d.sample`; each read decodes
    its member once and keeps it. A field that is absent raises `FieldAbsentError` with the reason.
    """

    def __init__(self, dataset: Dataset, shard: int, entry: IndexedSample) -> None:
        self._dataset, self._shard, self._entry = dataset, shard, entry
        self._decoded: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Sample({self.key}: {', '.join(self.members)})"

    @property
    def key(self) -> str:
        """16 hex digits that name this clip for good."""
        return self._entry.key

    @property
    def members(self) -> list[str]:
        """Names of the members that this sample has."""
        return list(self._entry.members)

    def __contains__(self, field: str) -> bool:
        member = MEMBER_OF_FIELD.get(field)
        if member not in self._entry.members:
            return False
        inside = member.endswith(".safetensors") and field != "actions"
        return not inside or field in self._member(member)

    def __getattr__(self, field: str) -> Any:
        if field.startswith("_") or field not in FIELDS:
            raise AttributeError(f"Sample has no field {field!r}; it has {list(FIELDS)}")
        return self.load(field)[field]

    def load(self, *fields: str) -> dict[str, Any]:
        """Read the named fields, in one request where the store allows.

        Raises:
            FieldAbsentError: the sample has no such field; the message says why.
            FormatError: a member's bytes are damaged.
        """
        wanted = []
        for field in fields:
            if field not in MEMBER_OF_FIELD:
                raise FieldAbsentError(f"no field {field!r} in the format; it has {list(FIELDS)}")
            if MEMBER_OF_FIELD[field] not in self._entry.members:
                raise self._absent(field)
            wanted.append(MEMBER_OF_FIELD[field])
        self._fetch([m for m in dict.fromkeys(wanted) if m not in self._decoded])
        out = {}
        for field, member in zip(fields, wanted, strict=True):
            value = self._decoded[member]
            if member.endswith(".safetensors") and field != "actions":
                if field not in value:
                    raise self._absent(field)
                value = value[field]
            out[field] = value
        return out

    def read_bytes(self, member: str) -> bytes:
        """The member's bytes as stored, checked against the index."""
        return self._dataset._read(self._shard, self._entry, [member])[0]

    def pointmap(self, frame: Frame = "camera") -> NDArray[np.float32]:
        """XYZ in m of every pixel of the scene, (T, H, W, 3), NaN where depth is unknown."""
        return self._points("depth", frame)

    def robot_pointmap(self, frame: Frame = "camera") -> NDArray[np.float32]:
        """XYZ in m of the robot's surface alone, (T, H, W, 3), NaN where there is no robot."""
        return self._points("robot_depth", frame)

    def _points(self, field: str, frame: Frame) -> NDArray[np.float32]:
        if frame not in ("camera", "first_camera", "base"):
            raise ValueError(f"frame is {frame!r}; expected 'camera', 'first_camera' or 'base'")
        got = self.load(field, "K")
        points = geometry.unproject(got[field], got["K"])
        if frame == "camera":
            return points
        pose = self.load("base_from_camera")["base_from_camera"]
        if frame == "first_camera":
            pose = geometry.invert(pose[0]) @ pose
        flat = points.reshape(len(points), -1, 3)
        return geometry.transform(pose.astype(np.float32), flat).reshape(points.shape)

    def _absent(self, field: str) -> FieldAbsentError:
        reason = self.meta.get("fields", {}).get(field, {}).get("reason", "not in this sample")
        return FieldAbsentError(f"{field} of {self.key} is absent: {reason}")

    def _member(self, member: str) -> Any:
        self._fetch([member] if member not in self._decoded else [])
        return self._decoded[member]

    def _fetch(self, members: list[str]) -> None:
        if members:
            datas = self._dataset._read(self._shard, self._entry, members)
            for member, data in zip(members, datas, strict=True):
                self._decoded[member] = decode_member(member, data)


class Dataset(Sequence[Sample]):
    """Samples of one or many shards, by index or key.

    Nothing but the indexes is read until a field is asked for. It pickles, so it serves as a
    map-style dataset of any loader (torch's included) as it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        fs, path = fsspec.core.url_to_fs(url)
        fs.invalidate_cache()  # of listings: a build may have added to them since
        self._shards, self._paths = _find_shards(fs, path.rstrip("/"), url)
        self._entries = [(n, entry) for n, s in enumerate(self._shards) for entry in s.samples]
        self._by_key = {entry.key: i for i, (_, entry) in enumerate(self._entries)}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, which: int | str) -> Sample:  # type: ignore[override]
        if isinstance(which, str):
            if which not in self._by_key:
                raise KeyError(f"no sample {which!r} among the {len(self)} of {self.url}")
            which = self._by_key[which]
        shard, entry = self._entries[which]
        return Sample(self, shard, entry)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @property
    def keys(self) -> list[str]:
        """Keys of all samples, in shard order."""
        return [entry.key for _, entry in self._entries]

    @property
    def shards(self) -> list[ShardIndex]:
        """The index of each shard."""
        return list(self._shards)

    def _read(self, shard: int, entry: IndexedSample, members: list[str]) -> list[bytes]:
        places = [entry.members[m] for m in members]
        path = self._paths[shard]
        # Asked for anew, since no connection survives the fork into a loader's worker; fsspec
        # keeps one a process.
        fs = fsspec.core.url_to_fs(self.url)[0]
        if isinstance(fs, LocalFileSystem):
            with open(path, "rb", buffering=0) as file:
                datas = [os.pread(file.fileno(), length, offset) for offset, length, _ in places]
        else:
            datas = fs.cat_ranges(
                [path] * len(places),
                [offset for offset, _, _ in places],
                [offset + length for offset, length, _ in places],
            )
        for member, data, (_, length, crc) in zip(members, datas, places, strict=True):
            if len(data) != length or (crc >= 0 and zlib.crc32(data) != crc):
                raise FormatError(
                    f"{entry.key}.{member} in {path}: {len(data)} of {length} bytes, or their "
                    "checksum, differ from the index; run `robo4d verify`"
                )
        return datas


def open_dataset(url: str | os.PathLike[str]) -> Dataset:
    """Open a built data set (a folder or URL) or one shard (``.tar``) for random access.

    Raises:
        FileNotFoundError: there is no shard at ``url``.
        FormatError: an index is damaged or of another format.
    """
    return Dataset(os.fspath(url))


def _find_shards(
    fs: fsspec.AbstractFileSystem, path: str, url: str
) -> tuple[list[ShardIndex], list[str]]:
    if path.endswith(".tar"):
        index = path.removesuffix(".tar") + INDEX_SUFFIX
        if fs.exists(index):
            return [ShardIndex.from_json(fs.cat_file(index))], [path]
        with fs.open(path, "rb") as file:
            return [scan_shard(file, path.rsplit("/", 1)[-1])], [path]
    if fs.exists(f"{path}/dataset.json"):  # lists the shards, where a store cannot list a folder
        listed = json.loads(fs.cat_file(f"{path}/dataset.json"))["distribution"]
        names = [d["contentUrl"] for d in listed if d["contentUrl"].endswith(".tar")]
        indexes = [f"{path}/{n.removesuffix('.tar')}{INDEX_SUFFIX}" for n in names]
    else:
        indexes = sorted(fs.glob(f"{path}/*{INDEX_SUFFIX}"))
    if not indexes:
        raise FileNotFoundError(f"no shards at {url}: expected a robo4d build or one of its .tar")
    contents = fs.cat(indexes)
    if isinstance(contents, bytes):  # fsspec returns bare bytes for a list of one
        contents = {indexes[0]: contents}
    shards = [ShardIndex.from_json(contents[name]) for name in contents]
    return shards, [f"{path}/{s.shard}" for s in shards]

"""RLDS data sets as tensorflow-datasets writes them, read without TensorFlow.

``features.json`` says what a record holds; `decode_record` turns one `tf.train.Example` into
arrays by it. Images stay encoded. Nested ``steps`` come back as arrays over time.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from converters._example import Example
from converters._json import parse_json
from converters._listing import is_file, list_folder
from schemas.reasons import EpisodeError, Reason, UsageError
from schemas.truth import TWIN_MARK

_JSON_LIMIT = 16 << 20
_MAX_PROMISED = 1_000_000  # records of one file; the largest published ones have a few thousand
_MAX_TEXT = 1 << 16
_DTYPES = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


@dataclass(frozen=True)
class Feature:
    """One leaf of features.json.

    Attributes:
        kind: "tensor", "image" or "text".
        dtype: numpy's name for it; "bytes" for text and encoded images.
        shape: of one value; -1 is free.
        sequence: one value a step, under ``steps``.
    """

    kind: str
    dtype: str
    shape: tuple[int, ...]
    sequence: bool


@dataclass(frozen=True)
class Record:
    """One decoded record: ``values[path]`` is an array, or a list of bytes for text and images.

    Sequences have time first. ``steps`` is their length.
    """

    values: Mapping[str, Any]
    steps: int
    split: str
    file: str
    record: int
    sha256: str

    def __getitem__(self, path: str) -> Any:
        if path not in self.values:
            raise EpisodeError(Reason.MISSING_FEATURE, f"record lacks {path!r}")
        return self.values[path]

    def text(self, path: str) -> str:
        """A text feature; of a sequence, its first step's."""
        value = self[path]
        data = (value[0] if value else b"") if isinstance(value, list) else value
        if not isinstance(data, bytes):
            raise EpisodeError(Reason.WRONG_DTYPE, f"{path} holds no text")
        if len(data) > _MAX_TEXT:
            raise EpisodeError(
                Reason.TOO_LARGE, f"{path} is a text of {len(data)} bytes; at most {_MAX_TEXT}"
            )
        try:
            return data.decode().strip()
        except UnicodeDecodeError as error:
            raise EpisodeError(Reason.WRONG_DTYPE, f"{path} is not UTF-8: {error}") from error


@dataclass(frozen=True)
class RldsDataset:
    """A data set folder: its features, its files by split, and what it says of itself."""

    root: str
    name: str
    version: str
    description: str
    citation: str
    licence: str
    features: Mapping[str, Feature]
    files: tuple[tuple[str, str, int | None], ...]  # split, path below root, records promised
    notes: tuple[str, ...]

    @property
    def twin(self) -> bool:
        """Made by `simulation/`, not published."""
        return TWIN_MARK in self.description

    def stated_rate(self) -> float | None:
        """Step rate in Hz, if the description states the layout's ("... as RLDS, at 5 Hz")."""
        found = re.search(
            r"\bRLDS\b[^.\n]{0,200}\bat (\d{1,4}(?:\.\d{1,9})?) Hz\b", self.description
        )
        return float(found[1]) if found and float(found[1]) > 0 else None

    def url(self, file: str) -> str:
        """Path or URL of one of ``files``."""
        return f"{self.root}/{file}"


def holds_rlds(data: str) -> bool:
    """Whether a features.json lies at or below ``data``, where `open_rlds` looks.

    Raises:
        UsageError: a URL of a kind that nothing here can open.
    """
    try:
        fs, path = fsspec.core.url_to_fs(data)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{data} cannot be opened ({error}); install what it needs (robo4d[s3], robo4d[gcs]), "
            "or copy the data to a local folder"
        ) from error
    return bool(_features_files(fs, path.rstrip("/")))


def _features_files(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """features.json in the folder itself, and in folders one and two below it."""
    found, folders = [], [path]
    for _ in range(3):
        below = []
        for folder in folders:
            inside = list_folder(fs, folder)
            if "features.json" in inside:
                found.append(f"{folder}/features.json")
            below += [
                f"{folder}/{n}" for n, about in inside.items() if about["type"] == "directory"
            ]
        folders = below
    return sorted(found)


def open_rlds(data: str, required: Sequence[str]) -> RldsDataset:
    """Find the data set at or below ``data`` (``<data>/<name>/<version>/`` or that folder itself).

    Raises:
        UsageError: nothing there, no RLDS data set, several, or one that lacks ``required``.
    """
    fs, path = fsspec.core.url_to_fs(data)
    path = path.rstrip("/")
    if not fs.isdir(path):
        raise UsageError(f"{data} is no folder; give the folder of the data set")
    found = _features_files(fs, path)
    if len(found) != 1:
        what = f"{len(found)} RLDS data sets ({', '.join(found[:4])})" if found else "no data set"
        raise UsageError(
            f"{data} holds {what}; expected one features.json in it, or in <name>/<version>/ below"
        )
    root = str(PurePosixPath(found[0]).parent)
    features = _parse_features(_read_json(fs, found[0]))
    missing = [name for name in required if name not in features]
    if missing:
        raise UsageError(
            f"{root} is an RLDS data set but not of this source: features.json lacks "
            f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        )
    info_path = f"{root}/dataset_info.json"
    info = _read_json(fs, info_path) if "dataset_info.json" in list_folder(fs, root) else {}
    files, notes = _list_files(fs, root, info)
    if not files:
        raise UsageError(f"{root} holds features.json but no TFRecord file; is the download whole?")
    protocol_root = fs.unstrip_protocol(root) if "://" in data else root
    return RldsDataset(
        root=protocol_root,
        name=_said(info, "name") or PurePosixPath(root).parent.name,
        version=_said(info, "version") or PurePosixPath(root).name,
        description=_said(info, "description"),
        citation=_said(info, "citation"),
        licence=_said(info.get("redistributionInfo"), "license"),
        features=features,
        files=tuple(files),
        notes=tuple(notes),
    )


def decode_record(
    payload: bytes, features: Mapping[str, Feature], split: str, file: str, record: int
) -> Record:
    """Decode one record by the data set's features; every value checked for dtype and shape.

    Raises:
        EpisodeError: `UNDECODABLE_RECORD`, `MISSING_FEATURE`, `WRONG_DTYPE` or `WRONG_SHAPE`.
    """
    try:
        stored = Example.FromString(payload).features.feature
    except DecodeError as error:
        raise EpisodeError(
            Reason.UNDECODABLE_RECORD, f"{len(payload)} bytes are no tf.train.Example: {error}"
        ) from error
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for path, feature in features.items():
        if path not in stored:
            raise EpisodeError(Reason.MISSING_FEATURE, f"record lacks {path!r}")
        values[path] = _decode_value(path, stored[path], feature)
        if feature.sequence:
            lengths[path] = len(values[path])
    if len(set(lengths.values())) > 1:
        low, high = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise EpisodeError(
            Reason.WRONG_SHAPE,
            f"{low!r} has {lengths[low]} steps and {high!r} has {lengths[high]}; expected the same",
        )
    steps = next(iter(lengths.values()), 0)
    return Record(values, steps, split, file, record, hashlib.sha256(payload).hexdigest())


def _decode_value(path: str, stored: Any, feature: Feature) -> Any:
    kind = stored.WhichOneof("kind")
    wanted = {"bytes": "bytes_list", "f": "float_list"}.get(
        "bytes" if feature.dtype == "bytes" else np.dtype(feature.dtype).kind, "int64_list"
    )
    # A sequence of no step is stored without a kind.
    if kind != wanted and not (kind is None and feature.sequence):
        raise EpisodeError(
            Reason.WRONG_DTYPE, f"{path!r} is stored as {kind}; features.json says {feature.dtype}"
        )
    raw = getattr(stored, wanted).value
    if feature.dtype == "bytes":
        if not feature.sequence and len(raw) != 1:
            raise EpisodeError(Reason.WRONG_SHAPE, f"{path!r} has {len(raw)} values; expected 1")
        return list(raw) if feature.sequence else raw[0]
    # TFDS stores every float as float32, float64 features too.
    flat: NDArray = np.array(raw, np.float32 if wanted == "float_list" else np.int64)
    shape = (-1, *feature.shape) if feature.sequence else feature.shape
    size = math.prod(feature.shape)
    if min(feature.shape, default=1) <= 0 or (
        len(flat) % size if feature.sequence else len(flat) != size
    ):
        raise EpisodeError(
            Reason.WRONG_SHAPE, f"{path!r} has {len(flat)} values; expected shape {shape}"
        )
    return flat.astype(feature.dtype).reshape(shape)


def _parse_features(tree: Any, prefix: str = "", sequence: bool = False) -> dict[str, Feature]:
    """Flatten features.json to {path: Feature}."""
    try:
        if "featuresDict" in tree:
            out: dict[str, Feature] = {}
            for name, child in tree["featuresDict"]["features"].items():
                out.update(_parse_features(child, f"{prefix}/{name}".lstrip("/"), sequence))
            return out
        if "sequence" in tree:
            if sequence:
                raise UsageError(f"features.json nests a sequence in a sequence at {prefix!r}")
            return _parse_features(tree["sequence"]["feature"], prefix, True)
        if "text" in tree:
            return {prefix: Feature("text", "bytes", (), sequence)}
        kind = "image" if "image" in tree else "tensor"
        leaf = tree[kind]
        shape = tuple(int(d) for d in leaf["shape"].get("dimensions", ()))
        if kind == "image" or leaf["dtype"] == "string":
            return {prefix: Feature(kind, "bytes", shape, sequence)}
        if not _DTYPES.fullmatch(leaf["dtype"]) or len(shape) > 8 or math.prod(shape) >= 1 << 31:
            raise ValueError(f"{leaf['dtype']!r} of shape {shape}")
        return {prefix: Feature(kind, leaf["dtype"], shape, sequence)}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"features.json is not understood at {prefix!r}: {error!r}") from error


def _read_json(fs: fsspec.AbstractFileSystem, path: str) -> Any:
    if not is_file(fs, path) or fs.size(path) > _JSON_LIMIT:
        raise UsageError(f"{path} is no regular file of at most {_JSON_LIMIT} bytes")
    try:
        tree = parse_json(fs.cat_file(path))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} holds a {type(tree).__name__}; expected an object")
    return tree


def _said(info: object, key: str) -> str:
    """A text of dataset_info.json; empty where there is none."""
    said = info.get(key) if isinstance(info, dict) else None
    return said if isinstance(said, str) else ""


def _promised(root: str, info: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """{split: {file number: records}} as dataset_info.json promises.

    A number is bounded, since each record that is not there becomes a row of the quarantine.
    """
    promised: dict[str, dict[int, int]] = {}
    try:
        for split in info.get("splits") or []:
            lengths = [int(n) for n in split.get("shardLengths") or []]
            if lengths and not 0 <= min(lengths) <= max(lengths) <= _MAX_PROMISED:
                raise ValueError(f"shardLengths span {min(lengths)} to {max(lengths)}")
            promised[str(split.get("name"))] = dict(enumerate(lengths))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{root}/dataset_info.json: splits are not as tensorflow-datasets writes them: {error}"
        ) from error
    return promised


def _list_files(
    fs: fsspec.AbstractFileSystem, root: str, info: Mapping[str, Any]
) -> tuple[list[tuple[str, str, int | None]], list[str]]:
    """Files that are there, with their split and promised record count; notes on what is not."""
    promised = _promised(root, info)
    files, notes = [], []
    seen: dict[str, set[int]] = {}
    for name, about in sorted(list_folder(fs, root).items()):
        if ".tfrecord" not in name:
            continue
        # A listing does not follow links, and caches of downloads hold nothing else.
        regular = is_file(fs, f"{root}/{name}") if about.get("islink") else about["type"] == "file"
        if not regular or not name.isprintable():
            notes.append(f"{name!a} is no regular file, or not named as one; left out")
            continue
        match = re.search(r"-([A-Za-z0-9_]+)\.tfrecord(?:-(\d+)-of-(\d+))?$", name)
        if match is None:
            notes.append(f"{name!a} is not named as TFDS names files and was left out")
            continue
        split, number = match[1], int(match[2] or 0)
        seen.setdefault(split, set()).add(number)
        files.append((split, name, promised.get(split, {}).get(number)))
    for split, lengths_of in promised.items():
        absent = sorted(set(lengths_of) - seen.get(split, set()))
        if absent:
            lost = sum(lengths_of[n] for n in absent)
            notes.append(
                f"dataset_info.json names {len(absent)} file(s) of split {split!r} with {lost} "
                "episodes that are not here"
            )
    return files, notes

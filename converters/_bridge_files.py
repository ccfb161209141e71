"""What lies in one raw Bridge trajectory's folder: pickled logs, JPEGs, text, notes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from converters._json import parse_json
from converters._listing import is_file, list_folder, read_head
from robo4d.geometry import Floats, check_array
from schemas.episode import CameraStream, Provenance
from schemas.images import decode_image
from schemas.reasons import EpisodeError, Reason

_JSON_LIMIT = 4 << 20
_TEXT_LIMIT = 64 << 10
_IMAGE_LIMIT = 8 << 20  # a 640x480 frame has about 40 kB
_METADATA = ("environment", "policy_desc")
_BLANK_SPREAD = 4  # as in `converters.bridge`


def natural(path: str) -> list[tuple[int, str]]:
    """Sort key that puts traj9 before traj10."""
    return [(int(number or 0), text) for number, text in re.findall(r"(\d*)(\D*)", path)]


def list_files(fs: fsspec.AbstractFileSystem, folder: str) -> dict[str, int]:
    """Files of a trajectory and their sizes, in natural order.

    Raises:
        EpisodeError: `BAD_IDENTITY`, what is no regular file: a pipe never ends, and a link may
            lead to what nobody meant to publish.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, info in list_folder(fs, folder).items():
        if info["type"] == "directory":
            inside = list_folder(fs, f"{folder}/{name}")
            found |= {f"{name}/{n}": i for n, i in inside.items() if i["type"] != "directory"}
        else:
            found[name] = info
    for name, info in found.items():
        path = f"{folder}/{name}"
        regular = info["type"] == "file"
        if info.get("islink"):  # a listing does not follow links
            regular = _leads_inside(folder, path) and is_file(fs, path)
        if not regular:
            raise EpisodeError(
                Reason.BAD_IDENTITY,
                f"{name!r} is no regular file, or a link out of the trajectory's folder; refused",
            )
    return {name: int(found[name]["size"]) for name in sorted(found, key=natural)}


@dataclass
class Folder:
    """Reads a trajectory's files within bounds and hashes what was read."""

    fs: fsspec.AbstractFileSystem
    path: str
    files: Mapping[str, int]
    digest: Any = field(default_factory=hashlib.sha256)

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes; `TOO_LARGE` past the limit."""
        if self.files.get(name, 0) > limit:
            raise EpisodeError(Reason.TOO_LARGE, f"{name} has more than {limit} bytes")
        data: bytes = self.fs.cat_file(f"{self.path}/{name}")
        self.digest.update(f"{name} {len(data)}\n".encode() + data)
        return data


def numbers(log: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> Floats:
    """An array of the log as float64; None leaves an axis free. `ShapeError` for another shape."""
    if name not in log:
        raise EpisodeError(Reason.MISSING_FEATURE, f"the log lacks {name!r}")
    try:
        values = np.asarray(log[name])
    except ValueError as error:  # a list of rows that differ in length
        raise EpisodeError(Reason.WRONG_SHAPE, f"{name!r}: {error}") from error
    if values.dtype.kind not in "fiu":
        raise EpisodeError(Reason.WRONG_DTYPE, f"{name!r} holds {values.dtype}; expected numbers")
    values = values.astype(np.float64)
    if values.ndim and not np.isfinite(values).all():
        step = int(np.argwhere(~np.isfinite(values))[0][0])
        raise EpisodeError(Reason.NON_FINITE, f"{name!r} has {values[step]} at step {step}")
    return check_array(name, values, shape)


def read_actions(policy: Any) -> Floats:
    """(T - 1, 7) from a list of dicts, or of arrays as the first collectors wrote it."""
    if isinstance(policy, list) and all(isinstance(part, dict) for part in policy):
        if not all("actions" in part for part in policy):
            raise EpisodeError(Reason.MISSING_FEATURE, "policy_out.pkl has steps without 'actions'")
        policy = [part["actions"] for part in policy]
    return numbers({"actions": policy}, "actions", (None, 7))


def read_time(log: Mapping[str, Any], total: int, rate: float) -> tuple[Floats, Provenance]:
    if "time_stamp" not in log:
        return np.arange(total) / rate, Provenance.ESTIMATED
    time = numbers(log, "time_stamp", (total,))
    if (np.diff(time) <= 0).any():
        step = int(np.argmax(np.diff(time) <= 0)) + 1
        raise EpisodeError(
            Reason.NON_MONOTONIC_TIME, f"time_stamp falls to {time[step]:.3f} at step {step}"
        )
    return time, Provenance.MEASURED


def read_cameras(
    folder: Folder, total: int, kept: slice, notes: list[str]
) -> dict[str, CameraStream]:
    """Views that hold pictures. A view that the episode does not have is simply not there."""
    views: dict[str, dict[int, str]] = {}
    for name in folder.files:
        if match := re.fullmatch(r"(images\d+)/im_(\d+)\.jpg", name):
            views.setdefault(match[1], {})[int(match[2])] = name
    cameras = {}
    for view, names in views.items():
        if sorted(names) != list(range(total)):
            lost = next((t for t in range(total) if t not in names), total)
            raise EpisodeError(
                Reason.MISSING_FEATURE,
                f"{view} has {len(names)} frames for {total} steps; the first to differ is {lost}",
            )
        frames = [folder.read(names[t], _IMAGE_LIMIT) for t in range(total)[kept]]
        probes = sorted({0, len(frames) // 2, len(frames) - 1})
        if any(np.ptp(decode_image(frames[t])) > _BLANK_SPREAD for t in probes):
            cameras[view] = CameraStream(view, frames)
        else:
            notes.append(f"view {view} is blank")
    depth = sorted({n.split("/")[0] for n in folder.files if n.startswith("depth_images")})
    notes += [f"{name} is there and is not read" for name in depth]
    if not cameras:
        raise EpisodeError(Reason.NO_CAMERA, "no images folder with pictures")
    return cameras


def read_instructions(folder: Folder, notes: list[str]) -> tuple[str, ...]:
    """Lines of lang.txt, one an annotator; a line with the annotator's confidence is noted."""
    if "lang.txt" not in folder.files:
        return ()
    try:
        lines = folder.read("lang.txt", _TEXT_LIMIT).decode().splitlines()
    except UnicodeDecodeError as error:
        raise EpisodeError(Reason.WRONG_DTYPE, f"lang.txt is not UTF-8: {error}") from error
    texts = dict.fromkeys(line.strip() for line in lines if line.strip())
    said = [text for text in texts if text.lower().startswith("confidence")]
    notes += [f"lang.txt: {text[:80]}" for text in said]
    return tuple(text for text in texts if text not in said)


def collection_notes(fs: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    """What the collection's own files say of cameras and scene; an episode is read without them."""
    notes, trees = [], {}
    for name in ("config.json", "collection_metadata.json"):
        path = f"{folder}/{name}"
        try:
            trees[name] = parse_json(read_head(fs, path, _JSON_LIMIT) or b"{}")
        except ValueError as error:
            notes.append(f"{name} is no JSON: {error}")
    topics = _dig(trees.get("config.json"), "agent", "env", 1, "camera_topics")
    for i, topic in enumerate(topics[:8] if isinstance(topics, list) else []):
        notes.append(f"images{i} is camera {(_dig(topic, 'name') or topic)!s:.80}")
    said = {key: _dig(trees.get("collection_metadata.json"), key) for key in _METADATA}
    return notes + [f"{key}: {str(value)[:80]}" for key, value in said.items() if value]


def _leads_inside(folder: str, path: str) -> bool:
    try:
        return Path(path).resolve(strict=True).is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError):  # nowhere, or a link to itself
        return False


def _dig(tree: Any, *path: str | int) -> str | list[Any] | None:
    """The text or list at ``path`` of parsed JSON; None where the tree is not made like that."""
    for key in path:
        if isinstance(tree, dict) and isinstance(key, str):
            tree = tree.get(key)
        elif isinstance(tree, list) and isinstance(key, int) and key < len(tree):
            tree = tree[key]
        else:
            return None
    return tree if isinstance(tree, (str, list)) else None

"""The files of huggingface.co/KarlP/droid, entry by entry; see `droid_calibration` for the form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters._json import parse_json
from schemas.reasons import UsageError

PATHS, SERIALS, INTRINSICS = "episode_id_to_path.json", "camera_serials.json", "intrinsics.json"
POSES = ("cam2base_extrinsics.json", "cam2base_extrinsic_superset.json")
TEXTS = "droid_language_annotations.json"
NAMES = (PATHS, SERIALS, INTRINSICS, *POSES, TEXTS, "keep_ranges_*.json")
# The largest published one, cam2cam_extrinsics.json, has 180 MB.
_MAX_BYTES = 1 << 29
_MAX_METRES = 5.0  # no camera stands farther from its robot
# "<LAB>+<user>+2023-03-07-16h-19m-59s" and ".../Tue_Mar__7_16_19_59_2023", which is ctime's.
_STAMP = re.compile(r"([^+]+)\+[^+]*\+(\d{4}-\d\d-\d\d)-(\d\d)h-(\d\d)m-(\d\d)s")
_CLOCK = re.compile(r"_([A-Z][a-z]{2})_+(\d{1,2})_(\d\d)_(\d\d)_(\d\d)_(\d{4})$")
_EPISODE = re.compile(
    r"(?:^|/)([^/]+/(?:success|failure)/[^/]+/[^/]+?)(?:/(?:trajectory\.h5|recordings.*)?)?$"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CONFLICT = object()  # an id that is there twice, with different values

Pose = tuple[float, ...]


class Camera(NamedTuple):
    """Intrinsics in pixels of a ``width`` x ``height`` image, in OpenCV's convention."""

    fx: float
    cx: float
    fy: float
    cy: float
    width: int
    height: int


@dataclass
class Dropped:
    """Counts what is left out, with the first example of each kind."""

    seen: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)  # of which it is not known what they name

    def add(self, file: str, why: str, key: str) -> None:
        """One entry of ``file``."""
        self.seen.setdefault((file, why), []).append(key)

    def notes(self) -> tuple[str, ...]:
        """A sentence a kind."""
        return tuple(
            f"{file}: {len(keys)} dropped, {why} (first: {keys[0][:120]})"
            for (file, why), keys in self.seen.items()
        )


def episode_path(path: str) -> str | None:
    """``<LAB>/<outcome>/<date>/<time>`` of any path to an episode or into it; None if it has none.

    DROID's RLDS and annotations write times with colons, its raw bucket with underscores.
    """
    match = _EPISODE.search(path)
    return match[1].replace(":", "_") if match else None


def same_episode(uuid: str, path: str) -> bool:
    """False where both carry lab and time and these differ (droid/postprocessing/stages.py)."""
    stamp, clock = _STAMP.fullmatch(uuid), _CLOCK.search(path)
    if stamp is None or clock is None or clock[1] not in _MONTHS:
        return True  # not named as DROID names them: nothing to compare
    month, day, hour, minute, second, year = clock.groups()
    date = f"{year}-{_MONTHS.index(month) + 1:02d}-{int(day):02d}"
    lab = path.partition("/")[0]
    return stamp.groups() == (lab, date, hour, minute, second)


def folder_time(name: str) -> datetime | None:
    """The local time that an episode folder's name is, as if it were UTC; None for other names."""
    clock = _CLOCK.search(name.replace(":", "_"))
    if clock is None or clock[1] not in _MONTHS:
        return None
    month, *numbers = clock.groups()
    day, hour, minute, second, year = map(int, numbers)
    try:
        return datetime(year, _MONTHS.index(month) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def found(folder: Path) -> list[Path]:
    """Annotation files in ``folder``, sorted."""
    return sorted(path for name in NAMES for path in folder.glob(name) if path.is_file())


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size; empty if the file is not there.

    Raises:
        UsageError: it is not that.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size} bytes; at most {_MAX_BYTES}")
    try:
        tree = parse_json(path.read_bytes(), _pairs)
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}; download it again") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} holds a {type(tree).__name__}; expected an object by episode")
    return tree


def read_paths(folder: Path, dropped: Dropped) -> dict[str, str]:
    """{uuid: normal path}, one to one."""
    named: dict[str, list[str]] = {}
    for uuid, stored in read_object(folder / PATHS).items():
        path = episode_path(stored) if isinstance(stored, str) else None
        if path is not None and same_episode(uuid, path):
            named.setdefault(path, []).append(uuid)
            continue
        why = "the path is of another lab or time than the id"
        if path is None:
            why = "an id with two paths" if stored is _CONFLICT else "no path of an episode"
        dropped.add(PATHS, why, uuid)
        dropped.ids.add(uuid)
    for path, uuids in named.items():
        if len(uuids) > 1:
            dropped.add(PATHS, "a path with two ids", path)
            dropped.ids.update(uuids)
    return {uuids[0]: path for path, uuids in named.items() if len(uuids) == 1}


def read_serials(folder: Path, dropped: Dropped) -> dict[str, dict[str, str]]:
    """{uuid: {role: serial}}; three different cameras, or as many as there are."""
    out = {}
    for uuid, entry in read_object(folder / SERIALS).items():
        serials = (
            {role: str(serial) for role, serial in entry.items() if role.endswith("_cam_serial")}
            if isinstance(entry, dict)
            else {}
        )
        if not serials or len(set(serials.values())) < len(serials):
            dropped.add(SERIALS, "no serials, or one for two cameras", uuid)
        else:
            out[uuid] = serials
    return out


def read_cameras(folder: Path, dropped: Dropped) -> dict[str, dict[str, Camera]]:
    """{uuid: {serial: intrinsics}}; all-zero ones are absent."""
    out: dict[str, dict[str, Camera]] = {}
    for uuid, entry in read_object(folder / INTRINSICS).items():
        if not isinstance(entry, dict):
            dropped.add(INTRINSICS, "an id twice, or no cameras by serial", uuid)
            continue
        for serial, stored in entry.items():
            camera = _camera(stored)
            if camera is None:
                dropped.add(INTRINSICS, "all zero, or no intrinsics", f"{uuid} {serial}")
            else:
                out.setdefault(uuid, {})[serial] = camera
    return out


def read_poses(
    folder: Path,
    path_of: Mapping[str, str],
    serials: Mapping[str, Mapping[str, str]],
    dropped: Dropped,
) -> dict[str, dict[str, Pose]]:
    """{uuid: {serial: pose}} of fixed cameras; the direct calibration wins over the superset."""
    out: dict[str, dict[str, Pose]] = {}
    for name in POSES:
        for uuid, entry in read_object(folder / name).items():
            if not isinstance(entry, dict):
                dropped.add(name, "an id twice, or no poses by serial", uuid)
                continue
            if not _is_of(uuid, entry, path_of):
                dropped.add(name, "relative_path is another episode's", uuid)
                continue
            roles = {serial: role for role, serial in serials.get(uuid, {}).items()}
            for serial, stored in entry.items():
                if not serial.isdigit():
                    continue  # quality figures
                pose = numbers(stored, 6)
                role = roles.get(serial)
                if pose is None or not any(pose) or math.hypot(*pose[:3]) > _MAX_METRES:
                    dropped.add(name, "no pose within 5 m", f"{uuid} {serial}")
                elif roles and role is None:
                    dropped.add(name, "the camera is not this episode's", f"{uuid} {serial}")
                elif role == "wrist_cam_serial":
                    dropped.add(name, "a fixed pose for the moving wrist camera", uuid)
                else:
                    out.setdefault(uuid, {}).setdefault(serial, pose)
    return out


def read_texts(folder: Path, dropped: Dropped) -> dict[str, tuple[str, ...]]:
    """{uuid: instructions}, without repeats or empty ones."""
    out = {}
    for uuid, entry in read_object(folder / TEXTS).items():
        if not isinstance(entry, dict):
            dropped.add(TEXTS, "an id twice, or no instructions", uuid)
            continue
        stored = [entry.get(f"language_instruction{n}") for n in (1, 2, 3)]
        texts = dict.fromkeys(t.strip() for t in stored if isinstance(t, str) and t.strip())
        if texts:
            out[uuid] = tuple(texts)
    return out


def read_keep(folder: Path, dropped: Dropped) -> dict[str, tuple[tuple[int, int], ...]]:
    """{normal path: ranges}; a path twice with different ranges is dropped."""
    out: dict[str, tuple[tuple[int, int], ...]] = {}
    twice: set[str] = set()
    for file in sorted(folder.glob("keep_ranges_*.json")):
        for key, stored in read_object(file).items():
            recording, _, log = key.rpartition("--")
            path = episode_path(log)
            ranges = _ranges(stored)
            if path is None or ranges is None or episode_path(recording) not in (path, None):
                dropped.add(file.name, "no ranges of one episode", key)
            elif out.setdefault(path, ranges) != ranges:
                dropped.add(file.name, "an episode with two different ranges", path)
                twice.add(path)
    return {path: ranges for path, ranges in out.items() if path not in twice}


def numbers(value: object, count: int) -> tuple[float, ...] | None:
    """A JSON list of ``count`` finite numbers."""
    if not isinstance(value, list) or len(value) != count:
        return None
    if not all(type(v) is float or (type(v) is int and abs(v) < 1e15) for v in value):
        return None
    return tuple(map(float, value)) if all(map(math.isfinite, value)) else None


def matrix(entry: object, side: str) -> NDArray[np.float64] | None:
    """The 3x4 or 4x4 ``pose`` of one side of a cam2cam entry, as (4, 4)."""
    stored = entry.get(side) if isinstance(entry, dict) else None
    rows = stored.get("pose") if isinstance(stored, dict) else None
    if not isinstance(rows, list) or len(rows) not in (3, 4):
        return None
    values = [numbers(row, 4) for row in rows]
    if any(row is None for row in values):
        return None
    pose = np.eye(4)
    pose[:3] = values[:3]
    turn = pose[:3, :3]
    sound = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0
    return pose if sound else None


def _camera(stored: object) -> Camera | None:
    size: tuple[object, object] = (1280, 720)
    if isinstance(stored, dict):
        size = (stored.get("width", 1280), stored.get("height", 720))
        stored = stored.get("cameraMatrix")
    values, sides = numbers(stored, 4), numbers(list(size), 2)
    if values is None or sides is None:
        return None
    fx, cx, fy, cy = values
    width, height = sides
    whole = (int(width), int(height))
    if whole != sides or not (0 < cx < width and 0 < cy < height):
        return None
    # From a view of 0.06 degrees to one of nearly 180: beyond it is no lens.
    if not all(1e-3 < f / width < 1e3 for f in (fx, fy)):
        return None
    return Camera(fx, cx, fy, cy, *whole)


def _is_of(uuid: str, entry: Mapping[str, Any], path_of: Mapping[str, str]) -> bool:
    stored = entry.get("relative_path")
    if not isinstance(stored, str) or (path := episode_path(stored)) is None:
        return True  # it says nothing of its own
    return path_of.get(uuid, path) == path and same_episode(uuid, path)


def _ranges(stored: object) -> tuple[tuple[int, int], ...] | None:
    pairs = [numbers(pair, 2) for pair in stored] if isinstance(stored, list) else [None]
    out = [(int(pair[0]), int(pair[1])) for pair in pairs if pair is not None]
    sound = len(out) == len(pairs) and all(0 <= start < stop for start, stop in out)
    return tuple(out) if sound else None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in pairs:
        tree[key] = value if tree.get(key, value) == value else _CONFLICT
    return tree

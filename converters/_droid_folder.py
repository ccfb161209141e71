"""One episode folder of DROID's raw release, and where such folders are."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters._droid_files import numbers, same_episode
from converters._json import parse_json
from converters.droid_calibration import ROLES
from schemas.reasons import EpisodeError, Reason, UsageError

_MAX_JSON = 1 << 23
_INFO = "dataset_info.json"  # the release has none; a twin says in it what it is


@dataclass(frozen=True)
class Metadata:
    """What is used of ``metadata_<uuid>.json``; serials by the streams' names."""

    uuid: str
    serials: dict[str, str]
    success: bool | None
    task: str


def description(root: Path) -> str:
    """What the data set says of itself; nothing, unless it is a twin."""
    if not (root / _INFO).is_file():
        return ""
    try:
        info = read_json(root / _INFO)
    except EpisodeError as error:
        raise UsageError(f"{root / _INFO}: {error}") from error
    return str(info.get("description", "")) if isinstance(info, dict) else ""


def find_roots(data: Path) -> list[Path]:
    """Folders of labs at ``data`` or at most two below, at the first depth that has any."""
    level = [data] if data.is_dir() else []
    for _ in range(3):
        roots = [folder for folder in level if _is_root(folder)]
        if roots:
            return roots
        level = [child for folder in level for child in _folders(folder)]
    return []


def _is_root(folder: Path) -> bool:
    return not (folder / "features.json").exists() and any(True for _ in episodes(folder))


def episodes(root: Path) -> Iterator[Path]:
    """Folders that hold a log, metadata or recordings, in order of their path."""
    for lab in _folders(root):
        for outcome in ("failure", "success"):
            for day in _folders(lab / outcome):
                for folder in _folders(day):
                    parts = (folder / "trajectory.h5", folder / "recordings")
                    if any(p.exists() for p in parts) or any(folder.glob("metadata_*.json")):
                        yield folder


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_metadata(folder: Path, path: str) -> Metadata:
    """The folder's one metadata file, refused if it is another episode's.

    Raises:
        EpisodeError: `MISSING_FEATURE`, `BAD_IDENTITY`, `WRONG_DTYPE` or `UNDECODABLE_RECORD`.
    """
    found = sorted(folder.glob("metadata_*.json"))
    if len(found) != 1:
        reason = Reason.BAD_IDENTITY if found else Reason.MISSING_FEATURE
        raise EpisodeError(reason, f"{len(found)} files metadata_<uuid>.json; expected one")
    tree = read_json(inside(folder, found[0]))
    if not isinstance(tree, dict):
        raise EpisodeError(Reason.WRONG_DTYPE, f"{found[0].name} holds no object")
    uuid = found[0].stem.removeprefix("metadata_")
    if not uuid.isprintable():
        raise EpisodeError(Reason.BAD_IDENTITY, f"metadata file {found[0].name!r} has no sane name")
    log = tree.get("hdf5_path")
    tail = "/".join(path.split("/")[-2:])
    if tree.get("uuid", uuid) != uuid or not same_episode(uuid, path):
        raise EpisodeError(
            Reason.BAD_IDENTITY,
            f"{found[0].name} names {tree.get('uuid')!r} and lies in {path!r}: another episode's?",
        )
    if isinstance(log, str) and f"{tail}/trajectory.h5" not in log.replace(":", "_"):
        raise EpisodeError(
            Reason.BAD_IDENTITY, f"{found[0].name} is of {log[:120]!r}, not of {path!r}"
        )
    serials = {}
    for name, role in ROLES.items():
        serial = str(tree.get(role, ""))
        if not re.fullmatch(r"[0-9]{1,16}", serial):
            raise EpisodeError(
                Reason.WRONG_DTYPE if serial else Reason.MISSING_FEATURE,
                f"{role} is {serial[:60]!r}; expected a camera's serial number",
            )
        serials[name] = serial
    if len(set(serials.values())) < len(serials):
        raise EpisodeError(Reason.BAD_IDENTITY, f"one camera in two places: {serials}")
    success, task = tree.get("success"), tree.get("current_task")
    return Metadata(
        uuid,
        serials,
        success if isinstance(success, bool) else None,
        task.strip() if isinstance(task, str) else "",
    )


def recorded_times(folder: Path, video: Path) -> NDArray[np.float64] | None:
    """(frames,) ms from ``<serial>_timestamps.json`` beside a video; None without one."""
    file = video.with_name(f"{video.stem}_timestamps.json")
    if not file.is_file():
        return None
    tree = read_json(inside(folder, file))
    values = numbers(tree, len(tree)) if isinstance(tree, list) else None
    if values is None:
        raise EpisodeError(Reason.WRONG_DTYPE, f"{file.name} is no list of times in ms")
    return np.asarray(values, float)


def read_json(file: Path) -> Any:
    """JSON of bounded size.

    Raises:
        EpisodeError: `TOO_LARGE`, `UNDECODABLE_RECORD`, or `MISSING_FEATURE` (a folder, a pipe).
    """
    if not file.is_file():
        raise EpisodeError(Reason.MISSING_FEATURE, f"{file.name} is no regular file")
    size = file.stat().st_size
    if size > _MAX_JSON:
        raise EpisodeError(Reason.TOO_LARGE, f"{file.name} has {size} bytes; at most {_MAX_JSON}")
    try:
        return parse_json(file.read_bytes())
    except ValueError as error:
        raise EpisodeError(Reason.UNDECODABLE_RECORD, f"{file.name} is no JSON: {error}") from error


def inside(folder: Path, file: Path) -> Path:
    """``file``, if links do not lead out of the episode's folder.

    Raises:
        EpisodeError: `BAD_IDENTITY`.
    """
    try:
        within = file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        within = False
    if not within:
        raise EpisodeError(
            Reason.BAD_IDENTITY, f"{file.name} is a link out of the episode's folder; refused"
        )
    return file


def stereo_file(video: Path) -> Path:
    """Where a recording's two views side by side are published, if they are."""
    return video.with_name(f"{video.stem}-stereo.mp4")


def record_sha256(folder: Path, metadata: Metadata, *, stereo: bool = False) -> str:
    """Over the name and sha256 of each file of an episode that is read, in this order: log,
    metadata, of each camera its video and the video's times, and with ``stereo`` both views.
    """
    videos = [
        folder / "recordings" / "MP4" / f"{serial}.mp4" for serial in metadata.serials.values()
    ]
    times = [video.with_name(f"{video.stem}_timestamps.json") for video in videos]
    digest = hashlib.sha256()
    for file in (
        folder / "trajectory.h5",
        folder / f"metadata_{metadata.uuid}.json",
        *(file for pair in zip(videos, times, strict=True) for file in pair if file.is_file()),
        *(file for file in map(stereo_file, videos) if stereo and file.is_file()),
    ):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.name} {content}\n".encode())
    return digest.hexdigest()


def file_mark(file: Path, block: int = 4096) -> bytes:
    """Name, size, head and tail: changes when the file does, and costs two reads."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        head = stream.read(block)
        stream.seek(max(size - block, 0))
        return os.fsencode(f"{file.name} {size} ") + head + stream.read(block)

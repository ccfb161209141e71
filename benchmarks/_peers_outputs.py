"""What lies in an output folder of `benchmarks.peers`: bytes, files, what does not decode, clips.

Judged by other libraries than those that wrote it where there are some: tarfile, PyAV, OpenCV,
pyarrow, numpy.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# What our build clears at its next start; nothing in there has a final name.
_SCRATCH = {".tmp", ".lock"}
_UNREADABLE = (
    av.error.FFmpegError,
    tarfile.TarError,
    pa.ArrowInvalid,
    json.JSONDecodeError,
    ValueError,
    EOFError,
)


def files_of(out: Path) -> list[Path]:
    """All files, scratch of ours left out."""
    found = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return [path for path in found if not _SCRATCH & set(path.relative_to(out).parts)]


def sha256_of(out: Path) -> dict[str, str]:
    """Relative path -> sha256."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_of(out)
    }


def broken(out: Path) -> list[str]:
    """Files under their final names that do not decode from the first byte to the last."""
    return [str(path.relative_to(out)) for path in files_of(out) if not decodes(path)]


def decodes(path: Path) -> bool:
    """Whether a PNG, mp4, npy, Parquet, tar or JSON file is whole; True for any other kind."""
    try:
        match path.suffix:
            case ".png":
                return cv2.imread(str(path)) is not None
            case ".mp4":
                return frames_of(path) > 0
            case ".npy":
                np.load(path)
            case ".parquet":
                pq.read_table(path)
            case ".json":
                json.loads(path.read_bytes())
            case ".tar":
                return all(
                    not name.endswith(".mp4") or frames_of(io.BytesIO(data)) > 0
                    for name, data in tar_members(path)
                )
    except _UNREADABLE:
        return False
    return True


def frames_of(video: Path | io.BytesIO) -> int:
    """Frames that PyAV decodes of a video."""
    with av.open(str(video) if isinstance(video, Path) else video) as container:
        return sum(1 for _ in container.decode(video=0))


def tar_members(path: Path) -> list[tuple[str, bytes]]:
    """(name, bytes) of every member.

    Raises:
        tarfile.TarError: the file ends within a member, or before the end mark.
    """
    found = []
    with path.open("rb") as file:
        file.seek(max(-1024, -path.stat().st_size), 2)
        if file.read() != bytes(1024):
            raise tarfile.ReadError(f"{path} lacks the two empty blocks that end a tar")
    with tarfile.open(path) as tar:
        for member in tar:
            body = tar.extractfile(member)
            found.append((member.name, body.read() if body else b""))
            if len(found[-1][1]) < member.size:
                raise tarfile.ReadError(f"{path} ends within {member.name}")
    return found


def clips_of_ours(out: Path) -> Counter[str]:
    """(episode, camera) -> how often it is there, by what the tars hold."""
    found: Counter[str] = Counter()
    for path in sorted(out.glob("*.tar")):
        for name, data in tar_members(path):
            if name.endswith(".meta.json"):
                meta = json.loads(data)
                found[f"{meta['id']} {meta['camera']}"] += 1
    return found


def clips_of_kinema4d(out: Path) -> Counter[str]:
    """(episode, camera) whose five files decode and are equally long."""
    found: Counter[str] = Counter()
    for video in sorted(out.glob("*/videos/*.mp4")):
        home, stem = video.parent.parent, video.stem
        kinds = ("videos", "mask_videos", "pointmap", "mask_pointmap")
        parts = [home / kind / video.name for kind in kinds]
        mask = home / "masks_npy" / f"{stem}_multi_seed_union_mask.npy"
        if all(path.exists() and decodes(path) for path in [*parts, mask]):
            lengths = {frames_of(path) for path in parts} | {len(np.load(mask))}
            found[f"{stem} {home.name}"] += len(lengths) == 1
    return found


def clips_of_lerobot(out: Path) -> Counter[str]:
    """(episode, camera) that the tables name and whose frames are in the data and in the video."""
    found: Counter[str] = Counter()
    readable = [path for path in sorted(out.glob("meta/episodes/*/*.parquet")) if decodes(path)]
    frames: Counter[int] = Counter()
    for path in sorted(out.glob("data/*/*.parquet")):
        if decodes(path):
            frames.update(pq.read_table(path, columns=["episode_index"])[0].to_pylist())
    lengths: dict[Path, int] = {}
    for row in (row for path in readable for row in pq.read_table(path).to_pylist()):
        number = row["episode_index"]
        for key in (name for name in row if name.startswith("videos/")):
            camera, _, leaf = key.removeprefix("videos/").rpartition("/")
            if leaf != "file_index":
                continue
            chunk, file = row[f"videos/{camera}/chunk_index"], row[key]
            video = out / "videos" / camera / f"chunk-{chunk:03d}" / f"file-{file:03d}.mp4"
            if video not in lengths:
                lengths[video] = frames_of(video) if video.exists() and decodes(video) else 0
            there = row["length"] == frames[number] and lengths[video] > 0
            found[f"{number} {camera}"] += there
    return found

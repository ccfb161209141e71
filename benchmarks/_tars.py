"""The same clips in tars of several kinds, ways to read them, and files out of the page cache."""

from __future__ import annotations

import ctypes
import io
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from numpy.typing import NDArray

import robo4d
from benchmarks._scene import FPS, Clip
from robo4d.sample import encode_sample, sample_key
from robo4d.shard import INDEX_SUFFIX, ShardWriter

READ = ("rgb", "depth", "robot_depth")
_MEMBERS = ("rgb.mp4", "depth.r4a", "robot_depth.r4a")


def clip_fields(clip: Clip, depth: NDArray[np.float32]) -> dict[str, NDArray]:
    """The clip's fields with ``depth`` in place of the rendered one."""
    return {f.name: getattr(clip, f.name) for f in fields(clip)} | {"depth": depth}


def encode_ours(clip: Clip, depth: NDArray[np.float32]) -> dict[str, bytes]:
    """The members of the published format."""
    return encode_sample(clip_fields(clip, depth), {"source": "benchmark"}, FPS)


def encode_npz(clip: Clip, depth: NDArray[np.float32], packed: bool) -> dict[str, bytes]:
    """One npz of RGB, depth and robot depth."""
    buffer = io.BytesIO()
    save = np.savez_compressed if packed else np.savez
    save(buffer, rgb=clip.rgb, depth=depth, robot_depth=clip.robot_depth)
    return {"npz": buffer.getvalue()}


def write_tar(path: Path, samples: Sequence[dict[str, bytes]], count: int) -> None:
    """A tar of ``count`` clips, ``samples`` in turn, with our index beside it."""
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for i in range(count):
            # Our writer refuses names that the format does not have, so npz gets a two-part one.
            members = {
                "clip.npz" if k == "npz" else k: v for k, v in samples[i % len(samples)].items()
            }
            writer.add(sample_key("benchmark", "camera", i), members)
        index = writer.finish(path.name)
        file.flush()
        os.fsync(file.fileno())
    index_path(path).write_bytes(index.to_json())


def index_path(path: Path) -> Path:
    """Where the index of a tar lies."""
    return path.with_name(path.name.removesuffix(".tar") + INDEX_SUFFIX)


def read_indexed(path: Path) -> int:
    """`robo4d.open`, sample by sample; returns the clips read."""
    count = 0
    for sample in robo4d.open(path):
        _touch(sample.load(*READ))
        count += 1
    return count


def read_npz(path: Path) -> int:
    """Webdataset over npz members."""
    count = 0
    for sample in _webdataset(path).decode():
        arrays = sample["clip.npz"]
        _touch({name: arrays[name] for name in READ})
        count += 1
    return count


def read_streamed(path: Path, select: bool) -> int:
    """Webdataset over our tar: all members, or those of `READ` alone."""
    wanted: Callable[[str], bool] | None = (
        (lambda name: name.endswith(_MEMBERS)) if select else None
    )
    count = 0
    for sample in _webdataset(path, select_files=wanted).decode(robo4d.decode_member):
        _touch({name: sample[name] for name in _MEMBERS})
        count += 1
    return count


def _webdataset(path: Path, **options: Any) -> Any:
    return webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False, **options)


def _touch(arrays: dict[str, NDArray]) -> None:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.size == 0:
            raise SystemExit(f"{name} came back as {type(array).__name__}; expected an array")


def drop_from_cache(paths: Sequence[Path]) -> float:
    """Ask the kernel to forget the files; returns the share of their pages still in memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return resident_share(paths)


def resident_share(paths: Sequence[Path]) -> float:
    """Share of the files' pages that the page cache holds, by mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = pages = 0
    for path in paths:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            count = -(-len(view) // mmap.PAGESIZE)
            vector = (ctypes.c_ubyte * count)()
            start = ctypes.c_char.from_buffer(view)
            failed = libc.mincore(
                ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(view)), vector
            )
            del start  # the view cannot close while a pointer into it lives
            if failed:
                raise OSError(ctypes.get_errno(), "mincore")
            held += int(np.frombuffer(vector, np.uint8).__and__(1).sum())
            pages += count
    return held / pages

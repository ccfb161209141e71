"""How a twin is written: TFRecord framing, `dataset_info.json`, and the truth beside them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import zarr
from zarr.codecs import BloscCodec

from schemas.truth import truth_group
from simulation.film import Film
from simulation.script import Script

# Frames a chunk of truth holds; a clip reads few of them in vain.
_CHUNK = 16


def write_tfrecord(path: Path, payloads: Sequence[bytes]) -> None:
    """Length, masked CRC32C of it, payload, masked CRC32C of it; little-endian.

    As tensorflow/core/lib/io/record_writer.h has it.
    """
    with path.open("wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + _masked_crc(length) + payload + _masked_crc(payload))


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def write_dataset_info(
    folder: Path,
    *,
    name: str,
    version: str,
    description: str,
    shard_lengths: Sequence[int],
    payload_bytes: int,
) -> None:
    """``dataset_info.json`` in TensorFlow Datasets' form: numbers as text, one split ``train``."""
    info = {
        "description": description,
        "fileFormat": "tfrecord",
        "name": name,
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": "train",
                "numBytes": str(payload_bytes),
                "shardLengths": [str(length) for length in shard_lengths],
            }
        ],
        "version": version,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n")


def write_truth(
    store: Path,
    episode_id: str,
    films: dict[str, Film],
    motion: Script | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """One group a camera, as `schemas.truth` lays it out; bit-exact, so blosc over zstd.

    Args:
        motion: adds ``joints`` (T, J) rad and ``gripper`` (T,) opening, at the log's steps, and
            the attribute ``success``, where the layout does not hold them.
        facts: attributes by camera: what is wrong with its images.
    """
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    for camera, film in films.items():
        group = zarr.open_group(store, path=truth_group(episode_id, camera), mode="a")
        for name, values in (("depth", film.depth), ("robot_part", film.robot_part)):
            group.create_array(
                name,
                data=values,
                chunks=(min(_CHUNK, len(values)), *values.shape[1:]),
                compressors=codec,
            )
        group.create_array("K", data=film.K, compressors=codec)
        group.create_array("base_from_camera", data=film.base_from_camera, compressors=codec)
        if motion is not None:
            group.create_array("joints", data=motion.joints, compressors=codec)
            opening = motion.opening.astype("float32")
            group.create_array("gripper", data=opening, compressors=codec)
            group.attrs["success"] = motion.success
        group.attrs.update((facts or {}).get(camera, {}))

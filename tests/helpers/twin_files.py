"""A twin as its records and its truth, read without the code that builds from them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from schemas.truth import truth_group
from simulation.film import Film


@dataclass(frozen=True)
class Twin:
    """A twin's folder and what it holds; ids are those that DROID's converter gives."""

    folder: Path
    records: list  # of tf.train.Example

    def text(self, episode: int, feature: str) -> str:
        return self.records[episode].features.feature[feature].bytes_list.value[0].decode()

    def images(self, episode: int, camera: str) -> list[bytes]:
        feature = self.records[episode].features.feature[f"steps/observation/{camera}"]
        return list(feature.bytes_list.value)

    def floats(self, episode: int, feature: str, width: int = 1) -> np.ndarray:
        values = self.records[episode].features.feature[f"steps/{feature}"].float_list.value
        return np.asarray(values, np.float32).reshape(-1, width)

    def id(self, episode: int) -> str:
        path = self.text(episode, "episode_metadata/file_path")
        return "droid/TWIN/" + path.split("/TWIN/")[1].removesuffix("/trajectory.h5").replace(
            ":", "_"
        )

    def truth(self, episode: int, camera: str) -> zarr.Group:
        return self.truth_of(self.id(episode), camera)

    def truth_of(self, episode_id: str, camera: str) -> zarr.Group:
        return zarr.open_group(
            self.folder / "truth.zarr", path=truth_group(episode_id, camera), mode="r"
        )

    def film(self, episode: int, camera: str) -> Film:
        """What was filmed for that view of DROID, without filming it again."""
        truth = self.truth(episode, camera)
        arrays = (truth[name][:] for name in ("depth", "robot_part", "K", "base_from_camera"))
        return Film(tuple(self.images(episode, camera)), *arrays)


def _payloads(folder: Path) -> list[bytes]:
    found = []
    for path in sorted(folder.glob("*.tfrecord-*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(data[at + 12 : at + 12 + length])
            at += 16 + length
    return found


def read_twin(folder: Path) -> Twin:
    """What `simulation.twin.make_twin` wrote there."""
    from tensorflow_datasets.proto import tf_example_pb2

    return Twin(folder, [tf_example_pb2.Example.FromString(data) for data in _payloads(folder)])

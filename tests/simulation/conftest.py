"""One twin of two episodes for all tests here: the first succeeds, the second drops its thing."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

from schemas.truth import truth_group


@dataclass(frozen=True)
class Twin:
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
        return "droid/TWIN/" + path.split("/TWIN/")[1].removesuffix("/trajectory.h5")

    def truth(self, episode: int, camera: str) -> zarr.Group:
        return zarr.open_group(
            self.folder / "truth.zarr", path=truth_group(self.id(episode), camera), mode="r"
        )


def _payloads(folder: Path) -> list[bytes]:
    found = []
    for path in sorted(folder.glob("*.tfrecord-*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(data[at + 12 : at + 12 + length])
            at += 16 + length
    return found


@pytest.fixture(scope="session")
def twin(droid_twin: Path) -> Twin:
    from tensorflow_datasets.proto import tf_example_pb2

    return Twin(
        droid_twin, [tf_example_pb2.Example.FromString(data) for data in _payloads(droid_twin)]
    )

"""A twin as its records and its truth; DROID's has two episodes, placed and dropped."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

from schemas.truth import truth_group
from simulation.twin import make_twin


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
        return "droid/TWIN/" + path.split("/TWIN/")[1].removesuffix("/trajectory.h5").replace(
            ":", "_"
        )

    def truth(self, episode: int, camera: str) -> zarr.Group:
        return self.truth_of(self.id(episode), camera)

    def truth_of(self, episode_id: str, camera: str) -> zarr.Group:
        return zarr.open_group(
            self.folder / "truth.zarr", path=truth_group(episode_id, camera), mode="r"
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


def _read(folder: Path) -> Twin:
    from tensorflow_datasets.proto import tf_example_pb2

    return Twin(folder, [tf_example_pb2.Example.FromString(data) for data in _payloads(folder)])


@pytest.fixture(scope="session")
def twin(droid_twin: Path) -> Twin:
    return _read(droid_twin)


@pytest.fixture(scope="session")
def bridge_twin(menagerie: Path, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """One episode on a table, placed."""
    return _read(make_twin("bridge", tmp_path_factory.mktemp("bridge") / "twin", episodes=1))


@pytest.fixture(scope="session")
def rt1_twin(menagerie: Path, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """Two episodes: placed and dropped."""
    return _read(make_twin("rt1", tmp_path_factory.mktemp("rt1") / "twin", episodes=2))


@pytest.fixture(scope="session")
def libero_twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """Two episodes: placed and dropped."""
    return _read(make_twin("libero", tmp_path_factory.mktemp("libero") / "twin", episodes=2))


@pytest.fixture(scope="session")
def spoilt_rt1_twin(menagerie: Path, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """The same two, filmed late and with frames lost."""
    out = tmp_path_factory.mktemp("spoilt") / "twin"
    return _read(make_twin("rt1", out, episodes=2, latency=(1, 3), dropped=0.15))

"""The build that `benchmarks.chaos` disturbs: its data, its command, and what must hold of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.inputs_rlds import data_set, droid_features, droid_record
from converters.droid import CAMERAS
from pipeline.store import OutputError, Store
from pipeline.verify import verify

REPO = Path(__file__).resolve().parents[1]
SHARD_EPISODES = 2
# Nothing to solve cameras from in these frames, and seconds to find that out.
SETTINGS = (
    f"shard.episodes={SHARD_EPISODES}",
    "camera.solve=never",
    "quarantine.max_share=1",
    "run.retries=20",
)
LAST = "dataset.json"  # of the files that a build writes


@dataclass(frozen=True)
class Data:
    """A small DROID data set, and what a build must make of it.

    Attributes:
        sound: ids of the episodes that are built.
        bad: number of records that are set aside.
    """

    root: Path
    sound: frozenset[str]
    bad: int

    @property
    def shards(self) -> int:
        """Of a build of it."""
        return -(-(len(self.sound) + self.bad) // SHARD_EPISODES)

    def command(self, out: str, engine: str, workers: int, more: Iterable[str] = ()) -> list[str]:
        """`robo4d build` of it."""
        said = [part for key in (*SETTINGS, *more) for part in ("--set", key)]
        args = ["-s", "droid", "-d", str(self.root), "-o", out, "-e", engine, "-w", str(workers)]
        return [sys.executable, "-m", "jobs.cli", "build", *args, *said]


def make_data(root: Path, episodes: int) -> Data:
    """Write a data set of ``episodes`` records, two of them bad: one no record, one too short."""
    names = [f"Mon_{i}" for i in range(episodes - 2)]
    place = "TEST/success/2026-01-01"
    records = [
        droid_record(path=f"{place}/{name}", offset=0.01 * i) for i, name in enumerate(names)
    ]
    records.insert(len(names) // 3, b"no record")
    records.append(droid_record(1, f"{place}/Short"))
    for path, content in data_set("droid", "1.0.0", droid_features(), records).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return Data(root, frozenset(f"droid/{place}/{name}" for name in names), 2)


def environment(cache: Path) -> dict[str, str]:
    """Of a build: with a cache of its own."""
    return {**os.environ, "ROBO4D_CACHE": str(cache), "PYTHONPATH": str(REPO)}


def contents(store: Store) -> dict[str, bytes]:
    """Every file under its final name, but the lock."""
    names = [name for name in sorted(store.names()) if name != ".lock"]
    found = {}
    for name in names:
        try:
            found[name] = store.read(name)
        except FileNotFoundError:  # an orphan or the next build took it away just now
            continue
    return found


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """sha256 of each."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def unsound_pieces(files: Mapping[str, bytes]) -> list[str]:
    """What is wrong with an unfinished build: half-written files, indexes without their tar."""
    wrong = []
    for name, content in files.items():
        try:
            if name.endswith(".parquet"):
                pq.read_table(io.BytesIO(content))
            elif name.endswith(".json"):
                told = json.loads(content)
                if name.endswith(".index.json"):
                    tar = hashlib.sha256(files[told["shard"]]).hexdigest()
                    if tar != told["sha256"]:
                        wrong.append(f"{name} beside another tar")
        except (ValueError, OSError, KeyError) as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    return wrong


def wrong_result(data: Data, store: Store, expected: Mapping[str, str]) -> list[str]:
    """What is wrong with a finished build: other bytes, lost or doubled episodes, `verify`."""
    files = contents(store)
    found = hashes(files)
    wrong = [
        f"{name} is {'missing' if name not in found else 'other' if name in expected else 'more'}"
        for name in sorted({**found, **expected})
        if found.get(name) != expected.get(name)
    ]
    if LAST not in files:
        return [*wrong, "it is not finished"]
    rows = pq.read_table(io.BytesIO(files["manifest.parquet"])).to_pylist()
    views = [(row["episode_id"], row["camera"]) for row in rows]
    if sorted(views) != sorted((name, camera) for name in data.sound for camera in CAMERAS):
        wrong.append("episodes are lost or doubled")
    if pq.read_metadata(io.BytesIO(files["quarantine.parquet"])).num_rows != data.bad:
        wrong.append("another number of episodes in quarantine")
    try:
        wrong += verify(store).problems
    except OutputError as error:
        wrong.append(str(error))
    if store.folder is not None and (left := list((store.folder / ".tmp").glob("*"))):
        wrong.append(f"left in the scratch folder: {[path.name for path in left]}")
    return wrong

"""Twins: small simulated data sets in a source's exact published layout, with the truth beside.

::

    out/droid/1.0.0/features.json, dataset_info.json
                    droid-train.tfrecord-0000k-of-0000n
                    truth.zarr                          depth, part ids, cameras (schemas/truth.py)

Likewise ``bridge_dataset/1.0.0``, ``fractal20220817_data/0.1.0`` and
``libero_spatial_no_noops/1.0.0``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import zarr

from schemas.reasons import UsageError, did_you_mean
from schemas.truth import TRUTH_STORE
from simulation import bridge, droid, libero_rlds, rt1
from simulation._store import write_dataset_info, write_tfrecord, write_truth
from simulation.defects import Defects
from simulation.film import Film
from simulation.rig import Rig

# Sources with a twin, and the folder of their layout.
TWINS = {
    "droid": "droid/1.0.0",
    "bridge": "bridge_dataset/1.0.0",
    "rt1": "fractal20220817_data/0.1.0",
    "libero": "libero_spatial_no_noops/1.0.0",
}
# A worker peaks at about 0.9 GB (measured: renderer, meshes, one episode's truth).
_MAX_WORKERS = 2
# Seeds are days in the episodes' identities; 30 years of them keep the calendar sane.
_MAX_SEED = 10_000

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

Progress = Callable[[int, int], None]


class TwinSource(Protocol):
    """What a source's module offers; its episodes are its own, each with a ``script``."""

    RIG: Rig
    HOLDS_JOINTS: bool
    """Whether the layout itself holds joints; if not, they go to the truth."""

    def draw_episode(self, seed: int, index: int) -> Any:
        """Episode ``index`` of the twin of ``seed``, not filmed yet."""

    def film_episode(self, episode: Any) -> dict[str, Film]:
        """Frames and truth of every camera."""

    def encode_episode(self, episode: Any, films: dict[str, Film]) -> dict[str, Any]:
        """The record as `tfds_features` takes it."""

    def episode_id(self, episode: Any, example: dict[str, Any]) -> str:
        """As `converters` will name it."""

    def tfds_features(self) -> FeaturesDict:
        """The published features."""

    def describe(self, seed: int) -> str:
        """What ``dataset_info.json`` says of the data set."""


_SOURCES: dict[str, TwinSource] = {
    "droid": droid,
    "bridge": bridge,
    "rt1": rt1,
    "libero": libero_rlds,
}


def make_twin(
    source: str,
    out: Path,
    *,
    episodes: int = 3,
    seed: int = 0,
    latency: int | tuple[int, int] = 0,
    dropped: float = 0.0,
    progress: Progress | None = None,
) -> Path:
    """Make a twin under ``out``; the same source, episodes and seed give the same bytes.

    It is written beside ``out`` and renamed at the end, so a killed run leaves nothing there.
    Episodes are filmed by spawned processes: a script that calls this needs the usual
    ``if __name__ == "__main__"``.

    Args:
        source: key in `TWINS`.
        out: folder to make; must not exist, or be empty.
        episodes: how many; every third fails, truly.
        latency: steps by which images, and the truth of what they show, lag behind the log; with
            (least, most), drawn for each episode anew.
        dropped: share of frames that are lost and repeat the one before. What was done is said in
            the truth's attributes.
        progress: called with episodes done and in all.

    Returns:
        The folder that a converter opens: ``out/droid/1.0.0``.

    Raises:
        UsageError: no such twin, a value out of range, or ``out`` holds something.
        robots.models.RobotAssetsError: the robot's description is not here.
        robots.offscreen.RenderingUnavailable: no OpenGL here.
    """
    _check(source, episodes, seed)
    defects = Defects((latency, latency) if isinstance(latency, int) else latency, dropped)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and not an empty folder; choose another place")
    # Said here, and downloaded once, before several workers ask for the same files.
    _SOURCES[source].RIG.robot.compile()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        made = Path(scratch) / "twin"
        folder = made / TWINS[source]
        folder.mkdir(parents=True)
        zarr.open_group(folder / TRUTH_STORE, mode="w")
        payloads = _film_all(source, folder / TRUTH_STORE, episodes, seed, defects, progress)
        half = (episodes + 1) // 2
        shards = [shard for shard in (payloads[:half], payloads[half:]) if shard]
        for k, shard in enumerate(shards):
            name = f"{folder.parent.name}-train.tfrecord-{k:05d}-of-{len(shards):05d}"
            write_tfrecord(folder / name, shard)
        _SOURCES[source].tfds_features().save_config(str(folder))  # features.json
        write_dataset_info(
            folder,
            name=folder.parent.name,
            version=folder.name,
            description=_SOURCES[source].describe(seed),
            shard_lengths=[len(shard) for shard in shards],
            payload_bytes=sum(map(len, payloads)),
        )
        if out.exists():
            out.rmdir()
        made.rename(out)
    return out / TWINS[source]


def default_twin(
    source: str,
    cache: Path,
    *,
    episodes: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """The twin kept under ``cache``, made on first use.

    Its folder's name carries a hash of the code that made it, so a change there makes a new one.

    Raises:
        UsageError: as `make_twin`.
    """
    _check(source, episodes, seed)
    out = Path(cache) / f"twin-{source}-{episodes}-{seed}-{_code_hash()}"
    if not (out / TWINS[source]).is_dir():
        try:
            make_twin(source, out, episodes=episodes, seed=seed, progress=progress)
        except (OSError, UsageError):
            # Another process may have finished the same twin first; its bytes are the same.
            if not (out / TWINS[source]).is_dir():
                raise
    return out / TWINS[source]


def _check(source: str, episodes: int, seed: int) -> None:
    if source not in TWINS:
        raise UsageError(did_you_mean("twin", source, TWINS))
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}; a twin needs at least 1")
    if not 0 <= seed < _MAX_SEED:
        raise UsageError(f"seed is {seed}; choose one from 0 to {_MAX_SEED - 1}")


def _film_all(
    source: str, store: Path, episodes: int, seed: int, defects: Defects, progress: Progress | None
) -> list[bytes]:
    """Records in order of index, whichever worker finishes first."""
    records: dict[int, bytes] = {}
    workers = min(_MAX_WORKERS, episodes, os.cpu_count() or 1)
    # Spawned, not forked: the caller may have used OpenGL, which does not survive a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_use_one_thread) as pool:
        pending = {
            pool.submit(_film_one, source, store, seed, defects, i): i for i in range(episodes)
        }
        try:
            for done in as_completed(pending):
                records[pending[done]] = done.result()
                if progress is not None:
                    progress(len(records), episodes)
        finally:  # after an error, do not film the rest first
            pool.shutdown(cancel_futures=True)
    return [records[i] for i in range(episodes)]


def _use_one_thread() -> None:
    # Software OpenGL starts a thread a core in each process, and the processes already share the
    # cores. Read when the first context is made, so it is not too late here.
    os.environ.setdefault("LP_NUM_THREADS", "1")


def _film_one(source: str, store: Path, seed: int, defects: Defects, index: int) -> bytes:
    """Film one episode, write its truth, and return its record."""
    layout = _SOURCES[source]
    episode = layout.draw_episode(seed, index)
    films, facts = defects.spoil(layout.film_episode(episode), seed, index)
    example = layout.encode_episode(episode, films)
    motion = None if layout.HOLDS_JOINTS else episode.script
    write_truth(store, layout.episode_id(episode, example), films, motion, facts)
    return _serialize(layout.tfds_features(), example)


def _serialize(features: FeaturesDict, example: dict[str, Any]) -> bytes:
    """A ``tf.train.Example``, by the same code that wrote the published ones."""
    from tensorflow_datasets.proto import tf_example_pb2

    written = features.serialize_example(features.encode_example(example))
    # The order of a protobuf map is left to chance, unless it is asked for: the same twin shall
    # have the same bytes.
    return tf_example_pb2.Example.FromString(written).SerializeToString(deterministic=True)


def _code_hash() -> str:
    """Hash of all that decides a twin's bytes here: simulation/ and the robots it renders."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("simulation", "robots"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]

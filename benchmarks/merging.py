"""Merging the indexes of a large build: duplicates, tables and counts, over made-up episodes.

``python -m benchmarks.merging [--episodes 50000 200000]`` prints processor time and the peak of
memory for each size, in a process of its own; every hundredth episode is a planted copy of the
one before. The indexes are files, as a build leaves them.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks._common import parser, print_header, print_table, write_json
from pipeline.duplicates import find_duplicates
from pipeline.manifest import DATASET, STATS, TABLES, write_tables
from pipeline.merge import StoredIndexes, merge
from pipeline.store import Store
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.config import BuildConfig
from schemas.manifest import EpisodeSketch, ManifestRow
from schemas.plan import BuildPlan, PlannedSource

# As many scenes as DROID has buildings times ten; fewer scenes are harder, since views look alike.
SCENES = 500
SHARD = 64
COPIES = 100
WRITTEN = (*TABLES, STATS, DATASET)


def sketches(count: int, scenes: int = SCENES) -> Iterator[EpisodeSketch]:
    """Smooth paths of half a metre from each scene's home, three cameras, 2 bits of noise."""
    rng = np.random.default_rng(0)
    views = rng.integers(0, 1 << 63, (scenes, 3), dtype=np.uint64)
    home = rng.normal(0, 100, (scenes, 3))
    u = np.linspace(0, 1, 16)[:, None]
    path, frames = np.zeros((16, 3)), [0]
    for n in range(count):
        if n % COPIES == COPIES - 1:
            path = path + rng.normal(0, 1, path.shape)
        else:
            scene = int(rng.integers(scenes))
            ways = rng.normal(0, 150, (3, 3))
            path = home[scene] + u * ways[0] + np.sin(3 * u) * ways[1] + np.sin(6 * u) * ways[2] / 2
            bits = rng.integers(64, size=(3, 2)).tolist()
            frames = [
                int(v) ^ 1 << a ^ 1 << b for v, (a, b) in zip(views[scene], bits, strict=True)
            ]
        yield EpisodeSketch(
            episode_id=f"made/{n:07d}",
            split="train",
            content=f"{n:032x}",
            path=path.round().astype("<i2").tobytes().hex(),
            frames={f"view_{k}": f"{frame:016x}" for k, frame in enumerate(frames)},
        )


def _row(sketch: EpisodeSketch, number: int) -> dict[str, Any]:
    return ManifestRow(
        key=f"{number:016x}",
        episode_id=sketch.episode_id,
        source="made",
        split=sketch.split,
        camera="view_0",
        shard=f"robo4d-made-train-{number // SHARD:05d}.tar",
        offset=0,
        bytes=1_500_000,
        frames=49,
        height=180,
        width=320,
        fps=15.0,
        clip_start=3,
        clip_end=150,
        episode_steps=160,
        robot="panda_robotiq",
        outcome="success",
        instruction=f"do task {number % 5000}",
        scene=f"scene {number % SCENES}",
        lab="lab",
        task="",
        twin=False,
        depth_from="absent",
        camera_from="absent",
        camera_verdict="unsolved",
        joints_from="measured",
        time_from="estimated",
        robot_pixels=None,
        ee_residual_m=0.0,
        ee_residual_rad=0.0,
        silhouette_iou=None,
        flow_score=None,
        robot_residual_m=None,
        joints_flagged=0,
        time_offset_s=0.01,
        time_offset_sure=True,
        time_corrected=False,
        file=f"made-{number // 1000}.tfrecord",
        record=number % 1000,
        record_sha256=f"{number:064x}",
        licence="CC-BY-4.0",
        idle_share=0.1,
        trimmed_start=3,
        trimmed_end=9,
    ).model_dump(mode="json")


def made_indexes(count: int) -> Iterator[ShardIndex]:
    """Indexes of `sketches`, a row an episode, as a build leaves them."""
    made = enumerate(sketches(count))
    while part := list(islice(made, SHARD)):
        rows = [_row(sketch, n) for n, sketch in part]
        told = [sketch.model_dump() for _, sketch in part]
        build = {"rows": rows, "sketches": told, "quarantine": []}
        yield ShardIndex(rows[0]["shard"], 1 << 30, "0" * 64, [], build)


def write_indexes(store: Store, count: int) -> StoredIndexes:
    """The same as files."""
    names = []
    for index in made_indexes(count):
        names.append(index.shard.removesuffix(".tar"))
        store.publish_bytes(f"{names[-1]}{INDEX_SUFFIX}", index.to_json())
    return StoredIndexes(store, names)


def measure(count: int) -> dict[str, float]:
    """One size; in a fresh process, whose peak of memory is this size's alone."""
    source = PlannedSource(source="made", layout="rlds", data="", dataset="made/1", twin=False)
    plan = BuildPlan(sources=(source,), config=BuildConfig(), code="", shards=())
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        indexes = write_indexes(store, count)
        before = _peak_mb()
        began = time.process_time()
        for _ in indexes:
            pass
        reading = time.process_time() - began
        began = time.process_time()
        tables = merge(indexes)
        merging = time.process_time() - began
        after = _peak_mb()
        pairs = len(tables.duplicates)
        del tables
        began = time.process_time()
        write_tables(store, plan, indexes)
        whole = time.process_time() - began
        peak = _peak_mb()
        size = sum(bytes_ for name, bytes_ in store.names().items() if name in WRITTEN)
    found_in = list(sketches(count))
    began = time.process_time()
    find_duplicates(found_in)
    duplicates = time.process_time() - began
    return {
        "episodes": count,
        "copies planted": count // COPIES,
        "pairs found": pairs,
        "duplicates, s": duplicates,
        "indexes read once, s": reading,
        "merge, s": merging,
        "merge and tables, s": whole,
        "before, peak MB": before,
        "merged, peak MB": after,
        "with tables, peak MB": peak,
        "tables, MB": size / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parse = parser(__doc__)
    parse.add_argument(
        "--episodes", type=int, nargs="+", default=[25_000, 50_000, 100_000, 200_000]
    )
    options = parse.parse_args()
    facts = print_header("Merging")
    report = []
    for count in sorted(options.episodes):
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            report.append(fresh.submit(measure, count).result())
    print_table(list(report[0]), [list(row.values()) for row in report])
    write_json(options.json, {"machine": facts, "merging": report})


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()

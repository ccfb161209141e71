"""Merging the indexes of a large build: duplicates, tables and counts, over made-up episodes.

``python -m benchmarks.merging [--episodes 50000 200000]`` prints processor time and the peak of
memory for each size; every hundredth episode is a planted copy of the one before.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import parser, print_header, print_table, write_json
from pipeline.duplicates import find_duplicates
from pipeline.manifest import merge, write_tables
from pipeline.store import Store
from robo4d.shard import ShardIndex
from schemas.config import BuildConfig
from schemas.manifest import EpisodeSketch, ManifestRow
from schemas.plan import BuildPlan, PlannedSource

# As many scenes as DROID has buildings times ten; fewer scenes are harder, since views look alike.
SCENES = 500
SHARD = 64
COPIES = 100


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


def made_indexes(count: int) -> list[ShardIndex]:
    """Indexes of `sketches`, a row an episode, as a build leaves them."""
    rows = [(_row(sketch, n), sketch.model_dump()) for n, sketch in enumerate(sketches(count))]
    out = []
    for start in range(0, count, SHARD):
        part = rows[start : start + SHARD]
        build = {"rows": [r for r, _ in part], "sketches": [s for _, s in part], "quarantine": []}
        out.append(ShardIndex(part[0][0]["shard"], 1 << 30, "0" * 64, [], build))
    return out


def main() -> None:
    """Measure and print."""
    parse = parser(__doc__)
    parse.add_argument(
        "--episodes", type=int, nargs="+", default=[25_000, 50_000, 100_000, 200_000]
    )
    options = parse.parse_args()
    facts = print_header("Merging")
    source = PlannedSource(source="made", layout="rlds", data="", dataset="made/1", twin=False)
    plan = BuildPlan(sources=(source,), config=BuildConfig(), code="", shards=())
    report = []
    for count in sorted(options.episodes):
        found_in = list(sketches(count))
        began = time.process_time()
        pairs = len(find_duplicates(found_in))
        duplicates = time.process_time() - began
        del found_in
        indexes = made_indexes(count)
        before = _peak_mb()
        began = time.process_time()
        tables = merge(indexes)
        merging = time.process_time() - began
        del tables
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            write_tables(Store.at(folder), plan, indexes)
            whole = time.process_time() - began
            size = sum(p.stat().st_size for p in Path(folder).iterdir() if p.is_file())
        report.append(
            {
                "episodes": count,
                "copies planted": count // COPIES,
                "pairs found": pairs,
                "duplicates, s": duplicates,
                "merge, s": merging,
                "merge and tables, s": whole,
                "indexes in memory, peak MB": before,
                "with tables, peak MB": _peak_mb(),
                "tables, MB": size / 1e6,
            }
        )
    print_table(list(report[0]), [list(row.values()) for row in report])
    write_json(options.json, {"machine": facts, "merging": report})


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()

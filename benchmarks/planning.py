"""Planning at the size of Robo4D-200k: time, memory, balance, and growth; nothing is built.

``python -m benchmarks.planning [--episodes 201426]`` makes data sets of empty
record files whose indexes are in the planner's cache, in the layouts of DROID, Bridge, RT-1 and
LIBERO, and plans them by the real command's own functions: times are of this process' processor.

Record sizes are drawn (log-normal) to about the published means: DROID 1.7 TB over 92,233 episodes,
Bridge 124 GB over 60,064, RT-1 111 GB over 87,212, LIBERO 10 GB over 6,500. How far lengths spread
(sigma) and how many episodes each source gives are assumptions, in `SETS`. An episode costs as
``configs/rates.yaml`` says, or where no rate is measured half by the episode and half by the byte.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from benchmarks._common import parser, print_header, print_table, write_json
from converters import bridge, droid, libero_rlds, rt1
from converters._cache import entry_path, write_entry
from pipeline.cost import load_rates, weigh
from pipeline.plan import make_plan
from schemas.config import BuildConfig, load_config
from schemas.plan import BuildPlan

# Source: features it must have, share of the episodes, mean record in MB, sigma of its logarithm.
SETS = {
    "droid": (droid.REQUIRED, 0.40, 18.4, 0.7),
    "bridge": (bridge.REQUIRED, 0.28, 2.06, 0.35),
    "rt1": (rt1.REQUIRED, 0.29, 1.27, 0.4),
    "libero": (libero_rlds.REQUIRED, 0.03, 1.54, 0.4),
}
RECORDS_A_FILE = 50


def make_set(root: Path, cache: Path, source: str, episodes: int) -> None:
    """An RLDS folder without data, and the indexes of its files, in which records only grow."""
    required, _, mean, sigma = SETS[source]
    rng = np.random.default_rng(sum(map(ord, source)))
    drawn = rng.lognormal(np.log(mean * 1e6) - sigma**2 / 2, sigma, episodes).astype(int)
    crcs = np.random.default_rng(0).integers(0, 1 << 32, episodes)
    root.mkdir(parents=True, exist_ok=True)
    (root / "features.json").write_text(json.dumps(_features(required)))
    (root / "dataset_info.json").write_text(json.dumps({"name": source, "version": "1.0.0"}))
    fs = fsspec.filesystem("file")
    total = -(-episodes // RECORDS_A_FILE)
    for number in range(total):
        part = slice(number * RECORDS_A_FILE, (number + 1) * RECORDS_A_FILE)
        lengths = drawn[part].tolist()
        ends = np.cumsum([length + 16 for length in lengths])
        # Numbered without a total, which would rename all files of a set that grows.
        path = root / f"{source}-train.tfrecord-{number:05d}-of-99999"
        if path.exists() and path.stat().st_size == ends[-1]:
            continue
        with path.open("wb") as file:
            file.truncate(int(ends[-1]))
        offsets = (ends - lengths - 4).tolist()
        records = list(zip(offsets, lengths, crcs[part].tolist(), strict=True))
        tree = {"defect": None, "message": "", "records": records}
        write_entry(entry_path(cache, str(path), fs.info(str(path))), tree)


def _features(required: Sequence[str]) -> dict[str, Any]:
    """A features.json that has ``required``; all plain numbers, since no record is read."""
    tree: dict[str, Any] = {}
    for name in required:
        node = tree
        *above, leaf = name.split("/")
        for part in above:
            node = node.setdefault(part, {})
        node[leaf] = None

    def written(node: dict[str, Any] | None, name: str) -> dict[str, Any]:
        if node is None:
            return {
                "pythonClassName": "tensorflow_datasets.core.features.scalar.Scalar",
                "tensor": {"shape": {}, "dtype": "float32", "encoding": "none"},
            }
        inner = {key: written(value, key) for key, value in node.items()}
        features = {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "featuresDict": {"features": inner},
        }
        if name != "steps":
            return features
        return {
            "pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset",
            "sequence": {"feature": features, "length": "-1"},
        }

    return written(tree, "")


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Standard deviation and greatest, each over the mean."""
    array = np.asarray(values, float)
    return float(array.std() / array.mean()), float(array.max() / array.mean())


def balance(plan: BuildPlan, config: BuildConfig) -> list[list[Any]]:
    """Spread over shards of work and bytes: as planned, and with every shard of as many records."""
    rates, rows = load_rates(config.cost.rates), []
    for origin in plan.sources:
        tasks = [task for task in plan.shards if task.source == origin.source]
        refs = [ref for task in tasks for ref in task.refs]
        rate = rates.of(origin.source, origin.layout, origin.twin, config)
        work = dict(zip(refs, weigh(refs, rate, config), strict=True))
        size = config.shard.episodes
        even = [refs[start : start + size] for start in range(0, len(refs), size)]
        for how, parts in (("as many records", even), ("planned", [task.refs for task in tasks])):
            seconds = spread([sum(work[ref] for ref in part) for part in parts])
            size_spread = spread([sum(ref.length for ref in part) for part in parts])
            counts = [len(part) for part in parts]
            rows.append(
                [origin.source, "rate" if rate else "no rate", how, len(parts)]
                + [min(counts), max(counts), *seconds, *size_spread]
            )
    return rows


def main() -> None:
    """Make, plan, write, read, grow; print."""
    parse = parser(__doc__)
    parse.add_argument("--episodes", type=int, default=201_426)
    parse.add_argument("--set", action="append", default=[], help="as of robo4d build")
    options = parse.parse_args()
    facts = print_header("Planning")
    config = load_config(None, options.set)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "index"
        counts = {name: round(options.episodes * one[1]) for name, one in SETS.items()}
        counts["droid"] += options.episodes - sum(counts.values())
        inputs = {name: f"{folder}/{name}" for name in SETS}
        for name, count in counts.items():
            make_set(Path(inputs[name]), cache, name, count)
        before = _peak_mb()
        times: dict[str, float] = {}

        def step(name: str, work: Any) -> Any:
            began = time.process_time()
            result = work()
            times[name] = time.process_time() - began
            return result

        plan = step("plan", lambda: make_plan(inputs, config, cache))
        data = step("write plan.json", plan.to_json)
        again = step("read plan.json", lambda: BuildPlan.from_json(data))
        assert again == plan
        peak = _peak_mb()
        for name, count in counts.items():
            make_set(Path(inputs[name]), cache, name, count + count // 100)
        grown = step("plan 1 % more", lambda: make_plan(inputs, config, cache, again))
        print_table(
            ["episodes", *(f"{name}, CPU s" for name in times), "plan.json, MB"]
            + ["peak, MB", "with growth, MB", "before, MB"],
            [[plan.episodes, *times.values(), len(data) / 1e6, peak, _peak_mb(), before]],
        )
        there = set(plan.shards)
        kept = sum(task in there for task in grown.shards)
        print(
            f"{grown.episodes - plan.episodes:,} episodes more: {kept:,} of {len(plan.shards):,} "
            f"shards stay, {len(grown.shards) - kept} are new\n"
        )
        rows = balance(plan, config)
        columns = ["source", "work by", "shards", "n", "fewest", "most records"]
        columns += ["work std/mean", "max/mean", "bytes std/mean", "max/mean"]
        print_table(columns, rows)
        report = {"times": times, "plan_json": len(data), "peak_mb": peak, "balance": rows}
    write_json(options.json, {"machine": facts, **report, "kept": kept, "of": len(plan.shards)})


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()

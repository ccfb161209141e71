"""What building costs, by source: processor time, clips and bytes; what plans are priced by.

``python -m benchmarks.rates droid=DATA bridge=DATA [--episodes-a-shard bridge=25] [--write FILE]``
builds each data set with one process, shard after shard, and fits an episode's and a source
megabyte's part. ``--write`` replaces these sources' entries in FILE (configs/rates.yaml).

Processor time is of all threads (getrusage), so another load on the machine hardly counts. Finding
cameras is counted apart: it works on the clip, whose length is bounded, so it has no part that
grows with the episode, no more than the output; and ``camera.solve: never`` saves it.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.optimize import nnls

import pipeline.recall
import pipeline.samples
from benchmarks._common import parser, print_header, print_table, write_json
from pipeline.build import ShardBuilder
from pipeline.plan import make_plan
from pipeline.store import Store
from schemas.config import load_config
from schemas.plan import ShardTask


@dataclass(frozen=True)
class Measured:
    """One shard that was built; times are processor seconds."""

    episodes: int
    source_mb: float
    cpu_s: float
    camera_cpu_s: float
    clips: int
    quarantined: int
    output_bytes: int


class _CameraClock:
    """Counts the processor time within the calls that find cameras."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def run(*args: Any, **kwargs: Any) -> Any:
            began = _cpu_s()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += _cpu_s() - began

        return run


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _build(task: ShardTask, builder: ShardBuilder, clock: _CameraClock) -> Measured:
    began, clock.seconds = _cpu_s(), 0.0
    index = builder(task)
    return Measured(
        episodes=len(task.refs),
        source_mb=sum(ref.length for ref in task.refs) / 1e6,
        cpu_s=_cpu_s() - began,
        camera_cpu_s=clock.seconds,
        clips=len(index.samples),
        quarantined=len(index.build["quarantine"]),
        output_bytes=index.size,
    )


def fit(shards: Sequence[Measured]) -> dict[str, float]:
    """An episode's and a megabyte's part, by least squares without negative parts.

    Where all shards are as large an episode, the data cannot tell the two apart: all is the
    episode's. The first shard also loads what is loaded once: with enough others, it is left out of
    this part.
    """
    total = sum(one.episodes for one in shards)
    camera_cpu_s = sum(one.camera_cpu_s for one in shards) / total
    clips = sum(one.clips for one in shards) / total
    output_bytes = sum(one.output_bytes for one in shards) / total
    shards = shards[1:] if len(shards) > 2 else shards
    episodes = np.array([one.episodes for one in shards], float)
    mb = np.array([one.source_mb for one in shards])
    alike = np.ptp(mb / episodes) < 0.1 * (mb / episodes).mean()
    terms = np.stack([episodes, np.zeros_like(mb) if alike else mb], axis=1)
    rest, _ = nnls(terms, np.array([one.cpu_s - one.camera_cpu_s for one in shards]))
    return {
        "camera_cpu_s": round(camera_cpu_s, 3),
        "cpu_s": round(float(rest[0]), 3),
        "cpu_s_per_mb": round(float(rest[1]), 4),
        "clips": round(clips, 3),
        "output_bytes": round(output_bytes),
    }


def main() -> None:
    """Build, fit, print; write where asked."""
    parse = parser(__doc__)
    parse.add_argument("sets", nargs="+", metavar="SOURCE=DATA")
    parse.add_argument(
        "--episodes-a-shard",
        nargs="*",
        default=[],
        metavar="SOURCE=N",
        help="1 where not given, which tells an episode's part from a megabyte's best; more where "
        "neighbours are solved together",
    )
    parse.add_argument("--set", action="append", default=[], help="as of robo4d build")
    parse.add_argument("--write", type=Path, metavar="FILE", help="rates file to bring up to date")
    options = parse.parse_args()
    facts = print_header("Rates")
    sizes = dict(one.split("=", 1) for one in options.episodes_a_shard)
    clock = _CameraClock()
    for module, name in ((pipeline.samples, "choose_camera"), (pipeline.recall, "solve_pool")):
        setattr(module, name, clock.counted(getattr(module, name)))
    rates, raw = [], []
    for source, _, data in (one.partition("=") for one in options.sets):
        plan = make_plan(
            {source: data},
            load_config(None, [f"shard.episodes={sizes.get(source, 1)}", *options.set]),
        )
        origin = plan.sources[0]
        shards = []
        with tempfile.TemporaryDirectory() as folder:
            store = Store.at(folder)
            store.prepare()
            builder = ShardBuilder.of(plan, store)
            for task in plan.shards:
                shards.append(_build(task, builder, clock))
                print(f"{task.name}: {shards[-1]}", file=sys.stderr, flush=True)
        each = [one.source_mb / one.episodes for one in shards]
        rates.append(
            {
                "source": source,
                "layout": origin.layout,
                "twin": origin.twin,
                **fit(shards),
                "gpu_s": None,
                "source_mb": [round(min(each), 4), round(max(each), 4)],
                "episodes": sum(one.episodes for one in shards),
                "quarantined": sum(one.quarantined for one in shards),
                "data": origin.dataset,
                "machine": f"{facts['cpu']}, {facts['cores']} cores",
                "date": facts["date"],
                "command": "python -m benchmarks.rates "
                + f"{source}={data}"
                + (f" --episodes-a-shard {source}={sizes[source]}" if source in sizes else "")
                + "".join(f" --set {one}" for one in options.set),
            }
        )
        raw.append({"source": source, "shards": [vars(one) for one in shards]})
        if options.write is not None:
            _merge_into(options.write, rates[-1])
    columns = [name for name in rates[0] if name not in ("machine", "date", "command", "gpu_s")]
    print_table(columns, [[_cell(rate[name]) for name in columns] for rate in rates])
    write_json(options.json, {"machine": facts, "rates": rates, "shards": raw})


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, bool | list) else value


def _merge_into(path: Path, rate: dict[str, Any]) -> None:
    """Replace the entry of the same source, layout and kind; the file's comment stays on top."""
    text = path.read_text() if path.exists() else ""
    comment = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("#"))
    key = ("source", "layout", "twin")
    kept = [
        one
        for one in (yaml.safe_load(text) or {}).get("rates", [])
        if any(one[name] != rate[name] for name in key)
    ]
    ordered = sorted([*kept, rate], key=lambda one: [str(one[name]) for name in key])
    path.write_text(comment + yaml.safe_dump({"rates": ordered}, sort_keys=False, width=100))


if __name__ == "__main__":
    main()

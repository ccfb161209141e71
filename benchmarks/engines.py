"""What an engine costs beside the bare builder, and what a second worker brings.

``python -m benchmarks.engines`` gives the same plan to the builder called in a loop ("bare"), to
the local engine with 1 and 2 workers, to Beam and to Ray with 2, for several numbers of tiny DROID
episodes, each of which takes a second of work. ``--work cpu`` burns processor time; ``sleep`` only
waits, which hides what an engine's own processes take from the workers, but can be told from a busy
machine's noise. Seconds over episodes give a line: its slope, beside the bare one's over the number
of workers, is an engine's overhead, and where it begins is start-up. CPU is of all processes.

``python -m benchmarks.engines --real`` builds real DROID episodes, cameras solved, with 1 and 2
local workers, an episode a shard, and says what became of the second worker: how busy both were,
and by how much each shard slowed down. ``--keep FILE`` keeps what each shard took, for
`benchmarks.schedule`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import (
    add_data_option,
    parser,
    print_header,
    print_table,
    require_data,
    write_json,
)
from benchmarks._processes import Watch
from benchmarks._work import read_log, tiny_droid, write_files

ENGINES = ("bare-1", "local-1", "local-2", "beam-2", "ray-2")
LIMITS = {"local": 0.05, "beam": 0.15, "ray": 0.15}  # share of an episode of a second, issue 5
STEPS = 6


def run(said: dict[str, Any]) -> dict[str, Any]:
    """One build in a process of its own (`benchmarks._engine_worker`), with what it took.

    Returns:
        ``seconds`` of the engine's call, ``cpu`` s, ``first`` and ``last``: s from the call to the
        first shard's begin, and from the last one's end to the return; ``shards``: the log.

    Raises:
        SystemExit: the build failed; its output is shown.
    """
    # ignore_cleanup_errors: Ray's last processes may still write when the driver has ended.
    with tempfile.TemporaryDirectory(prefix="robo4d-", ignore_cleanup_errors=True) as folder:
        said = {"out": f"{folder}/out", "log": f"{folder}/log", "work": "cpu", "seconds": 0, **said}
        command = [sys.executable, "-m", "benchmarks._engine_worker", json.dumps(said)]
        with (
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process,
            Watch(process.pid) as watch,
        ):
            out, errors = process.communicate()
        if process.returncode != 0:
            print(errors, file=sys.stderr)
            raise SystemExit(f"{said['engine']} with {said['workers']} workers failed")
        found = json.loads(out.splitlines()[-1])
        shards = read_log(Path(said["log"]))
    end = max(shard["began"] + shard["seconds"] for shard in shards)
    return {
        **{key: said[key] for key in ("engine", "workers")},
        "seconds": found["seconds"],
        # Ended children are counted by the kernel; Ray's daemons may not be children any more.
        "cpu": max(found["cpu"], watch.cpu),
        "first": min(shard["began"] for shard in shards) - found["began"],
        "last": found["began"] + found["seconds"] - end,
        "driver_mb": watch.seen[process.pid].peak_mb,
        "others_mb": sum(one.peak_mb for one in watch.others),
        "shards": shards,
    }


def overheads(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each engine: slopes and starts of lines through its runs, beside the bare one's.

    Args:
        runs: of `run`, with ``episodes``; "bare" among the engines.
    """
    bare_slope, bare_start = _line([r for r in runs if r["engine"] == "bare"], "seconds")
    bare_cpu, _ = _line([r for r in runs if r["engine"] == "bare"], "cpu")
    rows = []
    for engine, workers in dict.fromkeys((r["engine"], r["workers"]) for r in runs):
        mine = [r for r in runs if (r["engine"], r["workers"]) == (engine, workers)]
        slope, start = _line(mine, "seconds")
        cpu, _ = _line(mine, "cpu")
        ideal = bare_slope / workers
        limit = LIMITS.get(engine, 0.0)
        room = (1 + limit) * ideal - slope  # s an episode that start-up may take
        rows.append(
            {
                "engine": engine,
                "workers": workers,
                "s/episode": slope,
                "ideal": ideal,
                "overhead, ms": 1000 * (slope - ideal),
                "overhead, %": 100 * (slope / ideal - 1),
                "start-up, s": start - bare_start,
                "to first shard, s": statistics.median(r["first"] for r in mine),
                "after last, s": statistics.median(r["last"] for r in mine),
                "CPU overhead, ms": 1000 * (cpu - bare_cpu),
                "episodes until all is within the limit": (
                    ""
                    if not limit
                    else max(0, round((start - bare_start) / room))
                    if room > 0
                    else "never"
                ),
            }
        )
    return rows


def _line(runs: Sequence[dict[str, Any]], what: str) -> tuple[float, float]:
    """Slope and start of ``what`` over episodes: medians of a size, then least squares."""
    sizes = sorted({r["episodes"] for r in runs})
    values = [statistics.median(r[what] for r in runs if r["episodes"] == n) for n in sizes]
    if len(sizes) == 1:
        return values[0] / sizes[0], 0.0
    slope, start = np.polyfit(sizes, values, 1)
    return float(slope), float(start)


def _overhead(options: argparse.Namespace) -> dict[str, Any]:
    runs = []
    with tempfile.TemporaryDirectory(prefix="robo4d-") as folder:
        for count in options.episodes:
            data = write_files(tiny_droid(count, STEPS), Path(folder) / str(count))
            for _ in range(options.repeat):
                for name in options.engines:
                    engine, _, workers = name.partition("-")
                    said = {
                        "engine": engine,
                        "workers": int(workers),
                        "inputs": {"droid": str(data)},
                        "set": ["camera.solve=never", f"shard.episodes={options.shard}"],
                        "work": options.work,
                        "seconds": options.seconds,
                    }
                    runs.append({"episodes": count, **run(said)})
                    print(f"{count} episodes, {name}: {runs[-1]['seconds']:.1f} s", flush=True)
    rows = overheads(runs)
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    return {"overhead": rows, "runs": runs}


def _real(options: argparse.Namespace) -> dict[str, Any]:
    require_data(options.data, "droid_rlds")
    runs = []
    for workers in (1, 2):
        said = {
            "engine": "local",
            "workers": workers,
            "inputs": {"droid": str((options.data / "droid_rlds").resolve())},
            "set": ["shard.episodes=1", *options.set],
        }
        runs.append(run(said))
        if options.keep is not None and workers == 1:
            with options.keep.open("a") as file:
                file.writelines(json.dumps(shard) + "\n" for shard in runs[-1]["shards"])
    one, two = runs
    same = {s["shard"]: s["sha256"] for s in one["shards"]} == {
        s["shard"]: s["sha256"] for s in two["shards"]
    }
    rows = []
    for found in runs:
        wall = sum(shard["seconds"] for shard in found["shards"])
        process = sum(shard["process_cpu"] for shard in found["shards"])
        thread = sum(shard["thread_cpu"] for shard in found["shards"])
        rows.append(
            {
                "workers": found["workers"],
                "seconds": found["seconds"],
                "speed-up": one["seconds"] / found["seconds"],
                "busy workers": wall / found["seconds"],
                "shards' seconds": wall,
                "their CPU": process,
                "by other threads, %": 100 * (1 - thread / process),
                "CPU of all": found["cpu"],
            }
        )
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    print("the shards' bytes are " + ("the same" if same else "DIFFERENT"))
    return {"real": rows, "same_bytes": same, "runs": runs}


def main() -> None:
    """Measure and print."""
    parse = parser(__doc__)
    add_data_option(parse)
    parse.set_defaults(repeat=1)
    parse.add_argument("--real", action="store_true", help="real episodes, 1 and 2 workers")
    parse.add_argument("--episodes", type=int, nargs="+", default=[32, 64, 128])
    parse.add_argument("--engines", nargs="+", default=list(ENGINES), help="NAME-WORKERS")
    parse.add_argument("--work", choices=("cpu", "sleep"), default="cpu")
    parse.add_argument("--seconds", type=float, default=1.0, help="of work an episode (1)")
    parse.add_argument("--shard", type=int, default=8, help="episodes a shard (8)")
    parse.add_argument("--set", nargs="*", default=[], help="a.b=c of the real build")
    parse.add_argument("--keep", type=Path, help="add the shards' times to this file")
    options = parse.parse_args()
    facts = print_header("Two workers" if options.real else "Engines")
    found = _real(options) if options.real else _overhead(options)
    write_json(options.json, {"machine": facts, **found})


if __name__ == "__main__":
    main()

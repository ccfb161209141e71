"""A build of thousands of tiny episodes, end to end, by the real command.

``python -m benchmarks.many [--episodes 2000] [--engines local-2 beam-2 ray-2]`` writes DROID
records of 8 steps at 64x36, some of them junk, runs ``robo4d build`` and ``robo4d verify`` on them,
cameras unsolved, and prints what that took: processor time of all processes, most memory of the
driver and of the largest other process. Every planned record must be built or in quarantine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._common import parser, print_header, print_table, write_json
from benchmarks._processes import Watch
from benchmarks._work import tiny_droid, write_files

STEPS = 8
JUNK = 50  # each so-many-th record


def command(*args: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run ``robo4d`` with ``--json``.

    Returns:
        What it printed, and what it took.

    Raises:
        SystemExit: it failed; its messages are shown.
    """
    began = time.perf_counter()
    said = [sys.executable, "-m", "jobs.cli", *args, "--json"]
    # Messages to a file: an engine that outlives the command would keep a pipe open.
    with tempfile.TemporaryFile("w+") as errors:
        with (
            subprocess.Popen(said, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
            Watch(process.pid) as watch,
        ):
            out, _ = process.communicate()
        seconds = time.perf_counter() - began
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"robo4d {args[0]} exited {process.returncode}: {errors.read()}")
    took = {
        "seconds": seconds,
        "cpu": watch.cpu,
        "driver_mb": watch.seen[process.pid].peak_mb,
        "largest_mb": watch.others[0].peak_mb if watch.others else 0,
    }
    return json.loads(out.splitlines()[-1]), took


def build(data: Path, out: Path, engine: str, options: argparse.Namespace) -> dict[str, Any]:
    """Build and verify; a row of the table.

    Raises:
        SystemExit: a record is lost, or in quarantine without need, or the build is not sound.
    """
    name, _, workers = engine.partition("-")
    where = ["--source", "droid", "--data", str(data), "--out", str(out)]
    how = ["camera.solve=never", f"shard.episodes={options.shard}"]
    sets = [arg for one in how for arg in ("--set", one)]
    made, took = command("build", *where, "-e", name, "-w", workers, *sets)
    verdict, checking = command("verify", str(out))
    junk = options.episodes // JUNK
    expected = {"planned": options.episodes, "built": options.episodes - junk, "quarantined": junk}
    found = {key: made[f"episodes_{key}"] for key in expected}
    if found != expected or not verdict["ok"]:
        raise SystemExit(f"{engine}: {found}, not {expected}; {verdict['problems'][:3]}")
    return {
        "engine": name,
        "workers": int(workers),
        "shards": verdict["shards"],
        "samples": verdict["samples"],
        "quarantined": junk,
        "seconds": took["seconds"],
        "CPU, s": took["cpu"],
        "CPU an episode, ms": 1000 * took["cpu"] / options.episodes,
        "driver, MB": took["driver_mb"],
        "largest other, MB": took["largest_mb"],
        "verify, CPU s": checking["cpu"],
        "verify, MB": checking["driver_mb"],
    }


def main() -> None:
    """Measure and print."""
    parse = parser(__doc__)
    parse.add_argument("--episodes", type=int, default=2000)
    parse.add_argument("--shard", type=int, default=64, help="episodes a shard (64)")
    parse.add_argument("--engines", nargs="+", default=["local-2", "beam-2", "ray-2"])
    options = parse.parse_args()
    facts = print_header(f"{options.episodes:,} tiny episodes")
    rows = []
    with tempfile.TemporaryDirectory(prefix="robo4d-", ignore_cleanup_errors=True) as folder:
        records = tiny_droid(options.episodes, STEPS, damaged=JUNK)
        data = write_files(records, Path(folder) / "data")
        hashes = set()
        for engine in options.engines:
            out = Path(folder) / engine
            rows.append(build(data, out, engine, options))
            print(f"{engine}: {rows[-1]['seconds']:.0f} s", flush=True)
            indexes = sorted(out.glob("*.index.json"))
            hashes.add(tuple(json.loads(path.read_bytes())["sha256"] for path in indexes))
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    if len(options.engines) > 1:
        print("bytes: " + ("the same on all engines" if len(hashes) == 1 else "DIFFERENT"))
    write_json(options.json, {"machine": facts, "same_bytes": len(hashes) == 1, "many": rows})


if __name__ == "__main__":
    main()

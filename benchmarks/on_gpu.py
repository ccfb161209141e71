"""A whole build by Ray actors on a machine with GPUs: how busy they are, clips an hour, projected.

Give the inputs as NAME=DATA. Beside Ray's actors run the same actors with reading and encoding in
tasks of their own, and the local engine with as many workers.

    python -m benchmarks.on_gpu droid=DATA libero=DATA --workers 14 --gpus 0.07
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks._common import parser, print_header

CLIPS = 201_426  # of Robo4D-200k


class _Load:
    """How busy GPUs and processors are, once a second, while it is entered."""

    def __init__(self) -> None:
        self.gpu: list[float] = []
        self.cpu: list[float] = []
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _watch(self) -> None:
        busy, whole = _jiffies()
        while not self._left.wait(1.0):
            asked = subprocess.run(
                ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode == 0:
                self.gpu.append(mean(float(line) for line in asked.stdout.split()))
            now, then = _jiffies(), (busy, whole)
            busy, whole = now
            self.cpu.append(100 * (busy - then[0]) / max(whole - then[1], 1))


def _jiffies() -> tuple[int, int]:
    """(busy, all) of all processors since the start, from /proc/stat."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def _build(sources: list[str], out: Path, extra: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.cli", "build", "--json", "--out", str(out), *extra]
    for source in sources:
        command += ["--source", source]
    with _Load() as load:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):
        return {"failed": done.returncode}
    summary = json.loads(done.stdout)
    return {
        "samples": summary["samples"],
        "episodes": summary["episodes_planned"],
        "quarantined": summary["episodes_quarantined"],
        "seconds": summary["seconds"],
        "clips_per_hour": round(3600 * summary["samples"] / summary["seconds"]),
        "gpu_percent": round(mean(load.gpu), 1) if load.gpu else None,
        "gpu_percent_most": max(load.gpu, default=None),
        "cpu_percent": round(mean(load.cpu), 1) if load.cpu else None,
        "hours_for_robo4d_200k": round(CLIPS * summary["seconds"] / 3600 / summary["samples"], 1),
    }


def main() -> None:
    """Measure and print one JSON object a line."""
    parse = parser(__doc__)
    parse.add_argument("sources", nargs="+", help="NAME=DATA")
    parse.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parse.add_argument("--gpus", type=float, default=0.0, help="of each actor")
    parse.add_argument("--sides", nargs="+", default=["ray", "stages", "local"])
    parse.add_argument("--set", action="append", default=[], help="of the build, as its own --set")
    options = parse.parse_args()
    print_header("On a GPU")
    shared = [part for setting in options.set for part in ("--set", setting)]
    ray = ["--engine", "ray", "--set", f"run.ray.gpus={options.gpus}"]
    sides = {
        "ray": [*ray, "--workers", str(options.workers)],
        "stages": [
            *(*ray, "--workers", str(max(options.workers // 2, 1))),
            *("--set", "run.ray.stages=true", "--set", "run.ray.cpus=0.5"),
        ],
        "local": ["--workers", str(options.workers)],
    }
    for side in options.sides:
        with tempfile.TemporaryDirectory() as folder:
            found = _build(options.sources, Path(folder) / "out", [*shared, *sides[side]])
        print(json.dumps({"side": side, "workers": options.workers, **found}), flush=True)


if __name__ == "__main__":
    main()

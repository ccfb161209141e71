"""The same plan on every engine: are the files the same, byte for byte?

Give the inputs as NAME=DATA; several make one data set. Every engine is a run of the real command.

    python -m benchmarks.same_bytes droid=DATA bridge=DATA --workers 2
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._chaos_build import contents, hashes
from benchmarks._common import parser, print_header
from pipeline.store import Store

ENGINES = {
    "local": [],
    "beam": ["--engine", "beam"],
    "ray": ["--engine", "ray"],
    "ray, stages": ["--engine", "ray", "--set", "run.ray.stages=true"],
}


def main() -> None:
    """Build, compare and print one JSON object a line; exit 1 where anything differs."""
    parse = parser(__doc__)
    parse.add_argument("sources", nargs="+", help="NAME=DATA")
    parse.add_argument("--workers", type=int, default=2)
    parse.add_argument("--set", action="append", default=[], help="of the build, as its own --set")
    options = parse.parse_args()
    print_header("Same bytes")
    shared = [part for setting in options.set for part in ("--set", setting)]
    shared += [part for source in options.sources for part in ("--source", source)]
    first: dict[str, str] = {}
    same = True
    for workers, name in [(1, "local"), *((options.workers, name) for name in ENGINES)]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            command = [sys.executable, "-m", "jobs.cli", "build", "--json", "--out", str(out)]
            command += ["--workers", str(workers), *shared, *ENGINES[name]]
            began = time.monotonic()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            seconds = time.monotonic() - began
            found = hashes(contents(Store.at(out))) if done.returncode in (0, 3) else {}
        first = first or found
        differ = sorted(n for n in first.keys() | found.keys() if first.get(n) != found.get(n))
        same = same and not differ
        row = {"engine": name, "workers": workers, "exit": done.returncode, "files": len(found)}
        print(json.dumps({**row, "seconds": round(seconds, 1), "differ": differ}), flush=True)
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

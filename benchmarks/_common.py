"""What the benchmarks share: header, tables, interleaved timing, and what a process reads."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DATA = Path("../shared/data")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """An argument parser with what every benchmark takes: ``--repeat`` and ``--json``."""
    parse = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument(
        "--repeat", type=int, default=7, help="measured repetitions; medians are reported (7)"
    )
    parse.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    return parse


def add_data_option(parse: argparse.ArgumentParser) -> None:
    """``--data``: the folder of the small real data sets, which the repository does not hold."""
    parse.add_argument(
        "--data",
        type=Path,
        default=DATA,
        help=f"folder that holds droid_rlds/ and bridge_rlds/ (default {DATA}, relative to the "
        "current folder)",
    )


def require_data(data: Path, *names: str) -> None:
    """Exit with status 2, saying what is missing, unless every data set is at ``data``."""
    missing = [name for name in names if not (data / name).is_dir()]
    if missing:
        print(
            f"{' and '.join(missing)} not found in {data.resolve()}: this benchmark reads real "
            "RLDS records from there; give their folder with --data",
            file=sys.stderr,
        )
        raise SystemExit(2)


def machine() -> dict[str, Any]:
    """Processor, cores, Python and date, for the header of every report."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        model = found[1] if found else model
    return {
        "cpu": model,
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def print_header(title: str) -> dict[str, Any]:
    """Print the title and the machine; returns the machine."""
    facts = machine()
    print(f"## {title}\n")
    print(
        f"{facts['cpu']}, {facts['cores']} cores (load {facts['load']} at the start), "
        f"Python {facts['python']}, {facts['date']}\n",
        flush=True,
    )
    return facts


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a markdown table: text left, numbers right."""
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] == "" for row in rows)
        for i in range(len(columns))
    ]
    print("| " + " | ".join(columns) + " |")
    print("|" + "|".join("---:" if n else "---" for n in numeric) + "|")
    for row in rows:
        print("| " + " | ".join(_shown(value) for value in row) + " |")
    print(flush=True)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def interleaved(
    sides: Mapping[str, Callable[[], float]], repeat: int, warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of each side, measured A B C A B C ..., after one unmeasured round if ``warm``.

    A side returns its own seconds, so that what it sets up first does not count.
    """
    if warm:
        for side in sides.values():
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            seconds[name].append(side())
    return seconds


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """``work`` as a side of `interleaved`."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def ratio_of_rounds(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over rounds of slow / fast: neighbours in time saw the same load."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def bytes_read() -> int:
    """Bytes that this process has asked of read() and pread() so far (Linux; else 0).

    Counts what buffered files really fetch, not what was asked of them.
    """
    source = Path("/proc/self/io")
    if not source.exists():
        return 0
    found = re.search(r"rchar: (\d+)", source.read_text())
    return int(found[1]) if found else 0


def write_json(path: Path | None, value: Mapping[str, Any]) -> None:
    """Write the report's numbers, if a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1) + "\n")
        print(f"numbers written to {path}")


def one_core() -> str:
    """Pin this process, and the threads that codecs start, to one core; says what was done.

    FFmpeg sizes its thread pool by the cores that a process may use, so it gets one thread.
    """
    from numcodecs import blosc

    blosc.set_nthreads(1)
    if not hasattr(os, "sched_setaffinity"):
        return "one process; this system cannot pin it to one core, so codecs may use several"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return "one process, pinned to one core, so one thread"

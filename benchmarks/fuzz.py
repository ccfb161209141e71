"""Damaged data sets of every source and layout: each is built, quarantined or refused; no crash.

``python -m benchmarks.fuzz --seed 0 --cases 10000``. Each case damages small sound inputs (bytes,
lengths, protobuf, HDF5, JSON, pickle, picture and video structure, the folder itself) and reads
them as a build does, up to the decoded clip; some are built and verified whole. Cases run in a
spawned process with an address space limit, one at a time, watched from here: a process that
dies, hangs or runs out of memory is named with its case. ``--only N`` runs one case again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks._common import print_table, write_json
from benchmarks._fuzz_cases import TARGETS, Outcome, make_case, run_case

# How the reasons of bugs begin that may come from the machine, or from earlier cases.
_FATAL = ("no end", "the process died", "MemoryError")
_OUTCOMES = ("built", "quarantined", "refused", "bug")


def serve(pipe: Connection, seed: int, folder: Path, memory: int, patience: float) -> None:
    """In the worker: run the cases that are asked for, within ``memory`` bytes more than now."""
    log = (folder / "worker.log").open("w")
    os.dup2(log.fileno(), 2)  # libraries in C write there, and so does the fault handler
    faulthandler.enable(log)
    warnings.simplefilter("ignore")
    pipe.send("ready")
    held = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())
    limit = int(held[1]) * 1024 + memory if held else memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        number = pipe.recv()
        if number is None:
            return
        faulthandler.dump_traceback_later(max(patience - 1, 1), file=log)
        outcome = run_case(seed, number, folder / "case")
        faulthandler.cancel_dump_traceback_later()
        pipe.send(outcome)


class Worker:
    """One spawned process, made anew when it dies."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        memory: int,
        patience: float,
        target: Callable[..., None] = serve,
    ) -> None:
        self._arguments, self._target = (seed, folder, memory, patience), target
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=self._target, args=(theirs, *self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def run(self, number: int) -> Outcome:
        """One case; a dead or hanging process is a bug of that case."""
        seed, folder, _, patience = self._arguments
        self._pipe.send(number)
        try:
            if self._pipe.poll(patience):
                outcome: Outcome = self._pipe.recv()
                return outcome
            why = f"no end within {patience:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            why = f"the process died with exit code {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        trace = (folder / "worker.log").read_text(errors="replace")[-1500:]
        self._start()
        target, _, hit, _ = make_case(seed, number)
        return Outcome(number, target, tuple(hit), "bug", why, trace)

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def run_cases(
    seed: int, numbers: Iterator[int] | range, memory: int, patience: float
) -> Iterator[Outcome]:
    """Outcomes in order. What a process did not survive is run once more in a fresh one, with
    more patience: a busy machine is no hang.
    """
    with tempfile.TemporaryDirectory(prefix="robo4d-fuzz-") as folder:
        worker = Worker(seed, Path(folder), memory, patience)
        for number in numbers:
            outcome = worker.run(number)
            if outcome.outcome == "bug" and outcome.why.startswith(_FATAL):
                worker.close()
                fresh = Worker(seed, Path(folder), memory, 2 * patience)
                again = fresh.run(number)
                fresh.close()
                worker = Worker(seed, Path(folder), memory, patience)
                outcome = (
                    again
                    if again.outcome == "bug"
                    else replace(outcome, why=f"{outcome.why}; not when run alone")
                )
            yield outcome
        worker.close()


def summary(outcomes: list[Outcome], seed: int, seconds: float) -> dict[str, Any]:
    """Counts by target, outcome and reason, and every bug with how to run it again."""
    return {
        "seed": seed,
        "cases": len(outcomes),
        "seconds": round(seconds, 1),
        "outcomes": dict(Counter(o.outcome for o in outcomes)),
        "targets": {
            name: {k: sum(o.target == name and o.outcome == k for o in outcomes) for k in _OUTCOMES}
            for name in TARGETS
        },
        "reasons": dict(
            Counter(
                reason
                for o in outcomes
                if o.outcome == "quarantined"
                for reason in o.why.split(", ")
            ).most_common()
        ),
        "bugs": [
            {**asdict(o), "again": f"python -m benchmarks.fuzz --seed {seed} --only {o.case}"}
            for o in outcomes
            if o.outcome == "bug"
        ],
    }


def main() -> int:
    """Run from the command line; 1 if any case is a bug."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--cases", type=int, default=10_000)
    parse.add_argument("--only", type=int, metavar="N", help="run case N and print its outcome")
    parse.add_argument("--start", type=int, default=0, help="first case")
    parse.add_argument("--memory", type=float, default=3.0, help="GiB a case may take (3)")
    parse.add_argument("--patience", type=float, default=20.0, help="s until a case hangs (20)")
    parse.add_argument("--json", type=Path, metavar="FILE", help="write the summary to FILE")
    args = parse.parse_args()
    # One case at a time is too small to share between threads, and watching wants no surprises.
    for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")
    numbers = range(args.start, args.start + args.cases)
    if args.only is not None:
        numbers = range(args.only, args.only + 1)
    start, outcomes = time.perf_counter(), []
    for outcome in run_cases(args.seed, numbers, int(args.memory * 2**30), args.patience):
        outcomes.append(outcome)
        if outcome.outcome == "bug" or args.only is not None:
            print(json.dumps(asdict(outcome)), file=sys.stderr, flush=True)
    report = summary(outcomes, args.seed, time.perf_counter() - start)
    print(json.dumps(report, indent=1))
    print_table(
        ["source", *_OUTCOMES],
        [[name, *counts.values()] for name, counts in report["targets"].items()],
    )
    write_json(args.json, report)
    return 1 if report["bugs"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

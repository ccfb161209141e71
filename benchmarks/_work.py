"""Shard builders that keep the time of what they build, and made-up work on top."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs_rlds import Files, data_set, droid_features, droid_record
from pipeline.build import ShardBuilder
from robo4d.shard import ShardIndex
from schemas.plan import ShardTask

# Of the Panda's first joint, rad: `sweep` turns it by 0.06 a step from here on, within its limits.
_FIRST, _ROOM = -2.4, 3.9


@dataclass(frozen=True)
class MeasuredBuilder(ShardBuilder):
    """Builds as ever, then works on for a fixed time an episode, and notes what it took.

    Attributes:
        log: a line of JSON is added to this file for each shard.
        work: "cpu" burns processor time of the building thread; "sleep" waits.
        seconds: of that work, an episode.
    """

    log: str = ""
    work: str = "cpu"
    seconds: float = 0.0

    def __reduce__(self) -> Any:
        build, fields = super().__reduce__()
        del build
        return _made, (fields, self.log, self.work, self.seconds)

    def __call__(self, task: ShardTask) -> ShardIndex:
        """Build one shard as `ShardBuilder` does."""
        began, wall = time.time(), time.perf_counter()
        thread, process = time.thread_time(), time.process_time()
        index = super().__call__(task)
        _work(self.work, self.seconds * len(task.refs))
        line = {
            "source": task.source,
            "shard": task.name,
            "episodes": len(task.refs),
            "bytes": sum(ref.length for ref in task.refs),
            "samples": len(index.samples),
            "sha256": index.sha256,
            "worker": os.getpid(),
            "began": began,
            "seconds": time.perf_counter() - wall,
            "thread_cpu": time.thread_time() - thread,
            "process_cpu": time.process_time() - process,
        }
        # One short write in append mode: workers' lines do not mix.
        with Path(self.log).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return index


def read_log(path: Path) -> list[dict[str, Any]]:
    """What `MeasuredBuilder`s noted in a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _made(fields: tuple[Any, ...], log: str, work: str, seconds: float) -> MeasuredBuilder:
    return MeasuredBuilder(*fields, log=log, work=work, seconds=seconds)


def _work(how: str, seconds: float) -> None:
    if how == "sleep":
        time.sleep(seconds)
        return
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(2000))


def tiny_droid(episodes: int, steps: int, damaged: int = 0) -> Files:
    """A DROID data set of tiny sound episodes, no two alike; each ``damaged``-th record is junk."""
    records = []
    for n in range(episodes):
        # Multiples of the golden section fill the joint's range evenly, in no order.
        offset = _FIRST + _ROOM * (n * 0.6180339887 % 1)
        records.append(droid_record(steps, f"TEST/success/2026-01-01/Mon_{n}", offset))
        if damaged and n % damaged == damaged - 1:
            records[-1] = b"junk"
    return data_set("droid", "1.0.0", droid_features(), records)


def write_files(files: Files, folder: Path) -> Path:
    """The data set on disk; returns ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder

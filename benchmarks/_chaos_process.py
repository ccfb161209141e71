"""The processes of a build: which they are, when to disturb them, and whether they end (Linux)."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# How the command lines of what builds shards look, by engine.
WORKERS = {
    "local": "multiprocessing.spawn",
    "beam": "sdk_worker_main",
    "ray": "ray::MapWorker",
}
_LONGEST = 30.0  # s that the orphans of a killed build are waited for
# Ray's own servants, which write nothing; they end within half a minute.
_SERVANTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children[int(path.read_text().rsplit(")", 1)[1].split()[1])].append(
                int(path.parent.name)
            )
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children[todo.pop()]
        found += below
        todo += below
    return found


def command_of(pid: int) -> str:
    """Empty for one that is gone, or a zombie."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf8", "replace")
        )
    except OSError:
        return ""


def workers_of(pid: int, engine: str) -> list[int]:
    """What builds shards below a process."""
    found = []
    for child in descendants(pid):
        said = command_of(child)
        if WORKERS[engine] in said and not said.startswith("/bin/sh"):
            found.append(child)
    return found


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> bool:
    """Whether it was there to be killed."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)
        return True
    return False


def seconds_of_orphans(pids: Sequence[int]) -> float:
    """How long what a killed driver had started lives on (s); what outlives 30 s is killed."""
    began = time.monotonic()
    left = list(pids)
    while left and time.monotonic() - began < _LONGEST:
        time.sleep(0.1)
        left = [pid for pid in left if (said := command_of(pid)) and not said.startswith(_SERVANTS)]
    for pid in left:
        kill(pid)
    return round(time.monotonic() - began, 1)

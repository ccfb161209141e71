"""Running a command for `benchmarks.peers`, to its end or to a kill, with its tree's CPU time."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK_S = 0.05  # how often a running command is looked at; a kill is late by at most so much


@dataclass(frozen=True)
class Run:
    """What became of a command.

    Attributes:
        code: exit status; negative where a signal ended it.
        wall: seconds.
        cpu: seconds of user and system time of the process and all that it started.
        began: CPU seconds by when it had written the first of its output; before lies starting up.
        said: the last line of its standard error.
    """

    code: int
    wall: float
    cpu: float
    began: float
    said: str


def run(
    command: Sequence[str],
    out: Path,
    env: Mapping[str, str],
    cwd: Path,
    kill: Callable[[float, float], bool] | None = None,
) -> Run:
    """Run a command that writes ``out``.

    Args:
        kill: called with (CPU seconds so far, those when output began or infinity); once it says
            yes, the whole process group gets SIGKILL, as when a machine is taken away.
    """
    before = _written(out)
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        began, cpu, pid = float("inf"), 0.0, 0
        try:
            while not pid:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                cpu = max(cpu, _cpu_of_tree(process.pid))
                if began == float("inf") and _written(out) != before:
                    began = cpu
                if kill is not None and kill(cpu, began):
                    os.killpg(process.pid, signal.SIGKILL)
                    pid, status, usage = os.wait4(process.pid, 0)
                time.sleep(_LOOK_S)
        finally:
            if not pid:  # a run of its own session outlives an interrupted benchmark
                os.killpg(process.pid, signal.SIGKILL)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    # Of a tree that was killed, children that nobody waited for count only in what was seen.
    cpu = max(cpu, usage.ru_utime + usage.ru_stime)
    return Run(process.returncode, wall, cpu, min(began, cpu), lines[-1] if lines else "")


def _cpu_of_tree(pid: int) -> float:
    try:
        root = psutil.Process(pid)
        times = [one.cpu_times() for one in [root, *root.children(recursive=True)]]
    except psutil.NoSuchProcess:
        return 0.0
    # What a child has used is its parent's once the child was waited for.
    own = sum(one.user + one.system for one in times)
    return own + sum(one.children_user + one.children_system for one in times)


def _written(out: Path) -> int:
    """Files that hold something, plans and descriptions left out, which come before any work."""
    found = 0
    for folder, _, names in os.walk(out):
        for name in names:
            if not name.endswith(".json"):
                try:
                    found += os.stat(os.path.join(folder, name)).st_size > 0
                except FileNotFoundError:  # renamed meanwhile
                    continue
    return found

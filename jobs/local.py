"""The local engine: shards of a plan built by processes on this machine."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

from pipeline.build import build_shard, finished
from pipeline.manifest import PLAN, write_tables
from pipeline.publish import OutputError, explained, prepare, publish_bytes
from pipeline.verify import read_plan
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.plan import BuildPlan, ShardTask
from schemas.reasons import UsageError

_LOST = (
    "a worker process died (killed, or out of memory: try fewer WORKERS); "
    "run the same command again, finished shards are kept"
)
Done = Callable[[ShardTask, ShardIndex, bool], None]


class WorkerLost(Exception):
    """A worker process died (killed, or out of memory) while it built a shard."""


def run_local(plan: BuildPlan, out: Path, workers: int, done: Done) -> list[ShardIndex]:
    """Build every shard that is not finished yet, then the tables.

    Args:
        workers: processes; 1 builds in this one.
        done: called with (task, index, skipped) as each shard is there.

    Raises:
        OutputError: ``out`` cannot be written, or another build is writing it.
        UsageError: bad configuration or a missing dependency, found while building.
        WorkerLost: a worker died; the shards finished so far are kept.
    """
    with _only_one(out):
        prepare(out)
        with explained(out):
            _drop_shards_of_an_older_plan(plan, out)
            publish_bytes(out / PLAN, plan.to_json())
        indexes: dict[str, ShardIndex] = {}
        todo = []
        for task in plan.shards:
            with explained(out):
                index = finished(out, task)
            if index is None:
                todo.append(task)
            else:
                indexes[task.name] = index
                done(task, index, True)
        for task, index in _build_all(todo, plan, out, workers):
            indexes[task.name] = index
            done(task, index, False)
        ordered = [indexes[task.name] for task in plan.shards]
        write_tables(out, plan, ordered)
        return ordered


def _build_all(
    todo: list[ShardTask], plan: BuildPlan, out: Path, workers: int
) -> Iterator[tuple[ShardTask, ShardIndex]]:
    workers = min(workers, len(todo))
    if workers <= 1:
        for task in todo:
            yield task, build_shard(task, plan, out)
        return
    # Spawned, never forked: a fork after OpenGL was used hangs.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_die_with, initargs=(os.getpid(),)
    ) as pool:
        try:
            futures = {pool.submit(build_shard, task, plan, out): task for task in todo}
        except (BrokenProcessPool, BrokenPipeError) as error:
            # A worker died while it was being started. The pool does not know its processes yet,
            # and one left alive would keep this process from ever ending.
            for worker in active_children():
                worker.kill()
            raise WorkerLost(_LOST) from error
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise WorkerLost(_LOST) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _die_with(parent: int) -> None:
    """In a worker: end when the driver is gone, so that no orphan writes beside the next build."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Hold the output folder's lock; the kernel frees it however this process ends."""
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another build is writing {out}; wait for it or stop it") from error
        yield


def _drop_shards_of_an_older_plan(plan: BuildPlan, out: Path) -> None:
    """Remove shards that the plan here before made and this one does not have."""
    try:
        old = read_plan(out)
    except UsageError:
        return
    kept = {task.name for task in plan.shards}
    for task in old.shards:
        if task.name not in kept:
            (out / f"{task.name}{INDEX_SUFFIX}").unlink(missing_ok=True)
            (out / f"{task.name}.tar").unlink(missing_ok=True)

"""One build, on any engine: what is finished is kept, the rest is built, the tables come last."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.build import ShardBuilder, find_finished
from pipeline.manifest import PLAN, write_tables
from pipeline.store import OutputError, Store
from pipeline.verify import read_plan
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.config import RunConfig
from schemas.plan import BuildPlan, ShardTask
from schemas.reasons import UsageError

Built = tuple[ShardTask, ShardIndex]
Engine = Callable[[Sequence[ShardTask], ShardBuilder, RunConfig], Iterator[Built]]
Done = Callable[[ShardTask, ShardIndex, bool], None]


class WorkerLost(Exception):
    """Workers died (killed, or out of memory) more often than they are replaced."""


def run_build(plan: BuildPlan, store: Store, config: RunConfig, done: Done) -> list[ShardIndex]:
    """Build every shard that is not finished yet, then the tables.

    Args:
        done: called with (task, index, skipped) as each shard is there.

    Raises:
        OutputError: the store cannot be written, or another build is writing it.
        UsageError: bad configuration or a missing dependency, found while building.
        WorkerLost: workers died again and again; the shards finished so far are kept.
    """
    engine = _engine(config.engine)
    with _only_one(store):
        store.prepare()
        _drop_shards_of_an_older_plan(plan, store)
        store.publish_bytes(PLAN, plan.to_json())
        indexes = find_finished(plan.shards, store)
        for task in plan.shards:
            if task.name in indexes:
                done(task, indexes[task.name], True)
        todo = [task for task in plan.shards if task.name not in indexes]
        for task, index in engine(todo, ShardBuilder.of(plan, store), config) if todo else ():
            indexes[task.name] = index
            done(task, index, False)
        ordered = [indexes[task.name] for task in plan.shards]
        write_tables(store, plan, ordered)
        return ordered


def _engine(name: str) -> Engine:
    # Imported by need: Beam and Ray take seconds, and are extras.
    try:
        if name == "beam":
            from jobs.on_beam import run_beam

            return run_beam
        if name == "ray":
            from jobs.on_ray import run_ray

            return run_ray
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(("apache_beam", "ray")):
            raise
        raise UsageError(
            f"engine {name!r} needs {error.name}: pip install 'robo4d[{name}]'"
        ) from error
    from jobs.local import run_local

    return run_local


@contextmanager
def _only_one(store: Store) -> Iterator[None]:
    """Hold the output folder's lock; the kernel frees it however this process ends.

    An object store has no lock. Two builds of one plan do no harm there: both write the same bytes.
    """
    if store.folder is None:
        yield
        return
    with store.explained():
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = (store.folder / ".lock").open("w")
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another build is writing {store}; wait for it or stop it"
            ) from error
        yield


def _drop_shards_of_an_older_plan(plan: BuildPlan, store: Store) -> None:
    """Remove shards that the plan here before made and this one does not have."""
    try:
        old = read_plan(store)
    except UsageError:
        return
    kept = {task.name for task in plan.shards}
    for task in old.shards:
        if task.name not in kept:
            store.delete(f"{task.name}{INDEX_SUFFIX}")
            store.delete(f"{task.name}.tar")

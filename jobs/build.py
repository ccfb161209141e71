"""One build, on any engine: what is finished is kept, the rest is built, the tables come last."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from jobs.logs import begin_log
from jobs.monitor import Monitor, Tell
from pipeline.build import ShardBuilder, find_finished, finished
from pipeline.cost import longest_first
from pipeline.manifest import DATASET, PLAN, STATS, TABLES, write_tables
from pipeline.merge import StoredIndexes, merge
from pipeline.stats import stats_of
from pipeline.store import OutputError, Store
from pipeline.verify import read_plan
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.config import QuarantineConfig, RunConfig
from schemas.plan import BuildPlan, ShardTask
from schemas.reasons import Reason, UsageError

_log = logging.getLogger("robo4d.jobs")
Built = tuple[ShardTask, ShardIndex]
Engine = Callable[[Sequence[ShardTask], ShardBuilder, RunConfig], Generator[Built]]


class WorkerLost(Exception):
    """Workers died (killed, or out of memory) more often than they are replaced."""


class TooMuchQuarantine(Exception):
    """More of the data is bad than the configuration allows; what was built is kept."""


def run_build(
    plan: BuildPlan,
    store: Store,
    run: RunConfig,
    tell: Tell | None = None,
    port: int | None = None,
    *,
    part: tuple[int, int] | None = None,
    again: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Build every shard that is not finished yet, then the tables.

    Args:
        tell: called with the status (see `jobs.monitor.Monitor`) as each shard is there.
        port: of loopback, where Prometheus may ask how the build is.
        part: (i, n) builds every n-th shard from the i-th on, and no tables. Parts may run at once.
        again: names of shards that are built even where they are finished.

    Returns:
        What `pipeline.stats` counts in the plan's shards, or in the part's.

    Raises:
        OutputError: the store cannot be written, or another build is writing it.
        UsageError: bad configuration or a missing dependency, found while building.
        WorkerLost: workers died again and again; the shards finished so far are kept.
        TooMuchQuarantine: see `schemas.config.QuarantineConfig`; likewise.
        Stopped: a signal asked for the end; likewise.
    """
    if part is not None and run.engine == "beam":
        raise UsageError("a Beam pipeline builds all of a plan; --part goes with local and ray")
    engine = _engine(run.engine)
    with _alone(store, part):
        _drop_what_an_older_plan_made(plan, store)
        store.publish_bytes(PLAN, plan.to_json())
        begin_log(store, run.log)
        ours = plan if part is None else replace(plan, shards=plan.shards[part[0] :: part[1]])
        with Monitor(ours, store, run, tell, port, part) as monitor:
            done = set()
            for task, index in finished([t for t in ours.shards if t.name not in again], store):
                done.add(task.name)
                monitor.shard(task, index, True)
            todo = [task for task in ours.shards if task.name not in done]
            todo = longest_first(plan, todo)
            if todo:
                _drop_tables(store)
                _drop_indexes(todo, store, again)
            _log.info("build begun", extra={"facts": {"engine": run.engine, "shards": len(todo)}})
            try:
                with closing(engine(todo, ShardBuilder.of(plan, store), run)) as built:
                    for task, index in built:
                        monitor.shard(task, index, False)
                        _refuse(monitor.status(), plan.config.quarantine)
            except BaseException as error:
                _log.error("build ended", extra={"facts": {"why": repr(error)}})
                raise
            indexes = StoredIndexes(store, [task.name for task in ours.shards])
            if part is None:
                monitor.merging()
                stats = write_tables(store, plan, indexes)
            else:
                stats = stats_of(ours, merge(indexes))
            _log.info("build done", extra={"facts": {"shards": len(ours.shards)}})
        return stats


def unfinished(plan: BuildPlan, store: Store) -> frozenset[str]:
    """Names of the shards that are still to be built."""
    found = {task.name for task, _ in finished(plan.shards, store)}
    return frozenset(task.name for task in plan.shards if task.name not in found)


def set_aside_for(reasons: Collection[Reason], plan: BuildPlan, store: Store) -> frozenset[str]:
    """Names of the finished shards that hold an episode set aside for one of ``reasons``."""
    return frozenset(
        task.name
        for task, index in finished(plan.shards, store)
        if any(row["reason"] in reasons for row in index.build["quarantine"])
    )


def _refuse(status: dict[str, Any], config: QuarantineConfig) -> None:
    done, bad = status["episodes_done"], status["episodes_quarantined"]
    if config.stop_after is None or done < config.stop_after or bad <= config.max_share * done:
        return
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(status["quarantine"].items()))
    raise TooMuchQuarantine(
        f"{bad} of {done} episodes ({bad / done:.0%}) are in quarantine: {reasons}; "
        f"quarantine.max_share allows {config.max_share:.0%}. The log names them; what was "
        "built is kept. Mend the data, or allow more and run the same command again"
    )


# Imported by need: Beam and Ray take seconds, and are extras.
_ENGINES = {
    "local": ("jobs.local", "run_local"),
    "beam": ("jobs.on_beam", "run_beam"),
    "ray": ("jobs.on_ray", "run_ray"),
}


def _engine(name: str) -> Engine:
    module, function = _ENGINES[name]
    try:
        engine: Engine = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(("apache_beam", "ray")):
            raise
        raise UsageError(
            f"engine {name!r} needs {error.name}: pip install 'robo4d[{name}]'"
        ) from error
    return engine


@contextmanager
def _alone(store: Store, part: tuple[int, int] | None) -> Iterator[None]:
    """Hold the output folder's lock, with other parts or alone; the kernel frees it however this
    process ends. What an interrupted build left in the scratch folder goes, but parts may be
    writing there.

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
            fcntl.flock(file, (fcntl.LOCK_EX if part is None else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another build is writing {store}; wait for it or stop it"
            ) from error
        if part is None:
            store.prepare()
        try:
            yield
        finally:
            if part is None:
                store.prepare()  # what was being built when the end came


def _drop_what_an_older_plan_made(plan: BuildPlan, store: Store) -> None:
    """Remove shards that the plan here before made and this one does not have, and the tables,
    which say that all of its shards are there.
    """
    try:
        old = read_plan(store)
    except UsageError:
        return
    if old == plan:
        return
    _drop_tables(store)
    kept = {task.name for task in plan.shards}
    for task in old.shards:
        if task.name not in kept:
            store.delete(f"{task.name}{INDEX_SUFFIX}")
            store.delete(f"{task.name}.tar")


def _drop_tables(store: Store) -> None:
    """Remove what says that all shards are there, the file that readers begin with first."""
    with store.explained():
        there = store.names()
    for name in (DATASET, STATS, *TABLES):
        if name in there:
            store.delete(name)


def _drop_indexes(todo: Sequence[ShardTask], store: Store, again: frozenset[str]) -> None:
    """Remove indexes of shards that are built anew: beside a new tar, an old index would be wrong
    from when the one is there until the other is, or for ever. One that another build of the same
    plan has just written stays.
    """
    with store.explained():
        there = store.names()
    new = find_finished([task for task in todo if task.name not in again], store)
    for task in todo:
        name = f"{task.name}{INDEX_SUFFIX}"
        if name in there and task.name not in new:
            store.delete(name)

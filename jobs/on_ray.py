"""The Ray engine: actors that build shards, by Ray Data, on one machine or a cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import ray.data

from jobs.build import Built, WorkerLost
from jobs.worker import begin_worker
from pipeline.build import ShardBuilder
from pipeline.stages import Stages
from pipeline.store import OutputError
from robo4d.shard import ShardIndex
from schemas.config import RayConfig, RunConfig
from schemas.plan import ShardTask
from schemas.reasons import UsageError

# What a builder raises of its own; the driver raises it again.
_ERRORS: dict[str, type[Exception]] = {"usage": UsageError, "output": OutputError}


def run_ray(
    todo: Sequence[ShardTask], builder: ShardBuilder, config: RunConfig
) -> Generator[Built]:
    """Shards as they are built.

    What an actor, its process or its node loses is begun again elsewhere by Ray; a shard is either
    there, whole, or not.

    Raises:
        UsageError, OutputError: the builder's own.
        WorkerLost: what died was begun again ``config.retries`` times, and died again.
        ray.exceptions.RayError: anything else that ends it.
    """
    tasks = {task.name: task for task in todo}
    if not tasks:
        return
    with _cluster(config.ray):
        _refuse_deadlock(config)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # ours are shown
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        pool = ray.data.ActorPoolStrategy(
            min_size=min(config.workers, len(todo)),
            max_size=max(config.ray.max_workers or 0, min(config.workers, len(todo))),
        )
        rows = ray.data.from_items(
            [{"task": task.to_json()} for task in todo], override_num_blocks=len(todo)
        ).map_batches(
            _Actor,
            fn_constructor_args=(builder, config),
            batch_size=1,
            compute=pool,
            num_cpus=config.ray.cpus,
            num_gpus=config.ray.gpus,
            # Else Ray begins what kills its process again for ever.
            max_restarts=config.retries,
            max_task_retries=config.retries,
        )
        try:
            for row in rows.iter_rows():
                if row["error"]:
                    raise _ERRORS[row["error"]](row["message"])
                index = ShardIndex.from_json(row["index"])
                yield tasks[row["name"]], index
        except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as error:
            raise WorkerLost(
                f"a Ray worker died (killed, or out of memory) more than {config.retries} times "
                f"over the same work; run the same command again, finished shards are kept: {error}"
            ) from error


@contextmanager
def _cluster(config: RayConfig) -> Iterator[None]:
    """The cluster that the configuration or the environment names, else one of this machine."""
    address = _address(config)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tells nobody
    ours = not ray.is_initialized()
    if ours:
        stop = signal.getsignal(signal.SIGTERM)
        # Told no address, Ray would join whatever cluster was last started on this machine.
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            logging_level=logging.WARNING,
        )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray puts its own in its place
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _refuse_deadlock(config: RunConfig) -> None:
    """Actors that hold all processors would wait for ever for stages of their own."""
    there = ray.cluster_resources().get("CPU", 0.0)
    stage = max(config.ray.read_cpus, config.ray.encode_cpus)
    actors = config.workers
    if _address(config.ray) is None:  # one that does not grow with its pool
        actors = max(actors, config.ray.max_workers or 0)
    if config.ray.stages and actors * config.ray.cpus + stage > there:
        raise UsageError(
            f"{actors} actors of {config.ray.cpus:g} CPUs leave none of the cluster's {there:g} "
            f"for a stage of {stage:g}: take fewer workers, or less of run.ray.cpus"
        )


def _address(config: RayConfig) -> str | None:
    return config.address or os.environ.get("RAY_ADDRESS")


class _Actor:
    """Holds what a shard needs: open sources, renderers, networks."""

    def __init__(self, builder: ShardBuilder, config: RunConfig) -> None:
        begin_worker(builder, config)
        if config.ray.stages:
            read, encode = _Tasks(config.ray.read_cpus), _Tasks(config.ray.encode_cpus)
            stages = Stages(read, encode, config.ray.ahead)
            builder = replace(builder, stages=stages)
        self._builder = builder
        # Ray Data calls this and `__call__` on different threads; a simulator's OpenGL is of one.
        self._thread = ThreadPoolExecutor(1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        (text,) = batch["task"]
        task = ShardTask.from_json(text)
        index, error, message = b"", "", ""
        try:
            index = self._thread.submit(self._builder, task).result().to_json()
        except tuple(_ERRORS.values()) as raised:
            # Ray Data puts an error of its own in the place of what is raised here.
            error = next(name for name, kind in _ERRORS.items() if isinstance(raised, kind))
            message = str(raised)
        row = {"name": task.name, "index": index, "error": error, "message": message}
        return {name: [value] for name, value in row.items()}


class _Tasks(Executor):
    """Runs each call as a Ray task on any node that has the CPUs."""

    def __init__(self, cpus: float) -> None:
        self._remote = ray.remote(num_cpus=cpus)(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of the task's result; an exception of ``fn`` is raised as itself."""
        outcome: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                outcome.set_result(done.result())
            else:  # Ray's own has the traceback as its message
                outcome.set_exception(getattr(error, "cause", None) or error)

        self._remote.remote(fn, args, kwargs).future().add_done_callback(settle)
        return outcome


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)

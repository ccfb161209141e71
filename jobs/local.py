"""The local engine: shards built by processes on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, get_context

from jobs.build import Built, WorkerLost
from jobs.logs import LogTo, begin_log
from jobs.monitor import Stopped
from jobs.worker import begin_worker
from pipeline.build import ShardBuilder
from pipeline.store import Store
from reconstruction.depth import DepthEstimator
from reconstruction.depth.backends import NETWORKS, open_network
from reconstruction.depth.served import ServerLost
from reconstruction.depth.served.client import ServedDepth
from reconstruction.depth.served.process import serving
from robo4d.shard import ShardIndex
from schemas.config import DepthConfig, RunConfig
from schemas.plan import ShardTask

_log = logging.getLogger("robo4d.jobs")
_build: Callable[[ShardTask], ShardIndex] | None = None  # of a worker process


def run_local(
    todo: Sequence[ShardTask], builder: ShardBuilder, config: RunConfig
) -> Generator[Built]:
    """Shards as they are built. One worker builds in this process.

    A worker that dies (killed, or out of memory) takes its pool with it; the pool is made anew for
    what is left. So it goes where the process dies that runs the network for all of them.

    Raises:
        WorkerLost: that happened more than ``config.retries`` times with no shard built between.
    """
    if config.workers == 1 or len(todo) <= 1:
        for task in todo:
            yield task, builder(task)
        return
    left = list(todo)
    lost = 0
    while left:
        try:
            with _served(builder, config) as ready, closing(_pool(left, ready, config)) as built:
                for task, index in built:
                    left.remove(task)
                    lost = 0
                    yield task, index
        except (BrokenProcessPool, ServerLost) as error:
            lost += 1
            if lost > config.retries:
                who = "a worker process"
                if isinstance(error, ServerLost):
                    who = "the process that runs the depth network"
                raise WorkerLost(
                    f"{who} died (killed, or out of memory: try fewer workers), "
                    f"{lost} times in a row, with {len(left)} shards to go, the first of them "
                    f"{left[0].name}; run the same command again, finished shards are kept"
                ) from error
            # What the dead were writing stays aside: other parts of a build may be writing there.
            _log.warning("workers replaced", extra={"facts": {"lost": lost, "shards": len(left)}})


@contextmanager
def _served(builder: ShardBuilder, config: RunConfig) -> Iterator[ShardBuilder]:
    """A builder that asks another process for what a depth network says, if so configured."""
    if not config.local.serve_network or builder.config.depth.backend not in NETWORKS:
        yield builder
        return
    opener = partial(_open, builder.store, config.log, builder.config.depth)
    with serving(opener) as address:
        yield replace(builder, network=ServedDepth(address))


def _open(store: Store, log: LogTo, depth: DepthConfig) -> DepthEstimator:
    begin_log(store, log)  # as a worker does; nobody else does in the network's process
    return open_network(depth)


def _pool(todo: Sequence[ShardTask], builder: ShardBuilder, config: RunConfig) -> Generator[Built]:
    # Spawned, never forked: a fork after OpenGL was used hangs.
    with ProcessPoolExecutor(
        min(config.workers, len(todo)),
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(builder, config, os.getpid()),
    ) as pool:
        futures: dict[Future[ShardIndex], ShardTask] = {}
        try:
            for task in todo:
                futures[pool.submit(_build_one, task)] = task
        except (BrokenProcessPool, BrokenPipeError) as error:
            # A worker died while it was being started. The pool does not know its processes yet,
            # and one left alive would keep this process from ever ending.
            for worker in active_children():
                worker.kill()
            raise BrokenProcessPool("a worker died while it was started") from error
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except (Stopped, KeyboardInterrupt, GeneratorExit, ServerLost):
            # What is being built is given up: whoever asks for an end waits for seconds, not for
            # the minutes of a shard. Without its server no worker can end one.
            for worker in active_children():
                worker.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _build_one(task: ShardTask) -> ShardIndex:
    assert _build is not None
    return _build(task)


def _begin(builder: ShardBuilder, config: RunConfig, parent: int) -> None:
    global _build  # a pool's initializer has no other way to leave anything
    _build = builder
    begin_worker(builder, config, parent)

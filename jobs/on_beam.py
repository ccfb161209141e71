"""The Beam engine: one pipeline that reads the plan, builds its shards and merges their tables."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from jobs.build import Built, WorkerLost
from jobs.worker import begin_worker, end_with
from pipeline.build import ShardBuilder, finished
from pipeline.manifest import write_tables
from pipeline.merge import StoredIndexes
from pipeline.store import OutputError, Store
from pipeline.verify import read_plan
from schemas.config import RunConfig
from schemas.plan import ShardTask
from schemas.reasons import UsageError

_CANCELLED = 60.0  # s that a runner elsewhere has to answer that a job is cancelled
_POLL = 1.0  # s between looks for shards that are finished
_NOTICED = 2.0  # s within which the death of a worker is known, after what it led to
_MOST = 32_000  # characters: a pipe that nobody reads yet takes 64 KiB
_LOST = 70  # exit code of a pipeline whose worker died


def run_beam(
    todo: Sequence[ShardTask], builder: ShardBuilder, config: RunConfig
) -> Generator[Built]:
    """Run the pipeline to its end; shards are told as they appear in the store.

    Without options it runs in ``config.workers`` processes of this machine. Runners elsewhere take
    Beam's own options, a store that they reach as well, and replace their workers themselves. Where
    a worker of this machine dies, the pipeline is begun again for what is left.

    Raises:
        UsageError, OutputError: the builder's own.
        RuntimeError: the pipeline failed; the message is its traceback.
        WorkerLost: workers died more than ``config.retries`` times with no shard built between.
    """
    if not todo:
        return
    left = {task.name: task for task in todo}
    lost = 0
    while True:
        before = len(left)
        process = _Process(builder, config)
        try:
            while process.is_alive():
                yield from _appeared(left, builder.store)
            whole = process.whole()
        finally:
            process.kill()
        yield from _appeared(left, builder.store)
        if whole or not left:  # the tables are written after this, whoever wrote them before
            return
        lost = lost + 1 if len(left) == before else 1
        if lost > config.retries:
            raise WorkerLost(
                f"a Beam worker died (killed, or out of memory: try fewer workers), {lost} times "
                f"in a row, with {len(left)} shards to go; run the same command again, finished "
                "shards are kept"
            )


def _appeared(left: dict[str, ShardTask], store: Store) -> Iterator[Built]:
    for task, index in finished(list(left.values()), store):
        yield left.pop(task.name), index


class _Process:
    """The pipeline, in a process of its own at the head of a process group.

    Beam's local runner blocks, waits for ever for a worker that died while it was starting, and
    cannot be stopped from within. A group can, with all its workers.
    """

    def __init__(self, builder: ShardBuilder, config: RunConfig) -> None:
        self._elsewhere = bool(config.beam.options)
        context = get_context("spawn")
        self._said, say = context.Pipe(duplex=False)
        self._process = context.Process(target=_pipeline, args=(builder, config, os.getpid(), say))
        self._process.start()
        say.close()

    def is_alive(self) -> bool:
        """After a while, or when it has ended."""
        self._process.join(_POLL)
        return self._process.is_alive()

    def whole(self) -> bool:
        """Of one that has ended: whether to the end, not by the death of a worker.

        Raises:
            UsageError, OutputError: what a worker's traceback ends with, if it is one of these.
            RuntimeError: anything else ended it; the message is the traceback.
        """
        if self._process.exitcode == 0:
            return True
        with suppress(EOFError):  # it died without a word
            text = self._said.recv()
            for kind in (UsageError, OutputError):
                # Beam hands on what its workers raise as text.
                name = f"{kind.__module__}.{kind.__qualname__}"
                if found := re.search(
                    rf"^{re.escape(name)}: (.*?)( \[while running .*)?$", text, re.M
                ):
                    raise kind(found[1])
            raise RuntimeError(text)
        return False

    def kill(self) -> None:
        """End it and its workers, which do not end with it."""
        assert self._process.pid is not None
        if self._elsewhere and self._process.is_alive():
            self._process.terminate()  # it cancels the job, which would run and cost on
            self._process.join(_CANCELLED)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _pipeline(builder: ShardBuilder, config: RunConfig, driver: int, say: Connection) -> None:
    """In the process: run the pipeline; end with its workers, and end them with the driver."""
    os.setpgid(0, 0)
    end_with(driver, lambda: os.killpg(0, signal.SIGKILL))
    died = threading.Event()
    tell = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        # Beam's thread that waits for a worker here raises when that worker ends badly.
        if args.thread is None or args.thread.name != "run_worker":
            tell(args)
            return
        died.set()
        time.sleep(_NOTICED)
        os._exit(_LOST)

    threading.excepthook = hook
    try:
        options = PipelineOptions(list(config.beam.options) or _here(config.workers))
        pipeline = beam.Pipeline(options=options)
        assemble(pipeline, builder, config)
        result = pipeline.run()  # of a local runner it has ended now
        signal.signal(signal.SIGTERM, lambda *_: result.cancel())
        state = result.wait_until_finish()
        if state != PipelineState.DONE:
            raise RuntimeError(f"the pipeline ended as {state}")
    except Exception:  # noqa: BLE001 -- raised again in the driver
        if not died.wait(_NOTICED):
            say.send(traceback.format_exc()[-_MOST:])
        os._exit(_LOST)


def assemble(pipeline: beam.Pipeline, builder: ShardBuilder, config: RunConfig) -> None:
    """Plan -> shards -> tables. The plan is read by a worker: it is too large for a job graph."""
    store = builder.store
    names = (
        pipeline
        | "Where" >> beam.Create([store.url])
        | "ReadPlan" >> beam.FlatMap(_tasks)
        | "Spread" >> beam.Reshuffle()
        | "Build" >> beam.ParDo(_Build(builder, config))
    )
    _ = names | "All" >> beam.combiners.ToList() | "Merge" >> beam.Map(_merge, store.url)


def _tasks(url: str) -> list[str]:
    store = Store(url)
    shards = read_plan(store).shards
    there = {task.name for task, _ in finished(shards, store)}
    return [task.to_json() for task in shards if task.name not in there]


# A worker process takes bundles on any of its threads, some at once; OpenGL (simulators) belongs to
# one thread, and a rasteriser keeps memory between its calls.
_thread = ThreadPoolExecutor(1)


class _Build(beam.DoFn):
    def __init__(self, builder: ShardBuilder, config: RunConfig) -> None:
        self._builder, self._config = builder, config
        # Processes of this machine would outlive the driver; elsewhere the runner sees to it.
        self._parent = None if config.beam.options else os.getpid()

    def setup(self) -> None:
        begin_worker(self._builder, self._config, self._parent)

    def process(self, element: str) -> Iterator[str]:
        task = ShardTask.from_json(element)
        _thread.submit(self._builder, task).result()
        yield task.name


def _merge(names: Sequence[str], url: str) -> None:
    store = Store(url)
    plan = read_plan(store)
    found = {task.name for task, _ in finished(plan.shards, store)}
    lost = [name for name in names if name not in found]
    if lost or len(found) < len(plan.shards):
        raise OutputError(f"{store} lacks shards that were built: {lost[:3]}; is it shared by all?")
    write_tables(store, plan, StoredIndexes(store, [task.name for task in plan.shards]))


def _here(workers: int) -> list[str]:
    return [
        "--runner=DirectRunner",
        "--direct_running_mode=multi_processing",
        f"--direct_num_workers={workers}",
        "--default_sdk_harness_log_level=WARNING",
    ]

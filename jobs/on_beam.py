"""The Beam engine: one pipeline that reads the plan, builds its shards and merges their tables."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from jobs.build import Built
from jobs.worker import begin_worker
from pipeline.build import ShardBuilder, find_finished
from pipeline.manifest import write_tables
from pipeline.store import OutputError, Store
from pipeline.verify import read_plan
from schemas.config import RunConfig
from schemas.plan import ShardTask

_POLL = 1.0  # s between looks for shards that are finished


def run_beam(
    todo: Sequence[ShardTask], builder: ShardBuilder, config: RunConfig
) -> Generator[Built]:
    """Run the pipeline to its end; shards are told as they appear in the store.

    Without options it runs in ``config.workers`` processes of this machine. Runners elsewhere take
    Beam's own options, and a store that they reach as well.
    """
    if not todo:
        return
    options = PipelineOptions(list(config.beam.options) or _here(config.workers))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with beam.Pipeline(options=options) as pipeline:
                assemble(pipeline, builder, config)
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            failed.append(error)

    # Aside, since a local runner blocks until all is done.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    left = {task.name: task for task in todo}
    while thread.is_alive():
        thread.join(_POLL)
        for name, index in find_finished(list(left.values()), builder.store).items():
            yield left.pop(name), index
    if failed:
        raise failed[0]
    for name, index in find_finished(list(left.values()), builder.store).items():
        yield left[name], index


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
    there = find_finished(shards, store)
    return [task.to_json() for task in shards if task.name not in there]


class _Build(beam.DoFn):
    def __init__(self, builder: ShardBuilder, config: RunConfig) -> None:
        self._builder, self._config = builder, config
        # Processes of this machine would outlive the driver; elsewhere the runner sees to it.
        self._parent = None if config.beam.options else os.getpid()

    def setup(self) -> None:
        begin_worker(self._builder, self._config, self._parent)
        # A worker takes bundles on any of its threads, and OpenGL belongs to one.
        self._thread = ThreadPoolExecutor(1)

    def process(self, element: str) -> Iterator[str]:
        task = ShardTask.from_json(element)
        self._thread.submit(self._builder, task).result()
        yield task.name

    def teardown(self) -> None:
        self._thread.shutdown()


def _merge(names: Sequence[str], url: str) -> None:
    store = Store(url)
    plan = read_plan(store)
    found = find_finished(plan.shards, store)
    lost = [name for name in names if name not in found]
    if lost or len(found) < len(plan.shards):
        raise OutputError(f"{store} lacks shards that were built: {lost[:3]}; is it shared by all?")
    write_tables(store, plan, [found[task.name] for task in plan.shards])


def _here(workers: int) -> list[str]:
    return [
        "--runner=DirectRunner",
        "--direct_running_mode=multi_processing",
        f"--direct_num_workers={workers}",
        "--default_sdk_harness_log_level=WARNING",
    ]

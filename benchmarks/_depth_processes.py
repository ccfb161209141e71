"""The worker processes of `benchmarks.depth_stage`: started, asked, and ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

_GOODBYE = 5.0  # s, for all workers to end by themselves


class OrderFailed(RuntimeError):
    """What a worker was asked to do raised; it waits for the next order."""


@contextmanager
def workers_of(environments: Sequence[Mapping[str, str]]) -> Iterator[list[Connection]]:
    """Processes that do as `_depth_worker.serve` says, by their connections; still starting.

    Args:
        environments: of each, what differs from this process'.
    """
    context = get_context("spawn")  # a fork after OpenGL was used hangs
    started: list[Any] = []
    workers: list[Connection] = []
    try:
        for environment in environments:
            here, there = context.Pipe()
            # No clips among the arguments: more than a pipe holds (64 KB), and the start waits
            # until the new process has imported all, so that they start one after another.
            process = context.Process(target=_serve, args=(there,), daemon=True)
            with _changed(environment):
                process.start()
            there.close()  # so that a dead worker's end is closed
            started.append(process)
            workers.append(here)
        yield workers
        for worker in workers:
            with suppress(OSError):  # it was told before
                worker.send(None)
        until = time.monotonic() + _GOODBYE
        for process in started:
            process.join(max(0.0, until - time.monotonic()))
    finally:
        for process in started:
            process.kill()


@contextmanager
def _changed(changes: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _serve(orders: Connection) -> None:
    # Imported here: this process needs none of it, and its import would hold up the start.
    from benchmarks._depth_worker import serve

    serve(orders)


def ready(workers: list[Connection], patience: float) -> list[Connection]:
    """Those that say within ``patience`` seconds that they have started."""
    there: list[Connection] = []
    until = time.monotonic() + patience
    while len(there) < len(workers) and (left := until - time.monotonic()) > 0:
        for one in wait([worker for worker in workers if worker not in there], left):
            assert isinstance(one, Connection)
            try:
                one.recv()
            except (EOFError, ConnectionResetError) as error:
                raise RuntimeError("a worker died as it started; see what it said") from error
            there.append(one)
    return there


def end(worker: Connection, patience: float) -> None:
    """Let a worker end, and wait until it has.

    Raises:
        RuntimeError: it has not after ``patience``, in s.
    """
    try:
        worker.send(None)
        if worker.poll(patience):
            worker.recv()
    except (EOFError, OSError):
        return
    raise RuntimeError(f"a worker that was to end is there after {patience:g} s")


def ask(
    workers: list[Connection], name: str, arguments: list[tuple[Any, ...]], patience: float
) -> list[Any]:
    """Each worker's answer to an order; they work at once.

    Raises:
        OrderFailed: an answer is a traceback.
        RuntimeError: a worker died, or is silent for longer than ``patience``, in s.
    """
    until = time.monotonic() + patience
    answers = []
    try:
        for worker, order in zip(workers, arguments, strict=True):
            worker.send((name, order))
        for number, worker in enumerate(workers):
            if not worker.poll(max(0.0, until - time.monotonic())):
                raise RuntimeError(f"worker {number} is silent for {patience:g} s after {name}")
            answers.append(worker.recv())
    except (EOFError, OSError) as error:
        raise RuntimeError(f"a worker died at {name}: out of memory? try fewer workers") from error
    for number, (well, answer) in enumerate(answers):
        if not well:
            raise OrderFailed(f"worker {number} at {name}: {answer}")
    return [answer for _, answer in answers]

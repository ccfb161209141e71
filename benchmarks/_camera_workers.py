"""Trials of camera solvers, one after the other or by several processes of one thread each."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

import cv2

from benchmarks._camera_clips import get_clip
from benchmarks._camera_film import FilmOptions
from benchmarks._camera_trials import Trial, run_trial

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")


def outcomes(
    wanted: list[Trial], cache: Path, workers: int = 1, gpus: int = 1
) -> Iterator[tuple[Trial, dict[str, Any] | Exception]]:
    """What each trial came to, or what it raised, as they come; begun in the order of ``wanted``.

    Args:
        cache: folder of clips.
        workers: processes; 1: this one.
        gpus: that they share, where EGL renders on GPUs.

    Raises:
        BrokenProcessPool: a worker died.
    """
    if workers > 1:
        yield from _by_workers(wanted, cache, workers, gpus)
        return
    for trial in wanted:
        try:
            outcome: dict[str, Any] | Exception = run_trial(trial, cache)
        except Exception as error:  # noqa: BLE001  the others are to be run
            outcome = error
        yield trial, outcome


def _by_workers(
    wanted: list[Trial], cache: Path, workers: int, gpus: int
) -> Iterator[tuple[Trial, dict[str, Any] | Exception]]:
    clips = Counter((trial.source, trial.seed, trial.film) for trial in wanted)
    others = set(active_children())
    context = get_context("spawn")  # OpenGL and Warp do not survive a fork
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(gpus,)) as pool:
        try:
            # A clip of one trial is filmed by that. The others are filmed before any trial, so
            # that no two processes film the same; one that fails fails again in its trials.
            with _one_thread():
                films = [pool.submit(_film, *clip, cache) for clip, n in clips.items() if n > 1]
            wait(films)
            with _one_thread():
                waiting: dict[Future[dict[str, Any]], Trial] = {
                    pool.submit(run_trial, trial, cache): trial for trial in wanted
                }
            for future in as_completed(waiting):
                error = future.exception()
                if isinstance(error, BrokenProcessPool) or not isinstance(error, Exception | None):
                    raise error
                yield waiting[future], future.result() if error is None else error
        except BaseException:
            # Whoever breaks off waits for nothing: what is running is lost.
            for worker in set(active_children()) - others:
                worker.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Workers that are started within, as a pool does when it is given work, have one thread.

    Libraries read it from the environment when a worker imports them.
    """
    missing = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _begin(gpus: int) -> None:
    cv2.setNumThreads(1)
    if gpus > 1:  # read when the first context is made
        os.environ["MUJOCO_EGL_DEVICE_ID"] = str(os.getpid() % gpus)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """However that ended: a worker left alone would wait for trials forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _film(source: str, seed: int, options: FilmOptions, cache: Path) -> None:
    get_clip(source, seed, options, cache)

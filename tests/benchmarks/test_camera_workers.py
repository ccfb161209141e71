import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import camera
from benchmarks._camera_clips import clip_path
from benchmarks._camera_film import FilmOptions
from benchmarks._camera_trials import LEVELS, Trial, trials
from benchmarks._camera_workers import outcomes
from robo4d.geometry import intrinsics, make_pose

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")


def _keep_clip(cache: Path, seed: int) -> None:
    """A clip of nothing in particular where a film would be kept, so that none is made."""
    count, height, width = 4, 24, 32
    rng = np.random.default_rng(seed)
    looking_down = make_pose(np.diag([1.0, -1.0, -1.0]), [0.2, 0.0, 1.0])
    np.savez_compressed(
        clip_path("bridge", seed, FilmOptions(), cache),
        name=f"bridge-{seed:04d}-plain",
        robot="widowx_250s",
        rgb=rng.integers(0, 256, (count, height, width, 3), np.uint8),
        joints=rng.uniform(-0.2, 0.2, (count, 6)),
        gripper=np.ones(count),
        time=np.arange(count) / 5,
        K=intrinsics(30, 30, 16, 12),
        base_from_camera=looking_down,
        robot_visible=np.ones((count, height, width), bool),
        depth=rng.uniform(0.7, 0.9, (count, height, width)).astype(np.float32),
        latency_s=0.0,
    )


def _told(outcome: dict[str, Any] | Exception) -> object:
    return type(outcome) if isinstance(outcome, Exception) else outcome | {"seconds": 0}


def test_workers_come_to_what_one_process_does_and_a_failure_costs_nothing_else(tmp_path) -> None:
    for seed in (1, 2):
        _keep_clip(tmp_path, seed)
    clip_path("bridge", 3, FilmOptions(), tmp_path).write_bytes(b"not a clip")
    wanted = list(trials(("start",), ("icp",), ("bridge",), [1, 2, 3], (5.0, 15.0)))
    alone = dict(outcomes(wanted, tmp_path))
    by_two = dict(outcomes(wanted, tmp_path, workers=2))
    assert {t: _told(row) for t, row in by_two.items()} == {t: _told(alone[t]) for t in wanted}
    assert {t.seed for t, row in by_two.items() if isinstance(row, Exception)} == {3}


def test_the_most_telling_settings_are_run_first_for_all_clips() -> None:
    settings, methods = ("start", "frames", "focal", "cold"), ("icp", "solver")
    wanted = list(trials(settings, methods, ("droid", "rt1"), [1, 2]))
    assert [str(t) for t in wanted[3:6]] == [
        "rt1 2 start 15 solver",
        "droid 1 cold 0 solver",
        "rt1 1 cold 0 solver",
    ]
    runs = list(dict.fromkeys((t.setting, t.level, t.method) for t in wanted))
    assert runs[2:5] == [
        ("focal", 0.0, "solver"),
        ("start", 0.0, "solver"),
        ("start", 5.0, "solver"),
    ]
    assert len(wanted) == len(set(wanted)) == 4 * len(runs)
    assert all(t.method == "icp" for t in wanted[-4 * 5 :])


def test_every_setting_has_its_turn_and_what_is_asked_for_twice_is_run_once() -> None:
    once = list(trials(tuple(LEVELS), ("solver",), ("droid",), [1]))
    assert {t.setting for t in once} == set(LEVELS)
    twice = list(trials(("start",), ("icp",), ("droid", "droid"), [1, 1], (15.0, 15.0)))
    assert [str(t) for t in twice] == ["droid 1 start 15 icp"]


def test_who_breaks_off_ends_the_workers_alone_and_leaves_the_environment(
    tmp_path, monkeypatch
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    _keep_clip(tmp_path, 1)
    other = get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    other.start()
    try:
        wanted = trials(("start",), ("icp",), ("bridge",), [1], (15.0,))
        running = outcomes(list(wanted), tmp_path, workers=2)
        next(running)
        assert not set(THREADS) & set(os.environ)
        assert len(active_children()) == 2
        running.close()
        assert active_children() == [other]
    finally:
        other.kill()


def test_failures_before_a_worker_died_are_told(tmp_path, monkeypatch) -> None:
    def dying(new, *_) -> Iterator[tuple[Trial, Exception]]:
        yield new[0], ValueError("no film")
        raise BrokenProcessPool("killed")

    monkeypatch.setattr(camera, "outcomes", dying)
    given = ("--settings", "start", "--methods", "icp", "--sources", "bridge", "--seeds", "1")
    results = ("--results", str(tmp_path / "results.jsonl"))
    monkeypatch.setattr(sys, "argv", ["camera", *given, *results])
    with pytest.raises(ExceptionGroup, match="died after 1 of 5 trials, 1 of which failed") as told:
        camera.main()
    assert [type(error) for error in told.value.exceptions] == [BrokenProcessPool, ValueError]
    assert told.value.exceptions[1].__notes__ == ["in the trial bridge 1 start 15 icp"]

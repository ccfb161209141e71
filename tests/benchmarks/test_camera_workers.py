from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._camera_clips import clip_path
from benchmarks._camera_film import FilmOptions
from benchmarks._camera_trials import trials
from benchmarks._camera_workers import outcomes
from robo4d.geometry import intrinsics, make_pose


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

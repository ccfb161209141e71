"""Builds with one and two workers, and builds killed at random, end in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records import droid_values, example_bytes, write_droid

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def command(data: Path, out: Path, workers: int) -> list[str]:
    args = [
        "build",
        "-s",
        "droid",
        "-d",
        data,
        "-o",
        out,
        "-w",
        workers,
        "--set",
        "shard.episodes=2",
    ]
    return [sys.executable, "-m", "jobs.cli", *map(str, args)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, sha256_of_files):
    """(data, hashes of a build by one worker, seconds it took)."""
    root = tmp_path_factory.mktemp("kill")
    records = [example_bytes(droid_values(40, f"Mon_{i}", i)) for i in range(12)]
    write_droid(root / "data", records)
    began = time.monotonic()
    env = {**os.environ, "ROBO4D_CACHE": str(root / "cache")}
    subprocess.run(command(root / "data", root / "one", 1), cwd=REPO, env=env, check=True)
    return root, sha256_of_files(root / "one"), time.monotonic() - began, env


def test_two_workers_give_the_same_bytes_as_one(undisturbed, sha256_of_files):
    root, expected, _, env = undisturbed
    subprocess.run(command(root / "data", root / "two", 2), cwd=REPO, env=env, check=True)
    assert sha256_of_files(root / "two") == expected


def test_a_build_killed_ten_times_ends_in_the_same_bytes(undisturbed, sha256_of_files):
    root, expected, seconds, env = undisturbed
    out = root / "killed"
    moments = random.Random(0)
    for _ in range(10):
        build = subprocess.Popen(
            command(root / "data", out, 2), cwd=REPO, env=env, stderr=subprocess.DEVNULL
        )
        # When the kill falls decides only how much is left to do, not what the result must be.
        try:
            build.wait(moments.uniform(0.1, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            build.send_signal(signal.SIGKILL)
            build.wait()
        for path in out.glob("*.index.json"):
            assert path.with_name(path.name.replace(".index.json", ".tar")).exists()
    subprocess.run(command(root / "data", out, 2), cwd=REPO, env=env, check=True)
    assert sha256_of_files(out) == expected
    assert not list((out / ".tmp").iterdir())


def test_a_killed_worker_fails_the_build_and_the_next_run_finishes_it(undisturbed, sha256_of_files):
    root, expected, _, env = undisturbed
    out = root / "worker"
    build = subprocess.Popen(
        command(root / "data", out, 2), cwd=REPO, env=env, stderr=subprocess.PIPE, text=True
    )
    while build.poll() is None and not (workers := _children(build.pid)):
        time.sleep(0.05)
    os.kill(workers[0], signal.SIGKILL)
    _, said = build.communicate(timeout=120)
    assert build.returncode == 1
    assert "a worker process died" in said
    subprocess.run(command(root / "data", out, 2), cwd=REPO, env=env, check=True)
    assert sha256_of_files(out) == expected


def _children(pid: int) -> list[int]:
    """Spawned workers, not multiprocessing's resource tracker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            stat = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()
            if int(stat[1]) == pid and b"spawn_main" in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found

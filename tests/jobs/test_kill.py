"""Builds whose processes are killed, on every engine, end in the bytes of the undisturbed one.

`benchmarks.chaos` does more of this, at random; here is one of each.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks._chaos_build import (
    REPO,
    Data,
    contents,
    environment,
    hashes,
    make_data,
    unsound_pieces,
    wrong_result,
)
from benchmarks._chaos_process import descendants, kill, seconds_of_orphans, workers_of
from pipeline.store import Store

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Builds:
    """Of one small data set: commands, and what they must end in.

    Attributes:
        ray: where Ray keeps its files, which tell of another cluster, that is not there. A build
            makes one of its own.
    """

    data: Data
    root: Path
    ray: Path

    @contextmanager
    def running(self, out: Path, engine: str = "local", workers: int = 2):
        """A build that is killed with the test, not left behind by it."""
        command = self.data.command(str(out), engine, workers)
        env = environment(self.root / "cache") | {"RAY_TMPDIR": str(self.ray)}
        with (self.root / "log").open("w") as log:
            build = subprocess.Popen(command, cwd=REPO, env=env, stdout=log, stderr=log)
        try:
            yield build
        finally:
            if build.poll() is None:
                for pid in (*descendants(build.pid), build.pid):
                    kill(pid)
                build.wait()

    def to_the_end(self, out: Path, engine: str = "local", workers: int = 2) -> None:
        with self.running(out, engine, workers) as build:
            assert build.wait(300) == 0, (self.root / "log").read_text()


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    with tempfile.TemporaryDirectory(prefix="ray-") as ray:  # a short path: Ray puts sockets there
        (Path(ray) / "ray").mkdir()
        (Path(ray) / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
        yield Builds(make_data(root / "data", 12), root, Path(ray))


@pytest.fixture(scope="module")
def expected(builds):
    """(hashes of a build by one process, seconds it took)."""
    began = time.monotonic()
    builds.to_the_end(builds.root / "one", workers=1)
    found = hashes(contents(Store.at(builds.root / "one")))
    assert len(found) == 2 * builds.data.shards + 6  # the plan and five tables
    return found, time.monotonic() - began


def a_worker_of(build, engine: str) -> int:
    while build.poll() is None:
        if found := workers_of(build.pid, engine):
            return found[0]
        time.sleep(0.02)
    raise AssertionError("the build ended before a worker of it was seen")


def test_a_driver_killed_again_and_again_ends_in_the_same_bytes_and_leaves_no_orphans(
    builds, expected, tmp_path
):
    moments, store = random.Random(0), Store.at(tmp_path)
    for _ in range(2):
        with builds.running(tmp_path) as build:
            # When the kill falls decides only how much is left to do, not what the result must be.
            try:
                build.wait(moments.uniform(0.3, 1.0) * expected[1])
            except subprocess.TimeoutExpired:
                below = descendants(build.pid)
                kill(build.pid)
                build.wait()
                assert seconds_of_orphans(below) < 30  # by then what is left was killed
        assert not unsound_pieces(contents(store))
    builds.to_the_end(tmp_path)
    assert not wrong_result(builds.data, store, expected[0])


@pytest.mark.parametrize("engine", ["local", "beam", "ray"])
def test_a_killed_worker_is_replaced(engine, builds, expected, tmp_path):
    # Killed while it starts: the moment for which Beam's own runner waits for ever.
    with builds.running(tmp_path, engine) as build:
        assert kill(a_worker_of(build, engine))
        assert build.wait(300) == 0, (builds.root / "log").read_text()
    assert not wrong_result(builds.data, Store.at(tmp_path), expected[0])

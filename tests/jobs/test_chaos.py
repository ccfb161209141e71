"""A build that dies at every place where it writes; `benchmarks.chaos` does more, at random."""

import json
import subprocess
import sys

import pytest

from benchmarks._chaos_build import REPO

pytestmark = pytest.mark.slow


def test_a_build_that_dies_wherever_it_writes_ends_in_the_same_bytes():
    # In a process of its own, which forks: this one may hold OpenGL and threads. Over a finished
    # build by another configuration, where what is left of that one can be wrong beside the new.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._chaos_points", "--over-another"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert [point for point in points if point["wrong"]] == []
    assert done.returncode == 0, done.stderr
    assert {point["where"] for point in points} == {"half", "flushed", "after"}
    changes = {point["change"] for point in points}
    # A plan, two tars and their indexes, five tables; and what is dropped of the other build.
    assert sum(change.startswith("publish") for change in changes) == 10
    assert "delete robo4d-droid-train-00000.index.json" in changes
    assert "delete dataset.json" in changes

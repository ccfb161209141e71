"""Processes of a build start no threads beside their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
import jobs.cli, os
import numpy as np
a = np.ones((600, 600))
a @ a
print(len(os.listdir("/proc/self/task")))
"""


def threads(**variables: str) -> int:
    """How many the kernel counts in a process that loads what a build loads."""
    known = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        env={**known, "PYTHONPATH": root, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in Linux's /proc")
def test_linear_algebra_starts_no_threads_unless_it_is_told_to():
    assert threads() == 1
    assert threads(OPENBLAS_NUM_THREADS="2") == min(2, len(os.sched_getaffinity(0)))

"""The short version of `benchmarks.fuzz`: no damaged input crashes, hangs or goes unaccounted."""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks._fuzz_cases import Outcome

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_damaged_data_sets_are_built_quarantined_or_refused(tmp_path, menagerie):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", "--seed", "7", "--cases", "300"]
        + ["--json", str(tmp_path / "report.json")],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bugs"] == []
    assert sum(report["outcomes"].values()) == 300
    for counts in report["targets"].values():  # damage is neither always deadly nor never
        assert counts["built"] > 5
        assert counts["quarantined"] > 5


def _bad(seed, number, folder):
    """Cases that do what is watched for."""
    if number == 0:
        ctypes.string_at(0)
    if number == 1:
        time.sleep(60)
    return Outcome(number, "", (), "built", str(len(bytearray(8 << 30))))


def _serve_bad(*arguments):
    fuzz.run_case = _bad
    fuzz.serve(*arguments)


@pytest.mark.slow
def test_the_watch_notices_a_crash_a_hang_and_memory(tmp_path):
    """A watch that never barks proves nothing."""
    worker = fuzz.Worker(0, tmp_path, 1 << 30, 5.0, _serve_bad)
    crash, hang = worker.run(0), worker.run(1)
    assert (crash.outcome, crash.why) == ("bug", "the process died with exit code -11")
    assert (hang.outcome, hang.why) == ("bug", "no end within 5 s")
    memory = worker.run(2)
    assert (memory.outcome, "exit code 1" in memory.why) == ("bug", True)  # MemoryError, uncaught
    worker.close()


@pytest.mark.slow
def test_a_case_is_the_same_in_every_process(menagerie):
    """What is reported can be run again: protobuf and Python order maps and sets as they like."""
    code = (
        "import hashlib\n"
        "from benchmarks._fuzz_cases import make_case\n"
        "digest = hashlib.sha256()\n"
        "for number in range(150):\n"
        "    target, files, hit, draw = make_case(3, number)\n"
        "    digest.update(repr((target, sorted(files.items()), hit, draw.random())).encode())\n"
        "print(digest.hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPO,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1

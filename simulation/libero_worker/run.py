"""Carry out a job: its episodes into one HDF5 file, progress to standard output as JSON lines.

The job is the JSON of `simulation.rollout`: suite, task, seed, episodes (numbers), out (path).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import h5py

from .demo_file import finish, write_demo, write_header
from .episode import POLICY, run_episode
from .noise import draw_noise
from .stage import Stage


def main(job: dict[str, object], report: int) -> None:
    """Write ``data/demo_<i>`` for each episode i; a JSON line to descriptor ``report`` for each."""
    seed, episodes = job["seed"], job["episodes"]
    assert isinstance(seed, int)
    assert isinstance(episodes, list)
    stage = Stage(str(job["suite"]), int(str(job["task"])))
    with h5py.File(Path(str(job["out"])), "x") as file:
        data = file.create_group("data")
        write_header(data, stage, POLICY)
        for index in episodes:
            # Neighbouring seeds share no initial states in their first few episodes.
            recording = run_episode(stage, draw_noise(seed, index), seed * 7 + index)
            write_demo(data, index, recording)
            line = {"episode": index, "name": stage.task.name, **recording.record}
            os.write(report, json.dumps(line).encode() + b"\n")
        finish(data)
    stage.close()


def _end_with_the_driver() -> None:
    """Standard input closes when the process that started this one ends, however it ends."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    # LIBERO and robosuite print as they please: that goes to standard error.
    lines = os.dup(1)
    os.dup2(2, 1)
    main(json.loads(sys.argv[1]), lines)

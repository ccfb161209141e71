"""LeRobot's converter for `benchmarks.peers`: a driver of its public API, run in its own Python.

Usage: ``python _peers_lerobot.py FOLDER OUT --fps F --cameras NAME ... [--episodes N] [--resume]``.
Records come from TFDS, as in LeRobot's own porting examples; ``LeRobotDataset.create``,
``add_frame`` for every step, ``save_episode`` (videos, its default codec), ``finalize``.
``--resume`` opens what an interrupted run left and goes on behind its last episode. It imports
nothing of this repository.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["HF_HUB_OFFLINE"] = "1"  # what is missing in OUT must not be looked for on a hub
os.environ.setdefault("SVT_LOG", "1")

import numpy as np
import tensorflow_datasets as tfds
from lerobot.datasets.lerobot_dataset import LeRobotDataset

_NAME = "local/peers"


def step_leaves(step: dict[str, Any], cameras: list[str]) -> dict[str, Any]:
    """Name -> value of a step's pictures of ``cameras`` and of its numbers, by LeRobot's names."""
    found = {f"observation.images.{name}": step["observation"][name].numpy() for name in cameras}
    groups = {"observation": step["observation"], "action": step.get("action_dict", {})}
    for group, values in groups.items():
        for name, value in values.items():
            if value.dtype.is_floating and value.shape.rank == 1:
                found[f"{group}.{name}"] = value.numpy().astype(np.float32)
    found["action"] = step["action"].numpy().astype(np.float32)
    return found


def describe(leaves: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """LeRobot's features of what `step_leaves` gave."""
    return {
        name: {
            "dtype": "video" if value.dtype == np.uint8 else "float32",
            "shape": value.shape,
            "names": ["height", "width", "channels"] if value.ndim == 3 else None,
        }
        for name, value in leaves.items()
    }


def main() -> None:
    """Convert split ``train``."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("folder")
    parse.add_argument("out")
    parse.add_argument("--fps", type=int, required=True)
    parse.add_argument("--cameras", nargs="+", required=True)
    parse.add_argument("--episodes", type=int, default=-1, help="the first so many (all)")
    parse.add_argument("--resume", action="store_true")
    args = parse.parse_args()
    episodes = tfds.builder_from_directory(args.folder).as_dataset(
        split="train", shuffle_files=False
    )
    made = LeRobotDataset(_NAME, root=args.out) if args.resume else None
    there = made.num_episodes if made else 0
    for episode in episodes.take(args.episodes).skip(there):
        for step in episode["steps"]:
            leaves = step_leaves(step, args.cameras)
            if made is None:
                made = LeRobotDataset.create(
                    _NAME, fps=args.fps, features=describe(leaves), root=args.out
                )
            task = step["language_instruction"].numpy().decode()
            made.add_frame({**leaves, "task": task})
        made.save_episode()
    if made is not None:
        made.finalize()


if __name__ == "__main__":
    main()

"""TFDS' side of `benchmarks.reading`, run by a Python that has TensorFlow: one pass per line.

Usage: ``python _tfds_worker.py FOLDER MODE``. For each line on stdin it makes one pass over split
``train`` and prints one JSON line: seconds, episodes, steps, images, peak RSS in bytes. It
imports nothing of this repository.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tensorflow_datasets as tfds


def _image_names(builder: Any) -> list[str]:
    observation = builder.info.features["steps"].feature["observation"]
    return [name for name, f in observation.items() if isinstance(f, tfds.features.Image)]


def _walk(dataset: Any) -> Iterator[tuple[int, int]]:
    """(episodes, steps) as they come: nested, the loop that RLDS documents."""
    for episode in tfds.as_numpy(dataset):
        yield 1, sum(1 for _ in episode["steps"])


def _walk_flat(dataset: Any) -> Iterator[tuple[int, int]]:
    for batch in tfds.as_numpy(dataset):
        yield 0, len(batch["is_first"])


def make_pass(folder: str, mode: str) -> tuple[Callable[[], Iterator[tuple[int, int]]], list[str]]:
    """A function that reads everything once, and the names of the image features."""
    builder = tfds.builder_from_directory(folder)
    images = _image_names(builder)
    auto = tf.data.AUTOTUNE

    def read(decoders: Any = None) -> Any:
        return builder.as_dataset(split="train", shuffle_files=False, decoders=decoders)

    def decode(step: Any) -> Any:
        observation = dict(step["observation"])
        for name in images:
            observation[name] = tf.io.decode_image(
                observation[name], channels=3, expand_animations=False
            )
        return {**step, "observation": observation}

    skip_steps = {"steps": tfds.decode.SkipDecoding()}
    skip_images = {"steps": {"observation": {n: tfds.decode.SkipDecoding() for n in images}}}

    def flat() -> Any:
        steps = read().interleave(
            lambda e: e["steps"], cycle_length=4, num_parallel_calls=auto, deterministic=False
        )
        return steps.batch(32).prefetch(auto)

    def raw_then_map() -> Any:
        # As dlimp and openpi read RLDS: raw steps at once, images decoded by a parallel map.
        steps = read(skip_steps).flat_map(lambda e: tf.data.Dataset.from_tensor_slices(e["steps"]))
        return steps.map(decode, num_parallel_calls=auto).batch(32).prefetch(auto)

    def raw_episodes() -> Iterator[tuple[int, int]]:
        for episode in tfds.as_numpy(read(skip_steps)):
            yield 1, len(episode["steps"]["is_first"])

    passes = {
        "nested": lambda: _walk(read()),
        "flat": lambda: _walk_flat(flat()),
        "raw-map": lambda: _walk_flat(raw_then_map()),
        "nested-encoded": lambda: _walk(read(skip_images)),
        "raw-encoded": raw_episodes,
    }
    if mode.startswith("one:"):  # one episode by position, encoded
        at = int(mode[4:])

        def one() -> Iterator[tuple[int, int]]:
            dataset = builder.as_dataset(
                split=f"train[{at}:{at + 1}]", shuffle_files=False, decoders=skip_steps
            )
            for episode in tfds.as_numpy(dataset):
                yield 1, len(episode["steps"]["is_first"])

        return one, images
    return passes[mode], images


def main() -> None:
    """Serve passes until stdin ends."""
    folder, mode = sys.argv[1:3]
    run, images = make_pass(folder, mode)
    for _ in sys.stdin:
        start = time.perf_counter()
        episodes = steps = 0
        for more_episodes, more_steps in run():
            episodes += more_episodes
            steps += more_steps
        seconds = time.perf_counter() - start
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {
            "seconds": seconds,
            "episodes": episodes,
            "steps": steps,
            "images": steps * len(images),
            "rss": rss,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

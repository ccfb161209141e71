"""Run by the reference python: read a split with tensorflow-datasets and dump it as npz files.

``python tfds_dump.py FOLDER SPLIT OUT``: one OUT/<n>.npz an episode; decoded images, and the
encoded bytes of each image under ``encoded/...``.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds


def flatten(tree, prefix=""):
    """Nested dicts to {path: value}."""
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from flatten(value, path + "/")
        else:
            yield path, value


def main(folder: str, split: str, out: str) -> None:
    """Dump every episode."""
    builder = tfds.builder_from_directory(folder)
    images = [name for name in builder.info.features["steps"]["observation"] if "image" in name]
    skip = {"steps": {"observation": {name: tfds.decode.SkipDecoding() for name in images}}}
    read = tfds.ReadConfig(interleave_cycle_length=1)
    decoded = builder.as_dataset(split=split, shuffle_files=False, read_config=read)
    encoded = builder.as_dataset(split=split, shuffle_files=False, read_config=read, decoders=skip)
    for number, (episode, raw) in enumerate(zip(decoded, encoded, strict=True)):
        values = {f"episode_metadata/{k}": v for k, v in flatten(episode["episode_metadata"])}
        steps: dict[str, list] = {}
        for step in episode["steps"]:
            for path, value in flatten(step, "steps/"):
                steps.setdefault(path, []).append(value.numpy())
        for step in raw["steps"]:
            for name in images:
                steps.setdefault(f"encoded/steps/observation/{name}", []).append(
                    np.frombuffer(step["observation"][name].numpy(), np.uint8)
                )
        arrays = {k: np.asarray(v.numpy()) for k, v in values.items()}
        for path, listed in steps.items():
            if path.startswith("encoded/"):
                for t, data in enumerate(listed):
                    arrays[f"{path}/{t}"] = data
            else:
                arrays[path] = np.asarray(listed)
        arrays = {
            k: (np.char.encode(a.astype(str), "utf-8") if a.dtype == object else a)
            for k, a in arrays.items()
        }
        np.savez(Path(out) / f"{number}.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])

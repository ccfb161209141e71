"""Make the plan: which records of which files go into which shard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from converters import open_source
from pipeline.cost import load_rates, weigh
from pipeline.shards import make_shards
from pipeline.split import assign_splits, check_mix, mix_sources
from robo4d.sample import to_json
from schemas.config import (
    BuildConfig,
    CostConfig,
    MasksConfig,
    QuarantineConfig,
    RunConfig,
    SplitConfig,
)
from schemas.plan import BuildPlan, EpisodeRef, PlannedSource, fingerprint
from schemas.reasons import UsageError

# Folders whose code decides a shard's bytes, and libraries that do.
_CODE = ("robo4d", "schemas", "robots", "converters", "reconstruction", "pipeline")
_LIBRARIES = (
    "av",
    "fast-simplification",
    "h5py",
    "mujoco",
    "mujoco-menagerie",
    "numcodecs",
    "numpy",
    "robosuite",
    "opencv-python-headless",
    "safetensors",
    "scipy",
    "simplejpeg",
    "warp-lang",
)


@lru_cache(maxsize=1)
def code_version() -> str:
    """sha256 over the sources and library versions that decide a shard's bytes."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for folder in _CODE:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    for library in _LIBRARIES:
        try:
            found = version(library)
        except PackageNotFoundError:
            found = "none"
        digest.update(f"{library}=={found}".encode())
    return digest.hexdigest()


def make_plan(
    inputs: Mapping[str, str],
    config: BuildConfig,
    cache: Path | None = None,
    previous: BuildPlan | None = None,
) -> BuildPlan:
    """Plan a build of one source or several into one data set.

    Args:
        inputs: source -> its data set, a folder or fsspec URL.
        cache: where record indexes are kept.
        previous: an earlier plan, whose shards are kept where they would be built the same, so that
            sources which grow get new shards for what is new alone.

    Raises:
        UsageError: unknown source, or no such data set there.
    """
    if len(inputs) > 1 and config.source.fps is not None:
        raise UsageError("source.fps fits one source; leave it out where several are built")
    check_mix(inputs, config.source)
    code, rates = code_version(), load_rates(config.cost.rates)
    shared = _bytes_config(config).model_dump_json() + _masks(config.camera.masks)
    sources, selected, notes = {}, {}, {}
    for source, data in inputs.items():
        opened = open_source(source, data, config.source, grouped=config.split.by != "source")
        sources[source] = opened
        selected[source], notes[source] = _select(opened.refs(cache), config)
    planned, shards = [], []
    for source, (by_split, left_out) in mix_sources(selected, config.source).items():
        opened = sources[source]
        by_split, unknown = assign_splits(source, by_split, config.split)
        rate = rates.of(source, opened.layout, opened.twin, config)
        identity = [source, opened.layout, opened.name, opened.facts, opened.joined, shared, code]
        found = make_shards(
            source,
            by_split,
            config.shard.episodes,
            partial(weigh, rate=rate, config=config),
            partial(fingerprint, to_json({"parts": identity}).decode()),
            () if previous is None else previous.shards,
        )
        if not found:
            raise UsageError(f"{inputs[source]} holds no record to build from")
        shards += found
        planned.append(
            PlannedSource(
                source=source,
                layout=opened.layout,
                data=opened.root,
                dataset=opened.name,
                twin=opened.twin,
                notes=(*opened.notes, *notes[source], *left_out, *unknown),
            )
        )
    # Where it runs is no part of what is built.
    config = config.model_copy(update={"run": RunConfig()})
    return BuildPlan(sources=tuple(planned), config=config, code=code, shards=tuple(shards))


def _bytes_config(config: BuildConfig) -> BuildConfig:
    """The part of the configuration that a shard's bytes depend on, given its records.

    Which records are read and how they were dealt out is in the records themselves; splits by group
    count all the same, since a record that turns out to be of another group is set aside.
    """
    chosen = {"mix": None, "seed": 0, "splits": None, "max_episodes": None}
    return config.model_copy(
        update={
            "quarantine": QuarantineConfig(),
            "cost": CostConfig(),
            "run": RunConfig(),
            "split": SplitConfig() if config.split.by == "source" else config.split,
            "source": config.source.model_copy(update=chosen),
        }
    )


def _masks(config: MasksConfig) -> str:
    if config.model is None:
        return ""
    # Imported here: the package loads Warp, which takes seconds.
    from reconstruction.camera.sam_masks import identity

    return f"/{identity(config.model)}"


def _select(
    by_split: dict[str, list[EpisodeRef]], config: BuildConfig
) -> tuple[dict[str, list[EpisodeRef]], list[str]]:
    """The splits and the number of episodes that the configuration asks for; notes on the rest."""
    if config.source.splits:
        unknown = sorted(set(config.source.splits) - set(by_split))
        if unknown:
            raise UsageError(f"source.splits asks for {unknown}; the data has {sorted(by_split)}")
        by_split = {split: by_split[split] for split in config.source.splits}
    left, notes = config.source.max_episodes, []
    if left is not None:
        kept = {}
        for split, refs in by_split.items():
            if len(refs) > left:
                out = len(refs) - left
                notes.append(f"source.max_episodes leaves out {out} of split {split!r}")
            kept[split] = refs[:left]
            left -= len(kept[split])
        by_split = kept
    return by_split, notes

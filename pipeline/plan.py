"""Make the plan: which records of which files go into which shard."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from converters import OpenedSource, open_source
from pipeline.cost import load_rates, weigh
from pipeline.lineage import bytes_config, code_version, model_identities
from pipeline.retries import read_input
from pipeline.shards import make_shards
from pipeline.split import assign_splits, check_mix, mix_sources
from pipeline.store import Store
from robo4d.sample import to_json
from schemas.config import BuildConfig, RunConfig, StagingConfig
from schemas.plan import BuildPlan, EpisodeRef, PlannedSource, ShardTask, fingerprint
from schemas.reasons import UsageError


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
        UsageError: unknown source, no such data set there, or it cannot be read.
    """
    if len(inputs) > 1 and config.source.fps is not None:
        raise UsageError("source.fps fits one source; leave it out where several are built")
    check_mix(inputs, config.source)
    code, models = code_version(), model_identities(config)
    decisive = bytes_config(config, models).model_dump(mode="json")
    rates = load_rates(config.cost.rates)
    earlier: tuple[ShardTask, ...] = ()
    # Another size is asked for: what is there is not to stay.
    if previous is not None and previous.config.shard.episodes == config.shard.episodes:
        earlier = previous.shards
    sources, selected, notes = {}, {}, {}
    for source, data in inputs.items():
        opened, refs = read_input(partial(_list_source, source, data, config, cache), data)
        sources[source] = opened
        selected[source], notes[source] = _select(refs, config)
    planned, shards = [], []
    for source, (by_split, left_out) in mix_sources(selected, config.source).items():
        opened = sources[source]
        by_split, unknown = assign_splits(source, by_split, config.split)
        rate = rates.of(source, opened.layout, opened.twin, config)
        found = make_shards(
            source,
            by_split,
            config.shard.episodes,
            partial(weigh, rate=rate, config=config),
            partial(fingerprint, _common(source, opened, decisive, code)),
            earlier,
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
                joined=opened.joined,
                notes=(*opened.notes, *notes[source], *left_out, *unknown),
            )
        )
    staging = config.staging
    if staging.path is not None:  # workers may run in other folders
        staging = StagingConfig(path=str(Store.at(staging.path)))
    depth = config.depth.model_copy(update={"model": _anywhere(config.depth.model)})
    masks = config.camera.masks
    masks = masks.model_copy(update={"model": _anywhere(masks.model)})
    camera = config.camera.model_copy(update={"masks": masks})
    # Where it runs is no part of what is built.
    config = config.model_copy(
        update={"run": RunConfig(), "staging": staging, "depth": depth, "camera": camera}
    )
    return BuildPlan(
        sources=tuple(planned), config=config, code=code, models=models, shards=tuple(shards)
    )


def _anywhere(model: str | None) -> str | None:
    """A checkpoint's place, as workers that run in other folders find it."""
    if model is None or model.startswith("hub:"):
        return model
    return str(Path(model).absolute())


def renew(plan: BuildPlan, names: Collection[str]) -> BuildPlan:
    """The plan with the shards of these names to be built by the code that is here now.

    All others keep what they were to be built by.

    Raises:
        UsageError: a data set is not where the plan says.
    """
    code, models = code_version(), model_identities(plan.config)
    decisive = bytes_config(plan.config, models).model_dump(mode="json")
    common = {}
    for source in plan.sources:
        grouped = plan.config.split.by != "source"
        opener = partial(open_source, source.source, source.data, plan.config.source)
        opened = read_input(partial(opener, grouped=grouped), source.data)
        if opened.joined != source.joined:
            raise UsageError(
                f"the files joined to {source.data} are not those of the plan; `robo4d build` sees "
                "that and builds all of its shards again"
            )
        common[source.source] = _common(source.source, opened, decisive, code)
    shards = tuple(
        replace(
            task, fingerprint=fingerprint(common[task.source], task.name, task.split, task.refs)
        )
        if task.name in names
        else task
        for task in plan.shards
    )
    return replace(plan, code=code, models=models, shards=shards)


def _common(source: str, opened: OpenedSource, decisive: Any, code: str) -> str:
    """What the fingerprints of all of a source's shards share."""
    facts = [source, opened.layout, opened.name, opened.facts, opened.joined, decisive, code]
    return to_json({"parts": facts}).decode()


def _list_source(
    source: str, data: str, config: BuildConfig, cache: Path | None
) -> tuple[OpenedSource, dict[str, list[EpisodeRef]]]:
    opened = open_source(source, data, config.source, grouped=config.split.by != "source")
    return opened, opened.refs(cache)


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

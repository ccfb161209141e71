"""Which split an episode is in, and which episodes make up the mix of sources.

Both are pure functions of what an episode is, never of how many there are: another episode more
moves none of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from robo4d.sample import to_json
from schemas.config import SourceConfig, SplitConfig
from schemas.episode import Episode
from schemas.plan import EpisodeRef, Groups, ShardTask
from schemas.reasons import EpisodeError, Reason, UsageError, did_you_mean

Refs = Mapping[str, list[EpisodeRef]]  # by split


def split_of(source: str, groups: Groups, config: SplitConfig) -> str:
    """The split of a group. The same scene, lab or task of two sources is one group; what a source
    leaves unnamed is one group, since any two of these might share a scene.
    """
    name = group_name(groups, config)
    part = _share_of("split", config.seed, *((name,) if name else ("", source)))
    for split, share in sorted(config.shares.items()):
        part -= share
        if part < 0:
            return split
    return max(config.shares)  # shares may sum to a hair below 1


def group_name(groups: Groups, config: SplitConfig) -> str:
    """What the split is made by; empty where the source says nothing."""
    return str(getattr(groups, config.by))


def assign_splits(source: str, by_split: Refs, config: SplitConfig) -> tuple[Refs, list[str]]:
    """The refs by their new splits, in published order; notes on what could not be told apart."""
    if config.by == "source":
        return by_split, []
    out: dict[str, list[EpisodeRef]] = {}
    unknown = 0
    for _, refs in sorted(by_split.items()):
        for ref in refs:
            out.setdefault(split_of(source, ref.groups, config), []).append(ref)
            unknown += not group_name(ref.groups, config)
    notes = []
    if unknown:
        where = split_of(source, Groups(), config)
        notes.append(
            f"{unknown} episodes name no {config.by}; any two may share one: all are in {where!r}"
        )
    return out, notes


def check_side(episode: Episode, task: ShardTask, config: SplitConfig) -> None:
    """A record tells its group for certain only when it is read.

    Raises:
        EpisodeError: `SPLIT_LEAK`, its group belongs to another split than it was planned for.
    """
    if config.by == "source":
        return
    if (split := split_of(task.source, episode.groups, config)) != task.split:
        raise EpisodeError(
            Reason.SPLIT_LEAK,
            f"its {config.by} {group_name(episode.groups, config)!r} belongs to {split!r}, which "
            f"could not be told when it was planned for {task.split!r}",
            episode_id=episode.id,
        )


def check_mix(sources: Mapping[str, object], config: SourceConfig) -> None:
    """Raises `UsageError` unless the mix names exactly the sources that are built: a source without
    a share would silently vanish, a share without a source could not be met.
    """
    if config.mix is None:
        return
    for name in config.mix:
        if name not in sources:
            raise UsageError("source.mix: " + did_you_mean("source of this build", name, sources))
    missing = sorted(set(sources) - set(config.mix))
    if missing:
        raise UsageError(
            f"source.mix gives {', '.join(missing)} no share; name it, or build without it"
        )


def mix_sources(
    sources: Mapping[str, Refs], config: SourceConfig
) -> dict[str, tuple[Refs, list[str]]]:
    """Episodes left out of sources that have more than their share, never repeated in others.

    Records known to be damaged count for nothing and stay, so that a mix hides no damage. Kept are
    those whose hash is lowest: of a source that grows, the same ones but for those displaced.

    Raises:
        UsageError: a source has no readable record at all.
    """
    if config.mix is None:
        return {source: (by_split, []) for source, by_split in sources.items()}
    counts = {
        source: sum(ref.defect is None for refs in by_split.values() for ref in refs)
        for source, by_split in sources.items()
    }
    empty = sorted(source for source, count in counts.items() if count == 0)
    if empty:
        raise UsageError(f"source.mix cannot be met: no readable record in {', '.join(empty)}")
    # The slack keeps 3 of 10 at a share of 0.3 from becoming 2.
    total = min(count / config.mix[source] for source, count in counts.items()) + 1e-6
    out = {}
    for source, by_split in sources.items():
        kept = max(1, int(total * config.mix[source]))
        out[source] = _thin(
            source, by_split, min(kept, counts[source]), counts[source], config.seed
        )
    return out


def _thin(source: str, by_split: Refs, keep: int, of: int, seed: int) -> tuple[Refs, list[str]]:
    if keep == of:
        return by_split, []
    ranked = sorted(
        (_share_of("mix", seed, source, ref.file, str(ref.record)), ref.file, ref.record)
        for refs in by_split.values()
        for ref in refs
        if ref.defect is None
    )
    chosen = {(file, record) for _, file, record in ranked[:keep]}
    kept = {
        split: [ref for ref in refs if ref.defect or (ref.file, ref.record) in chosen]
        for split, refs in by_split.items()
    }
    return kept, [f"source.mix leaves out {of - keep} of {of} episodes"]


def _share_of(what: str, seed: int, *identity: str) -> float:
    """A number in [0, 1), even over identities and the same anywhere."""
    digest = hashlib.sha256(to_json({"parts": [what, seed, *identity]})).digest()
    return int.from_bytes(digest[:6], "big") / 2**48

"""One column of a build made anew: its plan with another configuration of it, and what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobs._options import Column
from pipeline.lineage import model_identities
from pipeline.plan import renew
from pipeline.store import Store
from robo4d.shard import ShardIndex
from schemas.config import BuildConfig, RunConfig, override
from schemas.plan import BuildPlan
from schemas.reasons import UsageError

# The members that hold a column or follow from it: what is seen of the robot is what depth does not
# hide, and meta.json says where fields came from and how far depth and robot lie apart.
MEMBERS = {Column.DEPTH: frozenset({"depth.r4a", "confidence.r4a", "robot_visible.r4a"})}
META = "meta.json"


def plan_backfill(
    plan: BuildPlan, column: Column, overrides: Sequence[str], unfinished: frozenset[str]
) -> BuildPlan:
    """The plan of a build that differs by one column's configuration.

    Args:
        plan: what the folder holds.
        overrides: ``a.b=c``, of the column's own part of the configuration and of ``staging``.
        unfinished: names of shards that an interrupted backfill left to be built.

    Raises:
        UsageError: other keys, nothing to change, or no staging folder.
    """
    config = override(plan.config, overrides)
    _refuse_other_keys(plan.config, config, column)
    if config.staging.path is None:
        raise UsageError(
            "this build kept no reconstruction (staging.path is null): a backfill would make all "
            "of it anew. Run `robo4d build` with `--set staging.path=FOLDER` once, or name with "
            "--set the folder that an equal build kept it in"
        )
    same = getattr(config, column) == getattr(plan.config, column)
    same &= model_identities(config) == plan.models  # another checkpoint may lie at the same place
    if same and not unfinished:
        raise UsageError(
            f"{column} is as this build has it; say what differs, as --set {column}.backend=none"
        )
    # Its place becomes absolute as in any plan.
    staging = config.staging.model_copy(update={"path": str(Store.at(config.staging.path))})
    config = config.model_copy(update={"staging": staging, "run": RunConfig()})
    made = replace(plan, config=config)
    names = unfinished if same else {task.name for task in plan.shards}
    return renew(made, names)


def _refuse_other_keys(before: BuildConfig, after: BuildConfig, column: Column) -> None:
    free = {column, "staging", "run"}
    other = sorted(
        name
        for name in BuildConfig.model_fields
        if name not in free and getattr(before, name) != getattr(after, name)
    )
    if other:
        raise UsageError(
            f"--set changes {', '.join(other)}; a backfill of {column} changes {column} alone. "
            "Run `robo4d build` for the rest: what does not depend on it is taken from staging"
        )


@dataclass
class Changes:
    """Members of shards before and after, by name.

    Attributes:
        changed, same, added, removed: how many samples have such a member.
        samples: that were compared.
    """

    changed: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    samples: int = 0

    def beyond(self, column: Column) -> list[str]:
        """Members that are neither the column's nor meta.json, and yet differ."""
        told = self.changed.keys() | self.added.keys() | self.removed.keys()
        return sorted(told - MEMBERS[column] - {META})

    def to_json(self) -> dict[str, Any]:
        """For a summary."""
        names = ("changed", "same", "added", "removed")
        counts = {name: dict(sorted(getattr(self, name).items())) for name in names}
        return {"samples_compared": self.samples, **counts}


def compare(before: Sequence[ShardIndex], after: Sequence[ShardIndex]) -> Changes:
    """What changed, by lengths and checksums of members as the indexes have them.

    Shards that are not in both, as an interrupted backfill leaves them, are not compared.
    """
    both = {index.shard for index in before} & {index.shard for index in after}
    old, new = (
        {one.key: one.members for index in some if index.shard in both for one in index.samples}
        for some in (before, after)
    )
    found = Changes()
    # A sample whose key is another is lost and new: its clip begins elsewhere.
    for key in old.keys() | new.keys():
        was, now = old.get(key, {}), new.get(key, {})
        found.samples += bool(was and now)
        found.added.update(now.keys() - was.keys())
        found.removed.update(was.keys() - now.keys())
        for name in was.keys() & now.keys():
            same = was[name][1:] == now[name][1:]
            (found.same if same else found.changed)[name] += 1
    return found

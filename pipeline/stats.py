"""Counts of a finished build: how much of what is in it, and what was set aside and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.merge import ShardRows, Tables
from schemas.manifest import DuplicatePair, ManifestRow
from schemas.plan import BuildPlan

# What samples are counted by. A source without tasks (DROID) has instructions that say the same.
_BY: dict[str, Callable[[ManifestRow], str]] = {
    "source": lambda row: row.source,
    "split": lambda row: row.split,
    "outcome": lambda row: row.outcome,
    "task": lambda row: row.task or row.instruction,
    "scene": lambda row: row.scene,
    "lab": lambda row: row.lab,
    "robot": lambda row: row.robot,
    "depth_from": lambda row: row.depth_from,
    "camera_from": lambda row: row.camera_from,
    "joints_from": lambda row: row.joints_from,
}


class Counts:
    """Counts of a build, gathered shard by shard."""

    def __init__(self) -> None:
        self._shards = self._bytes = self._set_aside = 0
        self._by_reason: dict[str, Counter[str]] = {}
        self._built = _Tally()
        self._by: dict[str, dict[str, _Tally]] = {name: {} for name in _BY}

    def add(self, shard: ShardRows) -> None:
        """One more shard; the samples of an episode follow each other."""
        self._shards += 1
        self._bytes += shard.index.size
        self._set_aside += len(shard.quarantine)
        for record in shard.quarantine:
            self._by_reason.setdefault(record.source, Counter())[str(record.reason)] += 1
        for row in shard.rows:
            self._built.add(row)
            for name, key in _BY.items():
                self._by[name].setdefault(key(row), _Tally()).add(row)

    def report(self, plan: BuildPlan, duplicates: Sequence[DuplicatePair]) -> dict[str, Any]:
        """As JSON. ``hours`` are of video, so they count every camera; ``idle_share`` is over the
        steps of whole episodes. Where cameras of an episode differ (in ``camera_from``), it counts
        under each.
        """
        kinds = Counter(pair.kind for pair in duplicates)
        return {
            "episodes_planned": plan.episodes,
            "episodes_quarantined": self._set_aside,
            "quarantine": self._by_reason,
            "shards": self._shards,
            "shard_bytes": self._bytes,
            "built": self._built.report(),
            "duplicates": {
                "exact": kinds["exact"],
                "near": kinds["near"],
                "across_splits": sum(pair.split != pair.split_of_first for pair in duplicates),
            },
            "by": {
                name: {value: tally.report() for value, tally in tallies.items()}
                for name, tallies in self._by.items()
            },
        }


def stats_of(plan: BuildPlan, tables: Tables) -> dict[str, Any]:
    """The counts of tables that are not being written."""
    counts = Counts()
    for shard in tables.shards():
        counts.add(shard)
    return counts.report(plan, tables.duplicates)


def stats_json(stats: dict[str, Any]) -> bytes:
    """The bytes of ``stats.json``."""
    return json.dumps(stats, indent=1).encode()


class _Tally:
    """Sums over samples, and over the episodes that they are of."""

    def __init__(self) -> None:
        self._last: str | None = None
        self.episodes = self.samples = self.frames = self.bytes = self.steps = 0
        self.seconds = self.idle = 0.0

    def add(self, row: ManifestRow) -> None:
        self.samples += 1
        self.frames += row.frames
        self.bytes += row.bytes
        self.seconds += row.frames / row.fps
        if row.episode_id != self._last:
            self._last = row.episode_id
            self.episodes += 1
            self.steps += row.episode_steps
            self.idle += row.idle_share * row.episode_steps

    def report(self) -> dict[str, float]:
        return {
            "episodes": self.episodes,
            "samples": self.samples,
            "frames": self.frames,
            "hours": round(self.seconds / 3600, 6),
            "bytes": self.bytes,
            "idle_share": round(self.idle / max(self.steps, 1), 4),
        }

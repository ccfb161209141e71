"""Counts of a finished build: how much of what is in it, and what was set aside and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from robo4d.shard import ShardIndex
from schemas.manifest import ManifestRow, Tables
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


def stats(plan: BuildPlan, tables: Tables, indexes: Sequence[ShardIndex]) -> dict[str, Any]:
    """Counts as JSON. ``hours`` are of video, so they count every camera; ``idle_share`` is over
    the steps of whole episodes. Where cameras of an episode differ (in ``camera_from``), it counts
    under each.
    """
    by_reason: dict[str, Counter[str]] = {}
    for record in tables.quarantine:
        by_reason.setdefault(record.source, Counter())[str(record.reason)] += 1
    kinds = Counter(pair.kind for pair in tables.duplicates)
    return {
        "episodes_planned": plan.episodes,
        "episodes_quarantined": len(tables.quarantine),
        "quarantine": by_reason,
        "shards": len(indexes),
        "shard_bytes": sum(index.size for index in indexes),
        "built": _count(tables.rows, lambda _: "").get("", _Tally().report()),
        "duplicates": {
            "exact": kinds["exact"],
            "near": kinds["near"],
            "across_splits": sum(pair.split != pair.split_of_first for pair in tables.duplicates),
        },
        "by": {name: _count(tables.rows, key) for name, key in _BY.items()},
    }


def stats_json(plan: BuildPlan, tables: Tables, indexes: Sequence[ShardIndex]) -> bytes:
    """The bytes of ``stats.json``."""
    return json.dumps(stats(plan, tables, indexes), indent=1).encode()


class _Tally:
    """Sums over samples, and over the episodes that they are of."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.samples = self.frames = self.bytes = self.steps = 0
        self.seconds = self.idle = 0.0

    def add(self, row: ManifestRow) -> None:
        self.samples += 1
        self.frames += row.frames
        self.bytes += row.bytes
        self.seconds += row.frames / row.fps
        if row.episode_id not in self.ids:
            self.ids.add(row.episode_id)
            self.steps += row.episode_steps
            self.idle += row.idle_share * row.episode_steps

    def report(self) -> dict[str, float]:
        return {
            "episodes": len(self.ids),
            "samples": self.samples,
            "frames": self.frames,
            "hours": round(self.seconds / 3600, 6),
            "bytes": self.bytes,
            "idle_share": round(self.idle / max(self.steps, 1), 4),
        }


def _count(
    rows: Sequence[ManifestRow], key: Callable[[ManifestRow], str]
) -> dict[str, dict[str, float]]:
    tallies: dict[str, _Tally] = {}
    for row in rows:
        tallies.setdefault(key(row), _Tally()).add(row)
    return {value: tally.report() for value, tally in tallies.items()}

"""What the command line says: inputs, summaries, samples. Talk goes to standard error."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from pipeline.store import Store
    from robo4d import Dataset, Sample
    from schemas.plan import BuildPlan
    from simulation.rollout import Rollout

say = Console(stderr=True, highlight=False)


def progress() -> Progress:
    """Bars that vanish when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=say,
        transient=True,
    )


def announce(made: BuildPlan, previous: BuildPlan | None = None) -> None:
    there = set() if previous is None else {task.fingerprint for task in previous.shards}
    for part in made.sources:
        tasks = [task for task in made.shards if task.source == part.source]
        kind = " is a simulated TWIN, not published data" if part.twin else ""
        say.print(
            f"[bold]{part.source}[/]: {sum(len(t.refs) for t in tasks)} episodes of "
            f"{part.dataset} ({part.layout}) in {len(tasks)} shard(s); the input{kind}: "
            f"{escape(part.data)}",
            soft_wrap=True,
        )
        if kept := sum(task.fingerprint in there for task in tasks):
            say.print(
                f"{part.source}: {kept} shard(s) of the plan before stay, {len(tasks) - kept} new"
            )
        for note in part.notes:
            say.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


def summary(
    made: BuildPlan, stats: dict[str, Any], skipped: int, seconds: float, out: Store
) -> dict[str, Any]:
    """What a build ends with.

    Args:
        stats: see `pipeline.stats`.
    """
    by_reason: Counter[str] = sum((Counter(c) for c in stats["quarantine"].values()), Counter())
    twice = {kind: n for kind in ("exact", "near") if (n := stats["duplicates"][kind])}
    return {
        "sources": [part.source for part in made.sources],
        "twins": [part.source for part in made.sources if part.twin],
        "out": str(out),
        "shards": stats["shards"],
        "shards_skipped": skipped,
        "episodes_planned": made.episodes,
        "episodes_built": stats["built"]["episodes"],
        "episodes_quarantined": stats["episodes_quarantined"],
        "quarantine_by_reason": dict(by_reason),
        "duplicates": twice,
        "samples": stats["built"]["samples"],
        "bytes": stats["shard_bytes"],
        "seconds": round(seconds, 2),
        "episodes_per_s": None if skipped else round(made.episodes / max(seconds, 1e-9), 3),
        "geometry": {name: one["samples"] for name, one in stats["by"]["depth_from"].items()},
        "notes": [note for part in made.sources for note in part.notes],
    }


def print_summary(summary: dict[str, Any]) -> None:
    rate = summary["episodes_per_s"]
    say.print(
        f"[green]built[/] {summary['episodes_built']} of {summary['episodes_planned']} episodes, "
        f"{summary['samples']} samples, {human_bytes(summary['bytes'])} in "
        f"{summary['shards']} shard(s) ({summary['shards_skipped']} were there already), "
        f"{summary['seconds']} s" + (f", {rate} episodes/s" if rate else "")
    )
    for reason, count in sorted(summary["quarantine_by_reason"].items()):
        say.print(f"[yellow]quarantined[/] {count}: {reason}")
    if twice := summary["duplicates"]:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(twice.items()))
        say.print(f"[yellow]duplicates[/] {counts}: kept, see duplicate_of in manifest.parquet")
    if set(summary["geometry"]) == {"absent"}:
        say.print(
            "scene geometry is absent: this source ships no camera or depth; kinematics is in"
        )
    say.print(f"{summary['out']}: `robo4d verify {summary['out']}` checks it", soft_wrap=True)


def list_samples(data: Dataset, as_json: bool) -> None:
    rows = [
        {"key": s.key, "id": s.meta["id"], "camera": s.meta["camera"], "frames": s.meta["frames"]}
        for s in data
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("key", "episode", "camera", "frames")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def print_sample(sample: Sample) -> None:
    meta = sample.meta
    out = Console(highlight=False)
    out.print(f"[bold]{escape(meta['id'])}[/] {meta['camera']}  key {sample.key}")
    out.print(
        f"{meta['frames']} frames of {meta['size']} at {meta['fps']:.3g} Hz, {meta['outcome']}"
    )
    out.print(f"instructions: {meta['instructions']}", markup=False)
    table = Table("field", "provenance", "why absent")
    for name, said in meta["fields"].items():
        table.add_row(name, said["provenance"], said.get("reason", ""))
    out.print(table)
    out.print(f"quality: {meta['quality']}", markup=False)


def human_bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def print_rollout(made: Rollout) -> None:
    table = Table("noise", "strength", "episodes", "successes", "failures", "near misses")
    groups: dict[tuple[str, float], Counter[str]] = {}
    for episode in made.episodes:
        key = episode["noise_type"], episode["noise_strength"]
        groups.setdefault(key, Counter())[episode["result"]] += 1
    for (kind, strength), found in sorted(groups.items()):
        counts = (found[name] for name in ("success", "failure", "near_miss"))
        table.add_row(kind, f"{strength:g}", str(found.total()), *map(str, counts))
    say.print(table)
    total = made.counts()
    say.print(
        f"{len(made.episodes)} episodes: {total['successes']} successes, {total['failures']} "
        f"failures, {total['near_misses']} near misses, as LIBERO's own check says"
    )

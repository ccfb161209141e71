"""`robo4d stats`: the counts of a build as tables."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs._show import human_bytes
from pipeline.store import Store
from schemas.reasons import UsageError


def read_stats(out: str) -> dict[str, Any]:
    """What a build wrote beside its manifest.

    Raises:
        UsageError: there is no finished build, or the file is damaged.
        OutputError: the store does not answer.
    """
    from pipeline.manifest import STATS  # pyarrow takes a third of a second to import

    store = Store.at(out)
    path = store.path(STATS)
    try:
        found = json.loads(store.read(STATS))
    except OSError as error:
        raise UsageError(
            f"{out} holds no finished build: {STATS} cannot be read ({error})"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}; run the build again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is damaged: it holds no object; run the build again")
    return found


def print_stats(stats: dict[str, Any], top: int) -> None:
    """Tables of everything, ``top`` rows each; the rest is in the file."""
    out = Console(highlight=False)
    built, twice = stats["built"], stats["duplicates"]
    out.print(
        f"[bold]{built['episodes']}[/] of {stats['episodes_planned']} episodes, "
        f"{built['samples']} samples, {built['frames']} frames, {built['hours']:.3g} h of video, "
        f"{human_bytes(stats['shard_bytes'])} in {stats['shards']} shard(s); "
        f"{built['idle_share']:.0%} of the steps are idle"
    )
    out.print(
        f"duplicates: {twice['exact']} exact, {twice['near']} near, "
        f"{twice['across_splits']} in another split than what they repeat"
    )
    for name, counts in stats["by"].items():
        _print_counts(out, name, counts, top)
    table = Table("set aside", "source", "episodes")
    for source, reasons in sorted(stats["quarantine"].items()):
        for reason, count in sorted(reasons.items()):
            table.add_row(reason, source, str(count))
    if table.row_count:
        out.print(table)


def _print_counts(out: Console, name: str, counts: dict[str, Any], top: int) -> None:
    table = Table(name, "episodes", "samples", "frames", "hours", "bytes", "idle")
    for column in table.columns[1:]:
        column.justify = "right"
    ranked = sorted(counts.items(), key=lambda item: (-item[1]["episodes"], item[0]))
    for value, count in ranked[:top]:
        table.add_row(
            escape(value) or "[dim]not named[/]",
            str(count["episodes"]),
            str(count["samples"]),
            str(count["frames"]),
            f"{count['hours']:.3g}",
            human_bytes(count["bytes"]),
            f"{count['idle_share']:.0%}",
        )
    if len(ranked) > top:
        table.add_row(f"[dim]and {len(ranked) - top} more[/]", *[""] * 6)
    out.print(table)

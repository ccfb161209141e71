"""What `robo4d plan` says: the shards, or what building them takes and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs._show import human_bytes, say

if TYPE_CHECKING:
    from pipeline.cost import PlanCost, Rate, SourceCost
    from schemas.plan import BuildPlan

UNKNOWN = "unknown"
# Row, field of `SourceCost`, how it is written. GPU time that no stage was measured to use is
# absent, which is not the same as unknown.
_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("shards", "shards", "{:,}".format),
    ("episodes", "episodes", "{:,}".format),
    ("source bytes", "source_bytes", human_bytes),
    ("clips", "clips", "{:,.0f}".format),
    ("output bytes", "output_bytes", human_bytes),
    ("CPU hours", "cpu_hours", "{:,.2f}".format),
    ("GPU hours", "gpu_hours", "{:,.2f}".format),
    ("storage a month", "storage_month", "{:,.2f}".format),
    ("money once", "once", "{:,.2f}".format),
)


def print_shards(made: BuildPlan) -> None:
    """One row a shard."""
    table = Table("shard", "episodes", "source bytes", "unreadable")
    for task in made.shards:
        lost = sum(ref.defect is not None for ref in task.refs)
        row = task.name, str(len(task.refs)), human_bytes(task.source_bytes), str(lost or "")
        table.add_row(*row)
    Console().print(table)


def cost_json(cost: PlanCost) -> dict[str, Any]:
    """One object: sources, their sum, prices; null is unknown, or of ``gpu_hours`` absent too."""
    return {
        "sources": [
            {**asdict(one), "rate": None if one.rate is None else one.rate.model_dump()}
            for one in cost.sources
        ],
        "total": _total(cost),
        "workers": cost.workers,
        "wall_hours": cost.wall_hours,
        "efficiency": cost.efficiency,
        "episodes_a_shard": cost.episodes_a_shard,
        "prices": cost.prices.model_dump(),
    }


def print_cost(cost: PlanCost) -> None:
    """A column a source and one for their sum, then the rates behind them."""
    out = Console(highlight=False)
    columns = {
        f"{one.source} {one.layout}{' TWIN' if one.twin else ''}": _cells(
            vars(one), one.rate is not None
        )
        for one in cost.sources
    }
    if len(cost.sources) > 1:
        columns["all"] = _cells(_total(cost), all(one.rate is not None for one in cost.sources))
    table = Table("to be built", *columns)
    for row in zip((name for name, _, _ in _ROWS), *columns.values(), strict=True):
        table.add_row(*row)
    out.print(table)
    wall = _cell(cost.wall_hours, "{:,.2f} h".format)
    out.print(f"wall time with {cost.workers} worker(s), a core each: {wall}")
    _print_efficiency(cost)
    out.print(f"money in {cost.prices.currency}: {escape(cost.prices.note)}", soft_wrap=True)
    for one in cost.sources:
        _print_rate(out, one)
    if kept := sum(one.kept for one in cost.sources):
        say.print(f"{kept} shard(s) of the plan before stay and are counted in none of this")


def _print_efficiency(cost: PlanCost) -> None:
    from pipeline.schedule import EFFICIENT

    if cost.efficiency is None or cost.efficiency >= EFFICIENT:
        return
    if cost.episodes_a_shard is None:
        what = f"no size of shards gives {EFFICIENT:.0%}: take fewer workers"
    else:
        size = cost.episodes_a_shard
        what = f"--set shard.episodes={size} keeps them busy for {EFFICIENT:.0%} or more"
    say.print(
        f"[yellow]note:[/] {cost.workers} workers have a shard to build for "
        f"{cost.efficiency:.0%} of the time; {what}",
        soft_wrap=True,
    )


def _print_rate(out: Console, one: SourceCost) -> None:
    rate = one.rate
    if rate is None:
        said = "no measured rate for this source and configuration; `python -m benchmarks.rates`"
        out.print(f"[bold]{one.source}[/]: {said} makes one (cost.rates)", soft_wrap=True)
        return
    lost = f", {rate.quarantined} of them quarantined" if rate.quarantined else ""
    out.print(
        f"[bold]{one.source}[/]: {_per_episode(rate)}; measured on {rate.episodes} episodes of "
        f"{escape(rate.data)}{lost}, {escape(rate.machine)}, {rate.date}, by "
        f"`{escape(rate.command)}`",
        soft_wrap=True,
    )
    for note in one.notes:
        out.print(f"  [yellow]note:[/] {escape(note)}", soft_wrap=True)


def _per_episode(rate: Rate) -> str:
    gpu = "GPU absent" if rate.gpu_s is None else f"GPU {rate.gpu_s:.3g} s"
    return (
        f"an episode takes {rate.camera_cpu_s:.3g} CPU s for cameras, {rate.cpu_s:.3g} + "
        f"{rate.cpu_s_per_mb:.3g} a source MB for the rest, {gpu}; it gives {rate.clips:.3g} "
        f"clips, {human_bytes(rate.output_bytes)}"
    )


def _cells(values: Mapping[str, Any], measured: bool) -> list[str]:
    cells = {field: _cell(values[field], write) for _, field, write in _ROWS}
    if measured and values["gpu_hours"] is None:
        cells["gpu_hours"] = "absent"
    return list(cells.values())


def _cell(value: float | None, write: Callable[[float], str]) -> str:
    return UNKNOWN if value is None else write(value)


def _total(cost: PlanCost) -> dict[str, float | None]:
    """Sums over the sources; a sum with an unknown part is unknown."""
    total: dict[str, float | None] = {}
    for _, field, _ in _ROWS:
        values = [getattr(one, field) for one in cost.sources]
        total[field] = None if None in values else sum(values)
    return total

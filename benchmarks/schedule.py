"""A build of 201,426 episodes on 1,000 workers, simulated from measured times.

``python -m benchmarks.schedule`` draws each episode's seconds from a lognormal distribution, fitted
to what episodes of its source really took (``--times``: lines of JSON as `benchmarks.engines
--keep` writes them; processor time, so that a busy machine does not count), packs them into shards,
and lets a fleet build these: steady; with slow workers; with workers that are taken away; both.
Orders: the plan's, and longest first by the source's mean, which is all that is known beforehand.
Efficiency is work at full speed over all worker time that is paid until the last shard is there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._charts import Chart, write_charts
from benchmarks._common import parser, print_header, print_table, write_json
from benchmarks._fleet import Fleet, Outcome, simulate

EPISODES = 201_426
TIMES = Path(__file__).parent / "episode_seconds.jsonl"
# Episodes as published (TFDS' catalogue; BridgeData V2's page; LIBERO: 130 tasks, 50 demonstrations
# each). The build has them in this proportion.
PUBLISHED = {"bridge": 60_096, "droid": 92_233, "libero": 6_500, "rt1": 87_212}


@dataclass(frozen=True)
class Spread:
    """Seconds of an episode: lognormal, ``exp(N(mu, sigma))``."""

    mu: float
    sigma: float

    @property
    def mean(self) -> float:
        """s"""
        return math.exp(self.mu + self.sigma**2 / 2)


def fit(lines: list[dict[str, Any]], widen: float = 1.0) -> dict[str, Spread]:
    """A distribution for each source.

    Args:
        lines: with source, ``episodes`` and ``process_cpu``, s; a line of several episodes (a shard
            of one pool) tells their mean, and nothing of their spread.
        widen: factor on the deviation, which a few episodes do not tell well.

    Raises:
        ValueError: a source without two lines.
    """
    found = {}
    for source in sorted({line["source"] for line in lines}):
        logs = [
            math.log(line["process_cpu"] / line["episodes"])
            for line in lines
            if line["source"] == source
        ]
        if len(logs) < 2:
            raise ValueError(f"{source} has {len(logs)} measured line; a spread needs two or more")
        found[source] = Spread(statistics.mean(logs), widen * statistics.stdev(logs))
    return found


def draw_shards(
    spreads: Mapping[str, Spread], sizes: Mapping[str, int], episodes: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of each shard in the plan's order, and what its source alone lets one guess."""
    rng = np.random.default_rng(seed)
    total = sum(PUBLISHED[source] for source in spreads)
    seconds, guesses = [], []
    for source, spread in spreads.items():
        count = round(episodes * PUBLISHED[source] / total)
        each = rng.lognormal(spread.mu, spread.sigma, count)
        starts = np.arange(0, count, sizes[source])
        seconds.append(np.add.reduceat(each, starts))
        guesses.append(np.diff(np.append(starts, count)) * spread.mean)
    return np.concatenate(seconds), np.concatenate(guesses)


def sizes_of(spreads: Mapping[str, Spread], by: str, size: float) -> dict[str, int]:
    """Episodes a shard of each source: as many of all, or as many as take so many minutes."""
    if by == "episodes":
        return dict.fromkeys(spreads, round(size))
    return {source: max(1, round(60 * size / one.mean)) for source, one in spreads.items()}


def fleets(options: argparse.Namespace) -> dict[str, Fleet]:
    """The fleets that are compared."""
    slow = {"slow_share": options.slow_share, "slowness": options.slowness}
    taken = {"life": options.life * 3600, "away": options.away * 60}
    made = {"steady": {}, "slow workers": slow, "taken away": taken, "both": {**slow, **taken}}
    return {
        name: Fleet(options.workers, startup=options.startup, **how) for name, how in made.items()
    }


def _median(outcomes: list[Outcome]) -> Outcome:
    """The one of median makespan."""
    return sorted(outcomes, key=lambda one: one.makespan)[len(outcomes) // 2]


def _row(
    spreads: Mapping[str, Spread], by: str, size: float, fleet: Fleet, options: argparse.Namespace
) -> dict[str, Any]:
    kept: dict[str, list[Outcome]] = {"plan": [], "longest": [], "copies": []}
    for seed in range(options.repeat):
        sizes = sizes_of(spreads, by, size)
        seconds, guesses = draw_shards(spreads, sizes, options.episodes, seed)
        longest = seconds[np.argsort(-guesses, kind="stable")]
        kept["plan"].append(simulate(seconds, fleet, seed=seed))
        kept["longest"].append(simulate(longest, fleet, seed=seed))
        kept["copies"].append(simulate(longest, fleet, copies=True, seed=seed))
    plan, first, copies = (_median(kept[name]) for name in ("plan", "longest", "copies"))
    return {
        f"{by} a shard": size,
        "shards": len(seconds),
        "longest shard, min": float(seconds.max() / 60),
        "plan order, h": plan.makespan / 3600,
        "longest first, h": first.makespan / 3600,
        "and copies, h": copies.makespan / 3600,
        "efficiency, plan": 100 * plan.efficiency,
        "longest": 100 * first.efficiency,
        "copies": 100 * copies.efficiency,
        "idle given back": 100 * first.given_back,
        "lost, %": 100 * first.lost / first.paid,
    }


def main() -> None:
    """Simulate and print."""
    parse = parser(__doc__)
    parse.set_defaults(repeat=5)
    parse.add_argument("--times", type=Path, default=TIMES)
    parse.add_argument("--widen", type=float, default=1.0, help="factor on the fitted deviation")
    parse.add_argument("--episodes", type=int, default=EPISODES)
    parse.add_argument("--workers", type=int, default=1000)
    parse.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128])
    parse.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 10, 20, 40])
    parse.add_argument("--startup", type=float, default=60, help="s until a worker's first shard")
    parse.add_argument("--slow-share", type=float, default=0.05)
    parse.add_argument("--slowness", type=float, default=3)
    parse.add_argument("--life", type=float, default=4, help="mean h until a worker is taken away")
    parse.add_argument("--away", type=float, default=5, help="min until another is there")
    parse.add_argument("--chart", type=Path, help="draw efficiency over shard size (PNG)")
    options = parse.parse_args()
    facts = print_header(f"{options.episodes:,} episodes on {options.workers:,} workers")
    lines = [json.loads(line) for line in options.times.read_text().splitlines()]
    spreads = fit(lines, options.widen)
    counts = {s: sum(line["source"] == s for line in lines) for s in spreads}
    columns = ["source", "measured", "mean, s", "sigma of log", "share"]
    whole = sum(PUBLISHED[s] for s in spreads)
    print_table(
        columns,
        [[s, counts[s], f.mean, f.sigma, PUBLISHED[s] / whole] for s, f in spreads.items()],
    )
    report: dict[str, Any] = {}
    charts = []
    for (name, fleet), (by, sizes) in product(
        fleets(options).items(), (("episodes", options.sizes), ("minutes", options.minutes))
    ):
        print(f"### {name}, shards of so many {by}\n")
        rows = [_row(spreads, by, size, fleet, options) for size in sizes]
        print_table(list(rows[0]), [list(row.values()) for row in rows])
        report[f"{name}, {by}"] = rows
        drawn = {
            label: [(float(row[f"{by} a shard"]), row[key] / 100) for row in rows]
            for label, key in (
                ("plan order", "efficiency, plan"),
                ("longest first", "longest"),
                ("and copies", "copies"),
            )
        }
        charts.append(Chart(f"efficiency, {name}", f"{by} a shard", drawn))
    if options.chart is not None:
        write_charts(options.chart, charts)
    write_json(options.json, {"machine": facts, "schedule": report})


if __name__ == "__main__":
    main()

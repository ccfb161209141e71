"""Whether a plan's shards keep all workers busy, and how many episodes a shard would."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np

from pipeline.shards import cut_runs

# Workers idle for a tenth of a build are worth a word: that much is within what the rates are off.
EFFICIENT = 0.9
# Sizes that are tried are apart by this factor: no rate is known better than that.
_STEP = 0.8


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last of ``workers`` ends, who take shards in this order; s."""
    ends = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def efficiency(seconds: Sequence[float], workers: int) -> float:
    """Work over what ``workers`` are there for, longest shards first; 1 where there is no work."""
    work = sum(seconds)
    if work == 0:
        return 1.0
    return work / (workers * makespan(sorted(seconds, reverse=True), workers))


def efficient_size(runs: Sequence[Sequence[float]], size: int, workers: int) -> int | None:
    """Episodes a shard, at most ``size``, by which ``workers`` are `EFFICIENT`; None: not even
    shards of one episode are.

    Args:
        runs: s of each record, in order, of every source and split: what is cut into shards.
    """
    tried = size
    while tried >= 1:
        if efficiency(_cut(runs, tried), workers) >= EFFICIENT:
            return tried
        tried = min(tried - 1, round(tried * _STEP))
    return None


def _cut(runs: Sequence[Sequence[float]], size: int) -> list[float]:
    """s of each shard, cut as `pipeline.shards.make_shards` cuts."""
    out: list[float] = []
    for run in runs:
        if len(run):
            cuts = cut_runs(run, ceil(len(run) / size))
            out += np.add.reduceat(np.asarray(run), cuts[:-1]).tolist()
    return out

"""Lay records into shards: runs of equal expected work; and those of an earlier plan that stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import ceil

import numpy as np

from schemas.plan import EpisodeRef, ShardTask

Weigh = Callable[[Sequence[EpisodeRef]], Sequence[float]]
Mark = Callable[[str, str, Sequence[EpisodeRef]], str]  # name, split, refs -> fingerprint


def cut_runs(weights: Sequence[float], shards: int) -> list[int]:
    """Where to cut a sequence into ``shards`` runs whose weights are as equal as its order allows.

    Order is kept, since neighbours share camera setups and are solved together. Cut k is where the
    sum so far is nearest to k/n of all, so that no run is heavier than the lightest possible
    heaviest one by more than one record; no run is empty. Equal weights give counts that differ by
    one at most.

    Args:
        weights: of each record, 0 or more.
        shards: 1 to ``len(weights)``.

    Returns:
        ``shards + 1`` positions, from 0 to ``len(weights)``.
    """
    count = len(weights)
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(weights, np.float64))])
    wanted = sums[-1] * np.arange(1, shards) / shards
    above = np.clip(np.searchsorted(sums, wanted), 1, count)
    nearest = np.where(wanted - sums[above - 1] <= sums[above] - wanted, above - 1, above)
    cuts = [0]
    for number, cut in enumerate(nearest.tolist(), start=1):
        # A record heavier than a whole share takes several cuts: each run keeps one record.
        cuts.append(min(max(cut, cuts[-1] + 1), count - (shards - number)))
    return [*cuts, count]


def make_shards(
    source: str,
    by_split: Mapping[str, Sequence[EpisodeRef]],
    size: int,
    weigh: Weigh,
    mark: Mark,
    previous: Iterable[ShardTask] = (),
) -> list[ShardTask]:
    """The shards of a source: those of ``previous`` that still hold, and new ones for what is left.

    A shard holds if its records are all there, unchanged and of its split, and its fingerprint
    computed anew is its own. New ones get numbers that ``previous`` did not give to any, unless
    nothing of their split holds: then all begins at 0.

    Args:
        size: records a shard, on average.
    """
    older: dict[str, list[tuple[int, ShardTask]]] = {}
    for task in previous:
        # The plan may come from anywhere, and a name becomes a file's: none but our own.
        number = int("0" + "".join(re.findall(r"-(\d{5,9})$", task.name)))
        if task.source == source and task.name == shard_name(source, task.split, number):
            older.setdefault(task.split, []).append((number, task))
    tasks = []
    for split, refs in sorted(by_split.items()):
        numbered = older.get(split, [])
        left = dict.fromkeys(refs)
        numbers: dict[int, ShardTask] = {}
        for number, task in numbered:
            there = {ref for ref in task.refs if ref in left}
            if not there or number in numbers or len(there) < len(task.refs):
                continue
            if mark(task.name, split, task.refs) == task.fingerprint:
                numbers[number] = task
                for ref in there:
                    del left[ref]
        first = max(number for number, _ in numbered) + 1 if numbers else 0
        rest = list(left)
        cuts = cut_runs(weigh(rest), ceil(len(rest) / size)) if rest else [0]
        for number, (start, end) in enumerate(pairwise(cuts), start=first):
            part, name = tuple(rest[start:end]), shard_name(source, split, number)
            numbers[number] = ShardTask(name, source, split, part, mark(name, split, part))
        tasks += [task for _, task in sorted(numbers.items())]
    return tasks


def shard_name(source: str, split: str, number: int) -> str:
    """The name of a shard; its files' without what follows the first dot."""
    return f"robo4d-{source}-{split}-{number:05d}"

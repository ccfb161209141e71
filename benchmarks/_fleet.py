"""A build on many workers, simulated event by event: who builds which shard, and what is lost."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Fleet:
    """The machines of a build.

    Attributes:
        workers: how many, each of which builds one shard at a time.
        startup: s from a worker's begin, which is paid for, to its first shard.
        slow_share: share of workers that take ``slowness`` times as long for everything.
        life: mean s until a worker is taken away (exponential; inf: never); its shard begins anew.
        away: s until another worker begins in its place.
    """

    workers: int
    startup: float = 0.0
    slow_share: float = 0.0
    slowness: float = 3.0
    life: float = math.inf
    away: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of a build; all in seconds.

    Attributes:
        makespan: until the last shard is there.
        useful: work that the shards hold, at full speed.
        paid: worker time from each begin until it was taken away or the build ended.
        lost: worker time spent on shards that were not finished.
        copied: worker time spent on copies that came second.
        idle: worker time with nothing to do.
    """

    makespan: float
    useful: float
    paid: float
    lost: float
    copied: float
    idle: float

    @property
    def efficiency(self) -> float:
        """Share of the paid time that was useful."""
        return self.useful / self.paid

    @property
    def given_back(self) -> float:
        """`efficiency` where a worker with nothing to do is not paid for."""
        return self.useful / (self.paid - self.idle)


@dataclass
class _Worker:
    slow: float
    alive: bool = False
    ready: bool = False
    life: int = 0  # which one of its lives this is; events of an earlier one are void
    job: int = 0  # likewise for shards
    shard: int = -1
    since: float = 0.0  # when the shard, or having nothing to do, began
    born: float = 0.0


def simulate(
    seconds: Sequence[float], fleet: Fleet, *, copies: bool = False, seed: int = 0
) -> Outcome:
    """Build shards in the order given; one that is lost comes next.

    Args:
        seconds: of each shard, at full speed.
        copies: a worker with nothing else to do builds a copy of the shard that has been building
            longest; whichever is there first counts, the other one stops.
    """
    return _Build([float(s) for s in seconds], fleet, copies, np.random.default_rng(seed)).run()


@dataclass
class _Build:
    seconds: list[float]
    fleet: Fleet
    copies: bool
    rng: np.random.Generator
    now: float = 0.0
    paid: float = 0.0
    lost: float = 0.0
    copied: float = 0.0
    idle: float = 0.0
    events: list[tuple[float, int, str, int, int]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=itertools.count)  # of events at one time
    holders: dict[int, list[int]] = field(default_factory=dict)  # shard -> workers, oldest first

    def __post_init__(self) -> None:
        slow = round(self.fleet.slow_share * self.fleet.workers)
        picked = set(self.rng.permutation(self.fleet.workers)[:slow].tolist())
        self.workers = [
            _Worker(self.fleet.slowness if n in picked else 1.0) for n in range(self.fleet.workers)
        ]
        self.queue = deque(range(len(self.seconds)))
        self.left = len(self.seconds)

    def run(self) -> Outcome:
        for number in range(len(self.workers)):
            self._at(0.0, "born", number, 0)
        acts = {"born": self._born, "ready": self._ready, "done": self._done, "gone": self._gone}
        while self.left:
            self.now, _, kind, number, mark = heapq.heappop(self.events)
            worker = self.workers[number]
            if mark == (worker.job if kind == "done" else worker.life):
                acts[kind](number)
        for worker in self.workers:
            if worker.alive:
                self.paid += self.now - worker.born
                if worker.ready and worker.shard < 0:
                    self.idle += self.now - worker.since
        useful = math.fsum(self.seconds)
        return Outcome(self.now, useful, self.paid, self.lost, self.copied, self.idle)

    def _at(self, when: float, kind: str, number: int, mark: int) -> None:
        heapq.heappush(self.events, (when, next(self.order), kind, number, mark))

    def _born(self, number: int) -> None:
        worker = self.workers[number]
        worker.alive, worker.born = True, self.now
        self._at(self.now + self.fleet.startup, "ready", number, worker.life)
        if self.fleet.life < math.inf:
            end = self.now + self.rng.exponential(self.fleet.life)
            self._at(end, "gone", number, worker.life)

    def _ready(self, number: int) -> None:
        self.workers[number].ready = True
        self._take(number)

    def _done(self, number: int) -> None:
        shard = self.workers[number].shard
        self.left -= 1
        for holder in self.holders.pop(shard):
            worker = self.workers[holder]
            if holder != number:
                self.copied += self.now - worker.since
            worker.job += 1
            self._take(holder)

    def _gone(self, number: int) -> None:
        worker = self.workers[number]
        self.paid += self.now - worker.born
        if worker.shard >= 0:
            self.lost += self.now - worker.since
            rest = self.holders[worker.shard]
            rest.remove(number)
            if not rest:
                del self.holders[worker.shard]
                self.queue.appendleft(worker.shard)
        elif worker.ready:
            self.idle += self.now - worker.since
        worker.alive = worker.ready = False
        worker.shard = -1
        worker.life += 1
        worker.job += 1
        self._at(self.now + self.fleet.away, "born", number, worker.life)
        self._wake()

    def _wake(self) -> None:
        """Somebody who has nothing to do takes a shard that came back."""
        for number, worker in enumerate(self.workers):
            if not self.queue:
                return
            if worker.ready and worker.shard < 0:
                self.idle += self.now - worker.since
                self._take(number)

    def _take(self, number: int) -> None:
        worker = self.workers[number]
        worker.since = self.now
        worker.shard = self._next()
        if worker.shard >= 0:
            self.holders.setdefault(worker.shard, []).append(number)
            end = self.now + self.seconds[worker.shard] * worker.slow
            self._at(end, "done", number, worker.job)

    def _next(self) -> int:
        if self.queue:
            return self.queue.popleft()
        if self.copies:
            # Insertion order is the order in which they began.
            return next((s for s, by in self.holders.items() if len(by) == 1), -1)
        return -1

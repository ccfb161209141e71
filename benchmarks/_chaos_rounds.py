"""One disturbed build after the other: when, by what, and what came of it.

Moments are drawn by progress (shards done, and a part of the whole time), so that a busy machine is
disturbed in the same places.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks._chaos_build import (
    LAST,
    REPO,
    Data,
    contents,
    environment,
    unsound_pieces,
    wrong_result,
)
from benchmarks._chaos_places import BUCKET, FlakyProxy, failing_s3, grow, small_disk
from benchmarks._chaos_process import descendants, kill, seconds_of_orphans, workers_of
from benchmarks._chaos_ray import Nodes, cluster
from pipeline.store import Store

_PATIENCE = 540.0  # s until a build that does not end counts as hanging


@dataclass
class Round:
    """One build and what befell it.

    Attributes:
        moments: what was there at each disturbance: shards done, or what the build was at.
        restarts: how often it was started again.
        orphans_s: how long processes of a killed driver lived on, where that was waited for.
        wrong: what did not hold.
    """

    kind: str
    number: int
    workers: int
    disturbances: int = 0
    moments: list[str] = field(default_factory=list)
    restarts: int = 0
    orphans_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Chaos:
    """What all rounds share."""

    data: Data
    folder: Path
    expected: Mapping[str, str]
    seconds: float
    stack: ExitStack
    seed: int

    @cached_property
    def s3(self) -> FlakyProxy:
        """Started for the first round that needs it."""
        return self.stack.enter_context(failing_s3(self.seed))

    @cached_property
    def nodes(self) -> Nodes:
        """Started for the first round that needs them."""
        return self.stack.enter_context(cluster())

    def run(self, kind: str, number: int, kills: int) -> Round:
        """One round."""
        moments = random.Random(f"{self.seed} {kind} {number}")
        engine = kind.split()[0] if kind.split()[0] in ("beam", "ray") else "local"
        # A single local worker is the driver itself.
        workers = moments.choice((1, 2)) if kind == "local driver" else 2
        this = Round(kind, number, workers)
        began = time.monotonic()
        with ExitStack() as place:
            store = self._place(kind, f"{kind.replace(' ', '-')}-{number}", place)
            more = [f"run.ray.address={self.nodes.address}"] if engine == "ray" else []
            command = self.data.command(store.url, engine, workers, more)
            _Attempts(self, this, store, command, moments).until_done(kills)
            if kind.startswith("s3"):
                self.s3.share = 0.0
            this.wrong += wrong_result(self.data, store, self.expected)
        this.seconds = round(time.monotonic() - began, 1)
        return this

    def _place(self, kind: str, name: str, stack: ExitStack) -> Store:
        if kind.startswith("s3"):
            return Store.at(f"s3://{BUCKET}/{name}")
        folder = self.folder / name
        if kind == "full_disk":
            size = sum((self.folder / "expected" / file).stat().st_size for file in self.expected)
            share = random.Random(f"{self.seed} {name}").uniform(0.1, 0.9)
            stack.enter_context(small_disk(folder, int(size * share)))
        return Store.at(str(folder))


@dataclass
class _Attempts:
    """A build that is started until it ends."""

    chaos: Chaos
    round: Round
    store: Store
    command: Sequence[str]
    moments: random.Random

    def until_done(self, kills: int) -> None:
        left = kills
        while True:
            build = self._start()
            left, ended = self._disturb(build, left)
            if ended == 0 or self.round.restarts > 2 * kills + 2:
                break
            self.round.restarts += 1
            if self.round.kind == "full_disk":
                grow(Path(self.store.url), 1 << 28)
        if ended:
            said = (self.chaos.folder / "log").read_text(errors="replace")[-600:]
            self.round.wrong.append(f"exit code {ended}: {said}")

    def _start(self) -> subprocess.Popen[bytes]:
        if self.round.kind.startswith("s3"):
            self.chaos.s3.share = self.moments.uniform(0.1, 0.5)
        with (self.chaos.folder / "log").open("w") as log:
            env = environment(self.chaos.folder / "cache")
            if self.round.kind.startswith("s3"):
                env["AWS_ENDPOINT_URL"] = self.chaos.s3.url
            return subprocess.Popen(self.command, cwd=REPO, env=env, stdout=log, stderr=log)

    def _disturb(self, build: subprocess.Popen[bytes], left: int) -> tuple[int, int]:
        """Disturbances that are left, and the exit code."""
        kind = self.round.kind
        while left and self._reach(build, self._goal()):
            below, at = descendants(build.pid), self._at()
            if not self._strike(build):
                break
            left -= 1
            self._note(at)
            if kind.endswith(("driver", "sigterm")):
                build.wait()
                if self.moments.random() < 0.5:
                    self.round.orphans_s.append(seconds_of_orphans(below))
                return left, build.returncode
        try:
            ended = build.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.round.wrong.append(f"no end within {_PATIENCE:g} s")
            for pid in (*descendants(build.pid), build.pid):
                kill(pid)
            return 0, build.wait()
        if kind == "full_disk" and ended:
            left -= 1
            self._note(self._at())
        if kind == "s3 faults":
            left -= 1
            self.round.disturbances += 1
        self.round.wrong += unsound_pieces(contents(self.store))
        return left, ended

    def _at(self) -> str:
        """What the build is at, by what is there."""
        there = self.store.names()
        done = sum(name.endswith(".index.json") for name in there)
        if done == self.chaos.data.shards:
            return "end" if LAST in there else "tables"
        return f"{done} of {self.chaos.data.shards} shards" if "plan.json" in there else "start"

    def _note(self, at: str) -> None:
        self.round.moments.append(at)
        self.round.disturbances += 1
        self.round.wrong += unsound_pieces(contents(self.store))

    def _goal(self) -> tuple[int, float]:
        """Shards to wait for, and seconds from then. Most of a build of seconds is its start."""
        here, shards = self.chaos, self.chaos.data.shards
        if self.moments.random() < 0.4:
            return 0, self.moments.uniform(0.0, 0.7 * here.seconds)
        # With the last shard workers are done, and the driver is at the tables.
        last = shards if self.round.kind.endswith(("driver", "sigterm")) else shards - 1
        return self.moments.randint(1, last), self.moments.uniform(0.0, 0.02 * here.seconds)

    def _reach(self, build: subprocess.Popen[bytes], goal: tuple[int, float]) -> bool:
        """Wait for the goal; whether the build is still running then."""
        if self.round.kind in ("full_disk", "s3 faults"):
            return False  # the place itself disturbs
        shards, more = goal
        while (
            build.poll() is None
            and sum(name.endswith(".index.json") for name in self.store.names()) < shards
        ):
            time.sleep(0.05)
        try:
            build.wait(more)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _strike(self, build: subprocess.Popen[bytes]) -> bool:
        """Do what the round's kind says; whether there was something to do it to."""
        kind = self.round.kind
        if kind == "ray node":
            self.chaos.nodes.fill()
            self.chaos.nodes.remove(self.moments)
            return True
        if kind.endswith("worker"):
            engine = kind.split()[0]
            # Workers of a cluster are below its nodes, which this process started.
            above = os.getpid() if engine == "ray" else build.pid
            found = workers_of(above, engine)
            while not found and build.poll() is None:
                time.sleep(0.02)
                found = workers_of(above, engine)
            return bool(found) and kill(self.moments.choice(found))
        how = signal.SIGTERM if kind.endswith("sigterm") else signal.SIGKILL
        return kill(build.pid, how)

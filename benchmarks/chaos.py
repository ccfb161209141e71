"""Builds disturbed in every way end in the bytes of the undisturbed one: nothing lost or doubled.

``python -m benchmarks.chaos --seed 0 --kills 100 --json chaos.json``. First the deaths at every
place where a build writes (`benchmarks._chaos_points`), then rounds. A round builds into a fresh
folder and is disturbed up to three times on the way: a worker or the driver killed, a node of a Ray
cluster taken away, requests to S3 failed, the disk filled up. After each disturbance every file
under a final name must be whole; what ended is started again; at the end every byte is compared,
and `verify` counts episodes. ``--only KIND`` runs one kind, named in the table.

Moments are drawn by progress (shards done, and a random part of a shard's time), so that a busy
machine is disturbed in the same places. Linux; full_disk mounts a tmpfs, so it needs root.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks._chaos_build import (
    LAST,
    REPO,
    Data,
    contents,
    environment,
    hashes,
    make_data,
    unsound_pieces,
    wrong_result,
)
from benchmarks._chaos_places import BUCKET, FlakyProxy, failing_s3, grow, small_disk
from benchmarks._chaos_points import every_point
from benchmarks._chaos_process import descendants, kill, seconds_of_orphans, workers_of
from benchmarks._chaos_ray import Nodes, cluster
from benchmarks._common import parser, print_header, print_table, write_json
from pipeline.store import Store

# Share of the kills that each kind gets.
KINDS = {
    "local worker": 22,
    "local driver": 20,
    "local sigterm": 8,
    "full_disk": 6,
    "s3 faults": 4,
    "s3 driver": 6,
    "beam worker": 9,
    "beam driver": 6,
    "ray worker": 9,
    "ray driver": 5,
    "ray node": 5,
}
_PER_ROUND = 3  # disturbances of one build at most
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
            below = descendants(build.pid)
            if not self._strike(build):
                break
            left -= 1
            self._note()
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
            self._note()
        if kind == "s3 faults":
            left -= 1
            self.round.disturbances += 1
        self.round.wrong += unsound_pieces(contents(self.store))
        return left, ended

    def _note(self) -> None:
        files = contents(self.store)
        done = sum(name.endswith(".index.json") for name in files)
        at = "start" if "plan.json" not in files else f"{done} of {self.chaos.data.shards} shards"
        if done == self.chaos.data.shards:
            at = "end" if LAST in files else "tables"
        self.round.moments.append(at)
        self.round.disturbances += 1
        self.round.wrong += unsound_pieces(files)

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


def rounds(chaos: Chaos, kinds: Mapping[str, int]) -> Iterator[Round]:
    """Rounds until every kind had its number of disturbances."""
    for kind, wanted in kinds.items():
        number = 0
        while wanted > 0:
            done = chaos.run(kind, number, min(wanted, _PER_ROUND))
            wanted -= max(done.disturbances, 1)  # one that came too late is not tried for ever
            number += 1
            yield done


def undisturbed(data: Data, folder: Path) -> tuple[dict[str, str], float]:
    """Hashes of the build that all others are compared with, and its seconds."""
    out = folder / "expected"
    began = time.monotonic()
    subprocess.run(
        data.command(str(out), "local", 2),
        cwd=REPO,
        env=environment(folder / "cache"),
        check=True,
        capture_output=True,
    )
    seconds = time.monotonic() - began
    store = Store.at(str(out))
    expected = hashes(contents(store))
    if wrong := wrong_result(data, store, expected):
        raise SystemExit(f"the undisturbed build is wrong: {wrong}")
    return expected, seconds


def _table(done: Sequence[Round]) -> None:
    rows = []
    for kind in dict.fromkeys(one.kind for one in done):
        mine = [one for one in done if one.kind == kind]
        orphans = [s for one in mine for s in one.orphans_s]
        rows.append(
            [
                kind,
                len(mine),
                sum(one.disturbances for one in mine),
                sum(one.restarts for one in mine),
                max(orphans) if orphans else "",
                sum(bool(one.wrong) for one in mine),
            ]
        )
    print_table(
        ["kind", "builds", "disturbances", "restarts", "orphans, s at most", "failures"], rows
    )


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Run; 1 where a round failed."""
    parse = parser(__doc__)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--kills", type=int, default=100, help="disturbances in all (100)")
    parse.add_argument("--episodes", type=int, default=12, help="of the data set (12)")
    parse.add_argument("--only", action="append", choices=["points", *KINDS], help="of the kinds")
    args = parse.parse_args(argv)
    facts = print_header("Builds killed in every way")
    only = args.only or ["points", *KINDS]
    chosen = {kind: share for kind, share in KINDS.items() if kind in only}
    in_all = sum(chosen.values())
    kinds = {kind: max(1, round(args.kills * n / in_all)) for kind, n in chosen.items()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robo4d-chaos-")))
        points = list(every_point(folder / "points", 4)) if "points" in only else []
        failed = [point for point in points if point.wrong]
        if points:
            say(f"{len(points)} places to die at while writing, {len(failed)} failures\n")
        done: list[Round] = []
        if kinds:
            data = make_data(folder / "data", args.episodes)
            expected, seconds = undisturbed(data, folder)
            chaos = Chaos(data, folder, expected, seconds, stack, args.seed)
            for one in rounds(chaos, kinds):
                done.append(one)
                say(json.dumps(asdict(one)))
            _table(done)
    write_json(
        args.json,
        {
            "machine": facts,
            "points": [asdict(point) for point in points],
            "rounds": [asdict(one) for one in done],
        },
    )
    return int(bool(failed) or any(one.wrong for one in done))


if __name__ == "__main__":
    sys.exit(main())

"""A build that dies at every place where it can, one after the other.

What a build does to its store is a row of publishes and deletions. A forked child runs it and kills
itself (SIGKILL) at the n-th of them: with half of the bytes written, with all of them flushed but
not yet renamed, or right after it, which is before the next. Then another runs it to its end.

``python -m benchmarks._chaos_points [--episodes 4] [--random 100]`` prints one JSON line a death,
after those places some at random moments; exit code 1 where a result was wrong. In one process,
without OpenGL, so that it may fork.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from benchmarks._chaos_build import (
    Data,
    contents,
    hashes,
    make_data,
    unsound_pieces,
    wrong_result,
)
from jobs.build import run_build
from jobs.monitor import FOLDER
from pipeline.plan import make_plan
from pipeline.store import Store
from schemas.config import RunConfig, load_config
from schemas.plan import BuildPlan

WHERE = ("half", "flushed", "after")


@dataclass(frozen=True)
class Point:
    """One death.

    Attributes:
        over: what lay in the folder before: nothing, or a finished build by another configuration.
        number: of the change to the store, from 0.
        change: what it was: publish or delete, and of which file.
        wrong: what did not hold after the death or after the restart.
    """

    over: str
    number: int
    change: str
    where: str
    wrong: tuple[str, ...]


def die() -> None:
    """At once, as if killed from outside."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(what: Callable[[], object], after: float | None = None) -> int:
    """Status with which a fork of this process ended that did it: 0, 1 or -9. It is killed
    ``after`` so many seconds.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            what()
            status = 0
        finally:
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)  # not waited for yet, so still this child
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(number: int, where: str) -> None:
    """Make this process die at its n-th change of a store."""
    done = 0
    publish, delete = Store.publish, Store.delete

    def dying_write(write: Callable[[IO[bytes]], object]) -> Callable[[IO[bytes]], object]:
        def half(file: IO[bytes]) -> None:
            write(file)
            file.truncate(file.tell() // 2)
            file.flush()
            die()

        return half

    def change(here: Callable[..., None], store: Store, name: str, *args: Any) -> None:
        nonlocal done
        if name.startswith(FOLDER):  # the status, which another thread writes now and then
            here(store, name, *args)
            return
        mine, done = done == number, done + 1
        if mine and where == "half" and args:
            args = (dying_write(args[0]),)
        if mine and where == "flushed" and args:
            os.fsync = lambda fd: die()  # it comes right before the rename
        here(store, name, *args)
        if mine:
            die()

    Store.publish = lambda self, name, write: change(publish, self, name, write)  # type: ignore[method-assign]
    Store.delete = lambda self, name: change(delete, self, name)  # type: ignore[method-assign]


def changes(run: Callable[[], object], log: Path) -> list[str]:
    """What a build does to its store, in order."""

    def recorded() -> None:
        publish, delete = Store.publish, Store.delete
        with log.open("w") as file:

            def tell(what: str, here: Callable[..., None], name: str, args: Any) -> None:
                if not name.startswith(FOLDER):
                    print(what, name, file=file, flush=True)
                here(*args)

            Store.publish = lambda self, name, write: tell(  # type: ignore[method-assign]
                "publish", publish, name, (self, name, write)
            )
            Store.delete = lambda self, name: tell("delete", delete, name, (self, name))  # type: ignore[method-assign]
            run()

    if status := in_child(recorded):
        raise RuntimeError(f"the undisturbed build ended with {status}")
    return log.read_text().splitlines()


def every_point(folder: Path, episodes: int, fresh_too: bool = True) -> Iterator[Point]:
    """Deaths of a fresh build, and of one over a finished build by another configuration."""
    data = make_data(folder / "data", episodes)
    mine, other = (_plan(data, folder, crf) for crf in (18, 30))
    finished, out = folder / "finished", folder / "out"
    if in_child(lambda: _build(other, finished)):
        raise RuntimeError("the build by another configuration failed")
    for over in ("nothing", "another build") if fresh_too else ("another build",):

        def fresh(over: str = over) -> None:
            shutil.rmtree(out, ignore_errors=True)
            if over != "nothing":
                shutil.copytree(finished, out)

        fresh()
        done = changes(lambda: _build(mine, out), folder / "log")
        expected = hashes(contents(Store.at(out)))
        for number, change in enumerate(done):
            for where in WHERE if change.startswith("publish") else ("after",):
                fresh()
                wrong = _one(data, mine, out, number, where, expected)
                yield Point(over, number, change, where, tuple(wrong))


def random_moments(folder: Path, episodes: int, kills: int, seed: int) -> Iterator[Point]:
    """Deaths from outside at random moments, up to three of one build; ``number`` counts them."""
    data = make_data(folder / "data", episodes)
    plan, out = _plan(data, folder, 18), folder / "out"
    store, moments = Store.at(str(out)), random.Random(seed)
    seconds = float("inf")
    for _ in range(2):  # the first of all is slow
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        if in_child(lambda: _build(plan, out)):
            raise RuntimeError("the undisturbed build failed")
        seconds = min(seconds, time.monotonic() - began)
    expected = hashes(contents(store))
    killed = of_this = there = number = 0
    while killed < kills:
        if of_this == 0:
            shutil.rmtree(out)
            there = 0
        left = seconds * (1 - there / (data.shards + 1))
        status = in_child(lambda: _build(plan, out), after=moments.uniform(0, left))
        wrong = [] if status in (0, -signal.SIGKILL) else [f"it ended with {status}"]
        wrong += unsound_pieces(contents(store))
        there = sum(name.endswith(".index.json") for name in store.names())
        killed += status != 0
        of_this += 1
        if status == 0 or of_this == 3 or killed == kills:
            if failed := in_child(lambda: _build(plan, out)):
                wrong.append(f"the restart ended with {failed}")
            wrong += wrong_result(data, store, expected)
            of_this = 0
        change = f"{there} of {data.shards} shards"
        yield Point("nothing", number, change, "ended" if status == 0 else "random", tuple(wrong))
        number += 1


def _one(
    data: Data, plan: BuildPlan, out: Path, number: int, where: str, expected: dict[str, str]
) -> list[str]:
    def dying() -> None:
        die_at(number, where)
        _build(plan, out)

    store = Store.at(out)
    status = in_child(dying)
    wrong = [] if status == -signal.SIGKILL else [f"it ended with {status} instead of dying"]
    wrong += unsound_pieces(contents(store))
    if status := in_child(lambda: _build(plan, out)):
        wrong.append(f"the restart ended with {status}")
    return wrong + wrong_result(data, store, expected)


def _plan(data: Data, folder: Path, crf: int) -> BuildPlan:
    told = ("shard.episodes=2", "camera.solve=never", f"shard.rgb_crf={crf}")
    return make_plan({"droid": str(data.root)}, load_config(None, told), folder / "cache")


def _build(plan: BuildPlan, out: Path) -> None:
    run_build(plan, Store.at(out), RunConfig(log="none"))


def main() -> int:
    """Print every point; 1 where something was wrong."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--episodes", type=int, default=4, help="of the data set (4)")
    parse.add_argument(
        "--over-another", action="store_true", help="only builds over one by another configuration"
    )
    parse.add_argument("--random", type=int, default=0, help="deaths at random moments (0)")
    parse.add_argument("--seed", type=int, default=0)
    args = parse.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="robo4d-points-") as folder:
        points = every_point(Path(folder) / "points", args.episodes, not args.over_another)
        more = random_moments(Path(folder) / "random", 12, args.random, args.seed)
        for point in chain(points, more if args.random else ()):
            print(json.dumps(asdict(point)), flush=True)
            failed += bool(point.wrong)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

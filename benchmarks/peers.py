"""Beside what a user would use: Kinema4D's own flow and LeRobot's converter, on the same episodes.

Each side converts the real DROID and Bridge episodes; sides take turns. CPU time is of the whole
process tree; on a shared machine it is the figure to trust. Each also converts the first episode
alone, which tells starting up from work: these sets are small. Then each is killed (SIGKILL to its
process group) at seeded moments behind its first output, and with ``--writing`` once while it
writes a file, and the same command is run again; a tool that refuses is asked to resume, if it can,
and at last started over in an empty folder.

Kinema4D's side wants a Python with tensorflow-cpu, tensorflow-datasets, opencv-python-headless and
pillow (``--kinema4d``), LeRobot's one with lerobot and the first two (``--lerobot``).
A side without its Python is left out. Our cameras are not solved unless ``--solved``, since the
others solve none.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import _peers_outputs as outputs
from benchmarks._common import add_data_option, parser, print_header, print_table, require_data
from benchmarks._peers_run import Run, run
from benchmarks._peers_sides import SOURCES, Side, Source, sides

_REPO = Path(__file__).resolve().parent.parent
_EARLIEST, _LATEST = 0.2, 0.9  # of the CPU time between first output and end, a kill falls here


class Bench:
    """Runs of all sides on one data set, each in a folder of its own below ``root``."""

    def __init__(self, source: Source, data: Path, root: Path, log: Path | None) -> None:
        self.source, self.root, self.log = source, root, log
        self.folder = (data / source.folder).resolve()
        self.alone: dict[str, Run] = {}
        self.whole: dict[str, Run] = {}
        self.sha256: dict[str, dict[str, str]] = {}
        self.clips: dict[str, set[str]] = {}
        self.start_up: dict[str, float] = {}

    def time(self, side: Side, rounds: list[dict[str, Any]]) -> None:
        """One undisturbed run; the first time also one of the first episode alone."""
        if side.name not in self.alone:
            self.alone[side.name] = self._sound(side, side.first)
            self._clear()
        alone, whole = self.alone[side.name], self._sound(side)
        files = outputs.files_of(self.out)
        clips = side.clips(self.out)
        hashes = outputs.sha256_of(self.out)
        slope = (whole.cpu - alone.cpu) / (self.source.episodes - 1)
        rounds.append(
            {
                "what": "run",
                "set": self.source.name,
                "side": side.name,
                **asdict(whole),
                "cpu_first_episode_alone": alone.cpu,
                "cpu_per_further_episode": slope,
                "files": len(files),
                "bytes": sum(path.stat().st_size for path in files),
                "bytes_png": sum(path.stat().st_size for path in files if path.suffix == ".png"),
                "clips": sum(clips.values()),
                "same_bytes_as_first_run": hashes == self.sha256.setdefault(side.name, hashes),
            }
        )
        self.whole.setdefault(side.name, whole)
        self.clips.setdefault(side.name, {clip for clip, n in clips.items() if n})
        self.start_up.setdefault(side.name, max(0.0, alone.cpu - slope))
        self._write(rounds[-1])
        self._clear()

    def kill(self, side: Side, share: float | None, trials: list[dict[str, Any]]) -> None:
        """One run that is killed when ``share`` of its work is done, and what can be made of it.

        Without ``share``: while it writes a file.
        """
        whole, start_up = self.whole[side.name], self.start_up[side.name]

        def due(cpu: float, began: float) -> bool:
            if share is None:
                return side.writing(self.out)
            return cpu >= began + share * (whole.cpu - whole.began)

        killed = self._run(side, kill=due)
        left = outputs.broken(self.out)
        before = side.clips(self.out)
        attempts = [("again", self._run(side))]
        if attempts[-1][1].code and side.resume:
            attempts.append(("resume", self._run(side, side.resume)))
        if attempts[-1][1].code:
            self._clear()
            attempts.append(("from an empty folder", self._run(side)))
        name, last = attempts[-1]
        clips = side.clips(self.out)
        work = killed.cpu - start_up
        extra = killed.cpu + last.cpu - whole.cpu - start_up
        afresh = work <= 0 or name == "from an empty folder"
        hashes, undisturbed = outputs.sha256_of(self.out), self.sha256[side.name]
        every = hashes.keys() | undisturbed.keys()
        trials.append(
            {
                "what": "kill",
                "set": self.source.name,
                "side": side.name,
                "share": share,
                "killed": asdict(killed),
                "broken_after_kill": left,
                "clips_after_kill": sum(before.values()),
                "attempts": [{"how": how, **asdict(one)} for how, one in attempts],
                "went_on_by": name if not last.code else "nothing",
                "broken_in_the_end": outputs.broken(self.out),
                "clips_expected": len(self.clips[side.name]),
                "clips_lost": len(self.clips[side.name] - {clip for clip, n in clips.items() if n}),
                "clips_doubled": sum(n > 1 for n in clips.values()),
                "differ": sorted(k for k in every if hashes.get(k) != undisturbed.get(k)),
                "redone": 1.0 if afresh else min(1.0, max(0.0, extra / work)),
            }
        )
        self._write(trials[-1])
        self._clear()

    @property
    def out(self) -> Path:
        """The output folder of the run at hand."""
        return self.root / "out"

    def _sound(self, side: Side, more: Sequence[str] = ()) -> Run:
        done = self._run(side, more)
        if done.code:
            raise SystemExit(f"{side.name} ended with {done.code}: {done.said}")
        return done

    def _run(
        self,
        side: Side,
        more: Sequence[str] = (),
        kill: Callable[[float, float], bool] | None = None,
    ) -> Run:
        command = [*side.command(self.source, self.folder, self.out), *more]
        return run(command, self.out, side.env, _REPO, kill)

    def _clear(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def _write(self, row: dict[str, Any]) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps(row) + "\n")


def print_runs(rows: list[dict[str, Any]], episodes: int) -> None:
    """Medians over rounds."""
    table = []
    for name in dict.fromkeys(row["side"] for row in rows):
        own = [row for row in rows if row["side"] == name]

        def median(key: str, own: list[dict[str, Any]] = own) -> float:
            return statistics.median(row[key] for row in own)

        table.append(
            [
                name,
                3600 * episodes / median("wall"),
                3600 * episodes / median("cpu"),
                3600 / max(median("cpu_per_further_episode"), 1e-9),
                median("cpu"),
                own[0]["files"],
                own[0]["bytes"],
                own[0]["bytes_png"],
                own[0]["clips"],
                "yes" if all(row["same_bytes_as_first_run"] for row in own) else "no",
            ]
        )
    columns = ["side", "episodes/h", "episodes/CPU h", "without start-up", "CPU s", "files"]
    print_table([*columns, "bytes", "of these PNG", "clips", "same bytes each run"], table)


def print_kills(rows: list[dict[str, Any]]) -> None:
    """A row for each kill."""
    table = [
        [
            row["side"],
            "a file half written" if row["share"] is None else f"{row['share']:.2f}",
            f"{row['clips_after_kill']}/{row['clips_expected']}",
            len(row["broken_after_kill"]),
            ", ".join(f"{one['how']}: {one['code']}" for one in row["attempts"]),
            len(row["broken_in_the_end"]),
            row["clips_lost"],
            row["clips_doubled"],
            "yes" if not row["differ"] else f"no, {len(row['differ'])} files",
            f"{row['redone']:.0%}",
        ]
        for row in rows
    ]
    columns = ["side", "killed at", "whole clips then", "broken files then", "run again: exit code"]
    ends = ["broken in the end", "clips lost", "doubled", "bytes as undisturbed", "work redone"]
    print_table([*columns, *ends], table)


def main() -> None:
    """Run from the command line."""
    parse = parser(__doc__)
    parse.set_defaults(repeat=3)
    add_data_option(parse)
    parse.add_argument("--kinema4d", metavar="PYTHON")
    parse.add_argument("--lerobot", metavar="PYTHON")
    parse.add_argument("--sets", nargs="+", default=[source.name for source in SOURCES])
    parse.add_argument("--sides", nargs="+", metavar="NAME", help="only these (all)")
    parse.add_argument("--solved", action="store_true", help="ours with cameras solved too, once")
    parse.add_argument("--kills", type=int, default=3, help="of each side (3)")
    parse.add_argument("--writing", action="store_true", help="and once while a file is written")
    parse.add_argument("--seed", type=int, default=0, help="chooses the moments")
    parse.add_argument("--folder", type=Path, help="where outputs go meanwhile (temporary)")
    args = parse.parse_args()
    chosen = [source for source in SOURCES if source.name in args.sets]
    require_data(args.data, *(source.folder.split("/")[0] for source in chosen))
    print_header("Peers")
    for source in chosen:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            bench = Bench(source, args.data, Path(folder), args.json)
            made = sides(args.kinema4d, args.lerobot, Path(folder) / "cache")
            every = [
                side
                for side in made
                if side.only in ("", source.name) and (not args.sides or side.name in args.sides)
            ]
            runs: list[dict[str, Any]] = []
            for at in range(args.repeat):
                for side in every:
                    if not side.solves or (args.solved and at == 0):
                        bench.time(side, runs)
            print(f"### {source.name}, {source.episodes} episodes, median of {args.repeat}\n")
            print_runs(runs, source.episodes)
            trials: list[dict[str, Any]] = []
            moments = random.Random(args.seed)
            shares = [moments.uniform(_EARLIEST, _LATEST) for _ in range(args.kills)]
            for share in [None, *shares] if args.writing else shares:
                for side in every:
                    if side.killed:
                        bench.kill(side, share, trials)
            if trials:
                print(f"### {source.name}, killed\n")
                print_kills(trials)


if __name__ == "__main__":
    main()

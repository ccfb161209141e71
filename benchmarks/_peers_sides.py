"""The sides of `benchmarks.peers`: what is run, what counts as a clip, what it keeps."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import _peers_outputs

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """A data set that all sides read: where, the cameras that all convert, and the step rate."""

    name: str
    folder: str
    cameras: tuple[str, ...]
    episodes: int
    shard: int  # episodes of a shard where a small set is to have several
    fps: int = 5


# Bridge's image_3 is blank in every episode; our converter leaves it out.
SOURCES = (
    Source(
        "droid",
        "droid_rlds/droid/1.0.0",
        ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left"),
        episodes=6,
        shard=2,
    ),
    Source(
        "bridge",
        "bridge_rlds/bridge_dataset/1.0.0",
        ("image_0", "image_1", "image_2"),
        episodes=25,
        shard=5,
    ),
)


@dataclass(frozen=True)
class Side:
    """One way to convert.

    Attributes:
        command: of (source, its folder, output folder).
        first: arguments that leave all but the first episode out.
        clips: how often each (episode, camera) is whole in an output folder.
        resume: arguments that ask an interrupted run to go on, where the tool needs any.
        writing: whether a file that comes to stay is about to be half written in an output folder.
        killed: worth killing; else only timed.
        solves: solves cameras, which takes minutes: run once, and only if asked for.
        only: the one data set that it is for; empty: all.
    """

    name: str
    command: Callable[[Source, Path, Path], list[str]]
    first: Sequence[str]
    clips: Callable[[Path], Counter[str]]
    writing: Callable[[Path], bool]
    resume: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    killed: bool = True
    solves: bool = False
    only: str = ""


def sides(kinema4d: str | None, lerobot: str | None, cache: Path) -> list[Side]:
    """All sides whose Python is given."""
    env = {"ROBO4D_CACHE": str(cache)}
    never = ("camera.solve=never",)
    found = [
        Side(
            f"ours, {workers} worker{'s' * (workers > 1)}{', cameras solved' * solves}"
            f"{', one shard' * whole}",
            _ours(workers, () if solves else never, whole),
            ("--set", "source.max_episodes=1"),
            _peers_outputs.clips_of_ours,
            lambda out: any(path.stat().st_size for path in out.glob(".tmp/*.tar*")),
            env=env,
            killed=not solves and workers == 1,
            solves=solves,
        )
        for workers, solves, whole in (
            (1, False, True),
            (1, False, False),
            (2, False, False),
            (1, True, False),
            (2, True, False),
        )
    ]
    if kinema4d is not None:
        for resize in ((), ("--resize", "720", "480")):  # their default, made for DROID
            found.append(
                Side(
                    f"Kinema4D's flow, {'720x480' if resize else 'own size'}",
                    _kinema4d(kinema4d, resize),
                    ("--episodes", "1"),
                    _peers_outputs.clips_of_kinema4d,
                    lambda out: len(list(out.glob("*/mask_videos/*.mp4"))) > 1,
                    killed=not resize,
                    only="droid" if resize else "",
                )
            )
    if lerobot is not None:
        found.append(
            Side(
                "LeRobot 0.4.4",
                _lerobot(lerobot),
                ("--episodes", "1"),
                _peers_outputs.clips_of_lerobot,
                lambda out: any(out.glob("data/*/*.parquet")),
                resume=("--resume",),
            )
        )
    return found


def _ours(
    workers: int, settings: Sequence[str], whole: bool
) -> Callable[[Source, Path, Path], list[str]]:
    def command(source: Source, folder: Path, out: Path) -> list[str]:
        given = settings if whole else (*settings, f"shard.episodes={source.shard}")
        sets = [part for value in given for part in ("--set", value)]
        args = ["build", "-s", source.name, "-d", str(folder), "-o", str(out), "-w", str(workers)]
        return [sys.executable, "-m", "jobs.cli", *args, *sets]

    return command


def _kinema4d(python: str, more: Sequence[str]) -> Callable[[Source, Path, Path], list[str]]:
    def command(source: Source, folder: Path, out: Path) -> list[str]:
        script = str(_HERE / "_peers_kinema4d.py")
        return [python, script, str(folder), str(out), "--cameras", *source.cameras, *more]

    return command


def _lerobot(python: str) -> Callable[[Source, Path, Path], list[str]]:
    def command(source: Source, folder: Path, out: Path) -> list[str]:
        args = [str(folder), str(out), "--fps", str(source.fps), "--cameras", *source.cameras]
        return [python, str(_HERE / "_peers_lerobot.py"), *args]

    return command

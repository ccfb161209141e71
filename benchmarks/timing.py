"""How well the time offset between images and log is found, where it is known and on real data.

Episodes of the twins of DROID, Bridge and RT-1 are filmed twice a step, so that images can be late
by whole and half steps, with their cameras known and unknown. Beside it stands what one would
otherwise write: frame differences against joint speed, cross-correlated at whole steps. A third
part joins images to logs that are not theirs: whatever is called sure there is wrong. A half step
between two logged ones is where monotone cubic splines (PCHIP) through the joints put it.

    python -m benchmarks.timing --films out/timing-films --episodes 4
"""

from __future__ import annotations

import os

# Software OpenGL would start a thread a core; set before anything makes a context.
os.environ.setdefault("LP_NUM_THREADS", "1")

import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._common import add_data_option, parser, print_header, print_table, write_json
from converters import open_source
from reconstruction.motion import Motion, solve_motion
from reconstruction.timing import TimeOffset, estimate_offset
from robots.kinematics import ee_poses
from robots.models import get_robot
from schemas.config import SourceConfig, TimingConfig
from schemas.episode import Calibration, CameraStream, Episode, Origin, Provenance, RobotTrajectory
from simulation import bridge, droid, rt1

_TWINS: dict[str, Any] = {"droid": droid, "bridge": bridge, "rt1": rt1}
_LATE = (-2, -1, 0, 1, 2, 3, 4)  # half steps
_REACH = 4
_CONFIG = TimingConfig(max_offset_steps=_REACH)


@dataclass(frozen=True)
class DoubleFilm:
    """An episode of a twin with two pictures a step: frames[2 t] shows step t."""

    source: str
    robot: str
    rate: float
    joints: NDArray[np.floating]
    opening: NDArray[np.floating]
    cams: dict[str, tuple[tuple[bytes, ...], NDArray[np.floating], NDArray[np.floating]]]


def main() -> None:
    parse = parser(__doc__)
    add_data_option(parse)
    parse.add_argument("--films", type=Path, default=Path("out/timing-films"))
    parse.add_argument("--episodes", type=int, default=4, help="of each twin and seed (4)")
    parse.add_argument("--seeds", type=int, nargs="+", default=[3, 4])
    parse.add_argument("--only-filmed", action="store_true", help="film nothing new")
    args = parse.parse_args()
    report: dict[str, Any] = {"machine": print_header("Time offset between images and log")}
    films = list(_films(args))
    report["twins"] = _twins(films)
    real = {source: _read(source, args.data) for source in ("droid", "bridge")}
    report["wrong logs"] = _wrong_logs(films, real["droid"])
    for source, episodes in real.items():
        report[f"real {source}"] = _real(source, episodes, args.repeat)
    write_json(args.json, report)


def _films(args: Any) -> Iterator[DoubleFilm]:
    for source, twin in _TWINS.items():
        for seed in args.seeds:
            for index in range(args.episodes):
                path = args.films / f"{source}-{seed}-{index}.pkl"
                if not path.exists():
                    if args.only_filmed:
                        continue
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(pickle.dumps(_film(source, twin, seed, index)))
                yield DoubleFilm(**pickle.loads(path.read_bytes()))  # noqa: S301  written above


def _film(source: str, twin: Any, seed: int, index: int) -> dict[str, Any]:
    episode = twin.draw_episode(seed, index)
    halves = np.arange(2 * len(episode.script.joints) - 1) / 2
    films = twin.film_episode(replace(episode, script=episode.script.at(halves)))
    return {
        "source": source,
        "robot": twin.RIG.robot.name,
        "rate": twin.RIG.rate,
        "joints": episode.script.joints.astype(float),
        "opening": episode.script.opening,
        "cams": {name: (f.frames, f.K, f.base_from_camera) for name, f in films.items()},
    }


def _episode(film: DoubleFilm, late: int = 0, known: bool = False) -> Episode:
    """The episode with images ``late`` half steps behind its log."""
    count = len(film.joints)
    cameras = {}
    for name, (frames, K, pose) in film.cams.items():
        shown = np.clip(2 * np.arange(count) - late, 0, len(frames) - 1)
        fixed = np.ptp(pose, axis=0).max() < 1e-6
        calibration = Calibration(K, pose[0], Provenance.SIMULATED) if known and fixed else None
        cameras[name] = CameraStream(name, [frames[i] for i in shown], calibration)
    ee = ee_poses(get_robot(film.robot), film.joints)
    joints = film.joints if film.source == "droid" else None
    return Episode(
        id=f"{film.source}/film",
        source=film.source,
        split="train",
        outcome="unknown",
        instructions=(),
        fps=film.rate,
        time=np.arange(count) / film.rate,
        time_provenance=Provenance.SIMULATED,
        cameras=cameras,
        robot=RobotTrajectory(film.robot, film.opening, joints, ee),
        actions={},
        action_columns={},
        licence="",
        citation="",
        origin=Origin("", 0, ""),
        twin=True,
    )


def _baseline(episode: Episode, motion: Motion) -> float:
    """Steps: the peak of mean |frame difference| against joint speed, over cameras."""
    speed = np.linalg.norm(np.diff(motion.joints, axis=0), axis=1)
    reach = min(_REACH, (len(speed) - 6) // 2)
    score = np.zeros(2 * reach + 1)
    for camera in episode.cameras.values():
        frames = camera.decode(np.arange(len(episode)))
        grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
        change = np.abs(np.diff(grey.astype(np.float32), axis=0)).mean((1, 2))[reach:-reach]
        for k in range(2 * reach + 1):
            logged = speed[2 * reach - k : len(speed) - k]
            score[k] += np.nan_to_num(np.corrcoef(change, logged)[0, 1])
    return float(score.argmax() - reach)


def _twins(films: list[DoubleFilm]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, film in enumerate(films):
        robot = get_robot(film.robot)
        motion = solve_motion(_episode(film), robot)
        for late in _LATE:
            for way in ("camera unknown", "camera known", "baseline"):
                episode = _episode(film, late, known=way == "camera known")
                row = {"source": film.source, "film": number, "way": way, "late": late / 2}
                if way == "baseline":
                    found.append(row | {"steps": _baseline(episode, motion), "sure": True})
                    continue
                offset = estimate_offset(episode, robot, motion, _CONFIG)
                found.append(row | _in_steps(offset, film.rate))
    print("Twins, images late by -1 to 2 steps in halves; errors in steps, of what was estimated\n")
    rows = []
    for source in _TWINS:
        for way in ("camera unknown", "camera known", "baseline"):
            rows.append([source, way, *_figures([r for r in found if _is(r, source, way)])])
    columns = ("estimated", "bias", "MAE", "worst", "sure", "MAE of sure", "sure and > 1/2 off")
    print_table(("source", "way", "cases", *columns), rows)
    return found


def _is(row: dict[str, Any], source: str, way: str) -> bool:
    return row["source"] == source and row["way"] == way


def _in_steps(offset: TimeOffset, rate: float) -> dict[str, Any]:
    steps = None if offset.seconds is None else offset.seconds * rate
    return {"steps": steps, "sure": offset.sure, "reason": offset.reason}


def _figures(rows: list[dict[str, Any]]) -> list[Any]:
    known = [row for row in rows if row["steps"] is not None]
    error = np.array([row["steps"] - row["late"] for row in known])
    sure = np.array([row["sure"] for row in known], bool)
    if not known:
        return [len(rows), "0 %", "", "", "", "0 %", "", 0]
    return [
        len(rows),
        f"{len(known) / len(rows):.0%}",
        f"{error.mean():+.3f}",
        f"{np.abs(error).mean():.3f}",
        f"{np.abs(error).max():.2f}",
        f"{sure.sum() / len(rows):.0%}",
        f"{np.abs(error[sure]).mean():.3f}" if sure.any() else "",
        int((np.abs(error[sure]) > 0.5).sum()),
    ]


def _wrong_logs(films: list[DoubleFilm], real: list[Episode]) -> list[dict[str, Any]]:
    """Images with a log that is not theirs; twins of one source share a script, real ones none."""
    cases: list[tuple[str, Episode, Motion]] = []
    filmed = [_episode(film) for film in films]
    for kind, episodes in (("twin", filmed), ("real", real)):
        motions = [solve_motion(episode, get_robot(episode.robot.robot)) for episode in episodes]
        for episode, motion in zip(episodes, motions, strict=True):
            name = f"{kind} {episode.source}"
            cases.append(
                (f"{name}: own log backwards", episode, _rows(motion, slice(None, None, -1)))
            )
            for other, log in zip(episodes, motions, strict=True):
                if other is not episode and other.source == episode.source:
                    part = slice(0, min(len(episode), len(other)))
                    label = f"{name}: log of another"
                    cases.append((label, _cut(episode, part.stop), _rows(log, part)))
    found = [
        {"case": label}
        | _in_steps(estimate_offset(e, get_robot(e.robot.robot), motion, _CONFIG), e.fps)
        for label, e, motion in cases
    ]
    rows = []
    for label in sorted({row["case"] for row in found}):
        mine = [row for row in found if row["case"] == label]
        some = sum(row["steps"] is not None for row in mine)
        rows.append([label, len(mine), some, sum(row["sure"] for row in mine)])
    print("Wrong logs: nothing should be sure, but where twins move alike by script\n")
    print_table(("images with", "cases", "estimated", "sure"), rows)
    return found


def _rows(motion: Motion, part: slice) -> Motion:
    return replace(
        motion, joints=motion.joints[part], ee=motion.ee[part], gripper=motion.gripper[part]
    )


def _cut(episode: Episode, count: int) -> Episode:
    cameras = {
        name: replace(camera, frames=[camera.frames[i] for i in range(count)])
        for name, camera in episode.cameras.items()
    }
    log = RobotTrajectory(
        episode.robot.robot, episode.robot.gripper[:count], ee=np.eye(4)[None].repeat(count, 0)
    )
    return replace(
        episode,
        time=episode.time[:count],
        cameras=cameras,
        robot=log,
        actions={},
        action_columns={},
    )


def _read(source: str, data: Path) -> list[Episode]:
    folder = data / f"{source}_rlds"
    if not folder.is_dir():
        print(f"{folder} is not here: no real episodes of {source}\n")
        return []
    opened = open_source(source, str(folder), SourceConfig())
    return [
        opened.read(ref, split, None)
        for split, refs in opened.refs(None).items()
        for ref in refs
        if ref.defect is None
    ]


def _moved(episode: Episode, steps: int) -> Episode:
    """With images ``steps`` later than they are."""
    cameras = {}
    for name, camera in episode.cameras.items():
        shown = np.clip(np.arange(len(episode)) - steps, 0, len(episode) - 1)
        cameras[name] = replace(camera, frames=[camera.frames[i] for i in shown])
    return replace(episode, cameras=cameras)


def _real(source: str, episodes: list[Episode], repeat: int) -> list[dict[str, Any]]:
    """Estimates of real episodes, and whether they follow when the images are moved on purpose."""
    rows, found = [], []
    for episode in episodes:
        robot = get_robot(episode.robot.robot)
        motion = solve_motion(episode, robot)
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            offset = estimate_offset(episode, robot, motion, _CONFIG)
            seconds.append(time.perf_counter() - start)
        median = float(np.median(seconds))
        moves, plain = [], []
        for steps in (-2, -1, 1, 2) if offset.seconds is not None else ():
            moved = _moved(episode, steps)
            again = estimate_offset(moved, robot, motion, _CONFIG)
            if again.seconds is not None:
                moves.append((again.seconds - offset.seconds) * episode.fps - steps)
            plain.append(_baseline(moved, motion) - _baseline(episode, motion) - steps)
        each = " ".join(
            "edge" if camera.seconds is None else f"{camera.seconds:+.2f}+-{camera.sigma_s:.2f}"
            for camera in offset.cameras.values()
        )
        found.append({"id": episode.id, "wall_s": median, "moved": moves, **offset.describe()})
        rows.append(
            [
                episode.id[-24:],
                len(episode),
                "none" if offset.seconds is None else f"{offset.seconds:+.3f}",
                "" if offset.sigma_s is None else f"{offset.sigma_s:.3f}",
                str(offset.sure),
                each,
                f"{_baseline(episode, motion) / episode.fps:+.2f}",
                f"{max(map(abs, moves)):.2f} of {len(moves)}" if moves else "",
                f"{max(map(abs, plain)):.0f} of {len(plain)}" if plain else "",
                f"{1e3 * median:.0f}",
            ]
        )
    print(f"Real {source}, s. Moved: largest error, in steps, of the change when images are moved")
    print("by -2, -1, 1 and 2 steps; how many of the 4 gave an estimate\n")
    columns = ("by camera", "baseline", "moved", "baseline moved", "ms")
    print_table(("episode", "steps", "offset", "sigma", "sure", *columns), rows)
    for reason in sorted({row["reason"] for row in found if row["reason"]}):
        print(f"- {sum(row['reason'] == reason for row in found)} x {reason}")
    print()
    return found


if __name__ == "__main__":
    main()

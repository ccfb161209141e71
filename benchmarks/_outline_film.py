"""Strips across the outlines of filmed twins, with where the outline truly is.

    python -m benchmarks._outline_film --out FOLDER --seeds 100 1000 --workers 52

films a few frames of every view of `schedule`, as `_camera_film` does, and writes
SOURCE-SEED-VIEW.npz: the fields of `Strips`, and ``offset`` (N,) in pixels. What is there is kept.
Seeds from `REPORTED` on are for judging, those under `LEAST` for tuning by `benchmarks.camera`.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("LP_NUM_THREADS", "1")

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks._camera_clips import REPORTED
from benchmarks._camera_film import (
    _EXPOSURE,
    _MAX_LATENESS,
    _PUSHED,
    _STILL,
    TWINS,
    _exposed,
    _instants,
    _moved,
    _pushed,
    degrade,
)
from reconstruction.camera.contours import Lines, contour_lines
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.problem import CameraProblem, diverse_steps
from reconstruction.camera.strips import Strips, take_strips
from robo4d.geometry import invert, make_pose
from robots.models import RobotModel
from robots.rasterizer import RobotRasterizer
from simulation.film import body_pose, play_script
from simulation.layout import Camera
from simulation.scene import build_scene
from simulation.script import Script

Floats = NDArray[np.floating]
LEAST = 100
_FRAMES, _LINES = 10, 160
_FINER = 4  # times the size at which the truth is rendered
_OFF = 0.006  # rad and m by which the pose of the lines is off, one sigma at most
_SEEN = 3.0  # pixels off at most
_MARGIN = 3
_STEP = 0.1


@lru_cache(maxsize=1)
def _drawn(source: str, seed: int) -> Any:
    return TWINS[source].draw_episode(seed, seed % 6)


def views(source: str, seed: int) -> list[Camera]:
    """The scene's cameras that stand still."""
    return [c for c in _drawn(source, seed).layout.cameras.values() if not c.on_wrist]


def film_strips(source: str, seed: int, view: int) -> tuple[Strips, Floats]:
    """Strips, and by how many pixels the true outline lies further out."""
    twin, episode = TWINS[source], _drawn(source, seed)
    rng = np.random.default_rng([seed, 11, view])
    layout, robot, camera = episode.layout, twin.RIG.robot, views(source, seed)[view]
    layout = replace(layout, cameras={"camera": camera})
    script = episode.script
    if rng.uniform() < _PUSHED:
        script = _pushed(script, layout, twin.RIG.rate, rng)
    exposure = rng.uniform(*_EXPOSURE) * twin.RIG.rate
    count = len(script.joints)
    log = _problem(robot, layout.size, script, None)
    shown = diverse_steps(log, np.arange(count), _FRAMES) - rng.uniform(0, _MAX_LATENESS)
    model = build_scene(layout, robot)
    rgb = degrade(_exposed(model, layout, robot, script, shown, exposure), rng)
    # What does not move is filmed at the first instant alone.
    moving = _moved(layout, robot, script, shown, exposure) > _STILL
    then = script.at(np.where(moving, shown, shown + _instants(exposure)[0]))
    base = body_pose(play_script(model, script.at([0]), robot)[0], robot.base)
    pose = invert(base) @ camera.mount
    problem = _problem(robot, layout.size, then, rgb)
    every, size = np.arange(len(shown)), problem.working_size
    frames = FrameSet([problem], [every], RobotRasterizer(robot, *size))
    frames.set_late(0.0)
    K = np.diag([problem.scale, problem.scale, 1.0]) @ camera.K
    off = rng.uniform() * _OFF * rng.standard_normal((2, 3))
    guess = pose @ make_pose(Rotation.from_rotvec(off[0]).as_matrix(), off[1])
    depth, part = frames.rendered(every, K, guess)
    lines = contour_lines(depth, part, _LINES, rng, inner=True)
    finer = FrameSet([problem], [every], RobotRasterizer(robot, _FINER * size[0], _FINER * size[1]))
    finer.set_late(0.0)
    offset = true_offsets(lines, *finer.rendered(every, np.diag([_FINER, _FINER, 1.0]) @ K, pose))
    kept = np.abs(offset) < _SEEN
    lines = Lines(*(getattr(lines, name)[kept] for name in Lines.__dataclass_fields__))
    backdrop = frames.backdrop(K, guess, _MARGIN)
    strips = take_strips(frames.images, lines, depth, part, K[0, 0], guess, backdrop)
    return strips, offset[kept]


def _problem(
    robot: RobotModel, size: tuple[int, int], script: Script, rgb: NDArray[np.uint8] | None
) -> CameraProblem:
    def decode(steps: NDArray[np.integer]) -> NDArray[np.uint8]:
        assert rgb is not None, "of a log that chooses frames, which shows none"
        return rgb[steps]

    return CameraProblem(
        robot=robot,
        decode=decode,
        size=size,
        joints=script.joints.astype(float),
        fingers=script.opening,
        time=np.arange(len(script.joints), dtype=float),
    )


def true_offsets(lines: Lines, depth: NDArray[np.float32], part: NDArray[np.uint8]) -> Floats:
    """(N,) pixels along lines to the contour of a finer rendering; inf where there is none."""
    offsets = np.arange(-_SEEN - 1, _SEEN + 1 + _STEP, _STEP)
    where = _FINER * (lines.point[:, None] + offsets[:, None] * lines.normal[:, None]) - 0.5
    corner = np.floor(where)
    within = where - corner
    left, top = np.moveaxis(corner.astype(np.int64), -1, 0)
    height, width = part.shape[1:]
    frame, own = lines.frame[:, None], lines.depth[:, None]
    robot, link, near = (np.zeros(left.shape) for _ in range(3))
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (left + dx).clip(0, width - 1), (top + dy).clip(0, height - 1)
            weight = np.abs(1 - dx - within[..., 0]) * np.abs(1 - dy - within[..., 1])
            there = part[frame, y, x]
            robot += weight * (there > 0)
            link += weight * (there == lines.link[:, None] + 1)
            near += weight * ((there > 0) & (depth[frame, y, x] < own + 0.02))
    outer, by_link, by_depth = (_crossing(share, offsets) for share in (robot, link, near))
    # Surfaces bend away: another part's beginning tells better than depth where the part ends.
    with np.errstate(invalid="ignore"):
        inner = np.where(np.abs(by_link - by_depth) < 0.75, by_link, by_depth)
    return np.where(lines.inner, inner, outer)


def _crossing(share: Floats, offsets: Floats) -> Floats:
    before, after = share[:, :-1], share[:, 1:]
    part = (before - 0.5) / np.maximum(before - after, 1e-6)
    ends = (before >= 0.5) & (after < 0.5)
    place = np.where(ends, offsets[:-1] + part * (offsets[1] - offsets[0]), np.inf)
    return place[np.arange(len(place)), np.abs(place).argmin(1)]


def schedule(seed: int) -> list[tuple[str, int]]:
    """Sources and views to learn from: all of DROID's, and one of Bridge or, every fourth, RT-1."""
    other = "rt1" if seed % 4 == 1 else "bridge"
    chosen = (other, seed % len(views(other, seed)))
    return [*(("droid", view) for view in range(len(views("droid", seed)))), chosen]


def _film_seed(out: Path, seed: int) -> str:
    count = 0
    for source, view in schedule(seed):
        path = out / f"{source}-{seed}-{view}.npz"
        if not path.exists():
            strips, offset = film_strips(source, seed, view)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez(file, offset=offset, **vars(strips))
            part.rename(path)
            count += len(offset)
    return f"{seed}: {count} new strips"


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--out", type=Path, required=True)
    parse.add_argument("--seeds", type=int, nargs=2, default=(LEAST, REPORTED))
    parse.add_argument("--workers", type=int, default=1)
    args = parse.parse_args()
    if not LEAST <= args.seeds[0] <= args.seeds[1] <= REPORTED:
        raise SystemExit(f"seeds {args.seeds}: choose from {LEAST} to {REPORTED}")
    args.out.mkdir(parents=True, exist_ok=True)
    # Fresh processes: a fork would share the renderer's threads.
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for line in pool.map(partial(_film_seed, args.out), range(*args.seeds)):
            print(line, flush=True)


if __name__ == "__main__":
    main()

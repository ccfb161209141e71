"""Frames of the robot alone: MuJoCo's OpenGL against the rasteriser, the same ones in one run.

Random joints around each robot's rest posture, seen by cameras that look at its hand; one core.
Both are timed on whole batches, kinematics and the copying of images included. What differs is
counted in pixels whose part is another, as a share of the robot's.

    python -m benchmarks.rasterizer
"""

from __future__ import annotations

import os

# Software OpenGL would start a thread a core; set before anything makes a context.
os.environ.setdefault("LP_NUM_THREADS", "1")

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import (
    interleaved,
    one_core,
    parser,
    print_header,
    print_table,
    ratio_of_rounds,
    timed,
    write_json,
)
from robo4d.geometry import intrinsics, make_pose
from robots.kinematics import ee_poses
from robots.models import ROBOTS, RobotModel
from robots.rasterizer import RobotRasterizer
from robots.render import RobotRenderer
from robots.triangles import robot_triangles

Floats = NDArray[np.floating]
# m from the camera to the hand. The Google robot is as tall as a person.
_AWAY = {"google_robot": 1.5}
_FOCAL = 260.0  # pixels at a width of 320, about that of DROID's ZED 2


def views(robot: RobotModel, count: int, size: tuple[int, int]) -> tuple[Floats, ...]:
    """Joints, gripper, K and base_from_camera of ``count`` frames; always the same ones."""
    rng = np.random.default_rng(0)
    joints = np.asarray(robot.rest) + rng.normal(0, 0.4, (count, len(robot.rest)))
    joints = np.clip(joints, *robot.limits.T)
    hand = ee_poses(robot, joints)[:, :3, 3]
    way = rng.normal(size=(count, 3)) * [1, 1, 0.3]
    forward = -way / np.linalg.norm(way, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    turn = np.stack([right, np.cross(forward, right), forward], 2)
    focal = _FOCAL * size[1] / 320
    K = np.repeat(intrinsics(focal, focal, size[1] / 2, size[0] / 2)[None], count, 0)
    poses = make_pose(turn, hand - _AWAY.get(robot.name, 0.9) * forward)
    return joints, rng.uniform(size=count), K, poses


def measure(robot: RobotModel, count: int, size: tuple[int, int], repeat: int) -> dict[str, Any]:
    """One row: ms a frame of both, their ratio, and what differs."""
    frames = views(robot, count, size)
    robot_triangles.cache_clear()
    began = time.perf_counter()
    drawer = RobotRasterizer(robot, *size)
    made = time.perf_counter() - began
    with RobotRenderer(robot, *size) as render:
        part, true = drawer(*frames)[1], render(*frames)[1]
        seconds = interleaved(
            {
                "opengl": timed(lambda: render(*frames)),
                "rasteriser": timed(lambda: drawer(*frames)),
            },
            repeat,
        )
    return {
        "robot": robot.name,
        "triangles": len(drawer.link),
        "made, s": made,
        "OpenGL, ms a frame": 1e3 * statistics.median(seconds["opengl"]) / count,
        "rasteriser, ms a frame": 1e3 * statistics.median(seconds["rasteriser"]) / count,
        "times as fast": ratio_of_rounds(seconds["opengl"], seconds["rasteriser"]),
        "pixels that differ, %": 100 * float((part != true).sum() / (true > 0).sum()),
    }


def main() -> None:
    """Measure and print."""
    parse = parser(__doc__)
    parse.add_argument("--frames", type=int, default=8, help="a batch (8)")
    parse.add_argument("--size", type=int, nargs=2, default=(180, 320), metavar=("H", "W"))
    options = parse.parse_args()
    facts = print_header("Drawing the robot alone")
    print(f"{one_core()}; {options.frames} frames a batch, {options.size[1]}x{options.size[0]}\n")
    report = [
        measure(robot, options.frames, tuple(options.size), options.repeat)
        for robot in ROBOTS.values()
    ]
    print_table(list(report[0]), [list(row.values()) for row in report])
    write_json(options.json, {"machine": facts, "rows": report})


if __name__ == "__main__":
    main()

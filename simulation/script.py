"""What the robot does in a scene: reach, grasp and place, by kinematics alone.

There is no contact physics. A thing that is held follows the gripper rigidly from the moment the
pads have closed to its width until they open or lose it; one that is lost falls freely and stops
on the table. So joints, gripper and every pose are exact, and motion is as smooth as its script.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import invert, make_pose
from robots.kinematics import ee_poses, solve_joints
from robots.models import ROBOTS, RobotModel
from simulation.layout import PLATE_THICKNESS, Layout, Thing, rotation_z

Floats = NDArray[np.floating]
Plan = Literal["place", "miss", "drop"]

RATE = 15.0
GRAVITY = 9.81
# A thing counts as placed when its centre is this near the plate's (m, level).
PLACED_WITHIN = 0.03
_APPROACH = 0.11  # m above a grasp
_FINGER_BELOW_PAD = 0.02  # m that the fingertips reach below the pads' middle


@dataclass(frozen=True)
class Script:
    """One episode's motion, a step each 1/15 s.

    Attributes:
        joints: (T, 7) float32 rad, as the log will hold them.
        closed: (T,) float32, the log's gripper position: 0 open, 1 closed.
        things: (T, N, 4, 4) world_from_thing.
        held: (T,) bool: the first thing is in the gripper.
        success: it stands on the plate at the end, and nothing holds it.
    """

    joints: NDArray[np.float32]
    closed: NDArray[np.float32]
    things: Floats
    held: NDArray[np.bool_]
    success: bool

    @property
    def opening(self) -> Floats:
        """(T,) what a reader of the log makes of ``closed``."""
        return 1 - self.closed.astype(np.float64)


@dataclass(frozen=True)
class _Waypoint:
    """Where the flange and the fingers are ``steps`` after the waypoint before.

    ``place`` is x, y, z in m, yaw and pitch in rad of the tool, which points down at zero.
    """

    place: Floats
    opening: float
    steps: int


def write_script(layout: Layout, plan: Plan, rng: np.random.Generator) -> Script | None:
    """The motion for ``plan``, or None where the arm cannot follow it smoothly in this scene."""
    robot = ROBOTS["panda_robotiq"]
    target = layout.things[0]
    opening = _opening_for(robot, 2 * target.half[1])
    waypoints = _waypoints(layout, plan, opening, rng)
    path, openings, starts = _interpolate(waypoints)
    ee = _tool_poses(path)
    solution = solve_joints(robot, ee, np.arange(len(ee)) / RATE)
    if solution.flagged.any():
        return None
    joints = solution.joints.astype(np.float32)
    closed = (1 - openings).astype(np.float32)
    reached = ee_poses(robot, joints)
    grasped, released = starts[3], starts[7]
    if plan == "miss":
        grasped = released = 0
    elif plan == "drop":  # on its way from above the grasp to above the plate
        released = starts[4] + max(2, round(0.35 * (starts[5] - starts[4])))
        # With nothing between them the fingers close on.
        closed[released + 1] = (closed[released] + 1) / 2
        closed[released + 2 : starts[7] + 1] = 1.0
        tail = closed[starts[7] + 1 : starts[8] + 1]
        tail[:] = np.linspace(1, 1 - waypoints[-1].opening, len(tail) + 1)[1:]
    track = _carry(target, reached, grasped, released, layout)
    things = np.stack(
        [track, *(np.repeat(t.world_from_thing[None], len(ee), 0) for t in layout.things[1:])], 1
    )
    steps = np.arange(len(ee))
    gap = np.linalg.norm(track[-1, :2, 3] - layout.plate[:2])
    on_plate = track[-1, 2, 3] > layout.table + target.half[2] + 0.5 * PLATE_THICKNESS
    return Script(
        joints=joints,
        closed=closed,
        things=things,
        held=(steps >= grasped) & (steps < released),
        success=bool(gap < PLACED_WITHIN and on_plate),
    )


def _waypoints(
    layout: Layout, plan: Plan, opening: float, rng: np.random.Generator
) -> list[_Waypoint]:
    robot = ROBOTS["panda_robotiq"]
    target = layout.things[0]
    start = target.world_from_thing
    yaw = float(np.arctan2(start[1, 0], start[0, 0]))
    # Tipping about the fingers' own axis keeps both pads flat on the thing.
    pitch = rng.uniform(-0.15, 0.15)
    goal_yaw = rng.uniform(-0.6, 0.6)
    # Pads at the middle of the thing, or near the top of a tall one; never into the table.
    grip = max(target.half[2], 2 * target.half[2] - 0.03, _FINGER_BELOW_PAD + 0.006)
    reach = _pad_reach(robot, opening)
    pick = _flange_above([*start[:2, 3], layout.table + grip], yaw, pitch, reach)
    put = _flange_above(layout.plate + [0, 0, grip + 0.001], goal_yaw, pitch, reach)
    if plan == "miss":  # beside the thing, along it, so that the fingers close on air
        side = float(rng.choice([-1.0, 1.0])) * (target.half[0] + rng.uniform(0.02, 0.035))
        pick[:2] += side * start[:2, 0]
        opening = 0.0
    up = np.array([0, 0, _APPROACH, 0, 0])
    high = np.array([0, 0, rng.uniform(0.03, 0.08), 0, 0])
    home = _home(robot, rng)
    beat = [int(n) for n in rng.integers([11, 6, 4, 5, 12, 5, 4, 8], [14, 9, 6, 8, 15, 8, 6, 11])]
    away = put + up + np.array([*rng.uniform(-0.06, 0.02, 2), 0.05, 0, 0])
    return [
        _Waypoint(home, 1.0, 2),
        _Waypoint(pick + up, 1.0, beat[0]),
        _Waypoint(pick, 1.0, beat[1]),
        _Waypoint(pick, opening, beat[2]),
        _Waypoint(pick + up + high, opening, beat[3]),
        _Waypoint(put + up, opening, beat[4]),
        _Waypoint(put, opening, beat[5]),
        _Waypoint(put, opening, 1),
        _Waypoint(put, 1.0, beat[6]),
        _Waypoint(away, 1.0, beat[7]),
    ]


def _home(robot: RobotModel, rng: np.random.Generator) -> Floats:
    pose = ee_poses(robot, np.asarray(robot.rest)[None])[0]
    place = np.array([*pose[:3, 3], 0.0, 0.0])
    return place + rng.uniform([-0.04, -0.12, -0.03, -0.3, -0.3], [0.08, 0.12, 0.08, 0.3, 0.1])


def _flange_above(point: ArrayLike, yaw: float, pitch: float, reach: float) -> Floats:
    """The tool place that puts the pads' middle, ``reach`` m beyond the flange, at ``point``."""
    rotation = _tool_poses(np.array([[0, 0, 0, yaw, pitch]]))[0, :3, :3]
    return np.array([*(np.asarray(point) - reach * rotation[:, 2]), yaw, pitch])


def _tool_poses(places: Floats) -> Floats:
    """base_from_ee (T, 4, 4) of places (T, 5): Rz(yaw) Ry(pitch) Rx(pi)."""
    down = np.diag([1.0, -1.0, -1.0])
    poses = []
    for x, y, z, yaw, pitch in places:
        c, s = np.cos(pitch), np.sin(pitch)
        tip = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        poses.append(make_pose(rotation_z(yaw) @ tip @ down, [x, y, z]))
    return np.stack(poses)


def _interpolate(waypoints: list[_Waypoint]) -> tuple[Floats, Floats, list[int]]:
    """Places (T, 5), openings (T,), and the step at which each waypoint is reached.

    Minimum jerk between waypoints (Flash and Hogan 1985): 10 s^3 - 15 s^4 + 6 s^5.
    """
    places, openings, reached = [waypoints[0].place], [waypoints[0].opening], [0]
    for before, after in zip(waypoints[:1] + waypoints[:-1], waypoints, strict=True):
        s = np.arange(1, after.steps + 1) / after.steps
        blend = 10 * s**3 - 15 * s**4 + 6 * s**5
        places.extend(before.place + b * (after.place - before.place) for b in blend)
        openings.extend(before.opening + b * (after.opening - before.opening) for b in blend)
        reached.append(len(places) - 1)
    return np.array(places), np.array(openings), reached[1:]


def _carry(target: Thing, ee: Floats, grasped: int, released: int, layout: Layout) -> Floats:
    """world_from_thing (T, 4, 4): at rest, held, falling, at rest."""
    track = np.repeat(target.world_from_thing[None], len(ee), 0)
    if released <= grasped:
        return track
    ee_from_thing = invert(ee[grasped]) @ target.world_from_thing
    track[grasped : released + 1] = ee[grasped : released + 1] @ ee_from_thing
    track[released:] = track[released]
    height = track[released, 2, 3]
    over_plate = np.linalg.norm(track[released, :2, 3] - layout.plate[:2]) < PLACED_WITHIN
    floor = (layout.plate[2] if over_plate else layout.table) + target.half[2]
    elapsed = np.arange(len(ee) - released) / RATE
    track[released:, 2, 3] = np.maximum(floor, height - GRAVITY * elapsed**2 / 2)
    return track


@lru_cache(maxsize=1)
def _pads(robot_name: str) -> tuple[Floats, Floats, Floats]:
    """Openings (K,), the gap between the pads (K,) m and their reach beyond the flange (K,) m."""
    robot = ROBOTS[robot_name]
    model = robot.compile()
    data = mujoco.MjData(model)
    openings = np.linspace(0, 1, 41)
    gaps, reaches = [], []
    for qpos in robot.qpos(np.repeat([robot.rest], 41, 0), openings):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        body = data.body(robot.ee_body)
        ee = make_pose(body.xmat.reshape(3, 3), body.xpos) @ robot.body_from_ee
        ends = []
        for side in ("left", "right"):
            pad = data.geom(f"{side}_fingerpad_collision")
            turn = ee[:3, :3].T @ pad.xmat.reshape(3, 3)
            middle = ee[:3, :3].T @ (pad.xpos - ee[:3, 3])
            half = np.abs(turn) @ model.geom(f"{side}_fingerpad_collision").size
            ends.append((abs(middle[1]) - half[1], middle[2]))
        gaps.append(ends[0][0] + ends[1][0])
        reaches.append((ends[0][1] + ends[1][1]) / 2)
    return openings, np.array(gaps), np.array(reaches)


def _opening_for(robot: RobotModel, width: float) -> float:
    """The opening 0..1 at which the pads are ``width`` m apart."""
    openings, gaps, _ = _pads(robot.name)
    return float(np.interp(width, gaps, openings))


def _pad_reach(robot: RobotModel, opening: float) -> float:
    openings, _, reaches = _pads(robot.name)
    return float(np.interp(opening, openings, reaches))

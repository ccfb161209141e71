"""What the robot does in a scene: reach, grasp and place, by kinematics alone.

There is no contact physics. A thing that is held follows the gripper rigidly from the moment the
pads have closed to its width until they open or lose it; one that is lost falls freely and stops
on the table. So joints, gripper and every pose are exact, and motion is as smooth as its script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from robo4d.geometry import invert, make_pose
from robots.kinematics import ee_poses, solve_joints
from simulation.layout import PLATE_THICKNESS, Layout, Thing, rotation_z
from simulation.rig import Rig

Floats = NDArray[np.floating]
Plan = Literal["place", "miss", "drop"]

GRAVITY = 9.81
# A thing counts as placed when its centre is this near the plate's (m, level).
PLACED_WITHIN = 0.03


@dataclass(frozen=True)
class Script:
    """One episode's motion, a step at the rig's rate.

    Attributes:
        joints: (T, J) float32 rad, as the log will hold them.
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

    @property
    def commanded(self) -> Floats:
        """(T,) what the gripper was last told to be: 0 open, 1 closed, whatever stops it."""
        change = np.sign(np.diff(self.closed.astype(np.float64), prepend=self.closed[0]))
        told = np.maximum.accumulate(np.where(change != 0, np.arange(len(change)), 0))
        return (change[told] > 0).astype(np.float64)

    def at(self, steps: ArrayLike) -> Script:
        """The same motion at steps (n,) that may lie between its own; held at its ends.

        Monotone cubic splines (PCHIP) through joints and gripper, straight lines of things.
        """
        count = len(self.joints)
        steps = np.clip(np.asarray(steps, float), 0, count - 1)
        below, above = np.floor(steps).astype(int), np.ceil(steps).astype(int)
        share = (steps - below)[:, None, None, None]
        things = (1 - share) * self.things[below] + share * self.things[above]
        # The nearest rotation to a mean of two.
        left, _, right = np.linalg.svd(things[..., :3, :3])
        things[..., :3, :3] = left @ right
        joints, closed = (
            PchipInterpolator(np.arange(count), values.astype(float))(steps).astype(np.float32)
            for values in (self.joints, self.closed)
        )
        return replace(self, joints=joints, closed=closed, things=things, held=self.held[below])


@dataclass(frozen=True)
class _Waypoint:
    """Where the tool and the fingers are ``steps`` after the waypoint before.

    ``place`` is x, y, z in m, yaw and pitch in rad of the tool, which points down at zero.
    """

    place: Floats
    opening: float
    steps: int


def draw_plan(seed: int, index: int) -> Plan:
    """What episode ``index`` is to show: every third fails, by a miss and a drop in turn."""
    if index % 3 != 1:
        return "place"
    return "miss" if (index // 3 + seed) % 2 else "drop"


def name_thing(thing: Thing) -> str:
    """As instructions call it: "red block"."""
    shape = {"box": "block", "sphere": "ball"}
    return f"{thing.colour} {shape.get(thing.shape, thing.shape)}"


def write_script(layout: Layout, plan: Plan, rng: np.random.Generator, rig: Rig) -> Script | None:
    """The motion for ``plan``, or None where the arm cannot follow it smoothly in this scene."""
    target = layout.things[0]
    opening = rig.opening_for(2 * target.half[1])
    waypoints = _waypoints(layout, plan, opening, rng, rig)
    path, openings, starts = _interpolate(waypoints)
    ee = _tool_poses(path) @ rig.tool_from_ee
    solution = solve_joints(rig.robot, ee, np.arange(len(ee)) / rig.rate)
    if solution.flagged.any():
        return None
    joints = solution.joints.astype(np.float32)
    closed = (1 - openings).astype(np.float32)
    reached = ee_poses(rig.robot, joints)
    grasped, released = starts[3], starts[7]
    if plan == "miss":
        grasped = released = 0
    elif plan == "drop":  # on its way from above the grasp to above the plate
        released = starts[4] + max(2, round(0.35 * (starts[5] - starts[4])))
        # With nothing between them the fingers close on.
        shut = 1 - rig.shut
        closed[released + 1] = (closed[released] + shut) / 2
        closed[released + 2 : starts[7] + 1] = shut
        tail = closed[starts[7] + 1 : starts[8] + 1]
        tail[:] = np.linspace(shut, 1 - waypoints[-1].opening, len(tail) + 1)[1:]
    track = _carry(target, reached, grasped, released, layout, rig.rate)
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
    layout: Layout, plan: Plan, opening: float, rng: np.random.Generator, rig: Rig
) -> list[_Waypoint]:
    target = layout.things[0]
    start = target.world_from_thing
    yaw = float(np.arctan2(start[1, 0], start[0, 0]))
    # Tipping about the fingers' own axis keeps both pads flat on the thing.
    pitch = rng.uniform(*rig.pitch)
    goal_yaw = rng.uniform(-0.6, 0.6)
    # Pads at the middle of the thing, or near the top of a tall one; never into the table.
    grip = max(target.half[2], 2 * target.half[2] - 0.03, rig.below_pad + 0.006)
    reach = rig.pad_reach(opening)
    pick = _tool_above([*start[:2, 3], layout.table + grip], yaw, pitch, reach)
    put = _tool_above(layout.plate + [0, 0, grip + 0.001], goal_yaw, pitch, reach)
    if plan == "miss":  # beside the thing, along it, so that the fingers close on air
        side = float(rng.choice([-1.0, 1.0])) * (target.half[0] + rng.uniform(0.02, 0.035))
        pick[:2] += side * start[:2, 0]
        opening = rig.shut
    up = np.array([0, 0, rig.approach, 0, 0])
    high = np.array([0, 0, rng.uniform(*rig.lift), 0, 0])
    home = _home(rig, rng)
    beat = [int(n) for n in rng.integers(*rig.beats)]
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


def _home(rig: Rig, rng: np.random.Generator) -> Floats:
    ee = ee_poses(rig.robot, np.asarray(rig.robot.rest)[None])[0]
    tool = ee @ invert(rig.tool_from_ee)
    return np.array([*tool[:3, 3], 0.0, 0.0]) + rng.uniform(*rig.home)


def _tool_above(point: ArrayLike, yaw: float, pitch: float, reach: float) -> Floats:
    """The tool place that puts the pads' middle, ``reach`` m along it, at ``point``."""
    rotation = _tool_poses(np.array([[0, 0, 0, yaw, pitch]]))[0, :3, :3]
    return np.array([*(np.asarray(point) - reach * rotation[:, 2]), yaw, pitch])


def _tool_poses(places: Floats) -> Floats:
    """base_from_tool (T, 4, 4) of places (T, 5): Rz(yaw) Ry(pitch) Rx(pi)."""
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


def _carry(
    target: Thing, ee: Floats, grasped: int, released: int, layout: Layout, rate: float
) -> Floats:
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
    elapsed = np.arange(len(ee) - released) / rate
    track[released:, 2, 3] = np.maximum(floor, height - GRAVITY * elapsed**2 / 2)
    return track

"""What a script must know of one robot: its tool and fingers, how it moves, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import invert, make_pose
from robots.models import ROBOTS, RobotModel

Floats = NDArray[np.floating]
_OPENINGS = 41


@dataclass(frozen=True, eq=False)  # hashed by identity, so that it can key a cache
class Rig:
    """One robot as scripts use it.

    The frame ``tool`` is fixed to the hand: z along the fingers, y across them, and x so that the
    tool at yaw 0 points down with its x away from the robot.

    Attributes:
        robot_name: key in `robots.models.ROBOTS`.
        rate: steps a second.
        body_from_tool: (4, 4), in the robot's ``ee_body``.
        fingers: left and right: geoms that are boxes, else bodies whose visual meshes count.
        below_pad: m that the fingertips reach below where they hold a thing.
        approach: m above a grasp from which it is entered.
        lift: (low, high) m higher than that after the grasp.
        pitch: (low, high) rad of a grasp, about the fingers' own axis.
        home: (low, high) of x, y, z, yaw, pitch about the rest posture, where it begins.
        beats: (low, high) steps of the motion's eight parts; high is not reached.
    """

    robot_name: str
    rate: float
    body_from_tool: Floats
    fingers: tuple[str, str]
    below_pad: float
    approach: float
    lift: tuple[float, float]
    pitch: tuple[float, float]
    home: tuple[tuple[float, ...], tuple[float, ...]]
    beats: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def robot(self) -> RobotModel:
        """The robot's description."""
        return ROBOTS[self.robot_name]

    @property
    def tool_from_ee(self) -> Floats:
        """(4, 4), whatever frame of the hand the robot's description calls ee."""
        return invert(self.body_from_tool) @ self.robot.body_from_ee

    def opening_for(self, width: float) -> float:
        """The opening 0..1 at which the pads are ``width`` m apart."""
        openings, gaps, _ = _pads(self)
        return float(np.interp(width, gaps, openings))

    def pad_reach(self, opening: float) -> float:
        """How far along the tool's z the pads' middle lies, in m."""
        openings, _, reaches = _pads(self)
        return float(np.interp(opening, openings, reaches))

    @property
    def shut(self) -> float:
        """The opening at which the fingers meet with nothing between them."""
        return self.opening_for(0.0)


@lru_cache(maxsize=8)
def _pads(rig: Rig) -> tuple[Floats, Floats, Floats]:
    """Openings (K,), the gap between the pads (K,) m and their reach along the tool's z (K,) m."""
    robot = rig.robot
    model = robot.compile()
    data = mujoco.MjData(model)
    openings = np.linspace(0, 1, _OPENINGS)
    gaps, reaches = [], []
    boxes = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, rig.fingers[0]) >= 0
    measure = _box_pad if boxes else _mesh_pad
    for qpos in robot.qpos(np.repeat([robot.rest], _OPENINGS, 0), openings):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        body = data.body(robot.ee_body)
        tool = make_pose(body.xmat.reshape(3, 3), body.xpos) @ rig.body_from_tool
        ends = [measure(rig, model, data, tool, finger) for finger in rig.fingers]
        gaps.append(ends[0][0] + ends[1][0])
        reaches.append((ends[0][1] + ends[1][1]) / 2)
    return openings, np.array(gaps), np.array(reaches)


def _box_pad(
    rig: Rig, model: mujoco.MjModel, data: mujoco.MjData, tool: Floats, finger: str
) -> tuple[float, float]:
    """Distance of the pad's face from the tool's middle plane, and its reach, in m."""
    pad = data.geom(finger)
    turn = tool[:3, :3].T @ pad.xmat.reshape(3, 3)
    middle = tool[:3, :3].T @ (pad.xpos - tool[:3, 3])
    half = np.abs(turn) @ model.geom(finger).size
    return abs(middle[1]) - half[1], middle[2]


def _mesh_pad(
    rig: Rig, model: mujoco.MjModel, data: mujoco.MjData, tool: Floats, finger: str
) -> tuple[float, float]:
    """Likewise, of the last stretch of a finger's visual mesh; less than 0 where fingers cross."""
    body = model.body(finger).id
    points = []
    for geom in np.flatnonzero(model.geom_bodyid == body):
        if model.geom_group[geom] != rig.robot.visual_group:
            continue
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
        world = vertices @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        points.append((world - tool[:3, 3]) @ tool[:3, :3])
    cloud = np.concatenate(points)
    tip = cloud[:, 2].max()
    side = np.sign(cloud[:, 1].mean())
    inner = (cloud[cloud[:, 2] > tip - 2 * rig.below_pad, 1] * side).min()
    return float(inner), float(tip - rig.below_pad)

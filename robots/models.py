"""The robots of the four sources: where each description comes from and what its parts mean."""

from __future__ import annotations

import importlib.util
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import check_array
from schemas.reasons import UsageError, did_you_mean

Floats = NDArray[np.floating]


class RobotAssetsError(UsageError):
    """A robot's description is not on this machine; the message says how to get it."""


@dataclass(frozen=True)
class RobotModel:
    """One robot: its description and the meaning of its parts.

    Attributes:
        name: key in `ROBOTS`.
        build: makes a fresh `mujoco.MjSpec` of the robot alone, base at the origin.
        base: body that is the frame ``base``.
        joint_names: the arm's joints in the order of ``Episode.robot.joints``.
        gripper: joint -> its value (rad or m) when (closed, open); linear in between.
        ee_body, body_from_ee: the frame ``ee``: a fixed offset (4, 4) from a body.
        rest: (J,) rad, a usual working posture; where inverse kinematics starts.
        visual_group: geom group that holds the visual meshes.
    """

    name: str
    build: Callable[[], mujoco.MjSpec]
    base: str
    joint_names: tuple[str, ...]
    gripper: Mapping[str, tuple[float, float]]
    ee_body: str
    body_from_ee: Floats
    rest: tuple[float, ...]
    visual_group: int
    source: str = field(default="", compare=False)

    def __reduce__(self) -> tuple[object, ...]:
        return get_robot, (self.name,)

    def compile(self) -> mujoco.MjModel:
        """The compiled model, made once a process.

        Raises:
            RobotAssetsError: the description's files are not here.
        """
        return _compiled(self.name)

    @property
    def link_names(self) -> tuple[str, ...]:
        """Bodies in the model's order; ``robot_part`` is the index into these, plus 1."""
        model = self.compile()
        return tuple(model.body(i).name for i in range(1, model.nbody))

    @property
    def limits(self) -> Floats:
        """(J, 2) lower and upper joint limits in rad."""
        model = self.compile()
        return np.array([model.joint(name).range for name in self.joint_names])

    def qpos(self, joints: ArrayLike, gripper: ArrayLike) -> Floats:
        """MuJoCo positions (T, nq) from joints (T, J) rad and gripper opening (T,) 0..1.

        Args:
            gripper: (T, F) gives each joint of ``self.gripper``, in its order, its own opening.
        """
        joints = check_array("joints", np.asarray(joints, float), ["T", len(self.joint_names)])
        opening = np.asarray(gripper, float)
        if opening.ndim == 1:
            opening = np.repeat(opening[:, None], len(self.gripper), axis=1)
        opening = check_array("gripper", opening, [len(joints), len(self.gripper)])
        model = self.compile()
        q = np.zeros((len(joints), model.nq))
        for name, column in zip(self.joint_names, joints.T, strict=True):
            q[:, model.joint(name).qposadr[0]] = column
        for (name, (closed, opened)), share in zip(self.gripper.items(), opening.T, strict=True):
            q[:, model.joint(name).qposadr[0]] = closed + (opened - closed) * share
        return q


def get_robot(name: str) -> RobotModel:
    """The robot called ``name``.

    Raises:
        UsageError: no such robot, with the nearest name.
    """
    if name not in ROBOTS:
        raise UsageError(did_you_mean("robot", name, ROBOTS))
    return ROBOTS[name]


@lru_cache(maxsize=8)
def _compiled(name: str) -> mujoco.MjModel:
    return ROBOTS[name].build().compile()


def _robosuite_assets() -> Path:
    # Found, not imported: importing robosuite pulls in numba, pynput and a renderer of its own.
    spec = importlib.util.find_spec("robosuite")
    if spec is None or not spec.submodule_search_locations:
        raise RobotAssetsError(
            "the Panda's description comes from robosuite's assets, and robosuite is not "
            "installed: run `make setup` or `pip install --no-deps robosuite==1.5.1`"
        )
    return Path(spec.submodule_search_locations[0]) / "models" / "assets"


def _menagerie_file(robot: str, entry: str) -> Path:
    import mujoco_menagerie

    try:
        return Path(mujoco_menagerie.get(robot).xml(entry))
    except (mujoco_menagerie.MenagerieError, OSError) as error:
        raise RobotAssetsError(
            f"the description of {robot} comes from mujoco-menagerie and is not here ({error}); "
            "set MENAGERIE_ROOT to a folder that holds it, or let it download"
        ) from error


def _rotation_z(angle: float) -> list[float]:
    return [math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]


# Franka's flange (panda_link8) lies 0.107 m beyond link7 without a turn: frankaemika/franka_ros,
# panda_arm.xacro. robosuite's right_hand stands 0.5 mm short of it, so it is not used.
_FLANGE = 0.107


def _panda(gripper_xml: str, gripper_body: str, turn: float) -> mujoco.MjSpec:
    assets = _robosuite_assets()
    arm = mujoco.MjSpec.from_file(str(assets / "robots" / "panda" / "robot.xml"))
    hand = _gripper_spec(assets / "grippers" / gripper_xml)
    arm.delete(arm.body("right_hand"))  # robosuite's own mount
    flange = arm.body("link7").add_frame(pos=[0, 0, _FLANGE], quat=_rotation_z(turn))
    flange.attach_body(hand.body(gripper_body), "", "")
    arm.delete(arm.camera("robotview"))
    return arm


def _panda_of_robosuite() -> mujoco.MjSpec:
    """Arm and hand as robosuite itself mounts them, which is what LIBERO simulates."""
    assets = _robosuite_assets()
    arm = mujoco.MjSpec.from_file(str(assets / "robots" / "panda" / "robot.xml"))
    hand = _gripper_spec(assets / "grippers" / "panda_gripper.xml")
    mount = arm.body("right_hand").add_frame()
    mount.attach_body(hand.body("right_gripper"), "", "")
    arm.delete(arm.camera("robotview"))
    return arm


def _gripper_spec(path: Path) -> mujoco.MjSpec:
    """Robosuite's gripper files, made to compile alone.

    They name mesh files relative to themselves, and robotiq_gripper_85 names one mesh twice: the
    second file is not in the package, so the first counts.
    """
    root = ElementTree.parse(path).getroot()
    seen: set[str] = set()
    for asset in root.iter("asset"):
        for mesh in list(asset.iter("mesh")):
            mesh.set("file", str(path.parent / mesh.get("file", "")))
            if mesh.get("name", "") in seen:
                asset.remove(mesh)
            seen.add(mesh.get("name", ""))
    return mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))


def _offset(x: float = 0.0, z: float = 0.0) -> Floats:
    pose = np.eye(4)
    pose[0, 3], pose[2, 3] = x, z
    return pose


_PANDA_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
# The posture that DROID and robosuite both begin from.
_PANDA_REST = (0.0, -math.pi / 5, 0.0, -4 * math.pi / 5, 0.0, 3 * math.pi / 5, 0.0)
# All six hinges of the Robotiq move with the driver; inner fingers turn back by the same angle,
# so the pads stay parallel (ros-industrial/robotiq, mimic joints). 0.8 rad is closed.
_ROBOTIQ_CLOSED = 0.8
_ROBOTIQ = {
    "finger_joint": (_ROBOTIQ_CLOSED, 0.0),
    "right_outer_knuckle_joint": (_ROBOTIQ_CLOSED, 0.0),
    "left_inner_knuckle_joint": (_ROBOTIQ_CLOSED, 0.0),
    "right_inner_knuckle_joint": (_ROBOTIQ_CLOSED, 0.0),
    "left_inner_finger_joint": (-_ROBOTIQ_CLOSED, 0.0),
    "right_inner_finger_joint": (-_ROBOTIQ_CLOSED, 0.0),
}

ROBOTS: dict[str, RobotModel] = {
    model.name: model
    for model in (
        RobotModel(
            name="panda_robotiq",
            # Fingers along the flange's y: in real DROID wrist views the table's edge lies level at
            # yaw 0 and turns with yaw, so DROID's mount has no turn (Franka's own hand has -45).
            build=lambda: _panda("robotiq_gripper_85.xml", "robotiq_85_adapter_link", 0.0),
            base="link0",
            joint_names=_PANDA_JOINTS,
            gripper=_ROBOTIQ,
            ee_body="link7",
            body_from_ee=_offset(z=_FLANGE),
            rest=_PANDA_REST,
            visual_group=1,
            source="robosuite 1.5.1 assets",
        ),
        RobotModel(
            name="panda_hand",
            # franka_ros hand.xacro: the hand is turned by -45 degrees about the flange.
            # panda_gripper.xml turns the hand by -90 and its meshes and fingers back by +90.
            build=lambda: _panda("panda_gripper.xml", "right_gripper", -math.pi / 4),
            base="link0",
            joint_names=_PANDA_JOINTS,
            gripper={"finger_joint1": (0.0, 0.04), "finger_joint2": (0.0, -0.04)},
            ee_body="link7",
            body_from_ee=_offset(z=_FLANGE),
            rest=_PANDA_REST,
            visual_group=1,
            source="robosuite 1.5.1 assets",
        ),
        RobotModel(
            name="panda_libero",
            build=_panda_of_robosuite,
            base="link0",
            joint_names=_PANDA_JOINTS,
            gripper={"finger_joint1": (0.0, 0.04), "finger_joint2": (0.0, -0.04)},
            # What LIBERO logs as ee_pos and ee_ori: robosuite 1.4 takes the position of the
            # gripper's grip_site, 0.097 m along the hand, and the orientation of right_hand.
            ee_body="right_hand",
            body_from_ee=_offset(z=0.097),
            rest=_PANDA_REST,
            visual_group=1,
            source="robosuite 1.5.1 assets",
        ),
        RobotModel(
            name="widowx_250s",
            build=lambda: mujoco.MjSpec.from_file(str(_menagerie_file("trossen_wx250s", "wx250s"))),
            base="wx250s/base_link",
            joint_names=(
                "waist",
                "shoulder",
                "elbow",
                "forearm_roll",
                "wrist_angle",
                "wrist_rotate",
            ),
            gripper={"left_finger": (0.015, 0.037), "right_finger": (-0.015, -0.037)},
            # Interbotix' ee_gripper_link, 0.093575 m beyond Menagerie's gripper_link.
            ee_body="wx250s/gripper_link",
            body_from_ee=_offset(x=0.093575),
            # The neutral posture that rail-berkeley/bridge_data_robot publishes.
            rest=(-0.13192, -0.76239, 0.44485, -0.01994, 1.75641, -0.15953),
            visual_group=2,
            source="mujoco-menagerie trossen_wx250s",
        ),
        RobotModel(
            name="google_robot",
            build=lambda: mujoco.MjSpec.from_file(str(_menagerie_file("google_robot", "robot"))),
            base="base_link",
            joint_names=tuple(
                f"joint_{part}"
                for part in ("torso", "shoulder", "bicep", "elbow", "forearm", "wrist", "gripper")
            ),
            # The fingertips touch at 1.0 rad and cross beyond (the joints' range ends at 1.3).
            gripper={"joint_finger_right": (1.0, 0.01), "joint_finger_left": (1.0, 0.01)},
            # RT-1's tool: SimplerEnv's link_gripper_tcp, 0.15 m along link_gripper
            # (google_robot_meta_sim_fix_wheel_fix_fingertip.urdf). A real row of RT-1 fits this
            # base, orientation and order to 0.2 mm; the 0.15 m itself is SimplerEnv's word.
            ee_body="link_gripper",
            body_from_ee=_offset(z=0.15),
            rest=(-0.26, 0.71, 0.42, 1.5, 0.0, 0.63, 0.0),
            visual_group=2,
            source="mujoco-menagerie google_robot",
        ),
    )
}

"""How things lie and the robot stands in a frame of LIBERO's scenes."""

from __future__ import annotations

import cv2
import mujoco
import numpy as np

from simulation.depth_scenes.hand_work import OPEN, hold_something, working_joints
from simulation.depth_scenes.libero_place import has, table
from simulation.film import body_pose

EXTRA = 7  # things of random shape beside LIBERO's, bodies extra0 to extra6
# m: things are thrown about on the table so far from its centre.
SPREAD = np.array([0.3, 0.35])
_JOINT_SPREAD = np.array([0.5, 0.4, 0.3, 0.4, 0.4, 0.4, 0.9])  # rad


def throw_things(
    model: mujoco.MjModel, start: dict, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Where loose things lie: some as LIBERO puts them, some anywhere, some away.

    Args:
        start: qpos by joint, one of the bank's placements.

    Returns:
        Poses (7,) by joint, or by body where that is moved freely.
    """
    centre, top = table(model)
    out: dict[str, np.ndarray] = {}
    for name, values in start.items():
        if len(values) != 7 or not has(model, mujoco.mjtObj.mjOBJ_JOINT, name):
            continue
        pose = np.array(values)
        chance = rng.uniform()
        if chance < 0.55:
            pose[:2] = centre + rng.uniform(-1, 1, 2) * SPREAD
            pose[3:] = _turned(pose[3:], rng.uniform(-np.pi, np.pi))
        elif chance < 0.65:
            pose[2] = -5.0
        out[name] = pose
    for k in range(EXTRA):
        pose = np.zeros(7)
        half = model.geom_size[model.geom(f"extra{k}").id]
        shown = rng.uniform() < 0.6
        pose[:2] = centre + rng.uniform(-1, 1, 2) * SPREAD
        pose[2] = top + half.max() * rng.uniform(0.5, 1.1) if shown else -5.0
        tilt, _ = cv2.Rodrigues(rng.normal(0, 0.1 if rng.uniform() < 0.7 else 1.5, 3))
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, tilt.ravel())
        pose[3:] = _turned(quat, rng.uniform(-np.pi, np.pi))
        out[f"extra{k}"] = pose
    return out


def draw_state(
    model: mujoco.MjModel,
    layout: dict[str, np.ndarray],
    start: dict,
    rng: np.random.Generator,
    working: bool,
) -> mujoco.MjData:
    """The scene with the robot somewhere, and one thing perhaps moved or lifted.

    Args:
        layout: poses (7,) as of `throw_things`, and of surroundings.
        start: qpos by joint, one of the bank's placements.
        working: whether the hand points down, and perhaps holds a thing, drawn anew at each call.
    """
    data = mujoco.MjData(model)
    loose = [name for name in layout if not name.startswith("around_")]
    carried = str(rng.choice(loose)) if rng.uniform() < 0.6 else ""
    for name, pose in layout.items():
        pose = pose.copy()
        if name == carried:
            pose[:3] += rng.uniform([-0.1, -0.1, 0.0], [0.1, 0.1, 0.2])
        _put(model, data, name, pose)
    _, top = table(model)
    for name, values in start.items():
        if len(values) == 1 and has(model, mujoco.mjtObj.mjOBJ_JOINT, name):
            low, high = model.joint(name).range
            free = not name.startswith("robot0") and rng.uniform() < 0.3
            # Drawers and doors open and close.
            data.joint(name).qpos[:] = rng.uniform(low, high) if free else values
    _open_fingers(data, rng.uniform(0, OPEN))
    rest = np.concatenate([start[f"robot0_joint{j}"] for j in range(1, 8)])
    for _ in range(20):
        joints = working_joints(rng, rest) if working else rest + rng.normal(0, _JOINT_SPREAD)
        for j, value in enumerate(joints):
            joint = model.joint(f"robot0_joint{j + 1}")
            data.joint(joint.id).qpos[:] = np.clip(value, *joint.range)
        mujoco.mj_kinematics(model, data)
        hand = body_pose(data, "robot0_right_hand")
        if (hand @ [0, 0, 0.1, 1])[2] > top and hand[2, 3] > top + 0.03:
            break
    if working:
        held = hold_something(data, layout, hand, rng)
        if held is not None:
            _put(model, data, held.name, held.pose)
            _open_fingers(data, held.opening)
            mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    return data


def _put(model: mujoco.MjModel, data: mujoco.MjData, name: str, pose: np.ndarray) -> None:
    if name.startswith(("extra", "around_")):
        mocap = model.body(name).mocapid[0]
        data.mocap_pos[mocap], data.mocap_quat[mocap] = pose[:3], pose[3:]
    else:
        data.joint(name).qpos[:] = pose


def _open_fingers(data: mujoco.MjData, opening: float) -> None:
    """``opening`` in m that each finger is moved by."""
    data.joint("gripper0_finger_joint1").qpos[:] = opening
    data.joint("gripper0_finger_joint2").qpos[:] = -opening


def _turned(quat: np.ndarray, yaw: float) -> np.ndarray:
    out = np.empty(4)
    mujoco.mju_mulQuat(out, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]), np.asarray(quat))
    return out

"""Batched forward kinematics of all links, and inverse kinematics with limits over time.

Joint trees come from the compiled MuJoCo model; the arithmetic is numpy's over whole
trajectories, since a call of MuJoCo a step costs more than the step itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import (
    check_array,
    invert,
    make_pose,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rotation_angle,
)
from robots.models import ROBOTS, RobotModel

Floats = NDArray[np.floating]
# Share of the way to the rest posture in each step of inverse kinematics. On closed paths of the
# Google robot it brings the joints back to within 1e-4 rad, where without it they end up to
# 0.7 rad off; larger shares converge no faster.
_REST_PULL = 0.3


@dataclass(frozen=True)
class _Tree:
    """The bodies, and all joints in one set of arrays.

    Attributes:
        links: of each body, its parent's index, its pose there at zero, and its joints' indices.
        base: index of the body that is the frame ``base``.
        address: (J,) of each joint in qpos.
        hinge: (J,) bool; else it slides.
        axis, anchor: (J, 3) in the body's frame.
        across: (J, 3, 3) of each axis a: ``across @ x`` is a x x.
    """

    links: tuple[tuple[int, Floats, tuple[int, ...]], ...]
    base: int
    address: NDArray[np.integer]
    hinge: NDArray[np.bool_]
    axis: Floats
    anchor: Floats
    across: Floats

    def motions(self, qpos: Floats) -> Floats:
        """(J, T, 4, 4) of qpos (T, nq): what each joint does to its body; Rodrigues' formula."""
        value = qpos.T[self.address]
        angle = np.where(self.hinge[:, None], value, 0.0)[..., None, None]
        across = self.across[:, None]
        turn = np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * (across @ across)
        held = self.anchor[:, None] - (turn @ self.anchor[:, None, :, None])[..., 0]
        slid = value[..., None] * self.axis[:, None]
        return make_pose(turn, np.where(self.hinge[:, None, None], held, slid))


@lru_cache(maxsize=8)
def _tree(name: str) -> _Tree:
    model = ROBOTS[name].compile()
    hinge = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
    known = hinge | (model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE)
    if not known.all():
        raise NotImplementedError(f"{name} has a joint of type {model.jnt_type[~known][0]}")
    links = []
    for body in range(1, model.nbody):
        fixed = make_pose(matrix_from_quaternion(model.body_quat[body]), model.body_pos[body])
        first = int(model.body_jntadr[body])
        joints = tuple(range(first, first + int(model.body_jntnum[body])))
        links.append((int(model.body_parentid[body]) - 1, fixed, joints))
    return _Tree(
        links=tuple(links),
        base=ROBOTS[name].link_names.index(ROBOTS[name].base),
        address=model.jnt_qposadr.copy(),
        hinge=hinge,
        axis=model.jnt_axis.copy(),
        anchor=model.jnt_pos.copy(),
        across=np.cross(model.jnt_axis[:, None], np.eye(3)).swapaxes(1, 2),
    )


def link_poses(robot: RobotModel, joints: ArrayLike, gripper: ArrayLike) -> Floats:
    """base_from_link (T, L, 4, 4) of every link, in the order of ``robot.link_names``.

    Args:
        joints: (T, J) rad.
        gripper: (T,) opening fraction, or (T, F) that of each gripper joint.
    """
    qpos = robot.qpos(joints, gripper)
    tree = _tree(robot.name)
    motions = tree.motions(qpos)
    world = np.empty((len(tree.links), len(qpos), 4, 4))
    for i, (parent, pose, moved_by) in enumerate(tree.links):
        for joint in moved_by:
            pose = pose @ motions[joint]
        world[i] = pose if parent < 0 else world[parent] @ pose
    return np.swapaxes(invert(world[tree.base]) @ world, 0, 1)


def ee_poses(robot: RobotModel, joints: ArrayLike) -> Floats:
    """base_from_ee (T, 4, 4) of joints (T, J) rad."""
    joints = np.asarray(joints, float)
    poses = link_poses(robot, joints, np.ones(len(joints)))
    return poses[:, robot.link_names.index(robot.ee_body)] @ robot.body_from_ee


def pose_vectors(poses: ArrayLike) -> NDArray[np.float32]:
    """Poses (..., 4, 4) as (..., 7) float32: xyz in m, quaternion wxyz."""
    poses = np.asarray(poses)
    rotation = quaternion_from_matrix(poses[..., :3, :3])
    return np.concatenate([poses[..., :3, 3], rotation], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class JointSolution:
    """Joints found for a path of ee poses.

    Attributes:
        joints: (T, J) rad, within limits.
        position_error: (T,) m between the asked and the reached ee position.
        rotation_error: (T,) rad, likewise.
        flagged: (T,) bool: the pose is missed, or reached only by a jump from the step before.
    """

    joints: Floats
    position_error: Floats
    rotation_error: Floats
    flagged: NDArray[np.bool_]


def solve_joints(
    robot: RobotModel,
    ee: ArrayLike,
    time: ArrayLike,
    *,
    max_position_error: float = 1e-3,
    max_rotation_error: float = np.radians(0.5),
    max_joint_speed: float = np.pi,
    starts: int = 24,
) -> JointSolution:
    """Inverse kinematics of a path: damped least squares, within limits, continuous over time.

    The first pose is solved from the rest posture and from random starts in one batch; each
    later one from the solution before it. The branch with the fewest flagged steps wins, the
    one nearest to rest among equals.

    Args:
        ee: (T, 4, 4) base_from_ee.
        time: (T,) s.
        max_position_error, max_rotation_error: m and rad; a step that misses by more is flagged.
        max_joint_speed: rad/s; a step that asks for more is flagged as a jump. Pi is the WX250s
            servos' no-load speed (Dynamixel XM430-W350), well under it the Panda's 2.6.
        starts: random starts for the first pose, from a fixed seed.
    """
    ee = np.asarray(ee, float)
    time = check_array("time", np.asarray(time, float), [len(ee)])
    lower, upper = robot.limits.T
    rest = np.clip(np.asarray(robot.rest), lower, upper)
    seeds = np.random.default_rng(0).uniform(lower, upper, (starts, len(rest)))
    seeds = np.concatenate([rest[None], seeds])
    first = _damped_least_squares(robot, seeds, np.repeat(ee[:1], len(seeds), 0), iterations=100)
    position, rotation = _errors(robot, first, np.repeat(ee[:1], len(seeds), 0))
    score = np.linalg.norm(first - rest, axis=1) + 1e3 * (position + rotation)
    order = np.argsort(score, kind="stable")
    best: JointSolution | None = None
    redundant = len(rest) > 6
    # A redundant arm drifts unless it is drawn to its rest; where that leaves poses unreached
    # (near a limit) the path without it may reach more.
    pulls = (_REST_PULL, 0.0) if redundant else (0.0,)
    for start, pull in itertools.product(_distinct(first[order])[:4], pulls):
        found = _follow(robot, start, ee, pull)
        position, rotation = _errors(robot, found, ee)
        speed = np.abs(np.diff(found, axis=0)) / np.diff(time)[:, None]
        jumped = np.concatenate([[False], (speed > max_joint_speed).any(1)])
        flagged = (position > max_position_error) | (rotation > max_rotation_error) | jumped
        if best is None or flagged.sum() < best.flagged.sum():
            best = JointSolution(found, position, rotation, flagged)
        if not flagged.any():
            break
    assert best is not None
    return best


def _distinct(solutions: Floats) -> list[Floats]:
    """Drop near-copies, keeping order."""
    kept: list[Floats] = []
    for q in solutions:
        if all(np.abs(q - other).max() > 0.05 for other in kept):
            kept.append(q)
    return kept


def _follow(robot: RobotModel, start: Floats, ee: Floats, pull: float) -> Floats:
    path = np.empty((len(ee), len(start)))
    q = start
    for t, target in enumerate(ee):
        q = _damped_least_squares(robot, q[None], target[None], iterations=30, pull=pull)[0]
        path[t] = q
    return path


def _errors(robot: RobotModel, joints: Floats, ee: Floats) -> tuple[Floats, Floats]:
    reached = ee_poses(robot, joints)
    position = np.linalg.norm(reached[:, :3, 3] - ee[:, :3, 3], axis=1)
    return position, rotation_angle(reached[:, :3, :3], ee[:, :3, :3])


def _damped_least_squares(
    robot: RobotModel, joints: Floats, ee: Floats, iterations: int, pull: float = 0.0
) -> Floats:
    """Levenberg-Marquardt on the pose error, a batch of problems (B, J) against (B, 4, 4) at once.

    The Jacobian is geometric: for a hinge, axis x (ee - anchor) over axis (Siciliano et al.,
    Robotics, 3.1.3). The damping follows the error, so it vanishes at a solution (Sugihara 2011).
    With ``pull``, motion that leaves the ee in place goes that share of the way to the rest
    posture in each step (null-space projection, Siciliano 3.5). Joints are clipped to their
    limits after each step.
    """
    lower, upper = robot.limits.T
    rest = np.clip(np.asarray(robot.rest), lower, upper)
    q = np.clip(joints, lower, upper)
    model = robot.compile()
    bodies = [int(model.joint(name).bodyid[0]) - 1 for name in robot.joint_names]
    axes = np.array([model.joint(name).axis for name in robot.joint_names])
    anchors = np.array([model.joint(name).pos for name in robot.joint_names])
    tool = robot.link_names.index(robot.ee_body)
    opened = np.ones(len(q))
    for _ in range(iterations):
        poses = link_poses(robot, q, opened)
        reached = poses[:, tool] @ robot.body_from_ee
        at = poses[:, bodies]
        axis = (at[..., :3, :3] @ axes[..., None])[..., 0]
        anchor = (at[..., :3, :3] @ anchors[..., None])[..., 0] + at[..., :3, 3]
        linear = np.cross(axis, reached[:, None, :3, 3] - anchor)
        jacobian = np.swapaxes(np.concatenate([linear, axis], axis=-1), 1, 2)  # (B, 6, J)
        error = np.concatenate(
            [ee[:, :3, 3] - reached[:, :3, 3], _rotation_vector(ee, reached)], axis=1
        )
        damping = 0.1 * (error**2).sum(1)[:, None, None] + 1e-9
        gram = jacobian @ np.swapaxes(jacobian, 1, 2) + damping * np.eye(6)
        transposed = np.swapaxes(jacobian, 1, 2)
        step = (transposed @ np.linalg.solve(gram, error[..., None]))[..., 0]
        aside = np.zeros_like(q)
        if pull:
            away = (rest - q)[..., None]
            held = transposed @ np.linalg.solve(gram, jacobian @ away)
            aside = pull * (away - held)[..., 0]
        if np.abs(error).max() < 1e-7 and np.abs(aside).max() < 1e-5:
            break
        q = np.clip(q + np.clip(step + aside, -0.5, 0.5), lower, upper)
    return q


def _rotation_vector(target: Floats, reached: Floats) -> Floats:
    """Rotation in base coordinates (B, 3) that takes ``reached`` to ``target``."""
    q = quaternion_from_matrix(target[:, :3, :3] @ np.swapaxes(reached[:, :3, :3], 1, 2))
    sine = np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[:, :1])
    return np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0) * q[:, 1:]

"""Plays a script in its scene and films it: JPEG frames as sources publish them, and the truth."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from robo4d.geometry import invert, make_pose, quaternion_from_matrix
from robots.models import RobotModel
from robots.offscreen import OffscreenRenderer
from simulation._geoms import SCENE_GROUP
from simulation.layout import Layout
from simulation.scene import build_scene
from simulation.script import Script

_QUALITY = 92


@dataclass(frozen=True)
class Film:
    """One camera's view of an episode.

    Attributes:
        frames: T JPEG files of (H, W, 3).
        depth: (T, H, W) float32 z-depth in m, exact.
        robot_part: (T, H, W) uint8, index into the robot's ``link_names`` + 1 where it is seen.
        K: (3, 3) pixels.
        base_from_camera: (T, 4, 4).
    """

    frames: tuple[bytes, ...]
    depth: NDArray[np.float32]
    robot_part: NDArray[np.uint8]
    K: NDArray[np.floating]
    base_from_camera: NDArray[np.floating]

    def showing(self, shown: NDArray[np.integer]) -> Film:
        """The same view with the pictures, and their truth, of the steps ``shown`` (n,)."""
        return Film(
            tuple(self.frames[t] for t in shown),
            self.depth[shown],
            self.robot_part[shown],
            self.K,
            self.base_from_camera[shown],
        )


def film_script(layout: Layout, script: Script, robot: RobotModel) -> dict[str, Film]:
    """Every camera's film, by camera name.

    Poses are MuJoCo's own, not `robots.kinematics`', so that the truth can judge the latter.
    """
    height, width = layout.size
    smooth = build_scene(layout, robot)
    smooth.vis.quality.offsamples = 4
    # Depth and ids must not be blended over samples; shadows would only cost time there.
    exact = copy.copy(smooth)
    exact.vis.quality.offsamples = 0
    exact.light_castshadow[:] = 0
    states = play_script(smooth, script, robot)
    poses = _camera_poses(layout, robot, states)
    with OffscreenRenderer(smooth, height, width, (robot.visual_group, SCENE_GROUP)) as renderer:
        frames = {
            name: tuple(
                simplejpeg.encode_jpeg(
                    np.ascontiguousarray(renderer.rgb(state, camera.K, pose)), quality=_QUALITY
                )
                for state, pose in zip(states, poses[name], strict=True)
            )
            for name, camera in layout.cameras.items()
        }
    part_of_geom = parts_of_geoms(exact, robot)
    films = {}
    with OffscreenRenderer(exact, height, width, (robot.visual_group, SCENE_GROUP)) as renderer:
        for name, camera in layout.cameras.items():
            depth = np.empty((len(states), height, width), np.float32)
            part = np.empty((len(states), height, width), np.uint8)
            for t, (state, pose) in enumerate(zip(states, poses[name], strict=True)):
                depth[t], geoms = renderer.depth_and_geoms(state, camera.K, pose)
                part[t] = part_of_geom[geoms]
            base = body_pose(states[0], robot.base)
            films[name] = Film(frames[name], depth, part, camera.K, invert(base) @ poses[name])
    return films


def play_script(model: mujoco.MjModel, script: Script, robot: RobotModel) -> list[mujoco.MjData]:
    """The scene's state at each step, of a model that `build_scene` made."""
    states = []
    addresses = [model.joint(name).qposadr[0] for name in _joint_names(robot)]
    for qpos, things in zip(robot.qpos(script.joints, script.opening), script.things, strict=True):
        data = mujoco.MjData(model)
        data.qpos[addresses] = qpos
        for i, pose in enumerate(things):
            mocap = model.body(f"thing{i}").mocapid[0]
            data.mocap_pos[mocap] = pose[:3, 3]
            data.mocap_quat[mocap] = quaternion_from_matrix(pose[:3, :3])
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        states.append(data)
    return states


def _joint_names(robot: RobotModel) -> list[str]:
    """Of the robot alone, in the order of its positions."""
    alone = robot.compile()
    return [alone.joint(i).name for i in np.argsort(alone.jnt_qposadr)]


def _camera_poses(
    layout: Layout, robot: RobotModel, states: list[mujoco.MjData]
) -> dict[str, NDArray[np.floating]]:
    """world_from_camera (T, 4, 4) of each camera."""
    ee = np.stack([body_pose(state, robot.ee_body) for state in states]) @ robot.body_from_ee
    return {
        name: ee @ camera.mount
        if camera.on_wrist
        else np.repeat(camera.mount[None], len(states), 0)
        for name, camera in layout.cameras.items()
    }


def body_pose(state: mujoco.MjData, body: str) -> NDArray[np.floating]:
    """world_from_body (4, 4) of the body of that name."""
    return make_pose(state.body(body).xmat.reshape(3, 3), state.body(body).xpos)


def parts_of_geoms(model: mujoco.MjModel, robot: RobotModel) -> NDArray[np.uint8]:
    """geom id -> part, with a last entry that geom -1 (none) finds; by name, as ids differ here."""
    part = {name: i for i, name in enumerate(robot.link_names, 1)}
    bodies = (model.body(int(body)).name for body in model.geom_bodyid)
    return np.array([*(part.get(name, 0) for name in bodies), 0], np.uint8)

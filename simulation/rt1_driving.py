"""RT-1's twin with a robot that drives up to the counter before it works there.

Its own module, as `simulation.rt1`'s episodes stand: what is drawn there stays as it is, the base
alone begins elsewhere. The head's camera and all that is logged ride on the base.
"""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from robo4d.geometry import invert, make_pose, quaternion_from_matrix
from robots.offscreen import OffscreenRenderer
from simulation._geoms import SCENE_GROUP
from simulation.film import Film, parts_of_geoms, play_script
from simulation.layout import rotation_z
from simulation.rt1 import RIG, Rt1Episode, encode_episode
from simulation.scene import build_scene

Floats = NDArray[np.floating]
_STEPS = 7  # that the drive takes; no script grasps before its eleventh
_QUALITY = 92


def drive_up(episode: Rt1Episode, behind: float = 0.2, aside: float = 0.06) -> Floats:
    """(T, 4, 4) world_from_base: from ``behind`` and ``aside`` m, turned by 6 degrees, up to where
    the script works, by minimum jerk.
    """
    count = len(episode.script.joints)
    s = np.clip(np.arange(count) / _STEPS, 0, 1)
    left = 1 - (10 * s**3 - 15 * s**4 + 6 * s**5)
    return np.stack(
        [make_pose(rotation_z(0.1 * part), [-behind * part, aside * part, 0]) for part in left]
    )


def film_driving(episode: Rt1Episode, world_from_base: Floats) -> dict[str, Film]:
    """Frames and truth of the head's camera, as `simulation.rt1.film_episode`'s."""
    robot, script, camera = RIG.robot, episode.script, episode.layout.cameras["image"]
    smooth = build_scene(episode.layout, robot)
    smooth.vis.quality.offsamples = 4
    # As `simulation.film` has it.
    exact = copy.copy(smooth)
    exact.vis.quality.offsamples = 0
    exact.light_castshadow[:] = 0
    states = []
    for step, base in enumerate(world_from_base):
        body = smooth.body(robot.base).id
        smooth.body_pos[body] = base[:3, 3]
        smooth.body_quat[body] = quaternion_from_matrix(base[:3, :3])
        states += play_script(smooth, script.at([step]), robot)
    size, groups = episode.layout.size, (robot.visual_group, SCENE_GROUP)
    poses = world_from_base @ camera.mount
    with OffscreenRenderer(smooth, *size, groups) as renderer:
        frames = tuple(
            simplejpeg.encode_jpeg(
                np.ascontiguousarray(renderer.rgb(state, camera.K, pose)), quality=_QUALITY
            )
            for state, pose in zip(states, poses, strict=True)
        )
    depth, part = _exact(exact, states, camera.K, poses, size, groups)
    return {"image": Film(frames, depth, part, camera.K, invert(world_from_base) @ poses)}


def encode_driving(
    episode: Rt1Episode, films: dict[str, Film], world_from_base: Floats
) -> dict[str, Any]:
    """The record as `simulation.rt1.tfds_features` takes it, with the base's displacements."""
    example = encode_episode(episode, films)
    steps = invert(world_from_base[:-1]) @ world_from_base[1:]
    for step, move in zip(example["steps"], steps, strict=False):  # the last one stays
        action = step["action"]
        action["base_displacement_vector"] = move[:2, 3].astype(np.float32)
        turn = np.arctan2(move[1, 0], move[0, 0])
        action["base_displacement_vertical_rotation"] = np.array([turn], np.float32)
    return example


def _exact(
    model: mujoco.MjModel,
    states: list[mujoco.MjData],
    K: Floats,
    poses: Floats,
    size: tuple[int, int],
    groups: tuple[int, ...],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    depth = np.empty((len(states), *size), np.float32)
    part = np.empty((len(states), *size), np.uint8)
    part_of_geom = parts_of_geoms(model, RIG.robot)
    with OffscreenRenderer(model, *size, groups) as renderer:
        for t, (state, pose) in enumerate(zip(states, poses, strict=True)):
            depth[t], geoms = renderer.depth_and_geoms(state, K, pose)
            part[t] = part_of_geom[geoms]
    return depth, part

"""Films a twin's wrist camera as a real one would: late, noisy, blurred, drifting, compressed.

What is modelled, and what is not, is as in `benchmarks._camera_film`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from benchmarks._camera_film import degrade
from robo4d.geometry import make_pose
from robots.models import RobotModel
from robots.offscreen import OffscreenRenderer
from simulation import droid, libero_rlds
from simulation._geoms import SCENE_GROUP
from simulation.film import play_script
from simulation.scene import build_scene

TWINS: dict[str, Any] = {"droid": droid, "libero": libero_rlds}
_CAMERAS = {"droid": "wrist_image_left", "libero": "wrist_image"}
_MAX_LATENESS = 0.6  # of a step
_JOINT_NOISE = 1e-3  # rad
_EXPOSURE = (0.005, 0.02)  # s; indoor light, automatic exposure
_GAMMA = 2.2


@dataclass(frozen=True)
class WristClip:
    """One clip of a wrist camera, and the truth.

    Attributes:
        rgb: (T, H, W, 3) uint8: each shows the scene ``late`` s before its step.
        joints, opening: (T, J) rad and (T,), as logged, joints with noise.
        time: (T,) s.
        K, ee_from_camera: (3, 3) pixels and (4, 4), true.
    """

    robot: RobotModel
    rgb: NDArray[np.uint8]
    joints: NDArray[np.floating]
    opening: NDArray[np.floating]
    time: NDArray[np.floating]
    K: NDArray[np.floating]
    ee_from_camera: NDArray[np.floating]
    late: float


def film_wrist(source: str, seed: int, index: int | None = None, stride: int = 1) -> WristClip:
    """Film episode ``index`` (by default one of six, by the seed) of the twin of ``seed``.

    Args:
        source: in `TWINS`.
        stride: of steps kept, as DROID's 15 Hz log is published at 5 Hz by some.
    """
    twin, name = TWINS[source], _CAMERAS[source]
    index = seed % 6 if index is None else index
    episode = twin.draw_episode(seed, index)
    robot: RobotModel = twin.RIG.robot
    camera = episode.layout.cameras[name]
    layout = replace(episode.layout, cameras={name: camera})
    rng = np.random.default_rng([seed, index, 5])
    lateness, exposure = rng.uniform(0, _MAX_LATENESS), rng.uniform(*_EXPOSURE)
    steps = np.arange(0, len(episode.script.joints), stride)
    shown = steps - lateness
    model = build_scene(layout, robot)
    model.vis.quality.offsamples = 4
    # Two instants whose mean has the first two moments of the whole exposure.
    half = exposure * twin.RIG.rate / np.sqrt(12)
    states = [play_script(model, episode.script.at(shown + d), robot) for d in (-half, half)]
    frames = []
    with OffscreenRenderer(model, *layout.size, (robot.visual_group, SCENE_GROUP)) as renderer:
        for pair in zip(*states, strict=True):
            light = [
                (renderer.rgb(s, camera.K, _ee(s, robot) @ camera.mount) / 255.0) ** _GAMMA
                for s in pair
            ]
            frames.append(np.round(255 * np.mean(light, 0) ** (1 / _GAMMA)).astype(np.uint8))
    joints = episode.script.joints[steps].astype(np.float64)
    return WristClip(
        robot,
        degrade(np.stack(frames), rng),
        joints + rng.normal(0, _JOINT_NOISE, joints.shape),
        episode.script.opening[steps],
        steps / twin.RIG.rate,
        camera.K,
        camera.mount,
        lateness / twin.RIG.rate,
    )


def _ee(state: mujoco.MjData, robot: RobotModel) -> NDArray[np.floating]:
    """world_from_ee (4, 4), MuJoCo's own."""
    body = state.body(robot.ee_body)
    return make_pose(body.xmat.reshape(3, 3), body.xpos) @ robot.body_from_ee

"""Films one camera of a twin as a real one would: late, noisy, blurred, drifting, compressed.

What is modelled, and what is not. Modelled: a constant lateness of images, exposure time where
things move by more than a fraction of a pixel, light that mixes within one, optical blur, photon
and read noise, exposure and white balance that drift, two rounds of JPEG, joints logged with noise,
and a thing that is pushed across the table by nobody's gripper. Not modelled: lens distortion,
rolling shutter, cables and covers that the robot's description lacks, constant errors of joints,
people.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from robo4d.geometry import intrinsics, invert, project, transform
from robots.kinematics import link_poses
from robots.models import RobotModel
from robots.offscreen import OffscreenRenderer
from robots.surface import surface_points
from simulation import bridge, droid, rt1
from simulation._geoms import SCENE_GROUP
from simulation.film import parts_of_geoms, play_script
from simulation.layout import Camera, Layout, rotation_z
from simulation.scene import build_scene
from simulation.script import Script

TWINS: dict[str, Any] = {"droid": droid, "bridge": bridge, "rt1": rt1}
# Bridge's frames are 640x480 squashed to a square; its pixels are square again at 256x192.
_UNSQUASHED = {"bridge": (192, 256)}
_MAX_LATENESS = 0.6  # of a step
_JOINT_NOISE = 1e-3  # rad
_EXPOSURE = (0.005, 0.02)  # s; indoor light, automatic exposure
_STILL = 0.4  # pixels of motion within the exposure that one instant stands for
_GAMMA = 2.2
_LIGHT = ((np.arange(256) / 255.0) ** _GAMMA).astype(np.float32)  # of grey levels
# OpenGL mixes the samples of a pixel as numbers, a sensor as light: frames are rendered so many
# times as large, and light is averaged.
_LARGER = 3
_PUSHED = 0.5  # share of clips in which something is pushed
_PUSH_SECONDS, _PUSH_METRES = (0.6, 1.6), (0.04, 0.12)


@dataclass(frozen=True)
class FilmOptions:
    """How a clip differs from what its source would hold.

    Attributes:
        ideal_lens: square pixels and the principal point at the image's centre, as a solver that
            is not told K must assume; Bridge's frames are 192x256 then.
        motion: scale of the motion about the joints' mean; things rest where it is not 1.
    """

    ideal_lens: bool = False
    motion: float = 1.0


def film_clip(source: str, seed: int, options: FilmOptions) -> dict[str, Any]:
    """The fields of a `benchmarks._camera_clips.CameraClip`, less its name."""
    twin = TWINS[source]
    episode = twin.draw_episode(seed, seed % 6)  # of six, the twins' outcomes and furniture vary
    layout: Layout = episode.layout
    robot: RobotModel = twin.RIG.robot
    rng = np.random.default_rng([seed, 4])
    fixed = [name for name, camera in layout.cameras.items() if not camera.on_wrist]
    camera = layout.cameras[fixed[(seed // 2) % len(fixed)]]
    size = layout.size
    if options.ideal_lens:
        size = _UNSQUASHED.get(source, size)
        f = camera.K[0, 0]
        camera = Camera(intrinsics(f, f, size[1] / 2, size[0] / 2), camera.mount)
    layout = replace(layout, size=size, cameras={"camera": camera})
    lateness = rng.uniform(0, _MAX_LATENESS)
    exposure = rng.uniform(*_EXPOSURE)
    script = _scaled(episode.script, options.motion)
    if rng.uniform() < _PUSHED:
        script = _pushed(script, layout, twin.RIG.rate, rng)
    count = len(script.joints)
    shown = np.arange(count) - lateness
    model = build_scene(layout, robot)
    depth, visible, base = _truth(model, layout, robot, script)
    sharp = _exposed(model, layout, robot, script, shown, exposure * twin.RIG.rate)
    noise = rng.normal(0, _JOINT_NOISE, script.joints.shape)
    return {
        "robot": robot.name,
        "rgb": degrade(sharp, rng),
        "joints": script.joints.astype(np.float64) + noise,
        "gripper": script.opening,
        "time": np.arange(count) / twin.RIG.rate,
        "K": camera.K,
        "base_from_camera": invert(base) @ camera.mount,
        "robot_visible": visible,
        "depth": depth,
        "latency_s": lateness / twin.RIG.rate,
    }


def degrade(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rendered frames (T, H, W, 3) as a cheap camera and two encoders leave them.

    Noise is photon noise and read noise of a sensor's linear values; at 1,500 to 8,000 electrons
    a full pixel (a webcam's, reduced to this size) mid greys scatter by 1.4 to 3 levels.
    """
    count = len(frames)
    sigma = rng.uniform(0.4, 0.8)
    electrons = np.exp(rng.uniform(np.log(1500), np.log(8000)))
    read = rng.uniform(0.001, 0.003)
    qualities = int(rng.integers(85, 96)), int(rng.integers(75, 96))
    gains = _drift(count, 0.08, rng)[:, None] * _drift(count, 0.02, rng, channels=3)
    out = np.empty_like(frames)
    for t, frame in enumerate(frames):
        light = gaussian_filter((frame / 255.0) ** _GAMMA, (sigma, sigma, 0)) * gains[t]
        scatter = np.sqrt(np.maximum(light, 0) / electrons + read**2)
        light = np.clip(light + scatter * rng.standard_normal(light.shape), 0, 1)
        image = np.round(255 * light ** (1 / _GAMMA)).astype(np.uint8)
        for quality in qualities:  # the recorder's, then the data set's
            image = simplejpeg.decode_jpeg(
                simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorsubsampling="420")
            )
        out[t] = image
    return out


def _drift(
    count: int, size: float, rng: np.random.Generator, channels: int | None = None
) -> NDArray[np.floating]:
    """(T,) or (T, channels) slow wander about 1, by ``size`` at most."""
    shape = () if channels is None else (channels,)
    phase, turns = rng.uniform(0, 2 * np.pi, shape), rng.uniform(0.3, 1.5, shape)
    at = np.linspace(0, 2 * np.pi, count).reshape(-1, *[1] * len(shape))
    return 1 + rng.uniform(0.3, 1, shape) * size * np.sin(phase + turns * at)


def _scaled(script: Script, motion: float) -> Script:
    if motion == 1:
        return script
    joints, closed = (
        (values.mean(0) + motion * (values - values.mean(0))).astype(np.float32)
        for values in (script.joints, script.closed)
    )
    # A hand that passes somewhere else carries nothing.
    things = np.repeat(script.things[:1], len(joints), 0)
    return replace(script, joints=joints, closed=closed, things=things)


def _pushed(script: Script, layout: Layout, rate: float, rng: np.random.Generator) -> Script:
    """One thing that the robot does not hold slides and turns for a while."""
    count, things = len(script.joints), script.things.copy()
    if things.shape[1] < 2:
        return script
    which = int(rng.integers(1, things.shape[1]))
    start = rng.uniform(0.1, 0.7) * count
    share = np.clip((np.arange(count) - start) / (rng.uniform(*_PUSH_SECONDS) * rate), 0, 1)
    share = 10 * share**3 - 15 * share**4 + 6 * share**5
    azimuth, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
    way = rng.uniform(*_PUSH_METRES) * np.array([np.cos(azimuth), np.sin(azimuth)])
    low, high = np.array(layout.room)
    from_, to = things[0, which, :2, 3], things[0, which, :2, 3] + way
    things[:, which, :2, 3] = from_ + share[:, None] * (np.clip(to, low, high) - from_)
    for t, done in enumerate(share):
        things[t, which, :3, :3] = rotation_z(done * turn) @ things[t, which, :3, :3]
    return replace(script, things=things)


def _truth(
    model: mujoco.MjModel, layout: Layout, robot: RobotModel, script: Script
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.floating]]:
    """Depth (T, H, W) and the robot's seen pixels (T, H, W) at the log's steps, and its base."""
    exact = copy.copy(model)
    exact.vis.quality.offsamples = 0
    exact.light_castshadow[:] = 0
    part_of_geom = parts_of_geoms(exact, robot)
    camera, depths, masks = layout.cameras["camera"], [], []
    states = play_script(exact, script, robot)
    with OffscreenRenderer(exact, *layout.size, (robot.visual_group, SCENE_GROUP)) as renderer:
        for state in states:
            depth, geoms = renderer.depth_and_geoms(state, camera.K, camera.mount)
            depths.append(depth)
            masks.append(part_of_geom[geoms] > 0)
    base = np.eye(4)
    body = states[0].body(robot.base)
    base[:3, :3], base[:3, 3] = body.xmat.reshape(3, 3), body.xpos
    return np.stack(depths), np.stack(masks), base


def _exposed(
    model: mujoco.MjModel,
    layout: Layout,
    robot: RobotModel,
    script: Script,
    steps: NDArray[np.floating],
    exposure: float,
) -> NDArray[np.uint8]:
    """Frames at ``steps``, each the mean of two instants where ``exposure`` (steps) blurs it."""
    model = copy.copy(model)
    model.vis.quality.offsamples = 4
    camera = layout.cameras["camera"]
    K = np.diag([_LARGER, _LARGER, 1.0]) @ camera.K
    height, width = layout.size
    halves = [play_script(model, script.at(steps + d), robot) for d in _instants(exposure)]
    moving = _moved(layout, robot, script, steps, exposure) > _STILL
    frames = []
    shown = (robot.visual_group, SCENE_GROUP)
    with OffscreenRenderer(model, _LARGER * height, _LARGER * width, shown) as renderer:
        for early, late, moves in zip(*halves, moving, strict=True):
            light = _LIGHT[renderer.rgb(early, K, camera.mount)]
            if moves:
                light = (light + _LIGHT[renderer.rgb(late, K, camera.mount)]) / 2
            light = light.reshape(height, _LARGER, width, _LARGER, 3).mean((1, 3))
            frames.append(np.round(255 * light ** (1 / _GAMMA)).astype(np.uint8))
    return np.stack(frames)


def _instants(exposure: float) -> tuple[float, float]:
    """Two instants, in steps, whose mean has the first two moments of the whole exposure."""
    half = exposure / np.sqrt(12)
    return -half, half


def _moved(
    layout: Layout,
    robot: RobotModel,
    script: Script,
    steps: NDArray[np.floating],
    exposure: float,
) -> NDArray[np.floating]:
    """(T,) pixels by which the fastest of the robot's surface moves within the exposure."""
    points, camera = surface_points(robot.name, 300), layout.cameras["camera"]
    pixels = []
    for d in (-exposure / 2, exposure / 2):
        part = script.at(steps + d)
        placed = points.placed(link_poses(robot, part.joints, part.opening))
        pixels.append(project(transform(invert(camera.mount), placed), camera.K)[0])
    return np.nan_to_num(np.linalg.norm(pixels[1] - pixels[0], axis=-1)).max(1)

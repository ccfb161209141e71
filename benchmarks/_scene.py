"""Rendered clips for the benchmarks: a Panda over a table with things on it, true in every field.

No recording of a metric depth sensor is at hand, so depth is rendered; `add_noise` makes it look
like a stereo camera's. Colours carry a fractal texture fixed to the surfaces, and camera noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import intrinsics, make_pose, transform, unproject
from robots.kinematics import ee_poses, link_poses, pose_vectors
from robots.models import RobotModel, get_robot
from robots.offscreen import OffscreenRenderer
from robots.render import RobotRenderer

SIZES = ((256, 320), (480, 720))
FRAMES = 49
FPS = 15.0
_GROUP = 2  # geom group of the furniture; 1 holds the robot's visual meshes
_BOX = mujoco.mjtGeom.mjGEOM_BOX


@dataclass(frozen=True)
class Clip:
    """Fields of one clip, named and shaped as in `robo4d.sample`."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    robot_depth: NDArray[np.float32]
    robot_part: NDArray[np.uint8]
    robot_visible: NDArray[np.bool_]
    confidence: NDArray[np.uint8]
    K: NDArray[np.float64]
    base_from_camera: NDArray[np.float64]
    joints: NDArray[np.float64]
    gripper: NDArray[np.float64]
    ee: NDArray[np.float64]
    link_poses: NDArray[np.float32]
    time: NDArray[np.float64]
    step: NDArray[np.int64]


def render_clip(height: int, width: int, seed: int = 0, frames: int = FRAMES) -> Clip:
    """Render one clip; ``seed`` draws the motion, the things and the camera."""
    rng = np.random.default_rng(seed)
    robot = get_robot("panda_robotiq")
    joints, gripper = _motion(robot, rng, frames)
    pose = np.repeat(_camera(rng)[None], frames, axis=0)
    focal = 0.85 * width
    K = np.repeat(intrinsics(focal, focal, width / 2, height / 2)[None], frames, axis=0)
    with RobotRenderer(robot, height, width) as render:
        robot_depth, robot_part = render(joints, gripper, K, pose)
    rgb, depth = _render_scene(robot, rng, joints, gripper, K, pose, height, width)
    ee = ee_poses(robot, joints)
    return Clip(
        rgb=rgb,
        depth=depth,
        robot_depth=robot_depth,
        robot_part=robot_part,
        robot_visible=(robot_depth > 0) & (robot_depth < depth + 2e-3),
        # As a stereo camera's: falls with the square of the distance, nothing at holes.
        confidence=np.where(depth > 0, 255 * np.exp(-0.1 * depth**2), 0).astype(np.uint8),
        K=K,
        base_from_camera=pose,
        joints=joints,
        gripper=gripper,
        ee=ee,
        link_poses=pose_vectors(link_poses(robot, joints, gripper)),
        time=np.arange(frames) / FPS,
        step=np.arange(frames),
    )


def add_noise(depth: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Noise of sigma 1.5 mm x z^2 (z in m), as of a stereo camera, and holes at depth edges."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(depth.shape, np.float32)
    noisy = depth + np.float32(1.5e-3) * depth**2 * noise
    for image, clean in zip(noisy, depth, strict=True):
        jump = cv2.dilate(clean, np.ones((3, 3))) - cv2.erode(clean, np.ones((3, 3)))
        image[(jump > 0.05) | (clean == 0)] = 0
    return np.where(noisy > 0, noisy, 0).astype(np.float32)


def _motion(
    robot: RobotModel, rng: np.random.Generator, frames: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    phase = np.linspace(0, np.pi, frames)[:, None]
    sway = rng.uniform(-0.35, 0.35, len(robot.rest)) * np.sin(phase)
    sway += rng.uniform(-0.15, 0.15, len(robot.rest)) * np.sin(2 * phase)
    gripper = np.clip(0.5 + 0.6 * np.cos(phase[:, 0]), 0, 1)
    return np.array(robot.rest) + sway, gripper


def _camera(rng: np.random.Generator) -> NDArray[np.float64]:
    eye = np.array([1.25, rng.choice([-1, 1]) * rng.uniform(0.5, 0.8), rng.uniform(0.6, 0.8)])
    forward = np.array([0.3, 0.0, 0.2]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return make_pose(np.stack([right, np.cross(forward, right), forward], axis=1), eye)


def _build(robot: RobotModel, rng: np.random.Generator) -> tuple[mujoco.MjModel, int]:
    spec = robot.build()
    spec.visual.quality.offsamples = 0  # anti-aliasing would blend depths
    for x in (0.2, 1.5):
        spec.worldbody.add_light(
            pos=[x, 0.5, 2.5], dir=[-0.5, -0.2, -1], ambient=[0.25] * 3, castshadow=False
        )

    def add(body: mujoco.MjsBody, size: list[float], pos: list[float], colour: list[float]) -> None:
        body.add_geom(
            type=_BOX, size=size, pos=pos, rgba=[*colour, 1], group=_GROUP, contype=0, conaffinity=0
        )

    add(spec.worldbody, [0.5, 0.7, 0.02], [0.5, 0, -0.02], [0.55, 0.42, 0.30])
    # The wall ends below the image's top at one side: what lies beyond is a hole.
    add(spec.worldbody, [0.02, 1.2, 0.7], [-0.7, 0.3, 0.2], [0.75, 0.75, 0.7])
    things = int(rng.integers(4, 7))
    for k in range(things):
        size = rng.uniform(0.02, 0.07, 3)
        place = [rng.uniform(0.3, 0.8), rng.uniform(-0.4, 0.4), size[2]]
        body = spec.worldbody.add_body(name=f"thing{k}", pos=place, mocap=True)
        add(body, size.tolist(), [0, 0, 0], rng.uniform(0.1, 0.9, 3).tolist())
    model = spec.compile()
    model.vis.map.znear, model.vis.map.zfar = 0.01 / model.stat.extent, 20 / model.stat.extent
    return model, things


def _render_scene(
    robot: RobotModel,
    rng: np.random.Generator,
    joints: NDArray[np.float64],
    gripper: NDArray[np.float64],
    K: NDArray[np.float64],
    pose: NDArray[np.float64],
    height: int,
    width: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    model, _ = _build(robot, rng)
    data = mujoco.MjData(model)
    qpos = robot.qpos(joints, gripper)
    pattern = _fractal(rng)
    images, depths = [], []
    with OffscreenRenderer(model, height, width, (robot.visual_group, _GROUP)) as render:
        for t in range(len(qpos)):
            data.qpos[: qpos.shape[1]] = qpos[t]
            data.mocap_pos[0, 0] += 0.004  # one thing is pushed along
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            depth, geoms = render.depth_and_geoms(data, K[t], pose[t])
            image = render.rgb(data, K[t], pose[t]).astype(np.float32)
            points = transform(pose[t], unproject(depth, K[t]).astype(np.float64))
            points = np.nan_to_num(points) - data.geom_xpos[geoms]
            textured = (model.geom_group[geoms] == _GROUP) & (geoms >= 0)
            image *= 1 + 0.5 * np.where(textured, _look_up(pattern, points), 0)[..., None]
            image += rng.standard_normal(image.shape, np.float32)  # sigma of one level of 255
            images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
            depths.append(depth)
    return np.stack(images), np.stack(depths)


def _fractal(rng: np.random.Generator, size: int = 1024) -> NDArray[np.float32]:
    """Periodic noise with a 1/f spectrum, in -1..1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency
    total = np.fft.irfft2(spectrum, (size, size)).astype(np.float32)
    return np.clip(total / (3 * total.std()), -1, 1)


def _look_up(pattern: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """The pattern at surface points, bilinear, one metre a period, whatever way they face."""
    x = (points[..., 0] + 0.31 * points[..., 2]) * len(pattern)
    y = (points[..., 1] + 0.73 * points[..., 2]) * len(pattern)
    return cv2.remap(
        pattern,
        np.mod(x, len(pattern)).astype(np.float32),
        np.mod(y, len(pattern)).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )

"""Clips of a twin for `benchmarks.depth_stage`: H.264 as raw sources ship it, log and camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from reconstruction.motion import Motion
from robo4d._video import encode_rgb
from robo4d.geometry import intrinsics
from robots.kinematics import ee_poses, link_poses, pose_vectors
from robots.models import RobotModel
from schemas.episode import Calibration, Provenance
from schemas.plan import ClipPlan
from schemas.video import VideoFrames
from simulation import droid, rt1
from simulation.film import film_script
from simulation.layout import Camera, Layout
from simulation.script import Script

TWINS: dict[str, ModuleType] = {"rt1": rt1, "droid": droid}
_SEED = 7
# Of what stands for a network's depth, relative: its scale from frame to frame, errors that stay,
# and those that are new in every frame. The correlation of the last is that of an upsampled map.
_DRIFT, _FIXED, _FRESH, _FRESH_PIXELS = 0.02, 0.04, 0.004, 2.0
# Its blur, in pixels, and the expected error that its confidence tells of.
_BLUR, _UNSURE = 1.5, 0.02


@dataclass(frozen=True)
class StageClip:
    """What a build knows of one camera's clip of an episode when it lifts it.

    Attributes:
        robot: name in `robots.models.ROBOTS`.
        said: folder with depth.npy, confidence.npy, see `DepthEstimate`: what a good network would
            have said, which is the truth with errors.
    """

    video: VideoFrames
    plan: ClipPlan
    motion: Motion
    calibration: Calibration
    robot: str
    said: Path

    def load_said(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Depth (T, H, W) and confidence, mapped: processes share the pages."""
        depth, confidence = (
            np.asarray(np.load(self.said / f"{name}.npy", mmap_mode="r"))
            for name in ("depth", "confidence")
        )
        return depth, confidence


def make_clips(
    folder: Path, source: str, count: int, size: tuple[int, int], frames: int
) -> list[StageClip]:
    """Film clips of distinct episodes from an exterior camera into ``folder``.

    Args:
        source: key in `TWINS`.
        size: (height, width) in pixels, even.
        frames: of each clip, evenly over its episode.
    """
    return [_make(folder / str(k), TWINS[source], k, size, frames) for k in range(count)]


def _make(folder: Path, twin: Any, index: int, size: tuple[int, int], frames: int) -> StageClip:
    folder.mkdir(parents=True)
    episode = twin.draw_episode(_SEED, index)
    robot: RobotModel = twin.RIG.robot
    script: Script = episode.script.at(np.linspace(0, len(episode.script.joints) - 1, frames))
    name, camera = next(c for c in episode.layout.cameras.items() if not c[1].on_wrist)
    layout: Layout = episode.layout
    layout = replace(layout, size=size, cameras={name: _resized(camera, layout.size, size)})
    film = film_script(layout, script, robot)[name]
    rgb = np.stack([simplejpeg.decode_jpeg(frame) for frame in film.frames])
    fps = twin.RIG.rate * frames / len(episode.script.joints)
    (folder / "view.mp4").write_bytes(encode_rgb(rgb, fps, crf=20))
    depth, confidence = _said(film.depth, np.random.default_rng([_SEED, index]))
    np.save(folder / "depth.npy", depth)
    np.save(folder / "confidence.npy", confidence)
    steps = np.arange(frames)
    return StageClip(
        video=VideoFrames(str(folder / "view.mp4"), steps),
        plan=ClipPlan(steps, fps, (0, frames - 1), 0.0),
        motion=_motion(script, robot),
        calibration=Calibration(film.K, film.base_from_camera[0], Provenance.MEASURED),
        robot=robot.name,
        said=folder,
    )


def _resized(camera: Camera, old: tuple[int, int], new: tuple[int, int]) -> Camera:
    """The same height of view; what is wider or narrower is so at both sides."""
    scale = new[0] / old[0]
    fx, fy = camera.K[0, 0] * scale, camera.K[1, 1] * scale
    cx = new[1] / 2 + (camera.K[0, 2] - old[1] / 2) * scale
    return replace(camera, K=intrinsics(fx, fy, cx, camera.K[1, 2] * scale))


def _motion(script: Script, robot: RobotModel) -> Motion:
    joints, opening = script.joints.astype(np.float64), script.opening
    return Motion(
        joints=joints,
        joints_from=Provenance.MEASURED,
        gripper=opening,
        fingers=opening,
        ee=ee_poses(robot, joints),
        link_poses=pose_vectors(link_poses(robot, joints, opening)),
        position_error=None,
        rotation_error=None,
        flagged=np.zeros(len(joints), bool),
    )


def _said(
    true: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    height = true.shape[1]
    known = true > 0
    filled = np.where(known, true, true.max())
    fixed = _noise(rng, true.shape[1:], height / 16)
    depth = np.empty_like(true)
    for frame, z in zip(depth, filled, strict=True):
        error = _FIXED * fixed + _FRESH * _noise(rng, z.shape, _FRESH_PIXELS)
        drift = np.exp(_DRIFT * rng.standard_normal())
        frame[:] = cv2.GaussianBlur(z, (0, 0), _BLUR) * np.exp(error) * drift
    unsure = _UNSURE * np.stack([1 + np.abs(_noise(rng, z.shape, height / 32)) for z in true])
    confidence = np.rint(255 * np.exp(-unsure / 0.05)).astype(np.uint8)
    return depth.astype(np.float32), confidence


def _noise(rng: np.random.Generator, size: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    """(H, W) of standard deviation 1, correlated over ``sigma`` pixels."""
    rough = cv2.GaussianBlur(rng.standard_normal(size, np.float32), (0, 0), sigma)
    return rough / rough.std()

"""Masks of a filmed clip's robot as a network might give them: the truth, made worse.

Not a network: what its errors are is a guess. Modelled: outlines off by smooth noise of 1 to 2
pixels, drawn too wide or too narrow by about half a pixel in a whole clip, soft edges, in one clip
of three a link that is never taken for robot, one frame in twenty that shows something else, and
prompts that must lie on the robot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks._camera_clips import CameraClip
from reconstruction.camera.learned_masks import ROBOT, Prompts
from reconstruction.motion import between_steps
from robots.models import get_robot
from robots.rasterizer import RobotRasterizer

_BIAS = 0.5  # pixels, one sigma, of a clip's outlines
_NOISE = (1.0, 2.0)  # pixels, of outlines; uniform over clips
_GRAIN = 4.0  # pixels over which that noise is alike
_SOFT = 0.7  # pixels over which a mask falls from one half to a quarter
_WRONG = 0.05  # of frames
_WITHOUT = 1 / 3  # of clips: one link is missing in all frames
_ON_ROBOT = 0.5  # of prompts' points, or the mask is of something else


@dataclass
class DegradedMasks:
    """A `MaskBackend` that knows the truth of one clip at its own size.

    Attributes:
        clip: whose frames it is asked for, as they are.
        seed: of its errors, which are the same whenever a frame is asked for.
        asked: frames so far.
    """

    clip: CameraClip
    seed: int = 0
    asked: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        clip = self.clip
        self._step = {frame.tobytes(): step for step, frame in enumerate(clip.rgb)}
        robot = get_robot(clip.robot)
        render = RobotRasterizer(robot, *clip.size)
        n = len(clip)
        many = np.repeat(clip.K[None], n, 0), np.repeat(clip.base_from_camera[None], n, 0)
        # What hides the robot is known at the log's times; the images show it `latency_s` before.
        now = render(clip.joints, clip.gripper, *many)[1] > 0
        states = (clip.joints, clip.gripper)
        shown = (between_steps(clip.time, state, clip.time - clip.latency_s) for state in states)
        part = render(*shown, *many)[1]
        self.truth = (part > 0) & ~(now & ~clip.robot_visible)
        rng = np.random.default_rng([self.seed, 8])
        self._bias, self._noise = rng.normal(0, _BIAS), rng.uniform(*_NOISE)
        without = rng.choice(np.unique(part[part > 0])) if rng.uniform() < _WITHOUT else 0
        self._shown = self.truth & (part != without)

    def __call__(self, frames: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.float32]:
        """See `MaskBackend`."""
        self.asked += len(frames)
        out = np.empty(frames.shape[:3], np.float32)
        for i, frame in enumerate(frames):
            step = self._step[frame.tobytes()]
            rng = np.random.default_rng([self.seed, 9, step])
            wanted = self._shown[step]
            at = prompts.points[i][prompts.labels[i] == ROBOT].astype(int)
            on_robot = wanted[at[:, 1], at[:, 0]].mean() if len(at) else 0.0
            if rng.uniform() < _WRONG or on_robot < _ON_ROBOT:
                left, top, right, bottom = prompts.boxes[i].astype(int)
                wanted = np.zeros_like(wanted)
                wanted[top:bottom, left : (left + right) // 2] = True
            out[i] = self._worse(wanted, rng)
        return out

    def _worse(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
        inside = mask.astype(np.uint8)
        away = [cv2.distanceTransform(m, cv2.DIST_L2, 5) for m in (inside, 1 - inside)]
        # Distances are from the next pixel's middle: the edge is half a pixel nearer.
        outside = np.where(mask, 0.5 - away[0], away[1] - 0.5)
        noise = gaussian_filter(rng.standard_normal(mask.shape), _GRAIN)
        noise *= self._noise / noise.std()
        further = (outside - self._bias - noise) / _SOFT
        return (1 / (1 + 3.0 ** further.clip(-20, 20))).astype(np.float32)

"""What a camera is solved from: one clip's frames and joints, at one working size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.motion import between_steps
from robots.models import RobotModel

Floats = NDArray[np.floating]
Steps = NDArray[np.int64]
# Steps held back from solving, for scoring alone: one in five.
HELD_BACK = (5, 2)
# Pixels across at which everything is solved: DROID's published width. Flow's thresholds are in
# pixels of this size; what is smaller or much larger is resized.
_WIDTH = 320
_AS_IT_IS = (240, 400)


@dataclass(frozen=True, eq=False)
class CameraProblem:
    """A clip of one camera that does not move against the robot's base, or against its hand.

    Attributes:
        robot: whose joints these are.
        decode: frames at steps: (n,) -> (n, H, W, 3) uint8.
        size: (H, W) pixels of the frames.
        joints: (T, J) rad.
        fingers: (T,) opening, or (T, F) that of each gripper joint.
        time: (T,) s, rising.
    """

    robot: RobotModel
    decode: Callable[[Steps], NDArray[np.uint8]]
    size: tuple[int, int]
    joints: Floats
    fingers: Floats
    time: Floats

    def __len__(self) -> int:
        return len(self.time)

    @property
    def scale(self) -> float:
        """Working pixels to a pixel of the frames."""
        width = self.size[1]
        return 1.0 if _AS_IT_IS[0] <= width <= _AS_IT_IS[1] else _WIDTH / width

    @cached_property
    def working_size(self) -> tuple[int, int]:
        """(H, W) at which the camera is solved."""
        return round(self.size[0] * self.scale), round(self.size[1] * self.scale)

    def frames(self, steps: Steps) -> NDArray[np.uint8]:
        """(n, h, w, 3) at the working size."""
        images = self.decode(steps)
        if self.scale == 1.0:
            return images
        height, width = self.working_size
        way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        return np.stack([cv2.resize(image, (width, height), interpolation=way) for image in images])

    def states_at(self, time: Floats) -> tuple[Floats, Floats]:
        """Joints (n, J) and fingers at times (n,) s, smooth between steps, held at the ends."""
        joints, fingers = (
            between_steps(self.time, values, time) for values in (self.joints, self.fingers)
        )
        return joints, fingers

    def held_back(self) -> Steps:
        """Steps that only score."""
        every, first = HELD_BACK
        return np.arange(first, len(self), every)

    def solving(self) -> Steps:
        """All other steps."""
        return np.setdiff1d(np.arange(len(self)), self.held_back())


def moving_pairs(problem: CameraProblem, first: Steps, count: int) -> Steps:
    """At most ``count`` of ``first`` for pairs (t, t + 1): fast, and far apart in posture."""
    if len(first) == 0:
        return first
    joints = problem.joints
    speed = np.abs(joints[first + 1] - joints[first]).max(1)
    fast = np.argsort(-speed, kind="stable")[: max(3 * count, 24)]
    chosen = [int(fast[0])]
    while len(chosen) < min(count, len(fast)):
        apart = np.linalg.norm(joints[first[fast], None] - joints[first[chosen]], axis=2).min(1)
        worth = np.minimum(apart, 0.5) * speed[fast]
        worth[np.isin(fast, chosen)] = -1
        chosen.append(int(fast[np.argmax(worth)]))
    return np.sort(first[chosen])


def diverse_steps(problem: CameraProblem, steps: Steps, count: int) -> Steps:
    """At most ``count`` of ``steps``, each as far as can be in joints from those before it."""
    joints = problem.joints[steps]
    chosen = [0]
    apart = np.linalg.norm(joints - joints[0], axis=1)
    while len(chosen) < min(count, len(steps)):
        chosen.append(int(np.argmax(apart)))
        apart = np.minimum(apart, np.linalg.norm(joints - joints[chosen[-1]], axis=1))
        apart[chosen] = -1
    return np.sort(steps[chosen])

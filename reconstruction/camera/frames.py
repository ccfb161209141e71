"""The frames that outlines are followed in, with the robot's states at their times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.backdrop import Backdrop, learn_backdrop
from reconstruction.camera.learned_masks import MaskBackend, ask_masks
from reconstruction.camera.problem import CameraProblem, Steps, diverse_steps
from robo4d.geometry import invert
from robots.kinematics import link_poses
from robots.rasterizer import RobotRasterizer

Floats = NDArray[np.floating]


class FrameSet:
    """Frames of one camera from one or several clips, with the robot's states and velocities.

    Args:
        steps: of each clip.
        on_hand: the camera rides on the hand: what is behind it moves, and its links do not.

    Attributes:
        images: (n, h, w, 3) float32 at the working size.
        enlarged: how many times as large that is as the frames, at least 1.
        robot: whose frames these are.
        dt: s from step to step.
        shares: (n, h, w) the robot's share by a learned mask, NaN where unknown; None without one.
    """

    def __init__(
        self,
        problems: Sequence[CameraProblem],
        steps: Sequence[Steps],
        renderer: RobotRasterizer,
        on_hand: bool = False,
    ) -> None:
        self._problems, self._steps, self._render = problems, steps, renderer
        self.robot = problems[0].robot
        self.images = np.concatenate(
            [problem.frames(chosen) for problem, chosen in zip(problems, steps, strict=True)]
        ).astype(np.float32)
        self.dt = float(np.median(np.concatenate([np.diff(problem.time) for problem in problems])))
        self.on_hand = on_hand
        self.enlarged = max(problems[0].scale, 1.0)
        self.shares: NDArray[np.float32] | None = None
        self._late: float | None = None

    def __len__(self) -> int:
        return len(self.images)

    def more(self, count: int) -> FrameSet:
        """``count`` frames to solve by, of each clip as many or all it has.

        These themselves where they are no fewer.
        """
        if len(self) >= count:
            return self
        share = -(-count // len(self._problems))
        steps = [diverse_steps(problem, problem.solving(), share) for problem in self._problems]
        if sum(map(len, steps)) <= len(self):
            return self
        return FrameSet(self._problems, steps, self._render, self.on_hand)

    def set_late(self, late: float) -> None:
        """Take the robot's states from ``late`` s before each frame."""
        if late == self._late:
            return
        self._late = late
        robot = self.robot
        joints, fingers, links, velocity = [], [], [], []
        for problem, steps in zip(self._problems, self._steps, strict=True):
            time = problem.time[steps] - late
            state = problem.states_at(time)
            before, after = (problem.states_at(time + d) for d in (-self.dt / 2, self.dt / 2))
            change = link_poses(robot, *after) - link_poses(robot, *before)
            joints.append(state[0])
            fingers.append(state[1])
            links.append(link_poses(robot, *state))
            velocity.append(change / self.dt @ invert(links[-1]))
        self.joints, self.fingers = np.concatenate(joints), np.concatenate(fingers)
        self.links = np.concatenate(links)  # (n, L, 4, 4) base_from_link
        self.velocity = np.concatenate(velocity)  # (n, L, 4, 4): d(point)/dt = velocity @ point

    def rendered(
        self, chosen: NDArray[np.integer], K: Floats, pose: Floats
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Robot depth and parts (n, h, w) of the chosen frames."""
        n = len(chosen)
        many = np.repeat(K[None], n, 0), np.repeat(pose[None], n, 0)
        return self._render(self.joints[chosen], self.fingers[chosen], *many)

    def backdrop(self, K: Floats, pose: Floats, margin: int) -> Backdrop:
        """What is behind the robot, by a pose that is right to ``margin`` pixels."""
        robot = self.rendered(np.arange(len(self)), K, pose)[1] > 0
        return learn_backdrop(self.images, robot, margin)

    def ask(self, masks: MaskBackend, K: Floats, pose: Floats, late: float, count: int) -> None:
        """Have ``shares`` of masks of ``count`` frames, prompted by the robot as a pose has it."""
        self.set_late(late)
        evenly = np.linspace(0, len(self) - 1, min(count, len(self)))
        chosen = np.unique(evenly.round().astype(int))
        part = self.rendered(chosen, K, pose)[1]
        self.shares = np.full(self.images.shape[:3], np.nan, np.float32)
        self.shares[chosen] = ask_masks(masks, self.images[chosen], part)

"""Step pairs of a camera's clips, with the robot's surface and the flow that the images show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.flow_score import FlowPairs, dense_flow
from reconstruction.camera.problem import CameraProblem, Steps, moving_pairs
from robots.kinematics import link_poses
from robots.surface import surface_points

_POINTS = 3000
# Grey levels, over three channels: far above JPEG's noise, below most robots' contrast.
_CONTRAST = 20.0


def solving_pairs(problem: CameraProblem, count: int) -> Steps:
    """First steps of at most ``count`` pairs of which neither step is held back."""
    steps = problem.solving()
    return moving_pairs(problem, steps[:-1][np.diff(steps) == 1], count)


def scoring_pairs(problem: CameraProblem, count: int) -> Steps:
    """Likewise, of pairs that begin or end at a step held back."""
    held = problem.held_back()
    first = np.unique(np.concatenate([held - 1, held]))
    return moving_pairs(problem, first[(first >= 0) & (first + 1 < len(problem))], count)


def flow_pairs(problems: Sequence[CameraProblem], firsts: Sequence[Steps]) -> FlowPairs:
    """Pairs (t, t + 1) of each clip, put together."""
    parts = [_pairs(problem, first) for problem, first in zip(problems, firsts, strict=True)]
    arrays = (np.concatenate(part) for part in zip(*parts, strict=True))
    return FlowPairs(*arrays, surface_points(problems[0].robot.name, _POINTS).area)


def _pairs(problem: CameraProblem, first: Steps) -> tuple[NDArray, ...]:
    points = surface_points(problem.robot.name, _POINTS)
    steps = np.unique(np.concatenate([first, first + 1]))
    links = link_poses(problem.robot, problem.joints[steps], problem.fingers[steps])
    images = problem.frames(steps)
    at, after = np.searchsorted(steps, first), np.searchsorted(steps, first + 1)
    placed = points.placed(links)
    return (
        placed[at],
        placed[after],
        points.facing(links[at]),
        dense_flow(images[at], images[after]),
        foreground(images[at], np.median(images, axis=0)),
    )


def foreground(images: NDArray, background: NDArray) -> NDArray[np.float32]:
    """(n, h, w) 0..1, how surely images (n, h, w, 3) differ from a background (h, w, 3)."""
    gap = np.linalg.norm(images.astype(np.float32) - background, axis=-1)
    return np.asarray(1 - np.exp(-0.5 * (gap / _CONTRAST) ** 2), np.float32)

"""The camera's own motion as ruler: depth before a camera that the robot carries.

A hand says little of the scene beyond it: it shows nearly one depth, a tenth of the scene's, and is
the part of the picture that a network knows least. But kinematics knows how the camera moves, and
still points that are seen from several places have metric depth (`reconstruction.parallax`). A
quarter of these takes no part in the correction and judges it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruction.anchor import (
    MOST_RIGHT,
    OCCLUDER,
    TRUSTED,
    Anchored,
    held_back_pixels,
    judge_held_back,
    nothing_known,
)
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.parallax import FEWEST, RIGHT, correct_depth, triangulate_motion

Floats = NDArray[np.floating]


def anchor_by_motion(
    estimate: DepthEstimate, rgb: NDArray[np.uint8], K: Floats, robot: RobotView
) -> Anchored:
    """An estimate of kind scaled, corrected, or why it cannot be.

    Args:
        rgb: (T, H, W, 3).
        K: (3, 3) pixels.
    """
    points = triangulate_motion(rgb, K, robot.base_from_camera, robot.depth > 0)
    found = correct_depth(estimate.depth, points, robot.depth, told=estimate.told)
    if found is None:
        tracks = len(np.unique(points.track))
        why = f"{tracks} still points are seen from several places; some {4 * FEWEST} are needed"
        return nothing_known(rgb.shape[:3], why, told=estimate.told)
    judge = held_back_pixels(robot.depth) & (estimate.depth > 0)
    held = judge_held_back(found.depth, robot.depth, judge)
    if found.right < MOST_RIGHT:
        why = f"{found.right:.0%} of held-back still points come out within {RIGHT:.0%}"
        return nothing_known(
            rgb.shape[:3],
            f"{why}; {MOST_RIGHT:.0%} must",
            held,
            told=estimate.told,
            points=found.held_back,
            points_right=found.right,
        )
    off = np.abs(np.log(found.depth[judge] / robot.depth[judge]))
    off = off[off < OCCLUDER]
    noise = float(1.4826 * np.median(off)) if len(off) else float(np.median(found.error))
    sure = np.zeros(rgb.shape[:3], np.uint8)
    scale = np.ones(len(rgb))
    for t, depth in enumerate(found.depth):
        known = (estimate.depth[t] > 0) & (estimate.confidence[t] > 0)
        own = -TRUSTED * np.log(estimate.confidence[t][known] / 255)
        # Points correct the estimate's shape too, where they are; at the robot none are.
        error = found.error[t][known]
        own = np.where(robot.depth[t][known] > 0, own, own * np.minimum(1, error / found.prior))
        error = np.where(robot.depth[t][known] > 0, np.maximum(error, noise), error)
        sure[t][known] = np.rint(255 * np.exp(-np.maximum(error, own) / TRUSTED))
        if known.any():
            scale[t] = np.median(depth[known] / estimate.depth[t][known])
    return Anchored(
        depth=np.where(sure > 0, found.depth, 0),
        confidence=sure,
        scale=scale,
        shift=np.zeros(len(scale)),
        noise=noise,
        held_back=held,
        told=estimate.told,
        points=found.held_back,
        points_right=found.right,
    )

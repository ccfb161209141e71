"""One camera's clip to metric 4D: camera, scene depth, the robot's own depth, and what hides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconstruction.anchor_scale import anchor_estimate
from reconstruction.depth import DepthEstimate, DepthEstimator, RobotView
from reconstruction.mask import visible_robot
from reconstruction.motion import Motion
from reconstruction.residual import surface_residual
from robots.rasterizer import RobotRasterizer
from schemas.episode import Calibration, Provenance
from schemas.plan import ClipPlan

NO_CAMERA = "the source ships no camera calibration and no solver has found one"
NO_DEPTH = "the source ships no depth and no depth backend has run"


@dataclass
class Lifted:
    """Fields of a sample with their provenance; ``reasons`` says why a field is absent.

    Attributes:
        robot_residual: m, see `reconstruction.residual`; None without metric depth.
        anchoring: how an estimate was made metric, see `Anchored.describe`; empty where
            it was metric before.
    """

    fields: dict[str, NDArray] = field(default_factory=dict)
    provenance: dict[str, Provenance] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    robot_residual: float | None = None
    anchoring: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, value: NDArray, provenance: Provenance) -> None:
        """Set a field."""
        self.fields[name], self.provenance[name] = value, provenance

    def leave_out(self, reason: str, *names: str) -> None:
        """Mark fields as absent."""
        for name in names:
            self.provenance[name], self.reasons[name] = Provenance.ABSENT, reason

    def describe(self) -> dict[str, dict[str, Any]]:
        """Provenance (and reason) by field, for the sample's metadata."""
        return {
            name: {"provenance": str(source)}
            | ({"reason": self.reasons[name]} if name in self.reasons else {})
            for name, source in sorted(self.provenance.items())
        }


def lift_clip(
    rgb: NDArray[np.uint8],
    clip: ClipPlan,
    motion: Motion,
    calibration: Calibration | None,
    estimator: DepthEstimator | None,
    renderer: RobotRasterizer | None,
    why: str = "",
) -> Lifted:
    """Everything that a clip's geometry consists of; what cannot be known is left out, with why.

    Args:
        rgb: (n, H, W, 3) frames at ``clip.steps``.
        renderer: needed where ``calibration`` is given.
        why: what is to be said where it is not.
    """
    lifted = Lifted()
    if calibration is None or renderer is None:
        K = None if calibration is None else calibration.K
        estimate = None if estimator is None else estimator(rgb, K)
        _put_depth(lifted, estimate, rgb)
        lifted.leave_out(
            f"{NO_CAMERA}: {why}" if why else NO_CAMERA,
            "K",
            "base_from_camera",
            "robot_depth",
            "robot_part",
            "robot_visible",
        )
        return lifted
    lenses = np.repeat(calibration.K[None], len(clip.steps), axis=0)
    pose = calibration.poses(clip.steps)
    lifted.put("K", lenses, calibration.provenance)
    lifted.put("base_from_camera", pose, calibration.provenance)
    robot, part = renderer(motion.joints[clip.steps], motion.fingers[clip.steps], lenses, pose)
    rendered_from = (
        Provenance.SIMULATED
        if calibration.provenance == Provenance.SIMULATED
        else Provenance.ESTIMATED
    )
    lifted.put("robot_depth", robot, rendered_from)
    lifted.put("robot_part", part, rendered_from)
    estimate = None
    if estimator is not None:
        estimate = estimator(rgb, calibration.K, RobotView(robot, pose))
    depth = _put_depth(lifted, estimate, rgb, calibration.K, RobotView(robot, pose))
    if depth is None:
        lifted.leave_out(lifted.reasons["depth"], "robot_visible")
    else:
        noise = lifted.anchoring.get("noise", 0.0)  # exact and measured depth has none
        visible = visible_robot(robot, depth.depth, noise=noise, rgb=rgb if noise else None)
        lifted.put("robot_visible", visible, depth.provenance)
        lifted.robot_residual = surface_residual(robot, depth.depth)
    return lifted


def _put_depth(
    lifted: Lifted,
    estimate: DepthEstimate | None,
    rgb: NDArray[np.uint8],
    K: NDArray[np.floating] | None = None,
    robot: RobotView | None = None,
) -> DepthEstimate | None:
    """Metric depth: as it is estimated, or by what a solved camera tells."""
    if estimate is None:
        lifted.leave_out(NO_DEPTH, "depth", "confidence")
        return None
    if not estimate.metric:
        if robot is None or K is None:
            why = "an estimator's depth is made metric by the robot, which needs a camera"
            lifted.leave_out(why, "depth", "confidence")
            return None
        anchored = anchor_estimate(estimate, rgb, K, robot)
        lifted.anchoring = anchored.describe()
        if not anchored.metric:
            lifted.leave_out(
                f"nothing says how large it is: {anchored.reason}", "depth", "confidence"
            )
            return None
        estimate = DepthEstimate(
            anchored.depth, anchored.confidence, "metric", Provenance.ESTIMATED
        )
    lifted.put("depth", estimate.depth, estimate.provenance)
    lifted.put("confidence", estimate.confidence, estimate.provenance)
    return estimate

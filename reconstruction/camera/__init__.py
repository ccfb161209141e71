"""Where a camera stands against the robot's base or its hand, solved from the robot's motion."""

from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.solve import (
    CameraSolution,
    is_confirmed,
    is_loose,
    score_pose,
    solve_camera,
)
from reconstruction.camera.wrist import WristSolution, score_mount, solve_wrist

__all__ = [
    "CameraProblem",
    "CameraSolution",
    "WristSolution",
    "is_confirmed",
    "is_loose",
    "score_mount",
    "score_pose",
    "solve_camera",
    "solve_wrist",
]

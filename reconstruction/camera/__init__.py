"""Where a camera stands against the robot's base, solved from the robot's own motion."""

from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.solve import CameraSolution, score_pose, solve_camera

__all__ = ["CameraProblem", "CameraSolution", "score_pose", "solve_camera"]

"""What an episode's log must satisfy before anything is built from it."""

from __future__ import annotations

import numpy as np

from reconstruction.motion import Motion
from robots.models import RobotModel
from schemas.config import ChecksConfig
from schemas.episode import Episode
from schemas.reasons import EpisodeError, Reason


def check_motion(episode: Episode, robot: RobotModel, motion: Motion, config: ChecksConfig) -> None:
    """Measured joints lie within limits, and forward kinematics gives the logged ee pose.

    Solved joints satisfy the limits by construction; steps they miss are flagged, not refused.

    Raises:
        EpisodeError: `JOINT_LIMITS` or `KINEMATICS_MISMATCH`, with the worst step and value.
    """
    if episode.robot.joints is None:
        return
    lower, upper = robot.limits.T
    past = np.maximum(lower - motion.joints, motion.joints - upper)
    if past.max() > config.joint_limit_margin:
        step, joint = np.unravel_index(int(past.argmax()), past.shape)
        raise EpisodeError(
            Reason.JOINT_LIMITS,
            f"{robot.joint_names[joint]} is {motion.joints[step, joint]:.4f} rad at step {step}; "
            f"its limits are {lower[joint]:.4f} to {upper[joint]:.4f}",
            stage="checks",
        )
    if motion.position_error is None or motion.rotation_error is None:
        return
    position, rotation = motion.position_error.max(), motion.rotation_error.max()
    if position > config.ee_position or rotation > config.ee_rotation:
        worst = int(np.argmax(motion.position_error + motion.rotation_error))
        raise EpisodeError(
            Reason.KINEMATICS_MISMATCH,
            f"forward kinematics misses the logged pose by {position:.4f} m and {rotation:.4f} rad "
            f"(worst at step {worst}); allowed {config.ee_position} m and {config.ee_rotation} rad",
            stage="checks",
        )

"""Which steps of an episode make the clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import rotation_angle
from schemas.config import ClipConfig
from schemas.episode import Episode
from schemas.plan import ClipPlan
from schemas.reasons import EpisodeError, Reason

# Published logs have 3 to 15 Hz, controllers 1000; an mp4 cannot hold rates far outside.
_RATES = (0.01, 1000.0)


def plan_clip(episode: Episode, config: ClipConfig, late: float = 0.0) -> ClipPlan:
    """At most ``config.frames`` steps, spread evenly over the part in which the robot moves.

    Native order, no repeats: an episode with fewer moving steps gives a shorter clip. One that
    never moves is kept whole. Where the source's own annotation says which steps are not idle,
    the part lies within its first and last.

    Args:
        late: seconds by which images lag behind the log. The part is then the one whose images
            show the motion, and steps whose image shows what the log does not hold are left out.

    Raises:
        EpisodeError: `TOO_SHORT`, `NON_MONOTONIC_TIME`, or `IMPLAUSIBLE` (no rate of a robot).
    """
    if (np.diff(episode.time) <= 0).any():
        step = int(np.argmax(np.diff(episode.time) <= 0)) + 1
        raise EpisodeError(
            Reason.NON_MONOTONIC_TIME,
            f"time goes from {episode.time[step - 1]} to {episode.time[step]} s at step {step}",
        )
    moving = moving_steps(episode, config)
    first, last = _part(moving, episode.keep)
    if last - first + 1 < config.min_frames:
        first, last = 0, len(episode) - 1
    first, last = _shown(episode.time, late, first, last)
    count = min(config.frames, last - first + 1)
    if count < config.min_frames:
        raise EpisodeError(
            Reason.TOO_SHORT, f"{count} step(s); clip.min_frames is {config.min_frames}"
        )
    steps = np.unique(np.linspace(first, last, count).round().astype(np.int64))
    span = float(episode.time[steps[-1]] - episode.time[steps[0]])
    fps = (len(steps) - 1) / span if len(steps) > 1 else episode.fps
    if not _RATES[0] <= fps <= _RATES[1]:
        raise EpisodeError(
            Reason.IMPLAUSIBLE,
            f"{len(steps)} steps in {span:.3g} s make {fps:.3g} Hz; a robot's log has "
            f"{_RATES[0]:g} to {_RATES[1]:g} (are its times in another unit?)",
        )
    idle = float(1 - moving.mean()) if len(moving) else 1.0
    return ClipPlan(steps=steps, fps=fps, moving=(first, last), idle_share=idle)


def _shown(time: NDArray[np.floating], late: float, first: int, last: int) -> tuple[int, int]:
    """First and last step whose image, ``late`` s late, shows a time of steps first to last."""
    shown = time - late
    within = np.flatnonzero((shown >= time[first]) & (shown <= time[last]))
    return (int(within[0]), int(within[-1])) if len(within) else (0, -1)


def moving_steps(episode: Episode, config: ClipConfig) -> NDArray[np.bool_]:
    """(T - 1,) whether joints, ee or gripper move from each step to the next."""
    moving = np.zeros(max(len(episode) - 1, 0), bool)
    dt = np.diff(episode.time)
    log = episode.robot
    moving |= np.abs(np.diff(log.gripper)) / dt > config.idle_gripper_speed
    if log.joints is not None:
        speed: NDArray = np.abs(np.diff(log.joints, axis=0)).max(axis=1) / dt
        moving |= speed > config.idle_joint_speed
    elif log.ee is not None:
        shift = np.linalg.norm(np.diff(log.ee[:, :3, 3], axis=0), axis=1)
        turn = rotation_angle(log.ee[:-1, :3, :3], log.ee[1:, :3, :3])
        moving |= (shift / dt > config.idle_ee_speed) | (turn / dt > config.idle_joint_speed)
    return moving


def _part(moving: NDArray[np.bool_], keep: tuple[tuple[int, int], ...] | None) -> tuple[int, int]:
    """First and last step of the part between the first and the last motion."""
    if keep:
        inside = np.zeros(len(moving) + 1, bool)
        for start, stop in keep:
            inside[start:stop] = True
        moving = moving & inside[:-1] & inside[1:]
    where = np.flatnonzero(moving)
    if len(where) == 0:
        return 0, len(moving)
    return int(where[0]), int(where[-1]) + 1

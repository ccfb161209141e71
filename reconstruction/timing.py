"""By how much a camera's images lag behind the robot's log, read from how both of them move.

The robot's motion moves the image: that of an arm before a camera, or, for a camera on the arm,
that of the whole scene. How, depends on the view, but it is nearly linear in the hand's velocity
(image Jacobian; Chaumette and Hutchinson 2006), so the view need not be known: at each lag the
image's motion is explained by the logged motion, and the lag that explains most is the offset.
Direction counts, which plain speed against frame differences does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from reconstruction.image_motion import MIN_SIDE, image_motion
from reconstruction.lag import SUBSTEPS, BestLag, LagProfile, profile_lags
from reconstruction.motion import Motion
from robo4d.geometry import invert, project, transform
from robots.kinematics import link_poses
from robots.models import RobotModel
from robots.surface import surface_points
from schemas.config import TimingConfig
from schemas.episode import CameraStream, Episode
from schemas.reasons import EpisodeError

Floats = NDArray[np.floating]
# Six velocities and a constant are fitted at every lag; fewer intervals fit anything.
_MIN_INTERVALS = 14
# Lags that must be tried on either side of none, or an offset could not be told from the edge.
_MIN_REACH = 2
# Radians count as metres at this distance, about a hand's length, where motion is summed up.
_LEVER = 0.1
# A slower window has no motion to compare: 1 mm a step, five times the noise of DROID's encoders.
_MIN_SPEED = 1e-3
# Of an image's motion; the log of another episode reaches 0.5 where it fits best by chance.
_MIN_EXPLAINED = 0.25
# In steps. At half a step the nearest row of the log becomes another one, so an offset is of use
# where it is known to better than that, and sure where it is known to a fraction of that.
_USEFUL_SIGMA, _SURE_SIGMA = 0.5, 0.2
# Shares of draws that find another offset. benchmarks/timing.py has the rates that come of these.
_USEFUL_ASTRAY, _SURE_ASTRAY = 0.2, 0.02
_POINTS = 200


@dataclass(frozen=True)
class CameraOffset:
    """One camera's own evidence.

    Attributes:
        seconds: by which its images lag; of no use where ``sigma_s`` is large. None where the best
            is at the edge of what was tried.
        sigma_s: s within which 68.3 % of redrawn evidence finds it again.
        explained: share 0..1 of the image's motion that the log explains.
        by: which motion explains it: the hand's in the ``base`` frame (a fixed camera) or in its
            ``own`` (one on the wrist), or the robot's, ``projected`` with the known camera.
    """

    seconds: float | None
    sigma_s: float | None
    explained: float
    by: str


@dataclass(frozen=True)
class TimeOffset:
    """An episode's offset: the image at time t shows the robot as the log has it at t - seconds.

    Positive is the usual case: images late, or a log ahead of them.

    Attributes:
        seconds: None where nothing is known; ``reason`` says why.
        sigma_s: s within which 68.3 % of redrawn evidence finds it again; None without an estimate.
        sure: the evidence leaves no other offset, and is not off by half a step.
        cameras: by name, those whose images move.
        reason: why there is no offset, or why it is not sure.
    """

    seconds: float | None
    sigma_s: float | None = None
    sure: bool = False
    cameras: Mapping[str, CameraOffset] = field(default_factory=dict)
    reason: str = ""

    def describe(self) -> dict[str, Any]:
        """For a sample's metadata."""
        return asdict(self)


@dataclass(frozen=True)
class _Window:
    """Intervals ``first`` .. ``first + count - 1``; interval i is from step i to step i + 1."""

    first: int
    count: int
    reach: int


def estimate_offset(
    episode: Episode, robot: RobotModel, motion: Motion, config: TimingConfig
) -> TimeOffset:
    """Estimate the offset that all cameras of an episode share.

    Frames of at most ``config.window`` intervals are decoded. Nothing is estimated where the robot
    hardly moves, the images do not follow it, several offsets explain them, or cameras disagree.
    """
    if all(camera.depth is not None for camera in episode.cameras.values()):
        return TimeOffset(0.0, 0.0, True, reason="frames are rendered from the logged states")
    reach = min(config.max_offset_steps, (len(episode) - 1 - _MIN_INTERVALS) // 2)
    if reach < min(_MIN_REACH, config.max_offset_steps):
        return TimeOffset(None, reason=f"too short to compare motion: {len(episode)} steps")
    speed = _speed(motion.ee)
    window = _busiest(speed, reach, config.window)
    mean = float(speed[window.first : window.first + window.count].mean())
    if mean < _MIN_SPEED:
        return TimeOffset(None, reason=f"the robot hardly moves: {1e3 * mean:.2f} mm a step")
    poses = _between_steps(robot, motion, window)
    step = float(np.median(np.diff(episode.time)))
    profiles, cameras = [], {}
    for name, stream in episode.cameras.items():
        seen = _observe(stream, window)
        if seen is None:
            continue
        by, profile = _explain(seen, stream, robot, poses, window.reach)
        best = profile.best()
        cameras[name] = _camera(best, by, step)
        if best.explained >= _MIN_EXPLAINED:
            profiles.append((name, profile))
    if not profiles:
        return TimeOffset(None, cameras=cameras, reason="no image moves as the robot does")
    return _judge(profiles, cameras, step)


def _judge(
    profiles: list[tuple[str, LagProfile]], cameras: Mapping[str, CameraOffset], step: float
) -> TimeOffset:
    total = profiles[0][1]
    for _, profile in profiles[1:]:
        total = total + profile
    best = total.best()
    if best.at_edge:
        reason = f"the best offset, {best.lag:+.2f} steps, is at the edge of those tried"
        return TimeOffset(None, cameras=cameras, reason=reason)
    if best.sigma > _USEFUL_SIGMA or best.astray > _USEFUL_ASTRAY:
        reason = f"several offsets explain the images: {best.lag:+.2f} +- {best.sigma:.2f} steps"
        return TimeOffset(None, cameras=cameras, reason=reason)
    for name, profile in profiles:
        own = profile.best()
        sigma = float(np.hypot(own.sigma, best.sigma))
        if own.astray <= _SURE_ASTRAY and abs(own.lag - best.lag) > max(0.5, 3 * sigma):
            reason = f"cameras disagree: {name} {own.lag:+.2f}, all {best.lag:+.2f} steps"
            return TimeOffset(None, cameras=cameras, reason=reason)
    sure = best.sigma <= _SURE_SIGMA and best.astray <= _SURE_ASTRAY
    reason = "" if sure else f"known to {best.sigma:.2f} steps; {best.astray:.0%} of draws differ"
    return TimeOffset(
        _milliseconds(best.lag * step), _milliseconds(best.sigma * step), sure, cameras, reason
    )


def _camera(best: BestLag, by: str, step: float) -> CameraOffset:
    explained = round(best.explained, 3)
    if best.at_edge:
        return CameraOffset(None, None, explained, by)
    seconds, sigma = _milliseconds(best.lag * step), _milliseconds(best.sigma * step)
    return CameraOffset(seconds, sigma, explained, by)


def _milliseconds(seconds: float) -> float:
    """Rounded: finer than any estimate, and coarser than what processors disagree by."""
    return round(seconds, 3) + 0.0  # not -0.0


def _speed(ee: Floats) -> Floats:
    """(T - 1,) m a step, of a point that is ``_LEVER`` off the hand's middle."""
    ends = ee[:, :3, 3, None] + _LEVER * ee[:, :3, :3]
    return np.linalg.norm(np.diff(ends, axis=0), axis=1).mean(1)


def _busiest(speed: Floats, reach: int, most: int) -> _Window:
    """The window of most motion that leaves ``reach`` logged intervals on either side."""
    count = min(most, len(speed) - 2 * reach)
    inner = speed[reach : len(speed) - reach]
    total = np.convolve(inner, np.ones(count), "valid")
    return _Window(reach + int(total.argmax()), count, reach)


def _between_steps(robot: RobotModel, motion: Motion, window: _Window) -> Floats:
    """Link poses (F, L, 4, 4) at every 1 / `SUBSTEPS` of a step that any lag asks for.

    Joints go through cubic splines: straight lines between steps would smooth the motion half way
    between them and leave it at the steps, which draws lags to either.
    """
    first = window.first - window.reach
    last = window.first + window.count + window.reach
    at = np.arange(first * SUBSTEPS, last * SUBSTEPS + 1) / SUBSTEPS
    steps = np.arange(len(motion.joints))
    joints = CubicSpline(steps, motion.joints)(at)
    return link_poses(robot, joints, np.interp(at, steps, motion.gripper))


def _observe(stream: CameraStream, window: _Window) -> Floats | None:
    """(count, 4) `image_motion` over the window; None where there is nothing to see."""
    try:
        if min(stream.size()) < MIN_SIDE:
            return None
        rgb = stream.decode(np.arange(window.first, window.first + window.count + 1))
    except EpisodeError:  # whoever needs these frames for the clip itself will say so
        return None
    seen = image_motion(rgb)
    # A blank or frozen view; any noise at all makes some flow.
    return seen if (seen.std(0) > 1e-6).all() else None


def _explain(
    seen: Floats, stream: CameraStream, robot: RobotModel, poses: Floats, reach: int
) -> tuple[str, LagProfile]:
    """The motion that explains an image's best, and how well it does at every lag."""
    camera = stream.calibration
    if camera is not None and camera.base_from_camera.ndim == 2:
        points = surface_points(robot.name, _POINTS).placed(poses)
        moves = _projected(points, camera.K, camera.base_from_camera, stream.size())
        return "projected", profile_lags(seen, moves, reach)
    ee = poses[:, robot.link_names.index(robot.ee_body)] @ robot.body_from_ee
    by = {"base": _base_velocity(ee), "own": _own_velocity(ee)}
    profiles = {name: profile_lags(seen, moves, reach) for name, moves in by.items()}
    name = min(profiles, key=lambda name: profiles[name].cost[0].min())
    return name, profiles[name]


def _base_velocity(ee: Floats) -> Floats:
    """(F - `SUBSTEPS`, 6) m and rad over one step, in the base frame."""
    before, after = ee[:-SUBSTEPS], ee[SUBSTEPS:]
    turn = after[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2)
    return np.concatenate([after[:, :3, 3] - before[:, :3, 3], _axial(turn)], axis=1)


def _own_velocity(ee: Floats) -> Floats:
    """(F - `SUBSTEPS`, 6) m and rad over one step, in the hand's own frame."""
    move = invert(ee[:-SUBSTEPS]) @ ee[SUBSTEPS:]
    return np.concatenate([move[:, :3, 3], _axial(move[:, :3, :3])], axis=1)


def _axial(turn: Floats) -> Floats:
    """sin(angle) times axis, (n, 3), of rotations (n, 3, 3)."""
    return np.stack([turn[:, i, j] - turn[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], 1) / 2


def _projected(
    points: Floats, K: Floats, base_from_camera: Floats, size: tuple[int, int]
) -> Floats:
    """(F - `SUBSTEPS`, 4) what `image_motion` would see of points (F, N, 3), up to scale."""
    height, width = size
    uv, z = project(transform(invert(base_from_camera), points), K)
    start, move = uv[:-SUBSTEPS], uv[SUBSTEPS:] - uv[:-SUBSTEPS]
    shown = (np.minimum(z[:-SUBSTEPS], z[SUBSTEPS:]) > 0.1) & (
        (start >= 0) & (start < [width, height])
    ).all(-1)
    right, down = np.moveaxis(np.where(shown[..., None], move, 0), -1, 0)
    x, y = np.moveaxis((start - [width / 2, height / 2]) / width, -1, 0)
    x, y = np.where(shown, x, 0), np.where(shown, y, 0)
    signals = (right, down, right * x + down * y, down * x - right * y)
    return np.stack([signal.mean(1) for signal in signals], axis=1)

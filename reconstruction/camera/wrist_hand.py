"""A camera on a hand, the hand's path, and where points of the scene are seen from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.estimate import zoomed
from reconstruction.camera.problem import CameraProblem
from reconstruction.camera.wrist_tracks import Tracks
from robo4d.geometry import invert
from robots.kinematics import ee_poses

Floats = NDArray[np.floating]
_EPSILON = 1e-5  # rad, for derivatives of forward kinematics
NEAREST = 0.02  # m before the camera from which a point counts as before it


@dataclass(frozen=True)
class Mount:
    """A camera on a hand at the working size.

    Attributes:
        pose: ee_from_camera (4, 4).
        log_zoom: logarithm of the focal length over the guess.
        late: s by which images lag behind the joints.
    """

    pose: Floats
    log_zoom: float = 0.0
    late: float = 0.0


class Hand:
    """The hand's path through all frames of some clips, one clip after the other."""

    def __init__(self, problems: Sequence[CameraProblem]) -> None:
        self._problems, self._robot = problems, problems[0].robot
        self.dt = float(np.median(np.concatenate([np.diff(p.time) for p in problems])))
        self.shape = (sum(map(len, problems)), problems[0].joints.shape[1])

    def joints(self, late: float) -> Floats:
        """(F, J) rad, ``late`` s before each frame."""
        return np.concatenate([p.states_at(p.time - late)[0] for p in self._problems])

    def ee(self, late: float = 0.0, offset: Floats | float = 0.0) -> Floats:
        """base_from_ee (F, 4, 4), of joints that are ``offset`` (F, J) rad off the log."""
        return ee_poses(self._robot, self.joints(late) + offset)

    def speeds(self, late: float, offset: Floats) -> tuple[Floats, Floats]:
        """(F, 4, 4) and (F, J, 4, 4): d(point) = speed @ point by time and by each joint.

        Of points that ride on the hand.
        """
        joints = self.joints(late) + offset
        back = invert(ee_poses(self._robot, joints))
        ahead, behind = (self.joints(late + d) for d in (-self.dt / 2, self.dt / 2))
        change = ee_poses(self._robot, ahead + offset) - ee_poses(self._robot, behind + offset)
        by_joint = [
            (ee_poses(self._robot, joints + step) - ee_poses(self._robot, joints - step))
            / (2 * _EPSILON)
            @ back
            for step in _EPSILON * np.eye(self.shape[1])
        ]
        return np.asarray(change / self.dt @ back), np.stack(by_joint, 1)


def misses(
    tracks: Tracks, hand: Hand, K: Floats, mount: Mount, offset: Floats, points: Floats
) -> tuple[Floats, Floats]:
    """(N, 2) pixels, observed less predicted, and depths (N,) in m."""
    K = zoomed(K, mount.log_zoom)
    cameras = (hand.ee(mount.late, offset) @ mount.pose)[tracks.frame]
    there = into(cameras, points[tracks.track])
    depth = there[:, 2]
    safe = np.where(depth > NEAREST, depth, np.nan)
    return tracks.pixel - there[:, :2] / safe[:, None] * [K[0, 0], K[1, 1]] - K[:2, 2], depth


def into(cameras: Floats, points: Floats) -> Floats:
    """Points (N, 3) of the base in cameras (N, 4, 4)."""
    away = (points - cameras[:, :3, 3])[..., None]
    return np.asarray((np.swapaxes(cameras[:, :3, :3], 1, 2) @ away)[..., 0])

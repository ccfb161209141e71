"""A camera as least squares know it, and how far one is from another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import invert, make_pose

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Estimate:
    """A camera at the working size.

    Attributes:
        pose: base_from_camera (4, 4).
        log_zoom: logarithm of the focal length over the guess.
        late: s by which images lag behind the joints.
        covariance: (8, 8) of turn, shift, log_zoom, late; None where no outline was seen.
    """

    pose: Floats
    log_zoom: float = 0.0
    late: float = 0.0
    covariance: Floats | None = None

    def moved(self, change: Floats) -> Estimate:
        """By turn (rad), shift (m), log_zoom and late (s) (8,), in the camera's own frame."""
        step = make_pose(Rotation.from_rotvec(change[:3]).as_matrix(), change[3:6])
        return replace(
            self,
            pose=np.asarray(self.pose @ step),
            log_zoom=self.log_zoom + float(change[6]),
            late=self.late + float(change[7]),
        )


def between(a: Estimate, b: Estimate) -> Floats:
    """(8,) the change that moves a to b."""
    move = invert(a.pose) @ b.pose
    turn = Rotation.from_matrix(move[:3, :3]).as_rotvec()
    return np.concatenate([turn, move[:3, 3], [b.log_zoom - a.log_zoom, b.late - a.late]])


def away(a: Estimate, b: Estimate) -> float:
    """How far pose a is from b, in b's standard deviations (root mean square)."""
    assert b.covariance is not None
    step = between(b, a)[:6]
    return float(np.sqrt(step @ np.linalg.solve(b.covariance[:6, :6], step) / 6))


def zoomed(K: Floats, log_zoom: float) -> Floats:
    """K with both focal lengths scaled."""
    zoom = np.exp(log_zoom)
    return np.asarray(K * [[zoom, zoom, 1], [zoom, zoom, 1], [1, 1, 1]])

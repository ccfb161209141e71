"""What any depth network has to beat: a constant, a plane seen from above, the plane that the robot
stands on, a plane fitted to truth.

None of them looks at the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from reconstruction.depth import DepthEstimate, RobotView
from robo4d.geometry import check_array
from schemas.episode import Provenance

# Inverse depth beside that of the image's middle, below which a plane counts as its horizon.
_HORIZON = 0.1
# Depth in m from which a plane below the robot is no table any more, nor the room's floor.
_FARTHEST = 10.0
# Pixels that a plane is fitted to, and the relative error from which one counts as beside it.
_PIXELS, _FLAT = 5000, 0.05


@dataclass(frozen=True)
class ConstantDepth:
    """The same depth everywhere.

    Attributes:
        metres: z-depth; a table before a robot's camera is about so far.
    """

    metres: float = 1.0

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """Of kind scaled: only its scale can be wrong."""
        return _scaled(np.full(rgb.shape[:3], self.metres, np.float32))


@dataclass(frozen=True)
class PlaneDepth:
    """A level plane below a camera that looks down at it: all that K alone can say of a table.

    Attributes:
        pitch: rad that the camera looks down; 45 degrees lie between DROID's side views and a
            camera overhead.
        metres: z-depth at the principal point.
    """

    pitch: float = np.pi / 4
    metres: float = 1.0

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """Of kind scaled. Without K the lens is taken as one of 53 degrees (focal length = width).

        A pixel's ray (x, y, 1) meets the plane where z (y cos pitch + sin pitch) = height.
        """
        height, width = rgb.shape[1:3]
        y = (np.arange(height) + 0.5 - height / 2) / width
        if K is not None:
            K = check_array("K", K, [3, 3])
            y = (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]
        inverse = 1 + y / np.tan(self.pitch)  # over that of the middle
        depth = (self.metres / np.maximum(inverse, _HORIZON)).astype(np.float32)
        return _scaled(np.broadcast_to(depth[:, None], rgb.shape[:3]).copy())


@dataclass(frozen=True)
class BasePlane:
    """The plane z = 0 of the robot's base: a table that the robot stands on, with nothing on it."""

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """Of kind metric; unknown where no ray meets it within 10 m, and without a camera."""
        depth = np.zeros(rgb.shape[:3], np.float32)
        if K is not None and robot is not None:
            row, column = np.indices(rgb.shape[1:3]) + 0.5
            rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(K).T
            for out, pose in zip(depth, robot.base_from_camera, strict=True):
                with np.errstate(divide="ignore"):
                    z = -pose[2, 3] / (rays @ pose[2, :3])
                out[:] = np.where((z > 0) & (z < _FARTHEST), z, 0)
        sure = np.where(depth > 0, 255, 0).astype(np.uint8)
        return DepthEstimate(depth, sure, "metric", Provenance.ESTIMATED)


def fit_plane(depth: NDArray[np.floating], K: NDArray[np.floating]) -> NDArray[np.float32]:
    """The one plane that comes nearest to a clip's depth, as z-depth (T, H, W) in m.

    Where 1 / z = a x + b y + c for rays (x, y, 1), the logarithm of depth fitted so that what does
    not lie in the plane, as the robot, counts little (soft L1), to some pixels spread over the
    clip; kept within the depths that there are. An oracle, since it is shown the truth: what is
    left is all that is not a plane.

    Args:
        depth: (T, H, W) m, 0 unknown.
        K: (3, 3).

    Raises:
        ShapeError: arrays do not fit together.
    """
    depth = check_array("depth", depth, ["T", "H", "W"])
    K = check_array("K", K, [3, 3])
    known = depth > 0
    if not known.any():
        return np.zeros(depth.shape, np.float32)
    row, column = np.indices(depth.shape[1:]) + 0.5
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(K).T
    near, far = depth[known].min(), depth[known].max()
    some = np.argwhere(known)[:: max(1, known.sum() // _PIXELS)]
    z, ray = depth[tuple(some.T)].astype(float), rays[some[:, 1], some[:, 2]]

    def off(plane: NDArray) -> NDArray:
        return np.log(z * np.maximum(ray @ plane, 0.1 / far))

    start = np.linalg.lstsq(ray, 1 / z, rcond=None)[0]
    inverse = rays @ least_squares(off, start, loss="soft_l1", f_scale=_FLAT).x
    plane = 1 / np.clip(inverse, 1 / far, 1 / near)
    return np.broadcast_to(plane.astype(np.float32), depth.shape).copy()


def _scaled(depth: NDArray[np.float32]) -> DepthEstimate:
    sure = np.full(depth.shape, 255, np.uint8)
    return DepthEstimate(depth, sure, "scaled", Provenance.ESTIMATED)

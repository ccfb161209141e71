"""Depth estimators: one signature, backends chosen by name in the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import check_array
from schemas.episode import Provenance

# metric: z-depth in m. scaled: z-depth in m by the look of things, to be trusted up to a scale.
# inverse: 1 / z-depth up to scale > 0 and shift (Ranftl et al. 2020, MiDaS), frame by frame.
Kind = Literal["metric", "scaled", "inverse"]


@dataclass(frozen=True)
class DepthEstimate:
    """What an estimator returns.

    Attributes:
        depth: (T, H, W) float32 of ``kind``; 0 where unknown.
        confidence: (T, H, W) uint8.
        kind: what the numbers of ``depth`` are.
        provenance: where it came from.
        told: whether the robot's depth went into it, so that its scale is the robot's already.
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.uint8]
    kind: Kind
    provenance: Provenance
    told: bool = False

    def __post_init__(self) -> None:
        depth = check_array("DepthEstimate.depth", self.depth, ["T", "H", "W"])
        check_array("DepthEstimate.confidence", self.confidence, depth.shape, "u")

    @property
    def metric(self) -> bool:
        """Whether ``depth`` is in metres as it is; if not, the robot has to say (`anchor`)."""
        return self.kind == "metric"


@dataclass(frozen=True)
class RobotView:
    """What is known of a clip whose camera is solved: where the robot is in the pictures.

    Attributes:
        depth: (T, H, W) z-depth in m of the robot alone, from its joints; 0 where it is not.
        base_from_camera: (T, 4, 4).
    """

    depth: NDArray[np.float32]
    base_from_camera: NDArray[np.floating]

    def __post_init__(self) -> None:
        depth = check_array("RobotView.depth", self.depth, ["T", "H", "W"])
        check_array("RobotView.base_from_camera", self.base_from_camera, [len(depth), 4, 4])

    @property
    def camera_rests(self) -> bool:
        """Whether the camera stands still."""
        return bool((self.base_from_camera == self.base_from_camera[0]).all())


class DepthEstimator(Protocol):
    """Any depth backend."""

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """Depth of one camera's frames.

        Args:
            rgb: (T, H, W, 3) uint8.
            K: (3, 3) pixels, where it is known.
            robot: where the camera is solved; most backends make no use of it.
        """
        ...

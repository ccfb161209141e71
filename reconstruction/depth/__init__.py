"""Depth estimators: one signature, backends chosen by name in the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import check_array
from schemas.episode import Provenance


@dataclass(frozen=True)
class DepthEstimate:
    """What an estimator returns.

    Attributes:
        depth: (T, H, W) float32; z-depth in m if ``metric``, else affine-invariant inverse depth.
            0 where unknown.
        confidence: (T, H, W) uint8.
        metric: whether ``depth`` is in metres.
        provenance: where it came from.
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.uint8]
    metric: bool
    provenance: Provenance

    def __post_init__(self) -> None:
        depth = check_array("DepthEstimate.depth", self.depth, ["T", "H", "W"])
        check_array("DepthEstimate.confidence", self.confidence, depth.shape, "u")


class DepthEstimator(Protocol):
    """Any depth backend."""

    def __call__(self, rgb: NDArray[np.uint8], K: NDArray[np.floating] | None) -> DepthEstimate:
        """Frames (T, H, W, 3) uint8 of one camera, and K (3, 3) where known, to depth."""
        ...

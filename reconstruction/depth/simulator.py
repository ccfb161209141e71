"""Exact depth: a simulator's, which comes with its frames, or a twin's, from the truth beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zarr
import zarr.errors
from numpy.typing import NDArray

from reconstruction.depth import DepthEstimate, RobotView
from robo4d import ShapeError
from schemas.episode import Calibration, DepthSource, Provenance
from schemas.reasons import EpisodeError, Reason
from schemas.truth import TRUTH_STORE, truth_group


@dataclass(frozen=True)
class CameraTruth:
    """The truth of one camera of one episode."""

    group: zarr.Group

    def calibration(self) -> Calibration:
        """K and the per-step pose."""
        try:
            return Calibration(
                K=np.asarray(self.group["K"]),
                base_from_camera=np.asarray(self.group["base_from_camera"]),
                provenance=Provenance.SIMULATED,
            )
        except (KeyError, ShapeError) as error:
            raise EpisodeError(Reason.BAD_TRUTH, f"truth camera: {error}") from error

    def depth(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Z-depth (n, H, W) in m at the given steps."""
        return self._frames("depth", steps)

    def robot_part(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Visible robot part ids (n, H, W) at the given steps; for judging, never for building."""
        return self._frames("robot_part", steps)

    def _frames(self, name: str, steps: Sequence[int] | NDArray[np.integer]) -> NDArray:
        array = self.group.get(name)
        if not isinstance(array, zarr.Array) or int(max(steps)) >= array.shape[0]:
            have = getattr(array, "shape", None)
            raise EpisodeError(
                Reason.BAD_TRUTH, f"truth {name} has shape {have}; step {max(steps)} was asked for"
            )
        return np.asarray(array.oindex[np.asarray(steps)])


def open_truth(root: str, episode_id: str, camera: str) -> CameraTruth:
    """The truth of one camera, from the data set folder ``root``.

    Raises:
        EpisodeError: `BAD_TRUTH` if there is none.
    """
    path = f"{root}/{TRUTH_STORE}"
    try:
        group = zarr.open_group(path, mode="r")[truth_group(episode_id, camera)]
    except (FileNotFoundError, KeyError, zarr.errors.GroupNotFoundError) as error:
        raise EpisodeError(
            Reason.BAD_TRUTH, f"{TRUTH_STORE} has no truth for {camera} of {episode_id}"
        ) from error
    assert isinstance(group, zarr.Group)
    return CameraTruth(group)


@dataclass(frozen=True)
class SimulatorDepth:
    """The `DepthEstimator` that knows: exact depth of the clip's own steps."""

    truth: DepthSource
    steps: NDArray[np.int64]

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """Exact z-depth; confidence 255 wherever there is a surface."""
        depth = self.truth.depth(self.steps)
        if depth.shape != rgb.shape[:3]:
            raise EpisodeError(
                Reason.BAD_TRUTH, f"truth depth is {depth.shape}; the frames are {rgb.shape[:3]}"
            )
        known = np.where(depth > 0, 255, 0).astype(np.uint8)
        return DepthEstimate(depth, known, "metric", Provenance.SIMULATED)

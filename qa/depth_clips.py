"""Clips that depth is judged on, from built shards: frames, camera, and what is known of the truth.

Depth counts as truth only where a simulator made it. Of real frames there is the robot alone, whose
surface forward kinematics knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconstruction.depth import RobotView
from robo4d import Dataset, Sample
from schemas.episode import Provenance
from schemas.reasons import UsageError

Depths = NDArray[np.floating]


@dataclass(frozen=True)
class DepthClip:
    """One clip.

    Attributes:
        key: of its sample.
        name: camera and episode.
        rgb: (T, H, W, 3) uint8, as stored: through H.264.
        K: (3, 3), one for the clip.
        depth: (T, H, W) true z-depth in m, 0 unknown, good to 0.09 % (the shard's coding); None of
            real frames.
        robot_depth: (T, H, W) m, of the robot alone, hidden or not, 0 none; None without.
        robot_visible: (T, H, W) robot pixels that nothing hides; None where nobody knows.
        base_from_camera: (T, 4, 4).
    """

    key: str
    name: str
    rgb: NDArray[np.uint8]
    K: NDArray[np.float64]
    depth: Depths | None
    robot_depth: Depths | None
    robot_visible: NDArray[np.bool_] | None
    base_from_camera: NDArray[np.float64]

    @property
    def camera_rests(self) -> bool:
        """Whether the camera stands still."""
        return bool((self.base_from_camera == self.base_from_camera[0]).all())

    def robot(self) -> RobotView | None:
        """What estimators are told of the robot; None without it."""
        if self.robot_depth is None:
            return None
        return RobotView(self.robot_depth.astype(np.float32), self.base_from_camera)

    def still(self) -> NDArray[np.bool_] | None:
        """(T - 1, H, W) where a frame and the next have the same true depth and no robot.

        None where the camera moves, or nobody knows.
        """
        if self.depth is None or not self.camera_rests:
            return None
        same = (self.depth[:-1] == self.depth[1:]) & (self.depth[:-1] > 0)
        if self.robot_depth is not None:
            robot = self.robot_depth > 0
            same &= ~(robot[:-1] | robot[1:])
        return same


def choose_samples(data: Dataset, most: int | None = None, camera: str = "") -> list[Sample]:
    """Samples that can judge depth, at most so many, spread evenly over the data set.

    Args:
        most: None: all.
        camera: only of cameras with this in their names.

    Raises:
        UsageError: there is none; the message says why of the first.
    """
    usable = [sample for sample in data if _judges(sample)]
    if not usable:
        raise UsageError(f"no sample of {data.url} has a camera with depth or robot: {_why(data)}")
    if camera:
        usable = [sample for sample in usable if camera in sample.meta["camera"]]
        if not usable:
            names = sorted({sample.meta["camera"] for sample in data})
            raise UsageError(f"no camera of {data.url} has {camera!r} in its name: {names}")
    if most is None or most >= len(usable):
        return usable
    spread = np.linspace(0, len(usable) - 1, most).round().astype(int)
    return [usable[i] for i in spread]


def read_clips(samples: list[Sample], frames: int | None = None) -> Iterator[DepthClip]:
    """Decode one clip after the other; of each the first ``frames``, or all."""
    for sample in samples:
        yield read_clip(sample, frames)


def read_clip(sample: Sample, frames: int | None = None) -> DepthClip:
    """Decode one clip; of it the first ``frames``, or all."""
    made = sample.meta.get("fields", {}).get("depth", {}).get("provenance")
    exact = "depth" in sample and made == Provenance.SIMULATED
    robot = "robot_depth" in sample
    return DepthClip(
        key=sample.key,
        name=f"{sample.meta.get('camera', '')} {sample.meta.get('id', '')}".strip(),
        rgb=sample.rgb[:frames],
        K=sample.K[0],
        depth=sample.depth[:frames] if exact else None,
        robot_depth=sample.robot_depth[:frames] if robot else None,
        robot_visible=(
            sample.robot_visible[:frames] if exact and "robot_visible" in sample else None
        ),
        base_from_camera=sample.base_from_camera[:frames],
    )


def _judges(sample: Sample) -> bool:
    # By members alone, which the index lists: nothing is read of what is not chosen.
    has = set(sample.members)
    return "camera.safetensors" in has and bool(has & {"depth.r4a", "robot_depth.r4a"})


def _why(data: Dataset) -> str:
    if not len(data):
        return "it is empty"
    said = data[0].meta.get("fields", {})
    return said.get("K", {}).get("reason") or said.get("depth", {}).get("reason") or "nobody says"

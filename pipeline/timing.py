"""The robot's state at the time of its images: the offset is estimated, and undone where sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reconstruction.motion import Motion, shift_motion
from reconstruction.timing import TimeOffset, estimate_offset
from robots.models import RobotModel
from schemas.config import TimingConfig
from schemas.episode import Episode

# Of a step. Below it the logged row is the one nearest to the image, and shifting would put
# interpolated states in place of measured ones for less than sampling leaves open anyway.
_WORTH = 0.5


@dataclass(frozen=True)
class Timing:
    """An episode's offset, and whether its motion was shifted by it."""

    offset: TimeOffset
    corrected: bool

    @property
    def late(self) -> float:
        """Seconds that were corrected for."""
        return self.offset.seconds or 0.0 if self.corrected else 0.0

    def columns(self) -> dict[str, Any]:
        """The manifest's."""
        return {
            "time_offset_s": self.offset.seconds,
            "time_offset_sure": self.offset.sure,
            "time_corrected": self.corrected,
        }


def time_motion(
    episode: Episode, robot: RobotModel, motion: Motion, config: TimingConfig
) -> tuple[Motion, Timing]:
    """The motion that the images show, and how it was found."""
    if not config.enabled:
        return motion, Timing(TimeOffset(None, reason="timing.enabled is false"), False)
    offset = estimate_offset(episode, robot, motion, config)
    step = float(np.median(np.diff(episode.time)))
    if not (config.correct and offset.sure and abs(offset.seconds or 0.0) >= _WORTH * step):
        return motion, Timing(offset, False)
    assert offset.seconds is not None  # sure
    return shift_motion(motion, robot, episode.time, offset.seconds), Timing(offset, True)

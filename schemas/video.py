"""Frames of a camera that lie in a video file, decoded for the steps asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import av
import fsspec
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from robo4d.geometry import check_array
from schemas.images import MAX_PIXELS, check_size
from schemas.reasons import EpisodeError, Reason


@dataclass(frozen=True)
class VideoFrames:
    """A video and which of its frames belongs to each step.

    Attributes:
        url: path or fsspec URL.
        frame_of_step: (T,) frame number of each step, in rising order.
    """

    url: str
    frame_of_step: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_array("VideoFrames.frame_of_step", self.frame_of_step, ["T"], "i")
        if len(self.frame_of_step) and (
            self.frame_of_step[0] < 0 or (np.diff(self.frame_of_step) < 0).any()
        ):
            raise ValueError(f"frame_of_step must rise from 0 or more; got {self.frame_of_step}")

    def __len__(self) -> int:
        return len(self.frame_of_step)

    @property
    def name(self) -> str:
        """The file's own name, for messages: a quarantine is the same wherever the data lies."""
        return PurePosixPath(self.url).name

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, from the container's header."""
        with fsspec.open(self.url, "rb") as file, _opened(file, self.name) as container:
            stream = container.streams.video[0]
            return stream.height, stream.width

    def decode(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Frames at ``steps`` (rising) as (n, H, W, 3) uint8 RGB.

        Raises:
            EpisodeError: `UNDECODABLE_IMAGE` (damaged, or fewer frames than the steps need) or
                `TOO_LARGE`.
        """
        wanted = [int(self.frame_of_step[int(step)]) for step in steps]
        seen: set[int] = set()
        out: NDArray[np.uint8] | None = None
        convert = VideoReformatter()
        flags = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        with fsspec.open(self.url, "rb") as file, _opened(file, self.name) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for number, frame in enumerate(container.decode(stream)):
                    if number > wanted[-1]:
                        break
                    if number not in wanted:
                        continue
                    shape = (frame.height, frame.width, 3)
                    check_size(*shape[:2], self.name)
                    if out is None:  # filled in place: frames to be stacked would be held twice
                        out = np.empty((len(wanted), *shape), np.uint8)
                    if shape != out.shape[1:]:
                        said = f"{self.name} changes size: {[out.shape[1:], shape]}"
                        raise EpisodeError(Reason.WRONG_SHAPE, said)
                    rgb = convert.reformat(frame, format="rgb24", interpolation=flags)
                    out[[place for place, n in enumerate(wanted) if n == number]] = rgb.to_ndarray()
                    seen.add(number)
            except av.FFmpegError as error:
                raise EpisodeError(
                    Reason.UNDECODABLE_IMAGE, f"{self.name}: {error.strerror or error}"
                ) from error
        missing = sorted(set(wanted) - seen)
        if missing or out is None:
            raise EpisodeError(
                Reason.UNDECODABLE_IMAGE, f"{self.name} ends before frame {min(missing, default=0)}"
            )
        return out


@dataclass(frozen=True)
class RightHalf:
    """The right half of a video that holds two views side by side."""

    video: VideoFrames

    def __len__(self) -> int:
        return len(self.video)

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the half."""
        height, width = self.video.size()
        return height, width // 2

    def decode(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Frames at ``steps`` (rising) as (n, H, W, 3) uint8 RGB; raises as `VideoFrames` does."""
        both = self.video.decode(steps)
        return both[:, :, both.shape[2] // 2 :]


def _opened(file: object, name: str) -> av.container.InputContainer:
    try:
        # The format is fixed, so that a playlist in disguise opens no other file; metadata that
        # is not UTF-8 and an empty file are the video's fault, not the caller's.
        container = av.open(file, "r", format="mp4", metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise EpisodeError(
            Reason.UNDECODABLE_IMAGE, f"{name} is no mp4: {error.strerror or error}"
        ) from error
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise EpisodeError(Reason.UNDECODABLE_IMAGE, f"{name} holds no video that can be decoded")
    stream = container.streams.video[0]
    try:
        check_size(stream.height, stream.width, name)
    except EpisodeError:
        container.close()
        raise
    # The frames may claim more than the container's header does.
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return container

"""Which frame of a DROID recording belongs to which row of its log: by timestamps, not guessed.

DROID records one frame a grab and grabs once a row, so row and frame numbers should agree; yet its
MP4s are often one frame shorter than ``trajectory.h5`` (droid-dataset/droid, issue 54). Two clocks
tell where the frame is lost: ``observation/timestamp/cameras/<serial>_frame_received`` (ms, a row)
and, where published, ``recordings/MP4/<serial>_timestamps.json`` (ms, a frame; the same clock:
droid/camera_utils/recording_readers/mp4_reader.py compares them for equality).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from schemas.images import check_size
from schemas.reasons import EpisodeError, Reason
from schemas.video import RightHalf, VideoFrames

_MAX_FRAMES = 200_000


@dataclass(frozen=True)
class Alignment:
    """Attributes:
    frame_of_row: (T,) frame number, -1 where a row has none.
    note: how it was decided, where counts differ.
    """

    frame_of_row: NDArray[np.int64]
    note: str = ""


@dataclass(frozen=True)
class Video:
    """What a video holds: how many frames of (height, width) pixels."""

    frames: int
    size: tuple[int, int]


def probe_video(path: Path) -> Video:
    """Size and frames of the first video stream; counted, not taken from the header.

    Raises:
        EpisodeError: `UNDECODABLE_IMAGE` or `TOO_LARGE`.
        OSError: it is not there or cannot be opened.
    """
    path.open("rb").close()  # what the system refuses is not the video's fault
    count = 0
    try:
        # The format is fixed: a playlist named .mp4 could make FFmpeg open other files. Opened by
        # FFmpeg itself: through a Python file, a seek to nowhere would look like a failing disk.
        with av.open(
            str(path.resolve()), "r", format="mp4", metadata_errors="replace"
        ) as container:
            if not container.streams.video:
                raise EpisodeError(Reason.UNDECODABLE_IMAGE, f"{path.name} holds no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise EpisodeError(Reason.UNDECODABLE_IMAGE, f"{path.name}: unknown codec")
            size = (stream.codec_context.height, stream.codec_context.width)
            check_size(*size, path.name)
            for packet in container.demux(stream):
                count += packet.size > 0
                if count > _MAX_FRAMES:
                    raise EpisodeError(
                        Reason.TOO_LARGE, f"{path.name} has more than {_MAX_FRAMES} frames"
                    )
    except av.FFmpegError as error:
        # The error's own text names the file by its whole path.
        said = f"{path.name} is no MP4: {error.strerror}"
        raise EpisodeError(Reason.UNDECODABLE_IMAGE, said) from error
    if count == 0:
        raise EpisodeError(Reason.UNDECODABLE_IMAGE, f"{path.name} holds no frame")
    return Video(count, size)


def right_view(file: Path, left: Video, frame_of_step: NDArray[np.int64]) -> RightHalf:
    """The right view of a recording, from the file of both side by side.

    Args:
        left: the recording of the left view.
        frame_of_step: (T,) frame numbers, of either file.

    Raises:
        EpisodeError: it cannot be read, or is not of as many frames, twice as wide.
    """
    both = probe_video(file)
    height, width = left.size
    wanted = Video(left.frames, (height, 2 * width))
    if both != wanted:
        raise EpisodeError(
            Reason.WRONG_SHAPE,
            f"{file.name} has {both.frames} frames of {both.size}; expected {wanted.frames} of "
            f"{wanted.size}, both views side by side",
        )
    return RightHalf(VideoFrames(str(file), frame_of_step))


def align_frames(
    camera: str,
    frames: int,
    rows: int,
    received: NDArray[np.float64] | None,
    recorded: NDArray[np.float64] | None,
    *,
    trust_order: bool = False,
) -> Alignment:
    """Pair rows of the log with frames of the video.

    In this order: the recording's own timestamps; equal counts; rows whose camera timestamp
    repeats or is unset (the camera gave no new frame); the order alone, if the caller trusts it.

    Args:
        received: (T,) ms, when the row's frame came in; 0 or less is unset.
        recorded: (frames,) ms, when each frame came in.
        trust_order: frame k is row k whatever the counts, as DROID's own reader and its RLDS
            release have it; rows past the end have no frame.

    Raises:
        EpisodeError: `WRONG_SHAPE`, counts differ and no timestamp tells where;
            `NON_MONOTONIC_TIME`, the timestamps contradict each other.
    """
    if received is not None and recorded is not None and len(recorded) == frames:
        return _by_recording(camera, received, recorded)
    if frames == rows:
        return Alignment(np.arange(rows))
    if received is not None:
        fresh = received > 0
        times = received[fresh]
        if (np.diff(times) >= 0).all() and len(np.unique(times)) == frames:
            frame_of_row = np.full(rows, -1)
            frame_of_row[fresh] = np.unique(times, return_inverse=True)[1]
            return Alignment(
                frame_of_row,
                f"{camera}: {frames} frames for {rows} steps; paired by the log's camera "
                f"timestamps, which show {frames} distinct frames",
            )
    if trust_order:
        frame_of_row = np.arange(rows)
        frame_of_row[frames:] = -1
        return Alignment(
            frame_of_row,
            f"{camera}: {frames} frames for {rows} steps; paired in order on the user's word, "
            "no timestamp shows it",
        )
    raise EpisodeError(
        Reason.WRONG_SHAPE,
        f"{camera} has {frames} frames for {rows} steps and no timestamps that tell which are "
        "missing (no <serial>_timestamps.json of that length beside the video)",
    )


def _by_recording(
    camera: str, received: NDArray[np.float64], recorded: NDArray[np.float64]
) -> Alignment:
    if (np.diff(recorded) <= 0).any():
        at = int(np.argmax(np.diff(recorded) <= 0)) + 1
        raise EpisodeError(
            Reason.NON_MONOTONIC_TIME,
            f"{camera}'s recording goes from {recorded[at - 1]:.0f} to {recorded[at]:.0f} ms at "
            f"frame {at}",
        )
    place = np.minimum(np.searchsorted(recorded, received), len(recorded) - 1)
    frame_of_row = np.where(recorded[place] == received, place, -1)
    paired = frame_of_row[frame_of_row >= 0]
    if (np.diff(paired) < 0).any():
        raise EpisodeError(
            Reason.NON_MONOTONIC_TIME, f"{camera}'s timestamps in the log do not rise"
        )
    # A recording of another episode shares no millisecond with this log.
    if len(paired) * 2 < len(received):
        raise EpisodeError(
            Reason.WRONG_SHAPE,
            f"{camera}: only {len(paired)} of {len(received)} steps have their frame's timestamp "
            "in the recording; is it another episode's?",
        )
    if len(paired) == len(received) == len(recorded):
        return Alignment(frame_of_row)
    lost = np.flatnonzero(frame_of_row < 0)
    where = f", none for {len(lost)} (first at step {lost[0]})" if len(lost) else ""
    return Alignment(
        frame_of_row,
        f"{camera}: {len(recorded)} frames for {len(received)} steps; paired by the recording's "
        f"own timestamps{where}",
    )

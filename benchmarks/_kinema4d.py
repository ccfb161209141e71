"""The layout of Kinema4D's release, made from our clips: five 8-bit mp4 files a clip.

RGB, pointmap, RGB masked to the robot, pointmap masked to it, and the mask. The released scripts
(github.com/mutianxu/Kinema4D, data_proc/) write RGB and masked RGB with OpenCV's ``mp4v``
(MPEG-4 part 2); the script that makes the pointmaps was not released, and x264 is what current
tools write, so both are measured. Each axis of a pointmap is stretched to 0..255 over the clip.
The release keeps no range; here it is kept, to give the layout the best case.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._candidates import decode_video, encode_video
from benchmarks._scene import FPS, Clip
from robo4d.geometry import unproject

CODECS = ("x264", "mp4v")


@dataclass(frozen=True)
class Layout:
    """The five files, and the range (3,), (3,) in m of each axis of the pointmap."""

    files: dict[str, bytes]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def encode_layout(clip: Clip, depth: NDArray[np.float32], codec: str) -> Layout:
    """All five files of a clip; ``codec`` is one of `CODECS`."""
    encode = _x264 if codec == "x264" else _mp4v
    points = unproject(depth, clip.K)
    low, high = np.nanmin(points, axis=(0, 1, 2)), np.nanmax(points, axis=(0, 1, 2))
    robot = clip.robot_depth > 0
    image = _to_8_bit(points, low, high)
    robot_image = _to_8_bit(unproject(clip.robot_depth, clip.K), low, high)
    mask = np.repeat(np.uint8(255) * clip.robot_visible[..., None], 3, axis=-1)
    files = {
        "videos": encode(clip.rgb),
        "pointmap": encode(image),
        "mask_videos": encode(clip.rgb * clip.robot_visible[..., None]),
        "mask_pointmap": encode(robot_image * robot[..., None]),
        "mask": encode(mask),
    }
    return Layout(files, low, high)


def decode_points(layout: Layout) -> NDArray[np.float32]:
    """The scene's XYZ in m, (T, H, W, 3), as the 8-bit video gives it back."""
    image = decode_video(layout.files["pointmap"], "rgb24").astype(np.float32)
    return image / 255 * (layout.high - layout.low) + layout.low


def _to_8_bit(
    points: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.uint8]:
    share = np.clip((points - low) / (high - low), 0, 1)
    return np.rint(255 * np.nan_to_num(share)).astype(np.uint8)


def _x264(frames: NDArray[np.uint8]) -> bytes:
    return encode_video(frames, "libx264", "rgb24", "yuv420p", "mp4", {"threads": "1"})


def _mp4v(frames: NDArray[np.uint8]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        height, width = frames.shape[1:3]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (width, height))
        for image in frames:
            writer.write(np.ascontiguousarray(image[..., ::-1]))
        writer.release()
        return path.read_bytes()

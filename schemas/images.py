"""Decode camera frames from strangers: JPEG and PNG only, bounded in size."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from schemas.reasons import EpisodeError, Reason

# The largest frames of any source are 1280x720; a header that claims more than 4096 a side is
# a mistake or an attack, and is refused before memory is set aside.
MAX_SIDE = 4096
_PNG = b"\x89PNG\r\n\x1a\n"


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) from the header alone.

    Raises:
        EpisodeError: neither JPEG nor PNG, or larger than `MAX_SIDE`.
    """
    if data[:2] == b"\xff\xd8":
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise _undecodable(data, str(error)) from error
    elif data[:8] == _PNG and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
    else:
        raise _undecodable(data, f"starts with {data[:8]!r}, neither JPEG nor PNG")
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise EpisodeError(
            Reason.TOO_LARGE, f"image claims {width}x{height}; at most {MAX_SIDE} a side"
        )
    return height, width


def decode_image(data: bytes, *, like_tensorflow: bool = False) -> NDArray[np.uint8]:
    """Decode one frame to (H, W, 3) uint8 RGB.

    Args:
        like_tensorflow: TensorFlow decodes JPEG with the fast, less exact DCT; ask for the same
            to compare pixel by pixel.

    Raises:
        EpisodeError: `UNDECODABLE_IMAGE` or `TOO_LARGE`.
    """
    image_size(data)
    if data[:2] == b"\xff\xd8":
        try:
            return simplejpeg.decode_jpeg(data, "RGB", fastdct=like_tensorflow, strict=True)
        except ValueError as error:
            raise _undecodable(data, str(error)) from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise _undecodable(data, "OpenCV cannot read it")
    return image.astype(np.uint8, copy=False)


def _undecodable(data: bytes, why: str) -> EpisodeError:
    return EpisodeError(Reason.UNDECODABLE_IMAGE, f"image of {len(data)} bytes: {why}")

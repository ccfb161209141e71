"""Decode camera frames from strangers: JPEG and PNG only, bounded in size."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from schemas.reasons import EpisodeError, Reason

# The largest frames of any source are 1280x720; a header that claims more than 4096 a side or 2048
# squared is a mistake or an attack, and is refused before memory is set aside: a clip of 49 frames
# is then at most 0.6 GB.
MAX_SIDE = 4096
MAX_PIXELS = 1 << 22
# A progressive JPEG has about ten scans. Each is a pass over the whole image for a few bytes of
# file, so thousands of them stall a decoder (libjpeg-turbo, LJT-01-004).
_MAX_SCANS = 100
_PNG = b"\x89PNG\r\n\x1a\n"


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) from the header alone.

    Raises:
        EpisodeError: neither JPEG nor PNG, or larger than `MAX_SIDE` or `MAX_PIXELS`.
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
    check_size(height, width, "image")
    return height, width


def check_size(height: int, width: int, what: str) -> None:
    """Raises `TOO_LARGE` for what no camera of any source films."""
    if not (min(height, width) > 0 and max(height, width) <= MAX_SIDE) or (
        height * width > MAX_PIXELS
    ):
        raise EpisodeError(
            Reason.TOO_LARGE,
            f"{what} claims {width}x{height}; at most {MAX_SIDE} a side and {MAX_PIXELS} pixels",
        )


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
        # Compressed data never holds the marker: its 0xff bytes are escaped.
        if data.count(b"\xff\xda") > _MAX_SCANS:
            raise EpisodeError(Reason.TOO_LARGE, f"JPEG of more than {_MAX_SCANS} scans")
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

"""The depth and RGB codecs that `benchmarks.codecs` compares: each encodes a clip to bytes."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg
from numcodecs import blosc
from numpy.typing import NDArray

from robo4d._arrays import DEPTH_MIN, LOG_STEP, _depth_of_code, decode_array, encode_depth
from robo4d._video import decode_rgb, encode_rgb

Array = NDArray[Any]
_SHAPE = struct.Struct("<3I")
os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 prints its settings otherwise


@dataclass(frozen=True)
class Codec:
    """A name and the two directions; both take and give whole clips."""

    name: str
    encode: Callable[[Array], bytes]
    decode: Callable[[bytes], Array]


def log_codes(depth: Array) -> NDArray[np.uint16]:
    """The published format's quantisation: uint16 codes, 0 for holes."""
    codes = np.zeros(depth.shape, np.uint16)
    known = depth != 0
    codes[known] = 1 + np.rint(np.log(depth[known].astype(np.float64) / DEPTH_MIN) / LOG_STEP)
    return codes


def log_depth(codes: Array) -> Array:
    """Depth of those codes."""
    return _depth_of_code()[codes]


def tenth_mm(depth: Array) -> NDArray[np.uint16]:
    """Depth in steps of 0.1 mm, up to 6.5 m."""
    return np.rint(np.minimum(depth, 6.5535) * 1e4).astype(np.uint16)


def metres(codes: Array) -> Array:
    """Depth of steps of 0.1 mm."""
    return codes.astype(np.float32) * np.float32(1e-4)


def _blosc(values: Array, name: bytes, level: int) -> bytes:
    values = np.ascontiguousarray(values)
    packed = blosc.compress(values, name, level, blosc.BITSHUFFLE, typesize=values.itemsize)
    return _SHAPE.pack(*values.shape) + packed


def _unblosc(data: bytes, dtype: type) -> Array:
    body = memoryview(data)[_SHAPE.size :]
    return np.frombuffer(blosc.decompress(body), dtype).reshape(_SHAPE.unpack_from(data))


def _time_difference(codes: Array) -> Array:
    change = codes.copy()
    change[1:] -= codes[:-1]
    return change


def _time_sum(change: Array) -> Array:
    codes = change.copy()
    for t in range(1, len(codes)):
        codes[t] += codes[t - 1]
    return codes


def encode_video(
    frames: Array, codec: str, shape: str, kept: str, container: str, options: dict[str, str]
) -> bytes:
    """A clip as a video: ``shape`` is the frames' pixel format and ``kept`` the stream's."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(15), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = kept
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format=shape)))
        out.mux(stream.encode())
    return buffer.getvalue()


def decode_video(data: bytes, shape: str) -> Array:
    """Frames of a video in pixel format ``shape``."""
    with av.open(io.BytesIO(data)) as source:
        return np.stack([f.to_ndarray(format=shape) for f in source.decode(video=0)])


def _ffv1(codes: Array) -> bytes:
    options = {"level": "3", "slices": "4", "threads": "1"}
    return encode_video(codes, "ffv1", "gray16le", "gray16le", "matroska", options)


def _join(images: list[bytes]) -> bytes:
    sizes = np.array([len(image) for image in images], "<u4")
    return struct.pack("<I", len(images)) + sizes.tobytes() + b"".join(images)


def _split(data: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<I", data)
    ends = 4 + 4 * count + np.cumsum(np.frombuffer(data, "<u4", count, 4))
    return [data[a:b] for a, b in zip([4 + 4 * count, *ends[:-1]], ends, strict=True)]


def _png(image: Array) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _unpng(data: bytes) -> Array:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _npz(depth: Array) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=depth)
    return buffer.getvalue()


def _unnpz(data: bytes) -> Array:
    with np.load(io.BytesIO(data)) as archive:
        return archive["depth"]


def _per_image(
    name: str, encode: Callable[[Array], bytes], decode: Callable[[bytes], Array]
) -> Codec:
    return Codec(
        name,
        lambda depth: _join([bytes(encode(image)) for image in log_codes(depth)]),
        lambda data: log_depth(np.stack([decode(image) for image in _split(data)])),
    )


def depth_codecs() -> list[Codec]:
    """Candidates for depth; those of imagecodecs only where it is installed."""
    codecs = [
        Codec("ours: log code, time difference, zstd 2", encode_depth, decode_array),
        Codec(
            "log code, bitshuffle zstd 5 (no time difference)",
            lambda depth: _blosc(log_codes(depth), b"zstd", 5),
            lambda data: log_depth(_unblosc(data, np.uint16)),
        ),
        Codec(
            "log code, time difference, bitshuffle lz4",
            lambda depth: _blosc(_time_difference(log_codes(depth)), b"lz4", 5),
            lambda data: log_depth(_time_sum(_unblosc(data, np.uint16))),
        ),
        Codec(
            "float16, bitshuffle zstd 5",
            lambda depth: _blosc(depth.astype(np.float16), b"zstd", 5),
            lambda data: _unblosc(data, np.float16).astype(np.float32),
        ),
        Codec(
            "FFV1 gray16, log code",
            lambda depth: _ffv1(log_codes(depth)),
            lambda data: log_depth(decode_video(data, "gray16le")),
        ),
        Codec(
            "FFV1 gray16, 0.1 mm",
            lambda depth: _ffv1(tenth_mm(depth)),
            lambda data: metres(decode_video(data, "gray16le")),
        ),
        _per_image("PNG16, log code", _png, _unpng),
        Codec("npz float32 (zlib)", _npz, _unnpz),
    ]
    try:
        import imagecodecs
    except ImportError:
        return codecs
    if imagecodecs.HTJ2K.available:
        encode = partial(imagecodecs.htj2k_encode, reversible=True)
        codecs.append(_per_image("HTJ2K, log code", encode, imagecodecs.htj2k_decode))
    if imagecodecs.JPEGXL.available:
        encode = partial(imagecodecs.jpegxl_encode, lossless=True, effort=1, numthreads=1)
        codecs.append(_per_image("JPEG XL effort 1, log code", encode, imagecodecs.jpegxl_decode))
    return codecs


def rgb_codecs() -> list[Codec]:
    """Candidates for RGB."""
    return [
        Codec("ours: x264 crf 18", partial(encode_rgb, fps=15.0), decode_rgb),
        Codec("x264 crf 23", partial(encode_rgb, fps=15.0, crf=23), decode_rgb),
        Codec(
            "SVT-AV1 crf 30, preset 8",
            lambda rgb: encode_video(
                rgb, "libsvtav1", "rgb24", "yuv420p", "mp4", {"crf": "30", "preset": "8"}
            ),
            decode_rgb,
        ),
        Codec(
            "JPEG q95 4:2:0",
            lambda rgb: _join(
                [simplejpeg.encode_jpeg(image, 95, colorsubsampling="420") for image in rgb]
            ),
            lambda data: np.stack([simplejpeg.decode_jpeg(image) for image in _split(data)]),
        ),
    ]

"""Members that hold images over time: depth (lossy within a bound), masks and part ids (lossless).

A member is ``R4A1``, an encoding byte, three little-endian uint32 (T, H, W), then a Blosc
buffer (zstd, shuffled as its own header says) of the differences between consecutive frames. Depth
is quantised in the logarithm, so its error is a share of the depth; code 0 is a hole, kept exactly.
`benchmarks/codecs.py` holds the measurements behind the choice.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from robo4d._errors import FormatError, ShapeError

_HEADER = struct.Struct("<4sB3I")
# Blosc 1 chunk header: versions, flags, type size; bytes unpacked, block size, bytes packed.
_BLOSC_HEADER = struct.Struct("<4s3I")
_MAGIC = b"R4A1"
_LOG_DEPTH, _UINT8, _BOOL = 1, 2, 3
# A clip larger than this is refused before anything is allocated for it.
MAX_PIXELS = 1 << 30

# exp(0.00175 / 2) - 1 = 0.0875 %: 0.88 mm at 1 m and 1.75 mm at 2 m, inside the format's bound
# of 1 mm and 1.8 mm with room for float32 rounding.
LOG_STEP = 0.00175
DEPTH_MIN, DEPTH_MAX = 1e-3, 1e3  # m; 7,897 codes, so 13 bits
_CODES = int(np.rint(np.log(DEPTH_MAX / DEPTH_MIN) / LOG_STEP)) + 2  # code 0 is a hole
# Blosc's level; 5 takes four times as long, for bytes that differ by a few percent either way.
_LEVEL = 2
_SMALL = 4_000_000  # bytes, below which an eighth tells the better shuffle wrongly


def depth_bound(depth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Largest error (m) that the depth codec makes at each depth (m)."""
    return np.asarray(depth, np.float64) * (np.expm1(LOG_STEP / 2) + 2e-7)  # + float32 rounding


@lru_cache(maxsize=1)
def _depth_of_code() -> NDArray[np.float32]:
    """Depth of every uint16, so that a look-up needs no check of its own; unused codes are NaN."""
    table = np.full(1 << 16, np.nan, np.float32)
    table[0] = 0
    table[1:_CODES] = DEPTH_MIN * np.exp(LOG_STEP * np.arange(_CODES - 1))
    return table


def _pack(encoding: int, shape: tuple[int, ...], frames: NDArray[np.unsignedinteger]) -> bytes:
    change = frames.copy()
    change[1:] -= frames[:-1]  # wraps; a still scene becomes zeros
    # Blosc's own threads, which it starts in a process' main thread, put their blocks down as they
    # finish: other bytes on every run.
    usual, blosc.use_threads = blosc.use_threads, False
    try:
        shuffle = blosc.SHUFFLE
        if encoding == _LOG_DEPTH:  # noisy depth is smaller by bits, exact depth by bytes
            tried = (blosc.SHUFFLE, blosc.BITSHUFFLE)
            sample = change if change.nbytes < _SMALL else change[-1::-8]
            shuffle = min(tried, key=lambda how: len(_blosc(sample, how)))
        packed = _blosc(change, shuffle)
    finally:
        blosc.use_threads = usual
    return _HEADER.pack(_MAGIC, encoding, *shape) + packed


def _blosc(values: NDArray, shuffle: int) -> bytes:
    values = np.ascontiguousarray(values)
    return blosc.compress(values, b"zstd", _LEVEL, shuffle, typesize=values.itemsize)


def _frames_shape(name: str, array: NDArray) -> tuple[int, int, int]:
    if array.ndim != 3 or 0 in array.shape or array.size > MAX_PIXELS:
        raise ShapeError(f"{name} has shape {array.shape}; expected (T, H, W), 1 to 2**30 pixels")
    return array.shape


def encode_depth(depth: NDArray[np.floating]) -> bytes:
    """Encode z-depth (T, H, W) in m, 0 where unknown; error at most `depth_bound`.

    Raises:
        ShapeError: not (T, H, W), not finite, or a depth outside 0 and [1 mm, 1 km].
    """
    depth = np.asarray(depth, np.float32)
    shape = _frames_shape("depth", depth)
    codes = np.zeros(shape, np.uint16)
    for frame, code in zip(depth, codes, strict=True):  # by frame: stays in the cache
        known = frame != 0
        at = ... if known.all() else known
        seen = frame[at]
        if seen.size and not (seen.min() >= DEPTH_MIN and seen.max() <= DEPTH_MAX):
            raise ShapeError(
                f"depth spans {seen.min():.4g} to {seen.max():.4g} m; expected 0 (unknown) or "
                f"{DEPTH_MIN} to {DEPTH_MAX} m: set what is out of range to 0"
            )
        steps = np.log(seen, dtype=np.float64)
        steps *= 1 / LOG_STEP
        steps += 1.5 - np.log(DEPTH_MIN) / LOG_STEP  # to the nearest code, which begin at 1
        code[at] = steps
    return _pack(_LOG_DEPTH, shape, codes)


def encode_uint8(values: NDArray[np.uint8]) -> bytes:
    """Encode uint8 images (T, H, W) without loss."""
    if values.dtype != np.uint8:
        raise ShapeError(f"values have dtype {values.dtype}; expected uint8")
    return _pack(_UINT8, _frames_shape("values", values), values)


def encode_bool(mask: NDArray[np.bool_]) -> bytes:
    """Encode masks (T, H, W) without loss, eight pixels to a byte."""
    if mask.dtype != np.bool_:
        raise ShapeError(f"mask has dtype {mask.dtype}; expected bool")
    return _pack(_BOOL, _frames_shape("mask", mask), np.packbits(mask, axis=-1))


def decode_array(data: bytes) -> NDArray:
    """Decode any of the above: float32 depth in m, uint8 values or a bool mask, (T, H, W).

    Raises:
        FormatError: wrong magic, a size that does not match the header, or damaged data.
    """
    if len(data) < _HEADER.size:
        raise FormatError(f"array member of {len(data)} bytes has no header; is it cut short?")
    magic, encoding, *shape = _HEADER.unpack_from(data)
    if magic != _MAGIC or encoding not in (_LOG_DEPTH, _UINT8, _BOOL):
        raise FormatError(
            f"array member starts with {magic!r}, encoding {encoding}; not {_MAGIC!r}"
        )
    dtype = np.dtype(np.uint16 if encoding == _LOG_DEPTH else np.uint8)
    stored = (shape[0], shape[1], -(-shape[2] // 8) if encoding == _BOOL else shape[2])
    expected = int(np.prod(stored, dtype=np.int64)) * dtype.itemsize
    body = memoryview(data)[_HEADER.size :]
    if not 0 < expected <= 2 * MAX_PIXELS or len(body) < 16:
        raise FormatError(f"array member claims shape {shape} in {len(data)} bytes")
    _, nbytes, _, nbuffer = _BLOSC_HEADER.unpack_from(body)
    if nbytes != expected or nbuffer != len(body):
        raise FormatError(
            f"array member of shape {shape} holds {nbytes} bytes in {nbuffer}; "
            f"expected {expected} in {len(body)}"
        )
    try:
        frames = np.frombuffer(blosc.decompress(body), dtype).reshape(stored)
    except (RuntimeError, ValueError) as error:
        raise FormatError(f"array member of shape {shape} is damaged: {error}") from error
    # Frame by frame, so that the running sum and the look-up stay in the processor's cache.
    total = np.zeros(stored[1:], dtype)
    out = np.empty(stored, np.float32 if encoding == _LOG_DEPTH else np.uint8)
    top = 0
    for change, frame in zip(frames, out, strict=True):
        total += change
        if encoding == _LOG_DEPTH:
            top = max(top, int(total.max()))
            np.take(_depth_of_code(), total, out=frame, mode="clip")
        else:
            frame[:] = total
    if top >= _CODES:
        raise FormatError(f"depth code {top} is past the last, {_CODES - 1}")
    if encoding == _BOOL:
        return np.unpackbits(out, axis=-1, count=shape[2]).view(np.bool_)
    return out

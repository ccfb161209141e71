"""Damage to bytes, JSON, pickles and pictures: pure functions of the data and a `random.Random`."""

from __future__ import annotations

import json
import pickle
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

# Where lengths, counts and offsets break.
_EDGES = (0, 1, 2, 127, 255, 256, 32767, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_WIDE = (*_EDGES, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_SIDES = (0, 1, 3, 4096, 4097, 16384, 60000, 65535)


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    """One to eight bits turned over."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 8) if out else 0):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def set_bytes(data: bytes, draw: random.Random) -> bytes:
    """One to twenty bytes anew."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 20) if out else 0):
        out[draw.randrange(len(out))] = draw.choice((0, 255, draw.randrange(256)))
    return bytes(out)


def truncate(data: bytes, draw: random.Random) -> bytes:
    """Cut at the end; sometimes to nothing, sometimes a few bytes."""
    keep = draw.choice((0, draw.randint(0, len(data)), max(len(data) - draw.randint(1, 16), 0)))
    return data[:keep]


def cut_or_insert(data: bytes, draw: random.Random) -> bytes:
    """A span taken out, or noise or zeros put in."""
    at, size = draw.randint(0, len(data)), draw.randint(1, 64)
    if draw.random() < 0.5:
        return data[:at] + data[at + size :]
    return data[:at] + draw.choice((bytes(size), draw.randbytes(size))) + data[at:]


def splice(data: bytes, draw: random.Random) -> bytes:
    """A span of the data over or between other parts of it."""
    start, at = draw.randint(0, len(data)), draw.randint(0, len(data))
    part = data[start : start + draw.randint(1, 512)]
    return data[:at] + part + data[at + draw.choice((0, len(part))) :]


def edit_length(data: bytes, draw: random.Random) -> bytes:
    """A number of 1 to 8 bytes set to where counts break, in either byte order."""
    width, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
    if len(data) < width:
        return data
    at = draw.randint(0, len(data) - width)
    value = draw.choice(_WIDE) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


BYTES: tuple[Mutator, ...] = (flip_bits, set_bytes, truncate, cut_or_insert, splice, edit_length)


def near(data: bytes, marks: tuple[bytes, ...], draw: random.Random) -> bytes:
    """Byte damage within 64 bytes behind one of the ``marks``; anywhere if none is there."""
    found = []
    for mark in marks:
        at = data.find(mark)
        while at >= 0:
            found.append(at)
            at = data.find(mark, at + 1)
    at = draw.choice(found) if found else draw.randint(0, len(data))
    part = draw.choice((flip_bits, set_bytes, edit_length))(data[at : at + 64], draw)
    return data[:at] + part + data[at + 64 :]


# JSON

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 0.2, 1e-300, 1e308, -1e308, 10**18, -(10**30), 10**400),
    *(float("nan"), float("inf"), "", "x", "0", "nan", "\0", "\ud800", "../../etc/passwd"),
    *("/dev/zero", "a" * 5000, "é" * 300, "1" * 4400, [], {}, [[]], {"": None}, [1, "a", None]),
    *(["1000000000000"], {"name": "train", "shardLengths": ["1000000000000"]}, ["-1", "-1"]),
    *("object", "float128", "V8", "f4,f4", "datetime64[s]", "S4", ["0"], ["9" * 30]),
)


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all nodes below the root."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    out = []
    for key, value in children:
        out.append((*path, key))
        if isinstance(value, (dict, list)):
            out += _nodes(value, (*path, key))
    return out


def change_tree(tree: Any, draw: random.Random) -> Any:
    """A copy with one node of another type, missing, renamed, doubled or swapped with another."""
    tree = pickle.loads(pickle.dumps(tree))  # noqa: S301  # our own; a deep copy
    paths = _nodes(tree) if isinstance(tree, (dict, list)) else []
    if not paths:
        return draw.choice(_ODD)
    path = draw.choice(paths)
    here = tree
    for key in path[:-1]:
        here = here[key]
    key, kind = path[-1], draw.randrange(6)
    if kind == 0:
        del here[key]
    elif kind == 1 and isinstance(here, dict):
        here[draw.choice((f"{key}_", "", "..", str(key).upper()))] = here.pop(key)
    elif kind == 2:
        other = draw.choice(sorted(here, key=str)) if isinstance(here, dict) else 0
        here[key], here[other] = here[other], here[key]
    elif kind == 3 and isinstance(here, list):
        here[:] = here * (draw.choice((2, 300)) if len(here) < 100 else 2)
    else:
        here[key] = draw.choice(_ODD)
    return tree


def mutate_json(data: bytes, draw: random.Random) -> bytes:
    """Damage to the tree, or to its text: deep nesting, keys twice, huge numbers."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return draw.choice(BYTES)(data, draw)
    try:
        for _ in range(draw.choice((1, 1, 1, 3))):
            tree = change_tree(tree, draw)
        text = json.dumps(tree)
    except RecursionError:  # nested by an earlier mutation
        return draw.choice(BYTES)(data, draw)
    kind = draw.randrange(10)
    if kind == 0:  # nested past any stack
        deep = draw.choice((500, 990, 100_000))
        text = text.replace("null", "[" * deep + "]" * deep, 1)
        text = text if "[[[" in text else '{"a":' * deep + "1" + "}" * deep
    elif kind == 1 and isinstance(tree, dict) and tree:  # a key twice
        key = draw.choice(sorted(tree))
        again = json.dumps(draw.choice((*_ODD, *tree.values())))
        text = f"{text[:-1]}, {json.dumps(key)}: {again}}}"
    elif kind == 2:
        text = text.replace("1", "9" * draw.choice((20, 400, 5000)), 1)
    elif kind == 3:
        return draw.choice(BYTES)(text.encode(), draw)
    return draw.choice((text.encode(),) * 9 + (text.encode("utf-16"),))


# Pickles


def mutate_pickle(data: bytes, draw: random.Random) -> bytes:
    """Damage to opcodes, to values, or a value of another kind under a key."""
    if draw.random() < 0.4:
        return draw.choice(BYTES)(data, draw)
    try:
        tree = pickle.loads(data)  # noqa: S301  # the fuzzer's own
    except Exception:  # noqa: BLE001  # damaged by an earlier mutation: anything can be raised
        return draw.choice(BYTES)(data, draw)
    if isinstance(tree, dict) and tree and draw.random() < 0.7:
        key = draw.choice(sorted(tree, key=str))
        tree[key] = _odd_array(tree[key], draw)
    else:
        tree = change_tree(tree, draw)
    return pickle.dumps(tree, draw.choice((0, 2, 4, 5)))


def _odd_array(value: Any, draw: random.Random) -> Any:
    import numpy as np

    array = np.array(value, copy=True)
    kind = draw.randrange(8)
    if array.dtype.kind in "fiu" and array.size and kind < 4:
        array = array.astype(float)
        odd = (np.nan, np.inf, 1e308, -1e200, 1e30, 0.0, -1.0, 1e-300)
        array.flat[draw.randrange(array.size)] = draw.choice(odd)
        return array * draw.choice((1, 1, 1e6, 1e160))
    if kind == 4:
        return array[..., :-1] if array.ndim else array
    if kind == 5:
        return array.astype(draw.choice(("U9", "S3", object, ">f4", "c16", bool, "f2", "u8", "i1")))
    if kind == 6:
        return np.concatenate([array, array]) if array.ndim else array[None]
    return draw.choice((*_ODD, np.zeros((0, 7)), array.tolist(), np.zeros(()), {"a": array}))


# Pictures


def png(width: int, height: int, body: bytes, extra: bytes = b"") -> bytes:
    """A PNG with right checksums whatever it claims; ``extra`` goes before the image data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), extra, chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bomb_jpeg(data: bytes, draw: random.Random) -> bytes:
    """The sides that the frame header claims."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    if at < 0 or len(data) < at + 9:
        return edit_length(data, draw)
    sides = struct.pack(">HH", draw.choice(_SIDES), draw.choice(_SIDES))
    return data[: at + 5] + sides + data[at + 9 :]


def bomb_png(data: bytes, draw: random.Random) -> bytes:
    """A PNG in its place: huge sides, or little data that unpacks to far more than it claims."""
    side = draw.choice((*_SIDES, 64))
    size = draw.choice((0, 100, 12 * 36, 1 << 22))
    return png(side, draw.choice((side, 36)), zlib.compress(bytes(size)))


@cache
def scan_bomb(side: int = 2048, scans: int = 3000) -> bytes:
    """A progressive JPEG whose last scan comes again and again: a pass over the image for each."""
    import cv2
    import numpy as np

    image = np.zeros((side, side, 3), np.uint8)
    made = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = made[made.rfind(b"\xff\xda") : -2]
    return made[:-2] + last * scans + b"\xff\xd9"


def other_picture(draw: random.Random) -> bytes:
    """A sound picture, of another size or kind than the rest of its camera's."""
    import cv2
    import numpy as np

    shape = (draw.choice((1, 2, 3, 36, 700)), draw.choice((1, 2, 64, 65, 2000)))
    image = np.full(draw.choice((shape, (*shape, 3), (*shape, 4))), draw.randrange(256), np.uint8)
    end = draw.choice((".jpg", ".png")) if image.shape[-1] != 4 else ".png"
    deep = image.astype(np.uint16) * 257 if end == ".png" and draw.random() < 0.3 else image
    return cv2.imencode(end, deep)[1].tobytes()


def mutate_image(data: bytes, draw: random.Random) -> bytes:
    """Bytes, what the header claims, or another format."""
    other = (
        b"GIF89a" + bytes(40),
        b"BM" + bytes(60),
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"II*\0" + bytes(30),
    )
    marks = (b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xdb", b"\xff\xd8")
    return draw.choice(
        (
            lambda: draw.choice(BYTES)(data, draw),
            lambda: near(data, marks, draw),
            lambda: bomb_jpeg(data, draw),
            lambda: bomb_png(data, draw),
            lambda: draw.choice((*other, scan_bomb())),
            lambda: other_picture(draw),
        )
    )()


def mutate_video(data: bytes, draw: random.Random) -> bytes:
    """Bytes anywhere, or within a box of the header."""
    boxes = (b"ftyp", b"moov", b"mvhd", b"tkhd", b"stsd", b"mp4v", b"esds", b"stts", b"stsz")
    more = (b"stsc", b"stco", b"elst", b"mdhd", b"hdlr", b"mdat", b"\0\0\1\x20", b"\0\0\1\xb6")
    if draw.random() < 0.35:
        return draw.choice(BYTES)(data, draw)
    return near(data, boxes + more, draw)

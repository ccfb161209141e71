"""Damage that knows the format: TFRecord with tf.train.Example, HDF5, and whole folders."""

from __future__ import annotations

import io
import random
import re
import struct
from typing import Any

import h5py
import numpy as np
from google.protobuf.message import DecodeError

from benchmarks._mutate import (
    BYTES,
    Mutator,
    mutate_image,
    mutate_json,
    mutate_pickle,
    mutate_video,
    near,
)
from benchmarks.inputs_rlds import Files
from converters._example import Example
from converters._hdf5_heaps import heap_problem
from converters.tfrecord import frame

_TEXTS = ("", "x", "\0", "/" * 3000, "a" * 200_000, "success/" * 5000, "../../x", "é\n\x1b[31m")
_NUMBERS = (0.0, -1.0, 1.5, 1e-30, 1e9, 1e38, -3e38, float("nan"), float("inf"))


# Records


def mutate_records(data: bytes, draw: random.Random) -> bytes:
    """Damage to the framing, or to one payload behind right checksums, where decoders meet it."""
    payloads = _payloads(data)
    if not payloads or draw.random() < 0.15:
        return draw.choice(BYTES)(data, draw)
    kind, at = draw.randrange(10), draw.randrange(len(payloads))
    if kind == 0:
        payloads[at] = draw.choice(BYTES)(payloads[at], draw)
    elif kind == 1:  # a record twice, or none at all
        payloads = draw.choice((payloads * 2, [], [b""], payloads[:-1]))
    elif kind == 2:  # unknown fields: a group nested past any stack, or a length out of range
        tail = draw.choice((b"\x1b" * 10_000, b"\x0a\xff\xff\xff\xff\x7f", b"\x7a\x05aaaaa"))
        payloads[at] += tail
    elif kind == 3:  # a feature named twice: protobuf takes the last
        payloads[at] += mutate_example(payloads[at], draw)
    else:
        payloads[at] = mutate_example(payloads[at], draw)
    return b"".join(map(frame, payloads))


def _payloads(data: bytes) -> list[bytes]:
    out, at = [], 0
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if at + 16 + length > len(data):
            break
        out.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return out


def mutate_example(data: bytes, draw: random.Random) -> bytes:
    """One or a few features dropped, renamed, retyped, resized, or with odd values."""
    try:
        example = Example.FromString(data)
    except DecodeError:
        return draw.choice(BYTES)(data, draw)
    features = example.features.feature
    for _ in range(draw.choice((1, 1, 2))):
        if not features:
            break
        _mutate_feature(features, draw.choice(sorted(features)), draw)
    return example.SerializeToString(deterministic=True)


def _mutate_feature(features: Any, name: str, draw: random.Random) -> None:
    feature, kind = features[name], draw.randrange(8)
    stored = feature.WhichOneof("kind")
    if kind == 0:
        del features[name]
    elif kind == 1:
        other = draw.choice((*sorted(features), f"{name}/x", ""))
        features[other].CopyFrom(feature)
    elif kind == 2:
        feature.Clear()
        draw.choice(
            (
                lambda: feature.int64_list.value.extend([draw.randrange(-3, 9)] * 6),
                lambda: feature.float_list.value.extend([0.5] * 6),
                lambda: feature.bytes_list.value.extend([b"x"] * 6),
                lambda: None,
            )
        )()
    elif stored is not None:
        _mutate_values(getattr(feature, stored).value, stored, draw)


def _mutate_values(values: Any, stored: str, draw: random.Random) -> None:
    kind = draw.randrange(4)
    if kind == 0:  # another count
        keep = draw.choice((0, 1, len(values) - 1, len(values) // 2))
        del values[max(keep, 0) :]
        return
    if kind == 1:
        values.extend(list(values) * (draw.choice((1, 20)) if len(values) < 10_000 else 1))
        return
    if not values:
        return
    at = range(len(values)) if draw.random() < 0.3 else [draw.randrange(len(values))]
    for i in at:
        if stored == "float_list":
            values[i] = draw.choice(_NUMBERS)
        elif stored == "int64_list":
            values[i] = draw.choice((0, 1, 2, -1, (1 << 63) - 1, -(1 << 63), 300))
        elif values[i][:2] == b"\xff\xd8":
            values[i] = mutate_image(values[i], draw)
        else:
            values[i] = draw.choice((*(t.encode() for t in _TEXTS), b"\xff\xfe", values[i] + b"\0"))


# HDF5

_MARKS = (b"\x89HDF", b"TREE", b"SNOD", b"HEAP", b"OHDR", b"OCHK", b"BTHD", b"FRHP", b"GCOL")
_DTYPES = ("f2", ">f4", "f8", "i1", "u8", "S4", "c16", "?", [("a", "f4"), ("b", "i2")])


def mutate_hdf5(data: bytes, draw: random.Random) -> bytes:
    """Bytes, bytes of the structures, or a data set put in another way."""
    kind = draw.randrange(10)
    if kind < 2:
        return draw.choice(BYTES)(data, draw)
    if kind < 5:
        return near(data, _MARKS, draw)
    buffer = io.BytesIO(data)
    try:
        with h5py.File(buffer, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            if names:
                _mutate_node(file, draw.choice(names), draw)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # damaged by an earlier one
        return draw.choice(BYTES)(data, draw)
    return buffer.getvalue()


def mutate_demo(data: bytes, draw: random.Random) -> bytes:
    """As `mutate_hdf5`, or one attribute of a group: LIBERO keeps its models and JSON there."""
    if draw.random() < 0.5 or heap_problem(data):  # reading damaged heaps may never end
        return mutate_hdf5(data, draw)
    buffer = io.BytesIO(data)
    try:
        with h5py.File(buffer, "r+") as file:
            names = ["/"]
            file.visit(names.append)
            here = [(name, key) for name in names for key in file[name].attrs]
            if here:
                name, key = draw.choice(here)
                _mutate_attribute(file[name].attrs, key, draw)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # damaged by an earlier one
        return draw.choice(BYTES)(data, draw)
    return buffer.getvalue()


def _mutate_attribute(attributes: h5py.AttributeManager, key: str, draw: random.Random) -> None:
    value = attributes[key]
    kind = draw.randrange(10)
    if kind == 0:
        del attributes[key]
    elif kind == 1:
        attributes[key] = draw.choice((7, -1.5, np.zeros(3), np.array(["a", "b"], "S1"), b"\xff"))
    elif kind == 2:
        attributes[key] = draw.choice([text for text in _TEXTS if "\0" not in text])
    elif isinstance(value, str):
        attributes[key] = _mutate_text(value, draw)
    else:
        attributes[key] = draw.choice((2**62, -1, 0))


def _mutate_text(text: str, draw: random.Random) -> str:
    """JSON as JSON; of XML a number, a word, an element twice, or its bytes."""
    kind = draw.randrange(4)
    if text.startswith("{"):
        out = mutate_json(text.encode(), draw).decode(errors="replace")
    elif kind == 0:
        places = list(re.finditer(r"-?\d+(\.\d+)?", text))
        at = draw.choice(places) if places else None
        new = draw.choice(("1e308", "nan", "-1", "99999999999", "1e-320", "0", "x", ""))
        out = text if at is None else text[: at.start()] + new + text[at.end() :]
    elif kind == 1:
        words = sorted(set(re.findall(r"[A-Za-z_]{3,}", text))) or ["x"]
        out = text.replace(draw.choice(words), draw.choice((*words, "include", "/etc/passwd")))
    elif kind == 2:
        parts = re.findall(r"<[^<>]*/>", text) or ["<x/>"]
        out = text.replace(draw.choice(parts), draw.choice(parts) * draw.choice((1, 2, 400)), 1)
    else:
        out = draw.choice(BYTES)(text.encode(), draw).decode(errors="replace")
    return out.replace("\0", " ")[: 1 << 20]


def _mutate_node(file: h5py.File, name: str, draw: random.Random) -> None:
    node = file[name]
    if not isinstance(node, h5py.Dataset):
        parent = name.rpartition("/")[0] or "/"
        loop = draw.choice((h5py.SoftLink(f"/{name}"), h5py.SoftLink("/"), file[parent]))
        del file[name]
        draw.choice(
            (
                lambda: None,
                lambda: file.__setitem__(name, loop),
                lambda: file.__setitem__(name, h5py.ExternalLink("other.h5", "/")),
                lambda: file.create_dataset(name, data=np.zeros(3)),
            )
        )()
        return
    shape, values = node.shape or (), np.asarray(node[()])
    if draw.random() < 0.3 and values.dtype.kind in "fiu" and values.size:
        odd = draw.choice((np.nan, np.inf, 1e308, -1e200, 1e30, 0, -1, 1e-300, 2**62))
        values = values.astype(float)
        values.flat[draw.randrange(values.size)] = odd
        del file[name]
        file.create_dataset(name, data=values * draw.choice((1, 1, 1, 1e-6, 1e9, 1e200)))
        return
    del file[name]
    last = (*shape[1:], 1) if len(shape) > 1 else (2,)
    layout = h5py.VirtualLayout(shape, "f8")
    layout[...] = h5py.VirtualSource("other.h5", "x", shape)
    rows = shape[0] if shape else 1
    filtered = {"data": np.zeros((max(rows, 1), 7)), "chunks": (1, 7)}
    draw.choice(
        (
            lambda: None,
            lambda: file.create_dataset(name, data=values[:-1]),
            lambda: file.create_dataset(name, data=values[..., None]),
            lambda: file.create_dataset(name, shape=shape, dtype=draw.choice(_DTYPES)),
            lambda: file.create_dataset(name, data=h5py.Empty("f8")),
            lambda: file.create_dataset(name, data=1.5),
            lambda: file.create_dataset(name, shape, h5py.string_dtype()),
            lambda: file.create_dataset(name, shape, h5py.vlen_dtype(np.float64)),
            lambda: file.create_dataset(name, shape, h5py.enum_dtype({"a": 1}, "i2")),
            lambda: file.create_dataset(name, shape, h5py.ref_dtype),
            lambda: file.create_dataset(name, (1 << 40, *last), "f4", chunks=(1, *last)),
            lambda: file.create_dataset(name, (rows, *last), "f4", chunks=(1 << 26, *last),
                                        maxshape=(None, *last)),
            lambda: file.create_dataset(name, (1 << 22, *last), "f4", chunks=(1, *last)),
            lambda: file.create_dataset(name, shape, "f8", external=[("/dev/zero", 0, 1 << 20)]),
            lambda: file.create_virtual_dataset(name, layout),
            lambda: file.create_dataset(name, **filtered, compression="lzf"),
            lambda: file.create_dataset(name, **filtered, scaleoffset=3),
            lambda: file.create_dataset(name, **filtered, compression="gzip", fletcher32=True),
            lambda: file.__setitem__(name, h5py.SoftLink("/" + name)),
            lambda: file.__setitem__(name, h5py.ExternalLink("/dev/zero", name)),
            lambda: file.create_group(name),
        )
    )()  # fmt: skip


# Whole folders

# What a folder may hold in a file's place.
DIRECTORY, PIPE, LINK_OUT, LINK_LOOP, LINK_NOWHERE = (
    b"\0robo4d-fuzz:" + kind for kind in (b"folder", b"pipe", b"out", b"loop", b"nowhere")
)
_PLACES = (DIRECTORY, PIPE, LINK_OUT, LINK_LOOP, LINK_NOWHERE)


def mutate_folder(files: Files, names: list[str], draw: random.Random) -> tuple[Files, str]:
    """One file gone, twice, under another name, swapped with another, or no file at all."""
    files, name, kind = dict(files), draw.choice(names), draw.randrange(5)
    other = draw.choice(names)
    folder, _, base = name.rpartition("/")
    if kind == 0:
        del files[name]
    elif kind == 1:
        odd = (f"{base}.bak", f"copy {base}", "é\n.json", "\udcff\udcfe.mp4", "im_99999.jpg", "-")
        files[f"{folder}/{draw.choice(odd)}"] = files[name]
    elif kind == 2:
        odd = ("\udcff" + base, base.upper(), base + " ", "9" * 200 + base[-4:])
        files[f"{folder}/{draw.choice(odd)}"] = files.pop(name)
    elif kind == 3:
        files[name], files[other] = files[other], files[name]
    else:
        files[name] = draw.choice(_PLACES)
    return files, name


MUTATORS: dict[str, Mutator] = {
    ".json": mutate_json,
    ".pkl": mutate_pickle,
    ".jpg": mutate_image,
    ".mp4": mutate_video,
    ".h5": mutate_hdf5,
    ".hdf5": mutate_demo,
    ".tfrecord-00000-of-00001": mutate_records,
}


def mutator_of(name: str) -> Mutator:
    """By the end of a file's name; plain byte damage for the rest."""
    for end, mutator in MUTATORS.items():
        if name.endswith(end):
            return mutator
    return lambda data, draw: draw.choice(BYTES)(data, draw)

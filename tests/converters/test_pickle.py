"""Pickles of arrays and plain containers are read; anything else is refused, never run."""

import collections
import datetime
import decimal
import functools
import os
import pickle
import random
import struct
import subprocess
import sys

import numpy as np
import pytest

from converters import _pickle
from converters._pickle import load_pickle
from schemas.reasons import EpisodeError, Reason

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def reason_of(data: bytes) -> Reason:
    with pytest.raises(EpisodeError) as caught:
        load_pickle(data, "file.pkl")
    assert "file.pkl" in str(caught.value)
    assert len(str(caught.value)) < 500
    return caught.value.reason


def same(a, b) -> bool:
    if isinstance(b, (np.ndarray, np.generic)):
        return a.dtype == b.dtype.newbyteorder("=") and a.shape == b.shape and bool(np.all(a == b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_scalars_and_containers_come_back_as_python_reads_them(protocol):
    values = {
        "matrix": np.arange(12.0).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "big_endian": np.array([1, 2], ">f4"),
        "flags": np.array([True, False]),
        "words": np.array(["ab", "c"]),
        "empty": np.zeros((0, 3)),
        "point": np.array(3.0),
        "float32": np.float32(2.5),
        "bool_": np.bool_(True),
        "plain": [1, -2.5, None, True, "x", b"y", b"", (1, (2,)), {}, 10**30],
    }
    data = pickle.dumps(values, protocol)
    read, reference = load_pickle(data, "x"), pickle.loads(data)  # noqa: S301
    assert list(read) == list(reference)
    assert all(same(read[name], reference[name]) for name in values)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_arrays_and_object_arrays_of_plain_values(protocol):
    row = np.arange(3)
    rows = load_pickle(pickle.dumps([row, row, {"again": row}], protocol), "x")
    assert rows[0] is rows[1] is rows[2]["again"]
    objects = load_pickle(pickle.dumps(np.array([{"a": 1}, [row]], object), protocol), "x")
    assert objects[0] == {"a": 1}
    np.testing.assert_array_equal(objects[1][0], row)


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile(marker: str) -> dict[str, object]:
    """Values whose unpickling runs or makes something; ``marker`` is the file that shows it."""
    run = Calls(os.system, f"touch {marker}")
    return {
        "os.system": run,
        "eval": Calls(eval, f"open({marker!r}, 'w')"),
        "exec": Calls(exec, f"open({marker!r}, 'w')"),
        "getattr": Calls(getattr, "", "join"),
        "import": Calls(__import__, "os"),
        "subprocess": Calls(subprocess.call, ["touch", marker]),
        "nested": {"state": [np.zeros(3), ({"deep": run},)]},
        "in an object array": np.array([1, run], object),
        "as a key": {run: 1},
        "numpy.load": Calls(np.load, marker, None, True),
        "numpy.memmap": Calls(np.memmap, marker, "u1", "w+", 0, (4,)),
        "numpy.fromfile": Calls(np.fromfile, marker),
        "huge array": Calls(np.ndarray, (1 << 40,)),
        "huge zeros": Calls(np.zeros, (1 << 40,)),
        "partial": functools.partial(os.system, f"touch {marker}"),
        "a class": Calls,
        "an instance": collections.Counter("a"),
        "ordered dict": collections.OrderedDict(a=1),
        "date": datetime.date(2021, 7, 23),
        "decimal": decimal.Decimal(1),
        "set": {1, 2},
        "record array": np.zeros(2, [("a", "f4")]),
        "datetime array": np.zeros(2, "M8[s]"),
        "masked array": np.ma.masked_array([1, 2], [0, 1]),
        "random state": np.random.default_rng(0),
        "dtype alone": np.dtype("f4"),
        "ndarray alone": np.ndarray,
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", sorted(hostile("")))
def test_everything_else_is_refused_and_nothing_runs(name, protocol, tmp_path):
    marker = tmp_path / "ran"
    value = hostile(str(marker))[name]
    assert reason_of(pickle.dumps(value, protocol)) == Reason.UNDECODABLE_RECORD
    assert not marker.exists()


def call(module: str, name: str, arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + arguments + b"R."


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("_codecs.encode as a bomb", call("_codecs", "encode", b"(Vx\nVhex\nt")),
        ("bytes of a size", call("__builtin__", "bytes", b"(I1000000000000\nt")),
        ("ndarray called", call("numpy", "ndarray", b"((I1000000000000\nttt")),
        ("a foreign subtype", call("numpy.core.multiarray", "_reconstruct", b"(cos\nsystem\nt")),
        ("a dtype of objects by name", call("numpy", "dtype", b"(Vos.system\nt")),
        ("state for a function", b"cnumpy.core.multiarray\n_reconstruct\n}b."),
        ("state for a list", b"]}b."),
        ("attributes of a class", b"cnumpy\nndarray\n(N}Vdtype\nI1\nstb."),
        ("an extension code", b"\x80\x02\x82\x01."),
        ("a persistent id", b"Pfile\n."),
        ("an old instance", b"(ios\nsystem\n."),
        ("an object", b"(cos\nsystem\no."),
        ("new object", b"\x80\x02cos\nsystem\n)\x81."),
        ("a stack that runs empty", b"\x80\x02\x86."),
        ("a mark that is not there", b"\x80\x02t."),
        ("a memo that is not there", b"\x80\x02h\x07."),
        ("no end", pickle.dumps([1, 2])[:-1]),
        ("nothing", b""),
        ("text", b"this is no pickle"),
    ],
)
def test_crafted_opcodes_are_refused(why, data):
    assert reason_of(data) == Reason.UNDECODABLE_RECORD, why


def array_state(shape, dtype=b"cnumpy\ndtype\n(Vf8\nI0\nI1\ntR", raw=b"C\x08" + bytes(8)) -> bytes:
    return (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
        b"(I1\n(" + b"".join(b"I%d\n" % n for n in shape) + b"t" + dtype + b"I00\n" + raw + b"tb."
    )


def test_an_array_is_as_large_as_its_bytes():
    np.testing.assert_array_equal(load_pickle(array_state([1]), "x"), [0.0])
    for shape in ([2], [-1], [1 << 40], [1, 1 << 62], [1] * 40):
        assert reason_of(array_state(shape)) == Reason.UNDECODABLE_RECORD
    assert reason_of(array_state([1], raw=b"N")) == Reason.UNDECODABLE_RECORD
    assert reason_of(array_state([1], dtype=b"Vf8\n")) == Reason.UNDECODABLE_RECORD


def test_bombs_are_refused_within_little_memory_and_time():
    """What pickle.Unpickler with a find_class of its own falls to: in 2 GB of address space."""
    bombs = {
        "memo index": b"\x80\x02Nr\xff\xff\xff\xff0" + b"cos\nsystem\n.",
        "length": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        "nested key": b"\x80\x02}" + b"K\x01" + b"\x85" * 300_000 + b"K\x02s.",
        "nested list": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "laughs": b"\x80\x02]q\x00(" + b"K\x01" * 10 + b"e" + b"".join(
            b"]q%c(" % n + b"h%c" % (n - 1) * 10 + b"e" for n in range(1, 60)
        ) + b".",
        "copies": b"\x80\x03c_codecs\nencode\nq\x00X" + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20) + b"q\x01Vlatin1\nq\x02](" + b"h\x00h\x01h\x02\x86R" * 2000 + b"e.",
        "opcodes": b"\x80\x02" + b"N0" * 400_000 + b"N.",
    }  # fmt: skip
    for name, data in bombs.items():
        code = (
            "import resource, sys\n"
            "from converters._pickle import load_pickle\n"
            "from schemas.reasons import EpisodeError\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
            "try:\n    load_pickle(sys.stdin.buffer.read(), 'x')\n"
            "except EpisodeError as error:\n    print('refused', error.reason)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], input=data, capture_output=True, timeout=60, check=False
        )
        assert done.stdout.startswith(b"refused"), (name, done.returncode, done.stderr[-300:])


def test_a_file_past_the_bound_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(_pickle, "MAX_BYTES", 10)
    assert reason_of(pickle.dumps(list(range(100)))) == Reason.TOO_LARGE


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # from pickletools, on odd bytes
def test_mutated_pickles_are_read_or_refused():
    """2,000 seeded mutations a protocol; anything but a value or an EpisodeError fails the test."""
    value = {
        "full_state": np.random.default_rng(0).random((4, 7)),
        "time_stamp": np.arange(4.0),
        "list": [{"actions": np.zeros(7), "policy_type": "VR"}, (1, None, np.float64(1))],
    }
    for protocol in (2, 4, 5):
        sound = pickle.dumps(value, protocol)
        draw = random.Random(protocol)
        for _ in range(2000):
            data = bytearray(sound)
            for _ in range(draw.randint(1, 6)):
                at, kind = draw.randrange(len(data)), draw.randrange(4)
                if kind == 0:
                    data[at] = draw.randrange(256)
                elif kind == 1:
                    del data[at : at + draw.randint(1, 20)]
                elif kind == 2:
                    data[at:at] = draw.randbytes(draw.randint(1, 20))
                else:
                    other = draw.randrange(len(data))
                    data[at:at] = data[other : other + draw.randint(1, 40)]
            try:
                load_pickle(bytes(data), "x")
            except EpisodeError as error:
                assert error.reason == Reason.UNDECODABLE_RECORD  # noqa: PT017

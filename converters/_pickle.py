"""Pickles from strangers: numpy arrays, numpy scalars and plain containers, nothing else.

A small machine of our own over `pickletools.genops`. `pickle.Unpickler` with a ``find_class``
of one's own still lets a file of ten bytes set aside 64 GB (LONG_BINPUT with a high index), hash
a tuple that is nested past the C stack, or call numpy's functions with arguments of its choice.
Here no function named in a file is ever called: the few names that numpy's own pickles hold are
markers, and arrays are built from bytes, shape and dtype after these were checked.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.reasons import EpisodeError, Reason

# obs_dict.pkl of the longest Bridge trajectories has well under 1 MB and 10,000 opcodes.
MAX_BYTES = 64 << 20
MAX_OPCODES = 500_000
MAX_DEPTH = 32
_MAX_DIMENSIONS = 8

_CORE = ("numpy.core", "numpy._core")  # numpy 1 and 2
_GLOBALS = {
    **{f"{core}.multiarray _reconstruct": "array" for core in _CORE},
    **{f"{core}.multiarray scalar": "scalar" for core in _CORE},
    **{f"{core}.numeric _frombuffer": "frombuffer" for core in _CORE},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # how protocols 0 to 2 write bytes,
    "__builtin__ bytes": "bytes",  # and empty bytes
}
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,3}|O8?)")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PLAIN = (type(None), bool, int, float, str, bytes, bytearray, np.generic)


@dataclass(frozen=True)
class _Marker:
    """A name that numpy's pickles hold."""

    kind: str


@dataclass
class _Pending:
    """A dtype or array that waits for its state; ``slots`` are where the memo holds it."""

    kind: str
    dtype: str = ""
    slots: list[int] = field(default_factory=list)


class _Refused(ValueError):
    """The pickle holds something that is not admitted."""


def load_pickle(data: bytes, name: str) -> Any:
    """Read a pickle of plain containers, numpy arrays and numpy scalars.

    Args:
        data: the file's content.
        name: what the file is called in errors.

    Raises:
        EpisodeError: `UNDECODABLE_RECORD` (damaged, or holds anything else) or `TOO_LARGE`.
    """
    if len(data) > MAX_BYTES:
        raise EpisodeError(
            Reason.TOO_LARGE, f"{name} has {len(data)} bytes; at most {MAX_BYTES} are read"
        )
    try:
        value = _Machine().run(data)
        _check_plain(value)
    except _Refused as error:
        raise EpisodeError(Reason.UNDECODABLE_RECORD, f"{name}: {error}") from error
    # What pickletools and numpy raise over damaged bytes; IndexError is a stack that ran empty.
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise EpisodeError(
            Reason.UNDECODABLE_RECORD, f"{name} is no pickle of {len(data)} bytes: {error!r}"
        ) from error
    return value


class _Machine:
    """The pickle machine: a stack, the stacks below its marks, and a memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.made = 0

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise _Refused(f"more than {MAX_OPCODES} opcodes")
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise _Refused("ends before its STOP")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            index = len(self.memo) if name == "MEMOIZE" else int(argument)
            self.memo[index] = stack[-1]
            if isinstance(stack[-1], _Pending):
                stack[-1].slots.append(index)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self.to_mark()
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self.to_mark()
            self.fill(self.top(dict), items)
        elif name in _TUPLES:
            size = _TUPLES[name]
            if len(stack) < size:
                raise _Refused("its stack runs empty")
            self.stack[-size:] = [tuple(stack[-size:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self.to_mark()
            made = {"TUPLE": tuple(items), "LIST": items, "DICT": {}}[name]
            if isinstance(made, dict):
                self.fill(made, items)
            self.stack.append(made)
        elif name == "GLOBAL":
            stack.append(_marker(str(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not (isinstance(attribute, str) and isinstance(module, str)):
                raise _Refused("a global whose name is no text")
            stack.append(_marker(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self.spend(_reduce(function, arguments)))
        elif name == "BUILD":
            self.build(stack.pop())
        elif name == "POP":
            stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"opcode {name} is not admitted")

    def spend(self, value: Any) -> Any:
        """Bound what is made in all: a value in the memo can be copied by two opcodes a time."""
        self.made += value.nbytes if isinstance(value, np.ndarray) else 0
        self.made += len(value) if isinstance(value, bytes) else 0
        if self.made > 2 * MAX_BYTES:
            raise _Refused(f"unpacks to more than {2 * MAX_BYTES} bytes")
        return value

    def to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _Refused(f"expected a {kind.__name__} to fill; found {type(self.stack[-1])}")
        return self.stack[-1]

    def fill(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise _Refused("a dict with a key and no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):  # nested tuples as keys overflow the C stack
                raise _Refused(f"a dict's key is a {type(key).__name__}; expected text or a number")
            target[key] = value

    def build(self, state: Any) -> None:
        pending = self.stack[-1]
        if not isinstance(pending, _Pending):
            raise _Refused(f"state for a {type(pending).__name__}")
        if pending.kind == "dtype":
            match state:
                case (int(), ("<" | ">" | "|" | "=") as order, None, None, None, *_):
                    pending.dtype = order + pending.dtype.lstrip("<>|=")
                case _:
                    raise _Refused(f"a dtype with the state {_shown(state)}")
            return
        if not (isinstance(state, tuple) and len(state) == 5):
            raise _Refused(f"an array with the state {_shown(state)}")
        _, shape, dtype, fortran, raw = state
        array = self.spend(_array(shape, dtype, raw, fortran is True))
        self.stack[-1] = array
        for index in pending.slots:
            self.memo[index] = array


def _marker(name: str) -> _Marker:
    if name not in _GLOBALS:
        raise _Refused(f"names {name[:80]!r}; only numpy arrays and plain containers are admitted")
    return _Marker(_GLOBALS[name])


def _reduce(function: Any, arguments: Any) -> Any:
    if not (isinstance(function, _Marker) and isinstance(arguments, tuple)):
        raise _Refused(f"calls a {type(function).__name__}")
    match function.kind, arguments:
        case "dtype", (str(spec), *_) if _DTYPE.fullmatch(spec):
            return _Pending("dtype", spec)
        case "array", (_Marker(kind="ndarray"), *_):
            return _Pending("array")
        case "scalar", (_Pending(kind="dtype") as dtype, bytes(raw)):
            return _array((), dtype, raw, False)[()]
        case "frombuffer", (bytes() | bytearray() as raw, _Pending() as dtype, tuple(shape), order):
            return _array(shape, dtype, bytes(raw), order == "F")
        case "encode", (str(text), "latin1"):
            return text.encode("latin1")
        case "bytes", ():
            return b""
    raise _Refused(f"calls numpy's {function.kind!r} with {_shown(arguments)}")


def _array(shape: Any, dtype: Any, raw: Any, fortran: bool) -> np.ndarray:
    """An array from its parts; its size is bound by the bytes that are there."""
    if not (isinstance(dtype, _Pending) and dtype.kind == "dtype"):
        raise _Refused(f"an array of dtype {_shown(dtype)}")
    if not (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 31 for n in shape)
    ):
        raise _Refused(f"an array of shape {_shown(shape)}")
    size, kind = math.prod(shape), np.dtype(dtype.dtype)
    if kind.kind == "O":
        if not isinstance(raw, list) or len(raw) != size:
            raise _Refused(f"an object array of shape {shape} with {_shown(raw)}")
        objects = np.empty(size, object)
        for i, value in enumerate(raw):
            objects[i] = value
        return objects.reshape(shape, order="F" if fortran else "C")
    if not isinstance(raw, bytes) or len(raw) != size * kind.itemsize:
        raise _Refused(f"an array {dtype.dtype} of shape {shape} with {_shown(raw)}")
    flat = np.frombuffer(raw, kind).astype(kind.newbyteorder("="), copy=False)
    return flat.reshape(shape, order="F" if fortran else "C")


def _check_plain(root: Any) -> None:
    """Refuse what is left over (markers, arrays without state) and what is nested too deep."""
    seen: set[int] = set()
    todo: list[tuple[Any, int]] = [(root, 0)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        if depth > MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep")
        if isinstance(value, np.ndarray):
            children = value.ravel().tolist() if value.dtype.kind == "O" else []
        elif isinstance(value, dict):
            children = list(value.values())
        elif isinstance(value, (list, tuple)):
            children = list(value)
        else:
            raise _Refused(f"holds a bare {_shown(value)}")
        todo += [(child, depth + 1) for child in children]


def _shown(value: Any) -> str:
    """A few words on a value of any size and depth."""
    if isinstance(value, tuple):
        return "(" + ", ".join(type(part).__name__ for part in value[:8]) + ")"
    if isinstance(value, (bytes, bytearray, list, dict)):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__

"""One process that runs a depth network for all others of this machine.

A GPU serves one process well and many badly: each has a context of its own, they take turns, and
each holds a copy of the network. Here one process holds the network (`process.serving`), and
others ask it over a Unix socket (`client.ServedDepth`), with the same results: tested on a CPU.

Arrays lie in memory that client and server share (`shared`), an anonymous file that belongs to
nobody but them, and is gone with them however they end. What goes through the socket is a JSON
object a packet, of at most `PACKET` bytes:

    asked     {"arrays": [[name, dtype, shape], ...]}, and with it the file where it is a new one
    answered  {"kind", "provenance", "told"} of a `DepthEstimate`, whose arrays lie behind those
              asked about; or {"error": class, "message"}

Linux only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKET = 65536


class ServerLost(RuntimeError):
    """The process that runs the network is not there, or has ended."""


def packed(message: dict[str, Any]) -> bytes:
    """A packet."""
    return json.dumps(message).encode()


def unpacked(packet: bytes) -> dict[str, Any]:
    """The object of a packet.

    Raises:
        ValueError: it is none.
    """
    message = json.loads(packet)
    if not isinstance(message, dict):
        raise ValueError(f"a packet is {packet[:80]!r}, expected a JSON object")
    return message


@contextmanager
def short_path(address: str) -> Iterator[str]:
    """An address by its folder's descriptor: of a socket's path the kernel takes 107 bytes.

    Raises:
        OSError: the folder is not there.
    """
    path = Path(address)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

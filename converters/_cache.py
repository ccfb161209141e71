"""What planning remembers of a file, on disk, until the file changes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def entry_path(cache: Path, url: str, info: Mapping[str, Any], *asked: str) -> Path:
    """Where the answer to ``asked`` lies for the file that ``info`` (fsspec's) describes.

    Keyed by URL, size and modification time (or the store's etag), and by what was asked.
    """
    stamp = info.get("mtime") or info.get("ETag") or info.get("etag") or info.get("LastModified")
    identity = json.dumps([url, info["size"], str(stamp), *asked])
    return cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def read_entry(path: Path) -> Any:
    """The remembered JSON; None where there is none, or it is damaged and to be made anew."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_entry(path: Path, tree: Any) -> None:
    """Remember; whole or not at all, whoever else does the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hosts that share the folder share no process numbers.
    partial = path.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
    partial.write_text(json.dumps(tree))
    partial.replace(path)

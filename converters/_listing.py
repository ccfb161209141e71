"""Listings that are whole or fail.

fsspec's `walk`, `find` and `glob` leave out a folder that they cannot list, and its `isfile` takes
every error for a no: where a store does not answer for a moment, episodes would be missing without
a word.
"""

from __future__ import annotations

from typing import Any

import fsspec


def list_folder(fs: fsspec.AbstractFileSystem, folder: str) -> dict[str, dict[str, Any]]:
    """What lies directly in a folder: name -> fsspec's description. Empty where none is there.

    Raises:
        OSError: it cannot be listed; or the store's own error.
    """
    try:
        found = fs.ls(folder, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    named = {str(about["name"]).rstrip("/"): about for about in found}
    # An object store lists a file as itself, and an empty object may stand for the folder.
    return {
        path.rsplit("/", 1)[-1]: about
        for path, about in named.items()
        if path.strip("/") != folder.strip("/")
    }


def is_file(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether a regular file, or a link to one, is there; errors as of `list_folder`."""
    try:
        return bool(fs.info(path)["type"] == "file")
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_head(fs: fsspec.AbstractFileSystem, path: str, limit: int) -> bytes:
    """A regular file's first ``limit`` bytes; none where no such file is. Errors as of
    `list_folder`.
    """
    if not is_file(fs, path):
        return b""
    size = fs.size(path)
    if size <= limit:  # whole: its checksum is checked, and an empty object has no range
        return bytes(fs.cat_file(path))
    # By name: s3fs takes a version before the start.
    return bytes(fs.cat_file(path, start=0, end=limit))

"""Where a build lies: a folder of this machine or of an object store, by any fsspec URL.

A file appears under its final name whole or not at all. On a disk it is written aside, flushed and
renamed. An object store has no rename, and needs none: an object is there when its upload is
complete. There it is written to a local file first, uploaded, read back and compared by hash.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.retries import TransientError, again, store_errors

SCRATCH = ".tmp"
_BLOCK = 1 << 20
T = TypeVar("T")


class OutputError(Exception):
    """The output cannot be written (full, read-only, in use); the message says what to do."""


@dataclass(frozen=True)
class Store:
    """A folder that holds one build. It pickles, so every worker opens its own connection.

    Attributes:
        url: absolute path, or URL such as ``s3://bucket/folder``.
    """

    url: str

    @classmethod
    def at(cls, where: str | os.PathLike[str]) -> Store:
        """The store at a path or URL; ``file://`` and relative paths become absolute ones."""
        fs, path = fsspec.core.url_to_fs(os.fspath(where))
        if isinstance(fs, LocalFileSystem):
            return cls(os.path.abspath(path))
        return cls(os.fspath(where).rstrip("/"))

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.url}

    @cached_property
    def _fs(self) -> fsspec.AbstractFileSystem:
        return fsspec.core.url_to_fs(self.url)[0]

    @cached_property
    def _root(self) -> str:
        return str(fsspec.core.url_to_fs(self.url)[1]).rstrip("/")

    @property
    def folder(self) -> Path | None:
        """The folder, where it is on this machine's own disks; None for an object store."""
        return Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

    def path(self, name: str) -> str:
        """What other libraries open the file by: its path or URL."""
        return f"{self.url}/{name}"

    def prepare(self) -> None:
        """Make the folder and clear what an interrupted build left in its scratch folder.

        Raises:
            OutputError: it cannot be made or written.
        """
        if self.folder is None:
            return
        with self.explained():
            scratch = self.folder / SCRATCH
            scratch.mkdir(parents=True, exist_ok=True)
            for left in scratch.iterdir():
                left.unlink(missing_ok=True)

    def names(self) -> dict[str, int]:
        """The files that lie directly in the folder: name -> bytes. Empty where it is not there."""

        def list_all() -> dict[str, int]:
            self._fs.invalidate_cache(self._root)
            try:
                found = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return {}
            files = [info for info in found if info["type"] == "file"]
            return {info["name"].rsplit("/", 1)[-1]: int(info["size"]) for info in files}

        return self._ask(list_all)

    def read(self, name: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none of that name.
            OutputError: the store does not answer.
        """
        return self._ask(lambda: self._fs.cat_file(f"{self._root}/{name}"))

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Several files that are there, at once where the store can."""
        if not names:
            return []
        paths = [f"{self._root}/{name}" for name in names]
        found = self._ask(lambda: self._fs.cat(paths))
        # Bare bytes for a list of one; and an object store's keys may lose their protocol.
        return [found] if isinstance(found, bytes) else [found[path] for path in paths]

    def open(self, name: str) -> IO[bytes]:
        """The file for reading from anywhere in it."""
        return self._ask(lambda: self._fs.open(f"{self._root}/{name}", "rb"))

    def sha256(self, name: str) -> str:
        """Hash of the file as it lies there."""

        def read_back() -> str:
            with self._fs.open(f"{self._root}/{name}", "rb", cache_type="readahead") as file:
                return _hash(file)

        return self._ask(read_back)

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""

        def remove() -> None:
            try:
                self._fs.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

        with self.explained():
            self._ask(remove)

    def publish(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Write a file and put it under its name when it is whole.

        Raises:
            OutputError: the store cannot be written, or gives back other bytes than it was given.
        """
        with self.explained():
            if self.folder is not None:
                _publish_here(self.folder, name, write)
                return
            with tempfile.TemporaryDirectory(prefix="robo4d-") as scratch:
                local = Path(scratch) / "file"
                with local.open("wb") as file:
                    write(file)
                with local.open("rb") as file:
                    expected = _hash(file)
                self._ask(lambda: self._upload(local, name, expected))

    def publish_bytes(self, name: str, data: bytes) -> None:
        """`publish` for bytes at hand."""
        self.publish(name, lambda file: file.write(data))

    def _upload(self, local: Path, name: str, expected: str) -> None:
        target = f"{self._root}/{name}"
        self._fs.put_file(str(local), target)
        with self._fs.open(target, "rb", cache_type="readahead") as file:
            found = _hash(file)
        if found != expected:
            raise TransientError(f"{self.path(name)} came back with sha256 {found}, not {expected}")

    def _ask(self, what: Callable[[], T]) -> T:
        """Do it; on an object store, again where it fails for what may pass."""
        return what() if self.folder is not None else again(what)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the operating system or the store into an `OutputError`."""
        try:
            yield
        except store_errors() as error:
            said = getattr(error, "strerror", None) or error
            raise OutputError(
                f"cannot write under {self.url}: {said}; free space, mend it or choose another "
                "--out, and run the same command again: finished shards are kept"
            ) from error


def _publish_here(folder: Path, name: str, write: Callable[[IO[bytes]], object]) -> None:
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    target = folder / name
    target.parent.mkdir(exist_ok=True)  # a name may have a folder of its own, see jobs.monitor
    partial = scratch / f"{target.name}.{os.getpid()}"
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _hash(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()

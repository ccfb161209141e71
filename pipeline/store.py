"""Where a build lies: a folder of this machine or of an object store, by any fsspec URL.

A file appears under its final name whole or not at all. On a disk it is written aside, flushed and
renamed. An object store has no rename, and needs none: an object is there when its upload is
complete. There it is written to a local file first, uploaded, read back and compared by hash.
See docs/storage.md.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.retries import TransientError, again, said, store_errors
from schemas.reasons import UsageError

SCRATCH = ".tmp"
_BLOCK = 1 << 20
# What a URL of each kind needs beside fsspec: the extra that installs it.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
T = TypeVar("T")


class OutputError(Exception):
    """The output cannot be written (full, read-only, in use), or its store does not answer; the
    message says what to do.
    """


@dataclass(frozen=True)
class Store:
    """A folder that holds one build. It pickles, so every worker opens its own connection.

    Attributes:
        url: absolute path, or URL such as ``s3://bucket/folder``.
    """

    url: str

    @classmethod
    def at(cls, where: str | os.PathLike[str]) -> Store:
        """The store at a path or URL; ``file://`` and relative paths become absolute ones.

        Raises:
            UsageError: nothing that is installed opens such a URL.
        """
        try:
            fs, path = fsspec.core.url_to_fs(os.fspath(where))
        except (ImportError, ValueError) as error:
            raise UsageError(cannot_open(os.fspath(where), error)) from error
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

    def _at(self, name: str) -> str:
        """Where a file lies; names may come from a stranger's plan or index."""
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            raise UsageError(f"{name!r} leads out of {self.url}; refused")
        return f"{self._root}/{name}"

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

    def names(self, inside: str = "") -> dict[str, int]:
        """The files that lie directly in the folder: name -> bytes. Empty where it is not there.

        Args:
            inside: a folder within it that is listed instead.

        Raises:
            OutputError: the store does not answer.
        """

        def list_all() -> dict[str, int]:
            try:
                found = self._fs.ls(f"{self._root}/{inside}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
            files = [info for info in found if info["type"] == "file"]
            return {info["name"].rsplit("/", 1)[-1]: int(info["size"]) for info in files}

        return self._ask(list_all)

    def read(self, name: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none of that name.
            OSError: it cannot be read from this machine's disk.
            OutputError: the store does not answer.
        """
        return self._ask(lambda: self._fs.cat_file(self._at(name)))

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Several files that are there, at once where the store can; errors as of `read`."""
        if not names:
            return []
        paths = [self._at(name) for name in names]
        found = self._ask(lambda: self._fs.cat(paths))
        # Bare bytes for a list of one; and an object store's keys may lose their protocol.
        return [found] if isinstance(found, bytes) else [found[path] for path in paths]

    @contextmanager
    def fetched(self, *names: str) -> Iterator[Path]:
        """A folder of this machine that holds these files: the store's own, or a copy for as long
        as the context lasts; errors as of `read`.
        """
        if self.folder is not None:
            yield self.folder
            return
        with _scratch() as scratch:
            for name in names:
                self._ask(partial(self._download, name, scratch / name))
            yield scratch

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""

        def remove() -> None:
            try:
                self._fs.rm_file(self._at(name))
            except FileNotFoundError:
                return

        with self.explained():
            self._ask(remove)

    def publish(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Write a file and put it under its name when it is whole.

        Raises:
            OutputError: the store cannot be written, or gives back other bytes than it was given.
        """
        self._at(name)
        if self.folder is not None:
            with self.explained():
                _publish_here(self.folder, name, write)
            return
        with _scratch() as scratch:
            local = scratch / "file"
            with _explained_here(scratch), local.open("wb") as file:
                write(file)
            with self.explained():
                self._upload(local, name)

    def publish_bytes(self, name: str, data: bytes) -> None:
        """`publish` for bytes at hand."""
        self.publish(name, lambda file: file.write(data))

    def _upload(self, local: Path, name: str) -> None:
        target, is_there = self._at(name), False
        with local.open("rb") as file:
            expected = _hash(file)

        def put() -> None:
            nonlocal is_there
            self._fs.put_file(str(local), target)
            is_there = True
            with self._fs.open(target, "rb", cache_type="readahead") as file:
                found = _hash(file)
            if found != expected:
                raise TransientError(f"{name} came back with sha256 {found}, not {expected}")

        try:
            self._ask(put)
        except (OutputError, TransientError):
            if is_there:  # and is not what was written, or cannot be compared: it must not stay
                with suppress(*store_errors()):
                    self._fs.rm_file(target)
            raise

    def _download(self, name: str, local: Path) -> None:
        with (
            self._fs.open(self._at(name), "rb", cache_type="readahead") as source,
            local.open("wb") as target,
        ):
            while block := source.read(_BLOCK):
                with _explained_here(local.parent):
                    target.write(block)
                    target.flush()

    def _ask(self, what: Callable[[], T]) -> T:
        """Do it; on an object store, again where it fails for what may pass.

        Raises:
            FileNotFoundError: there is no such file.
            OutputError: anything else that an object store answers in the end.
            OSError: anything else of this machine's disk.
        """
        if self.folder is not None:
            return what()

        def fresh() -> T:
            self._fs.invalidate_cache()  # of listings: others write here too
            return what()

        try:
            return again(fresh)
        except (FileNotFoundError, TransientError):
            raise
        except store_errors() as error:
            raise OutputError(
                f"cannot reach {self.url}: {said(error)}; see that it is there, that the "
                "credentials are given and allow it (docs/storage.md), and run the same command "
                "again: finished shards are kept"
            ) from error

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the operating system or the store into an `OutputError`."""
        try:
            yield
        except store_errors() as error:
            raise OutputError(
                f"cannot write under {self.url}: {said(error)}; free space, mend it or choose "
                "another --out, and run the same command again: finished shards are kept"
            ) from error


def cannot_open(url: str, error: Exception) -> str:
    """Why fsspec opens no such URL (the error it raised), and what to do."""
    extra = _EXTRAS.get(url.split("://", 1)[0])
    if isinstance(error, ImportError) and extra is not None:
        return f"{url} cannot be opened ({error}): pip install 'robo4d[{extra}]'"
    return f"{url} cannot be opened ({error}); give a folder, or a URL that fsspec knows"


@contextmanager
def _scratch() -> Iterator[Path]:
    """A local folder for what goes to or comes from an object store."""
    try:
        folder = tempfile.mkdtemp(prefix="robo4d-")
    except OSError as error:
        raise OutputError(f"no temporary folder ({said(error)}); set TMPDIR to one") from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explained_here(scratch: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write under {scratch}, where files wait for their upload or check: "
            f"{said(error)}; free space there or set TMPDIR to a larger disk, and run the same "
            "command again: finished shards are kept"
        ) from error


def _publish_here(folder: Path, name: str, write: Callable[[IO[bytes]], object]) -> None:
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    target = folder / name
    target.parent.mkdir(exist_ok=True)  # a name may have a folder of its own, see jobs.monitor
    # Hosts that share the folder share no process numbers.
    partial = scratch / f"{target.name}.{socket.gethostname()}.{os.getpid()}"
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

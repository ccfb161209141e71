"""Where a sample came from, step by step: from the published file to its place in a shard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow.compute as pc

from pipeline.lineage import package_versions, source_hash, tree_hash
from pipeline.manifest import parse_table
from robo4d import Dataset, FormatError, __version__
from robo4d import open as open_dataset
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.config import BuildConfig
from schemas.reasons import UsageError

Tree = dict[str, Any]
_TABLES = ("manifest.parquet", "quarantine.parquet")
_NAMES = ("key", "episode_id", "file", "record")


@dataclass(frozen=True)
class BuiltData:
    """A build, or one shard of it; where a build has tables, only the indexes asked for are read.

    Attributes:
        url: folder or fsspec URL of the build, or of one shard (``.tar``).
    """

    url: str

    @property
    def folder(self) -> str:
        """Folder or URL that the shards lie in."""
        url = self.url.rstrip("/")
        return url.rpartition("/")[0] or "." if url.endswith(".tar") else url

    def read(self, name: str) -> bytes | None:
        """A file beside the shards; None if it is not there."""
        try:
            with fsspec.open(f"{self.folder}/{name}", "rb") as file:
                data: bytes = file.read()
        except FileNotFoundError:
            return None
        return data

    def shard(self, name: str) -> Dataset:
        """One shard, by its name without ending."""
        return open_dataset(f"{self.folder}/{name}.tar")

    def index(self, name: str) -> ShardIndex:
        """The index of one shard.

        Raises:
            UsageError: it is gone or damaged, or of a build before lineage was kept.
        """
        where = f"{self.folder}/{name}{INDEX_SUFFIX}"
        data = self.read(f"{name}{INDEX_SUFFIX}")
        if data is None:
            raise UsageError(f"{where} is not there, and it alone has a shard's lineage")
        try:
            index = ShardIndex.from_json(data)
        except FormatError as error:
            raise UsageError(f"{where}: {error}; run the build again") from error
        if "lineage" not in index.build:
            raise UsageError(f"{where} is of a build that kept no lineage; run the build again")
        return index

    def find(self, key: str) -> tuple[list[Tree], list[Tree]]:
        """Rows of manifest and quarantine that a sample's key, an episode's id, or FILE#RECORD
        names.

        Raises:
            UsageError: nothing has this name, with the nearest that has one; or nothing is there.
        """
        known: set[str] = set()
        found: list[list[Tree]] = []
        for rows in self._in_tables(key, known) or self._in_indexes():
            known.update(name for row in rows for name in _names(row))
            found.append([row for row in rows if key in _names(row)])
        built, aside = found
        if not built and not aside:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(
                f"{key!r} names no sample, episode or record (FILE#RECORD) of {self.url}{hint}"
            )
        return built, aside

    def _in_tables(self, key: str, known: set[str]) -> list[list[Tree]] | None:
        """The rows of each table that ``key`` names; all names into ``known`` if it names none."""
        if self.url.endswith(".tar"):
            return None
        tables = []
        for name in _TABLES:
            try:
                with fsspec.open(f"{self.folder}/{name}", "rb") as file:
                    tables.append(parse_table(file.read()))
            except FileNotFoundError:
                return None
        name, _, number = key.rpartition("#")
        found = []
        for table in tables:
            named = pc.field("episode_id") == key
            if "key" in table.column_names:
                named |= pc.field("key") == key
            if number.isascii() and number.isdigit() and len(number) < 19:
                named |= (pc.field("file") == name) & (pc.field("record") == int(number))
            found.append(table.filter(named).to_pylist())
        if not any(found):
            for table in tables:
                columns = [column for column in _NAMES if column in table.column_names]
                for row in table.select(columns).to_pylist():
                    known.update(_names(row))
        return found

    def _in_indexes(self) -> list[list[Tree]]:
        """Of a shard, or a build without tables, all rows."""
        try:
            shards = open_dataset(self.url).shards
        except (FileNotFoundError, FormatError) as error:
            raise UsageError(str(error)) from error
        return [
            [row for index in shards for row in index.build.get(part, [])]
            for part in ("rows", "quarantine")
        ]


def explain(data: BuiltData, key: str) -> Tree:
    """The chain of everything that ``key`` names: one entry a record, with its samples.

    Raises:
        UsageError: unknown key, or a build that cannot be read.
    """
    built, aside = data.find(key)
    chains: dict[tuple[str, str, int], Tree] = {}
    for row in (*built, *aside):
        place = (row["source"], row["file"], row["record"])
        if place not in chains:
            chains[place] = _record(data.index(row["shard"].removesuffix(".tar")), row)
    for row in built:
        chain = chains[row["source"], row["file"], row["record"]]
        _add_sample(chain, data.shard(row["shard"].removesuffix(".tar")), row)
    for row in aside:
        chain = chains[row["source"], row["file"], row["record"]]
        chain["set_aside"] = {name: str(row[name]) for name in ("stage", "reason", "message")}
    return {"key": key, "records": list(chains.values())}


def _names(row: Mapping[str, Any]) -> set[str]:
    names = {row["episode_id"], f"{row['file']}#{row['record']}"}
    return names | {row["key"]} if "key" in row else names


def _record(index: ShardIndex, row: Tree) -> Tree:
    """What is known of a record and of the shard that it was planned for, without its samples."""
    build = index.build
    place = (row["file"], row["record"])
    ref = next(ref for ref in build["records"] if (ref["file"], ref["record"]) == place)
    # Of a record set aside no hash is kept, unless another shard's took its place.
    hashes = {(r["file"], r["record"]): r["record_sha256"] for r in build["rows"]}
    return {
        "episode_id": row["episode_id"],
        "published": build["source"],
        "record": {**ref, "sha256": hashes.get(place)},
        "set_aside": None,
        "episode": None,
        "samples": [],
        "shard": {
            "name": index.shard,
            "split": build["split"],
            "bytes": index.size,
            "sha256": index.sha256,
            "fingerprint": build["fingerprint"],
        },
        "lineage": _lineage(build["lineage"]),
    }


def _lineage(told: Tree) -> Tree:
    """A shard's lineage, and how this installation differs from it."""
    packages, here = told["packages"], package_versions()
    names = sorted(packages.keys() | here.keys())
    return {
        **told,
        "config_sha256": tree_hash(told["config"]),
        "packages_sha256": tree_hash(packages),
        "changed": dict(_changes(told["config"], BuildConfig().model_dump(mode="json"))),
        "here": {
            "code": source_hash(),
            "version": __version__,
            "same_code": told["code"] == source_hash(),
            "packages": {
                name: here.get(name, "none")
                for name in names
                if packages.get(name, "none") != here.get(name, "none")
            },
        },
    }


def _changes(tree: Tree, default: Tree, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Keys whose value is not the default: (key, value)."""
    for name, value in tree.items():
        usual = default.get(name)
        if isinstance(value, dict) and isinstance(usual, dict) and usual:
            yield from _changes(value, usual, f"{prefix}{name}.")
        elif value != usual:
            yield prefix + name, value


def _add_sample(chain: Tree, shard: Dataset, row: Tree) -> None:
    try:
        meta = shard[row["key"]].meta
    except (KeyError, OSError, FormatError) as error:
        raise UsageError(
            f"{shard.url} holds {row['key']} no more as its index says: {error}; "
            "run `robo4d verify`"
        ) from error
    chain["episode"] = {
        name: meta[name]
        for name in (
            *("outcome", "instructions", "robot", "twin", "licence", "citation"),
            *("aliases", "groups", "notes", "timing", "base"),
        )
    }
    chain["samples"].append(
        {
            "key": row["key"],
            "camera": row["camera"],
            "clip": {
                name: row[name]
                for name in (
                    *("clip_start", "clip_end", "episode_steps", "frames", "fps"),
                    *("height", "width", "idle_share", "trimmed_start", "trimmed_end"),
                )
            },
            "fields": meta["fields"],
            "quality": meta["quality"],
            "camera_solution": meta["camera_solution"],
            "lineage": meta["lineage"],
            "stored": {name: row[name] for name in ("shard", "split", "offset", "bytes")},
            "duplicate_of": row.get("duplicate_of"),
        }
    )

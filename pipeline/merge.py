"""The rows of all shards' indexes together, gone through shard by shard: none is kept in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.duplicates import find_duplicates
from pipeline.store import OutputError, Store
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.manifest import DuplicatePair, EpisodeSketch, ManifestRow, QuarantineRecord
from schemas.reasons import Reason

# Read at once, where the store can: an object store takes as long for one as for all of these.
AT_ONCE = 32


@dataclass(frozen=True)
class StoredIndexes:
    """The indexes of finished shards, read from their store each time they are gone through.

    Raises (on iteration):
        OutputError: one is there no more, or the store does not answer.
        FormatError: one was damaged since its shard was found finished.
    """

    store: Store
    names: Sequence[str]

    def __iter__(self) -> Iterator[ShardIndex]:
        for start in range(0, len(self.names), AT_ONCE):
            files = [f"{name}{INDEX_SUFFIX}" for name in self.names[start : start + AT_ONCE]]
            try:
                contents = self.store.read_all(files)
            except FileNotFoundError as error:
                raise OutputError(
                    f"{self.store} lost an index while tables were made ({error}); run the same "
                    "command again: the other shards are kept"
                ) from error
            yield from map(ShardIndex.from_json, contents)


@dataclass(frozen=True)
class ShardRows:
    """What one shard gives to the tables."""

    index: ShardIndex
    rows: list[ManifestRow]
    quarantine: list[QuarantineRecord]


@dataclass(frozen=True)
class Tables:
    """The rows of every table.

    Attributes:
        indexes: of all shards, in order; gone through each time that rows are asked for.
        first: episode id -> (file, record) that has it first.
        duplicates: what was built twice under two ids.
    """

    indexes: Iterable[ShardIndex]
    first: dict[str, tuple[str, int]]
    duplicates: list[DuplicatePair]

    def shards(self) -> Iterator[ShardRows]:
        """Rows by shard. An episode id that two records have counts once: the later one is listed
        in quarantine, not in the manifest.
        """
        repeats = _repeats(self.duplicates)
        repeated: set[tuple[str, int]] = set()
        for index in self.indexes:
            rows, quarantine = [], []
            for raw in index.build.get("rows", []):
                row = ManifestRow.model_validate(raw)
                here = (row.file, row.record)
                first = self.first[row.episode_id]
                if first == here:
                    of = repeats.get(row.episode_id)
                    rows.append(row if of is None else row.model_copy(update={"duplicate_of": of}))
                elif here not in repeated:
                    repeated.add(here)
                    quarantine.append(_twice(row, index, first))
            quarantine += [QuarantineRecord.model_validate(r) for r in index.build["quarantine"]]
            yield ShardRows(index, rows, quarantine)

    @property
    def rows(self) -> Iterator[ManifestRow]:
        """Those of the manifest."""
        for shard in self.shards():
            yield from shard.rows

    @property
    def quarantine(self) -> Iterator[QuarantineRecord]:
        """What was set aside."""
        for shard in self.shards():
            yield from shard.quarantine


def merge(indexes: Iterable[ShardIndex]) -> Tables:
    """The tables of shards, in their order.

    Args:
        indexes: can be gone through again and again.
    """
    first: dict[str, tuple[str, int]] = {}
    sketched: set[str] = set()

    def sketches() -> Iterator[EpisodeSketch]:
        for index in indexes:
            for row in index.build.get("rows", []):
                first.setdefault(row["episode_id"], (sys.intern(row["file"]), row["record"]))
            for raw in index.build["sketches"]:
                sketch = EpisodeSketch.model_validate(raw)
                if sketch.episode_id not in sketched:
                    sketched.add(sketch.episode_id)
                    yield sketch

    duplicates = find_duplicates(sketches())
    return Tables(indexes, first, duplicates)


def _repeats(duplicates: Sequence[DuplicatePair]) -> dict[str, str]:
    """Episode -> the one that it repeats, which itself repeats none."""
    repeats: dict[str, str] = {}
    for pair in duplicates:
        repeats[pair.episode_id] = repeats.get(pair.duplicate_of, pair.duplicate_of)
    return repeats


def _twice(row: ManifestRow, index: ShardIndex, first: tuple[str, int]) -> QuarantineRecord:
    return QuarantineRecord(
        episode_id=row.episode_id,
        source=row.source,
        shard=index.shard.removesuffix(".tar"),
        file=row.file,
        record=row.record,
        stage="merge",
        reason=Reason.DUPLICATE_EPISODE,
        message=f"record {first[1]} of {first[0]} has this id",
    )

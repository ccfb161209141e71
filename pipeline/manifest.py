"""The tables beside the shards, merged from their indexes; and `dataset.json` for readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import NoneType
from typing import IO, Any, Literal, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from pipeline.croissant import Described
from pipeline.merge import merge
from pipeline.stats import Counts, stats_json
from pipeline.store import Store
from robo4d.shard import ShardIndex
from schemas.manifest import DuplicatePair, ManifestRow, QuarantineRecord
from schemas.plan import BuildPlan

PLAN, DATASET, STATS = "plan.json", "dataset.json", "stats.json"
MANIFEST, QUARANTINE, DUPLICATES = (
    f"{name}.parquet" for name in ("manifest", "quarantine", "duplicates")
)
# In the order in which they are written.
TABLES = (MANIFEST, QUARANTINE, DUPLICATES)
# Rows of the manifest that are in memory at once, and so the least that a row group holds but the
# last one. Smaller builds are one row group.
ROW_GROUP = 1 << 16
# In this order: a bool is an int to Python, and an enumerated reason a str.
_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def write_tables(store: Store, plan: BuildPlan, indexes: Iterable[ShardIndex]) -> dict[str, Any]:
    """Write the tables of `TABLES`, ``stats.json`` and ``dataset.json``, in this order: with the
    last one the build is whole.

    Args:
        indexes: of all shards of the plan, in its order; gone through twice, shard by shard.

    Returns:
        What ``stats.json`` holds.

    Raises:
        OutputError: the store cannot be written.
    """
    tables, counts = merge(indexes), Counts()
    quarantine, described = Columns(QuarantineRecord), Described()

    def rows() -> Iterator[Sequence[ManifestRow]]:
        for shard in tables.shards():
            counts.add(shard)
            described.add(shard)
            quarantine.add(shard.quarantine)
            yield shard.rows

    store.publish(MANIFEST, lambda file: _write_rows(file, rows()))
    store.publish(QUARANTINE, quarantine.write)
    duplicates = Columns(DuplicatePair)
    duplicates.add(tables.duplicates)
    store.publish(DUPLICATES, duplicates.write)
    stats = counts.report(plan, tables.duplicates)
    store.publish_bytes(STATS, stats_json(stats))
    store.publish_bytes(DATASET, described.croissant(plan))
    return stats


def read_table(store: Store, name: str) -> list[dict[str, Any]]:
    """Rows of one of the tables."""
    return parse_table(store.read(name)).to_pylist()


def table_rows(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """The same, a few at a time in memory."""
    file = pq.ParquetFile(pa.BufferReader(store.read(name)), pre_buffer=False)
    for batch in file.iter_batches(batch_size=1 << 12, use_threads=False):
        yield from batch.to_pylist()


def parse_table(content: bytes) -> pa.Table:
    """A Parquet file's table.

    Read by this thread alone: `pq.read_table` begins threads, and with them Arrow now and then
    aborts the process when that ends ("terminate called without an active exception").
    """
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    return file.read(use_threads=False)


class Columns:
    """Rows of a table as Arrow's columns, a tenth of what they are as objects."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._schema = pa.schema(
            [
                pa.field(name, _arrow_type(info.annotation), nullable=_optional(info.annotation))
                for name, info in model.model_fields.items()
            ]
        )
        self._parts: list[pa.Table] = []
        self.count = 0

    def add(self, rows: Sequence[BaseModel]) -> None:
        """Append rows."""
        if rows:
            tree = [row.model_dump(mode="json") for row in rows]
            self._parts.append(pa.Table.from_pylist(tree, schema=self._schema))
            self.count += len(rows)

    def writer(self, file: IO[bytes]) -> pq.ParquetWriter:
        """What `flush` writes into; a context."""
        return pq.ParquetWriter(file, self._schema, compression="zstd")

    def flush(self, writer: pq.ParquetWriter) -> None:
        """Write the rows as one row group, and let go of them."""
        # In one piece: pages end where pieces do, and how many shards there are is no matter here.
        whole = pa.concat_tables([self._schema.empty_table(), *self._parts]).combine_chunks()
        writer.write_table(whole)
        self._parts, self.count = [], 0

    def write(self, file: IO[bytes]) -> None:
        """All rows as a Parquet file of one row group."""
        with self.writer(file) as writer:
            self.flush(writer)


def _write_rows(file: IO[bytes], shards: Iterable[Sequence[ManifestRow]]) -> None:
    columns, groups = Columns(ManifestRow), 0
    with columns.writer(file) as writer:
        for rows in shards:
            columns.add(rows)
            if columns.count >= ROW_GROUP:
                columns.flush(writer)
                groups += 1
        if columns.count or not groups:
            columns.flush(writer)


def _optional(kind: Any) -> bool:
    return NoneType in get_args(kind)


def _arrow_type(kind: Any) -> pa.DataType:
    if _optional(kind):
        kind = next(k for k in get_args(kind) if k is not NoneType)
    if get_origin(kind) is Literal:
        kind = str
    return next(arrow for python, arrow in _ARROW.items() if issubclass(kind, python))

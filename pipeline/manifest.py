"""The tables beside the shards, merged from their indexes; and `dataset.json` for readers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from pipeline.duplicates import find_duplicates
from pipeline.stats import stats_json
from pipeline.store import Store
from robo4d.shard import ShardIndex
from schemas.manifest import DuplicatePair, EpisodeSketch, ManifestRow, QuarantineRecord, Tables
from schemas.plan import BuildPlan
from schemas.reasons import Reason

PLAN, DATASET, STATS = "plan.json", "dataset.json", "stats.json"
# File: the field of `Tables` that it holds, and the type of its rows.
TABLES: dict[str, tuple[str, type[BaseModel]]] = {
    "manifest.parquet": ("rows", ManifestRow),
    "quarantine.parquet": ("quarantine", QuarantineRecord),
    "duplicates.parquet": ("duplicates", DuplicatePair),
}
# In this order: a bool is an int to Python, and an enumerated reason a str.
_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def merge(indexes: Iterable[ShardIndex]) -> Tables:
    """Rows of all shards, in shard order. An episode id that two shards hold counts once: the
    later one is listed in quarantine, not in the manifest.
    """
    rows: list[ManifestRow] = []
    quarantine: list[QuarantineRecord] = []
    sketches: dict[str, EpisodeSketch] = {}
    record_of: dict[str, tuple[str, int]] = {}
    repeated: set[tuple[str, int]] = set()
    for index in indexes:
        for raw in index.build.get("rows", []):
            row = ManifestRow.model_validate(raw)
            here = (row.file, row.record)
            first = record_of.setdefault(row.episode_id, here)
            if first == here:
                rows.append(row)
            elif here not in repeated:
                repeated.add(here)
                quarantine.append(
                    QuarantineRecord(
                        episode_id=row.episode_id,
                        source=row.source,
                        shard=index.shard.removesuffix(".tar"),
                        file=row.file,
                        record=row.record,
                        stage="merge",
                        reason=Reason.DUPLICATE_EPISODE,
                        message=f"record {first[1]} of {first[0]} has this id",
                    )
                )
        quarantine += [QuarantineRecord.model_validate(r) for r in index.build["quarantine"]]
        for raw in index.build["sketches"]:
            sketch = EpisodeSketch.model_validate(raw)
            sketches.setdefault(sketch.episode_id, sketch)
    duplicates = find_duplicates(list(sketches.values()))
    return Tables(_mark(rows, duplicates), quarantine, duplicates)


def _mark(rows: list[ManifestRow], duplicates: Sequence[DuplicatePair]) -> list[ManifestRow]:
    """The rows with the episode that each repeats, which itself repeats none."""
    repeats: dict[str, str] = {}
    for pair in duplicates:
        repeats[pair.episode_id] = repeats.get(pair.duplicate_of, pair.duplicate_of)
    return [
        row.model_copy(update={"duplicate_of": repeats[row.episode_id]})
        if row.episode_id in repeats
        else row
        for row in rows
    ]


def write_tables(store: Store, plan: BuildPlan, indexes: Sequence[ShardIndex]) -> None:
    """Write the tables of `TABLES`, ``stats.json`` and ``dataset.json``, in this order: with the
    last one the build is whole.

    Raises:
        OutputError: the store cannot be written.
    """
    tables = merge(indexes)
    for name, (field, model) in TABLES.items():
        store.publish_bytes(name, _parquet(model, getattr(tables, field)))
    store.publish_bytes(STATS, stats_json(plan, tables, indexes))
    store.publish_bytes(DATASET, _croissant(plan, indexes, tables.rows))


def read_table(store: Store, name: str) -> list[dict[str, Any]]:
    """Rows of one of the tables."""
    return parse_table(store.read(name)).to_pylist()


def parse_table(content: bytes) -> pa.Table:
    """A Parquet file's table.

    Read by this thread alone: `pq.read_table` begins threads, and with them Arrow now and then
    aborts the process when that ends ("terminate called without an active exception").
    """
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    return file.read(use_threads=False)


def _parquet(model: type[BaseModel], rows: Sequence[BaseModel]) -> bytes:
    schema = pa.schema(
        [
            pa.field(name, _arrow_type(info.annotation), nullable=_optional(info.annotation))
            for name, info in model.model_fields.items()
        ]
    )
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _optional(kind: Any) -> bool:
    return NoneType in get_args(kind)


def _arrow_type(kind: Any) -> pa.DataType:
    if _optional(kind):
        kind = next(k for k in get_args(kind) if k is not NoneType)
    if get_origin(kind) is Literal:
        kind = str
    return next(arrow for python, arrow in _ARROW.items() if issubclass(kind, python))


def _croissant(
    plan: BuildPlan, indexes: Sequence[ShardIndex], rows: Sequence[ManifestRow]
) -> bytes:
    """The files of the data set in Croissant's vocabulary (mlcommons.org/croissant/1.0)."""
    inputs = ", ".join(
        source.dataset + (" (simulated twin)" if source.twin else "") for source in plan.sources
    )
    files = [
        {
            "@type": "cr:FileObject",
            "@id": index.shard,
            "name": index.shard,
            "contentUrl": index.shard,
            "contentSize": f"{index.size} B",
            "encodingFormat": "application/x-tar",
            "sha256": index.sha256,
        }
        for index in indexes
    ]
    tree = {
        "@context": {
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "conformsTo": "http://purl.org/dc/terms/conformsTo",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "robo4d-" + "-".join(source.source for source in plan.sources),
        "description": f"{len(rows)} clips built by robo4d from {inputs}",
        "license": sorted({row.licence for row in rows}),
        "distribution": files,
    }
    return json.dumps(tree, indent=1, sort_keys=True).encode()

"""Tables written shard by shard hold what the indexes say, whatever fits into memory at once."""

import json

import pyarrow.parquet as pq
import pytest

from benchmarks.merging import write_indexes
from pipeline.manifest import MANIFEST, write_tables
from pipeline.merge import StoredIndexes
from pipeline.store import OutputError, Store
from schemas.config import BuildConfig
from schemas.plan import BuildPlan, PlannedSource

MADE = PlannedSource(source="made", layout="rlds", data="", dataset="made/1", twin=False)
PLAN = BuildPlan(sources=(MADE,), config=BuildConfig(), code="", shards=())


def test_a_manifest_in_many_row_groups_holds_the_rows_of_the_index_files(tmp_path, monkeypatch):
    store = Store.at(tmp_path)
    indexes = write_indexes(store, 500)
    told = [
        row
        for path in sorted(tmp_path.glob("*.index.json"))
        for row in json.loads(path.read_text())["build"]["rows"]
    ]
    for rows, groups in ((100, 4), (1 << 16, 1)):
        monkeypatch.setattr("pipeline.manifest.ROW_GROUP", rows)
        stats = write_tables(store, PLAN, indexes)
        file = pq.ParquetFile(tmp_path / MANIFEST)
        assert file.num_row_groups == groups
        found = file.read().to_pylist()
        repeats = {row["key"]: row.pop("duplicate_of") for row in found}
        assert found == [{k: v for k, v in row.items() if k != "duplicate_of"} for row in told]
        assert sum(of is not None for of in repeats.values()) == 5
        assert (stats["built"]["episodes"], stats["shards"]) == (500, 8)


def test_an_index_that_is_gone_while_tables_are_made_is_explained(tmp_path):
    with pytest.raises(OutputError, match="lost an index"):
        list(StoredIndexes(Store.at(tmp_path), ["robo4d-made-train-00000"]))

"""The merge's benchmark has episodes that a merge takes today."""

from benchmarks.merging import COPIES, write_indexes
from pipeline.merge import merge
from pipeline.store import Store


def test_every_made_up_episode_is_a_row_and_planted_copies_are_found(tmp_path):
    count = 2 * COPIES
    tables = merge(write_indexes(Store.at(tmp_path), count))
    assert [row.record for row in tables.rows] == [n % 1000 for n in range(count)]
    planted = {(f"made/{n:07d}", f"made/{n - 1:07d}") for n in (COPIES - 1, 2 * COPIES - 1)}
    assert {(pair.episode_id, pair.duplicate_of) for pair in tables.duplicates} == planted

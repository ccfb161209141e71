"""Whether shards keep workers busy, judged by trying every way to give them out."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.schedule import EFFICIENT, efficiency, efficient_size, makespan

WORK = st.floats(0.1, 100)


@given(st.lists(WORK, min_size=1, max_size=6), st.integers(1, 3))
def test_longest_first_is_within_a_third_of_the_best_way_to_give_shards_out(seconds, workers):
    found = makespan(sorted(seconds, reverse=True), workers)
    best = min(
        max(sum(s for s, w in zip(seconds, given, strict=True) if w == k) for k in range(workers))
        for given in itertools.product(range(workers), repeat=len(seconds))
    )
    # Graham 1969, "Bounds on multiprocessing timing anomalies": 4/3 - 1/(3 m).
    assert best * (1 - 1e-9) <= found <= (4 / 3 - 1 / (3 * workers)) * best * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seconds", "workers", "share"),
    [([4, 4, 4], 2, 0.75), ([1] * 8, 4, 1), ([10], 5, 0.2), ([], 3, 1), ([0, 0], 2, 1)],
)
def test_efficiency_is_work_over_the_time_that_workers_are_there(seconds, workers, share):
    assert efficiency(seconds, workers) == pytest.approx(share)


def test_smaller_shards_are_named_where_they_help_and_nothing_where_none_do():
    # 640 equal episodes in 10 shards of 64 on 8 workers: two take a second shard, six wait.
    run = [1.0] * 640
    assert efficiency([64.0] * 10, 8) == pytest.approx(0.625)
    size = efficient_size([run], 64, 8)
    cuts = np.array_split(run, -(-640 // size))
    assert efficiency([float(part.sum()) for part in cuts], 8) >= EFFICIENT
    assert 10 < size < 64
    assert efficient_size([[1.0] * 3], 64, 8) is None
    assert efficient_size([[], [1.0] * 8], 64, 8) == 1

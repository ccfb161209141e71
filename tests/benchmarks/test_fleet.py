"""The simulated fleet against closed forms and Graham's bound."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._fleet import Fleet, simulate

SHARDS = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60)


@pytest.mark.parametrize(("shards", "workers"), [(1, 1), (7, 3), (12, 4), (1000, 33), (5, 8)])
def test_equal_shards_take_as_many_rounds_as_fill_the_workers(shards, workers):
    found = simulate([7.0] * shards, Fleet(workers, startup=2.0))
    rounds = math.ceil(shards / workers)
    assert found.makespan == pytest.approx(2.0 + 7.0 * rounds)
    assert found.efficiency == pytest.approx(shards * 7.0 / (workers * (2.0 + 7.0 * rounds)))
    assert found.given_back == pytest.approx(
        shards * 7.0 / (workers * 2.0 + shards * 7.0)
    )  # start-up is paid, having nothing to do is not


@given(SHARDS)
def test_one_worker_takes_the_sum(seconds):
    found = simulate(seconds, Fleet(1))
    assert found.makespan == pytest.approx(math.fsum(seconds))
    assert found.efficiency == pytest.approx(1)


@given(SHARDS, st.integers(1, 20), st.booleans())
def test_any_order_keeps_grahams_bound(seconds, workers, copies):
    """Graham 1969: list scheduling ends within total / m + (1 - 1/m) longest."""
    found = simulate(seconds, Fleet(workers), copies=copies)
    total, longest = math.fsum(seconds), max(seconds)
    assert found.makespan <= (total / workers + (1 - 1 / workers) * longest) * (1 + 1e-9)
    assert found.makespan >= max(total / workers, longest) * (1 - 1e-9)


@given(SHARDS, st.integers(1, 20), st.sampled_from([0.0, 0.2, 1.0]), st.booleans())
def test_paid_time_is_work_and_what_is_lost_copied_or_idle(seconds, workers, slow, copies):
    fleet = Fleet(workers, startup=1.0, life=500.0, away=10.0, slow_share=slow)
    found = simulate(seconds, fleet, copies=copies, seed=1)
    spent = found.paid - found.lost - found.copied - found.idle
    assert spent >= found.useful * (1 - 1e-9)
    if round(slow * workers) == 0:
        # What is left is start-up, at most one for each life.
        assert found.paid <= workers * found.makespan * (1 + 1e-9)
    assert min(found.lost, found.copied, found.idle) >= -1e-9


def test_a_worker_taken_away_at_random_needs_the_expected_time():
    """Restart from nothing at rate r, with d between lives: E = (1/r + d)(exp(r t) - 1)."""
    life, away, shard = 100.0, 20.0, 80.0
    found = simulate([shard] * 4000, Fleet(1, life=life, away=away), seed=3)
    expected = (life + away) * math.expm1(shard / life)
    assert found.makespan / 4000 == pytest.approx(expected, rel=0.05)
    # Of what is paid, e^rt - 1 lives' worth is spent and t of it useful.
    assert found.efficiency == pytest.approx(shard / (life * math.expm1(shard / life)), rel=0.05)


def test_longest_first_ends_where_grahams_worst_case_does():
    """Graham 1969, m = 3: the optimum is 9, longest first ends at 4/3 - 1/(3m) times that."""
    assert simulate([5, 5, 4, 4, 3, 3, 3], Fleet(3)).makespan == 11


def test_a_copy_saves_the_build_from_one_slow_worker():
    # Two of ten workers are slow; ten shards, one each. The fast ones end at 10 and copy the rest.
    fleet = Fleet(10, slow_share=0.2, slowness=3.0)
    assert simulate([10.0] * 10, fleet).makespan == pytest.approx(30)
    copied = simulate([10.0] * 10, fleet, copies=True)
    assert copied.makespan == pytest.approx(20)
    assert copied.copied == pytest.approx(40)  # two slow workers' 20 s each came second


def test_the_same_seed_gives_the_same_build():
    seconds = np.random.default_rng(0).lognormal(3, 1, 300)
    fleet = Fleet(20, startup=5, slow_share=0.1, life=200, away=30)
    assert simulate(seconds, fleet, seed=4) == simulate(seconds, fleet, seed=4)
    assert simulate(seconds, fleet, seed=4) != simulate(seconds, fleet, seed=5)

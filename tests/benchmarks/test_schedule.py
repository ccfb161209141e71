"""Fits and lines of the scale benchmarks against numbers that they were made from."""

import numpy as np
import pytest

from benchmarks.engines import overheads
from benchmarks.schedule import PUBLISHED, Spread, draw_shards, fit, sizes_of


def test_a_fit_finds_the_lognormal_that_its_lines_were_drawn_from():
    drawn = np.random.default_rng(0).lognormal(3.0, 0.4, 4000)
    lines = [{"source": "droid", "episodes": 2, "process_cpu": 2 * s} for s in drawn]
    found = fit(lines, widen=2.0)["droid"]
    assert (found.mu, found.sigma) == pytest.approx((3.0, 0.8), abs=0.02)
    assert fit(lines)["droid"].mean == pytest.approx(drawn.mean(), rel=0.02)
    with pytest.raises(ValueError, match="rt1 has 1 measured line"):
        fit([*lines, {"source": "rt1", "episodes": 1, "process_cpu": 9.0}])


def test_shards_hold_every_episode_once_in_the_published_mix():
    spreads = {source: Spread(0.0, 0.0) for source in PUBLISHED}  # a second each
    seconds, guesses = draw_shards(spreads, dict.fromkeys(spreads, 64), 201_426, seed=0)
    assert seconds.sum() == pytest.approx(201_426)
    assert np.array_equal(seconds, guesses)
    assert seconds.max() == 64
    assert len(seconds) == sum(
        -(-round(201_426 * n / sum(PUBLISHED.values())) // 64) for n in PUBLISHED.values()
    )


def test_shards_of_so_many_minutes_take_those():
    spreads = {"droid": Spread(np.log(100), 0.0), "rt1": Spread(np.log(10), 0.0)}
    assert sizes_of(spreads, "minutes", 10) == {"droid": 6, "rt1": 60}
    assert sizes_of(spreads, "minutes", 1) == {"droid": 1, "rt1": 6}
    assert sizes_of(spreads, "episodes", 16) == {"droid": 16, "rt1": 16}


def test_an_engines_overhead_is_the_slope_above_half_the_bare_one_and_its_start():
    runs = [
        {"engine": engine, "workers": workers, "episodes": n, "seconds": start + slope * n}
        | {"cpu": 1.0 * n, "first": 0.5, "last": 0.1}
        for engine, workers, start, slope in (("bare", 1, 2.0, 1.0), ("ray", 2, 12.0, 0.55))
        for n in (32, 64, 128)
    ]
    ray = overheads(runs)[1]
    assert ray["overhead, %"] == pytest.approx(10)
    assert ray["overhead, ms"] == pytest.approx(50)
    assert ray["start-up, s"] == pytest.approx(10)
    # 10 s of start-up within what 15 % of half a second leaves beside 50 ms: 25 ms an episode.
    assert ray["episodes until all is within the limit"] == 400

"""Costs: sums by hand, unknown where nothing was measured, and the shipped files."""

import json
from dataclasses import replace

import pytest
import yaml
from plans import plan_of

from pipeline.cost import (
    Prices,
    Rate,
    Rates,
    estimate,
    load_prices,
    load_rates,
    longest_first,
    weigh,
)
from schemas.config import BuildConfig, load_config
from schemas.plan import BuildPlan, EpisodeRef, PlannedSource, ShardTask
from schemas.reasons import Reason, UsageError

RATE = Rate(
    source="droid",
    layout="rlds",
    twin=False,
    camera_cpu_s=30.0,
    cpu_s=5.0,
    cpu_s_per_mb=0.5,
    clips=3.0,
    output_bytes=1_000_000,
    gpu_s=None,
    source_mb=(1.0, 4.0),
    episodes=6,
    quarantined=1,
    data="made/1.0.0",
    machine="a machine",
    date="2026-11-26",
    command="python -m benchmarks.rates droid=x",
)
PRICES = Prices(
    currency="EUR",
    cpu_core_hour=2.0,
    gpu_hour=10.0,
    storage_gb_month=0.5,
    put_per_1000=4.0,
    get_per_1000=3.0,
    egress_per_gb=7.0,
)


def eight_records() -> list[EpisodeRef]:
    """Seven of 2 MB, and one that is lost."""
    sound = [EpisodeRef("f", n, n * 3_000_000, 2_000_000, n) for n in range(7)]
    return [*sound, EpisodeRef("f", 7, defect=Reason.MISSING_RECORDS)]


def at(plan: BuildPlan, data: str) -> BuildPlan:
    return replace(plan, sources=(plan.sources[0].model_copy(update={"data": data}),))


def test_a_cost_is_the_sum_of_its_records_at_the_rates_and_prices():
    plan = plan_of({"train": eight_records()}, ["shard.episodes=4"])
    cost = estimate(plan, Rates(rates=(RATE,)), PRICES, workers=1)
    (one,) = cost.sources
    assert (one.shards, one.kept, one.episodes, one.source_bytes) == (2, 0, 8, 14_000_000)
    assert one.clips == 21
    assert one.output_bytes == 7_000_000
    assert one.cpu_hours == pytest.approx(7 * (30 + 5 + 0.5 * 2) / 3600)
    assert one.gpu_hours is None
    assert one.storage_month == pytest.approx(0.007 * 0.5)
    assert one.once == pytest.approx(7 * 36 / 3600 * 2 + 4 * 4 / 1000)
    assert cost.wall_hours == pytest.approx(7 * 36 / 3600)
    assert estimate(plan, Rates(rates=(RATE,)), PRICES, 2).wall_hours == pytest.approx(144 / 3600)
    far = estimate(at(plan, "s3://bucket/set"), Rates(rates=(RATE,)), PRICES, 1).sources[0]
    assert far.once - one.once == pytest.approx(7 * 3 / 1000 + 0.014 * 7)


def test_what_was_measured_on_a_gpu_is_counted_and_priced():
    plan = plan_of({"train": eight_records()})
    plain = estimate(plan, Rates(rates=(RATE,)), PRICES, 1).sources[0]
    rate = RATE.model_copy(update={"gpu_s": 36.0})
    one = estimate(plan, Rates(rates=(rate,)), PRICES, 1).sources[0]
    assert one.gpu_hours == pytest.approx(0.07)
    assert one.once - plain.once == pytest.approx(0.7)


def test_cameras_that_are_not_solved_cost_nothing():
    plan = plan_of({"train": eight_records()}, ["camera.solve=never"])
    one = estimate(plan, Rates(rates=(RATE,)), PRICES, 1).sources[0]
    assert one.cpu_hours == pytest.approx(7 * 6 / 3600)
    assert any("another ['camera']" in note for note in one.notes)


@pytest.mark.parametrize(
    ("update", "overrides"),
    [
        ({"layout": "raw"}, []),
        ({"twin": True}, []),
        ({"source": "bridge"}, []),
        ({}, ["camera.masks={backend: sam, model: hub:a/b}"]),
        ({}, ["depth.backend=pointmap"]),
    ],
)
def test_what_nobody_measured_is_unknown(update, overrides, monkeypatch):
    monkeypatch.setattr("pipeline.plan.model_identities", lambda _: {"camera.masks": "x"})
    plan = plan_of({"train": eight_records()}, overrides)
    rates = Rates(rates=(RATE.model_copy(update=update),))
    cost = estimate(plan, rates, PRICES, 1)
    (one,) = cost.sources
    assert one.episodes == 8
    assert {one.rate, one.clips, one.output_bytes, one.cpu_hours, one.once} == {None}
    assert cost.wall_hours is None


def test_records_far_from_those_measured_are_called_an_extrapolation():
    sizes = {1_000_000: False, 8_000_000: False, 9_000_000: True, 400_000: True}
    for length, said in sizes.items():
        plan = plan_of({"train": [EpisodeRef("f", 0, 0, length)]})
        notes = estimate(plan, Rates(rates=(RATE,)), PRICES, 1).sources[0].notes
        assert any("extrapolation" in note for note in notes) == said, length


def test_growth_costs_what_is_new():
    refs = eight_records()[:7]
    first = plan_of({"train": refs[:4]}, ["shard.episodes=4"])
    second = plan_of({"train": refs}, ["shard.episodes=4"], first)
    one = estimate(second, Rates(rates=(RATE,)), PRICES, 1, first).sources[0]
    assert (one.shards, one.kept, one.episodes, one.clips) == (1, 1, 3, 9)
    nothing = estimate(second, Rates(rates=(RATE,)), PRICES, 1, second)
    assert (nothing.sources[0].cpu_hours, nothing.wall_hours) == (0, 0)


def test_weights_are_the_seconds_of_the_rate_and_a_lost_record_weighs_little():
    refs = eight_records()
    assert weigh(refs, RATE, BuildConfig()) == pytest.approx([36.0] * 7 + [3.6])
    assert weigh(refs, None, BuildConfig()) == pytest.approx([2.0] * 7 + [0.2])
    no_cameras = load_config(None, ["camera.solve=never"])
    assert weigh(refs, RATE, no_cameras)[0] == pytest.approx(6.0)


def test_rates_of_ones_own_decide_the_cuts_and_change_no_shard_that_is_planned(tmp_path):
    refs = [EpisodeRef("f", n, length=length) for n, length in enumerate([9, 1, 1, 1, 1, 1, 1, 1])]
    by_split = {"train": [replace(ref, length=ref.length * 1_000_000) for ref in refs]}
    mine = tmp_path / "rates.yaml"
    by_bytes = RATE.model_copy(update={"camera_cpu_s": 0.0, "cpu_s": 0.0})
    mine.write_text(yaml.safe_dump({"rates": [by_bytes.model_dump(mode="json")]}))
    config = ["shard.episodes=4", f"cost.rates={mine}"]
    heavy = plan_of(by_split, config)
    assert [len(task.refs) for task in heavy.shards] == [1, 7]
    assert plan_of(by_split, ["shard.episodes=4"], heavy).shards == heavy.shards


def test_shipped_rates_were_measured_and_shipped_prices_call_themselves_examples():
    rates, prices = load_rates(None), load_prices(None)
    keys = [(rate.source, rate.layout, rate.twin) for rate in rates.rates]
    assert len(set(keys)) == len(keys)
    assert {("droid", "rlds", False), ("bridge", "rlds", False)} <= set(keys)
    assert all("benchmarks.rates" in rate.command for rate in rates.rates)
    assert "example" in prices.note


@pytest.mark.parametrize("text", ["rates: 3", "- 1", "rates: [{source: droid}]", "rates: [", ""])
def test_a_bad_rates_file_is_explained(tmp_path, text):
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"cost\.rates: cannot read .*rates\.yaml"):
        load_rates(str(path))
    with pytest.raises(UsageError, match="cannot read"):
        load_rates(str(tmp_path / "nowhere"))


def test_the_printed_object_and_table_say_the_same(capsys):
    from jobs._plan import cost_json, print_cost

    plan = plan_of({"train": eight_records()})
    cost = estimate(plan, Rates(rates=(RATE,)), PRICES, 3)
    tree = json.loads(json.dumps(cost_json(cost)))
    assert tree["sources"][0]["rate"]["machine"] == "a machine"
    assert tree["total"]["cpu_hours"] == pytest.approx(tree["sources"][0]["cpu_hours"])
    print_cost(cost)
    shown = capsys.readouterr().out
    for part in ("droid rlds", "14 MB", "21", "7 MB", "absent", "EUR", "2026-11-26"):
        assert part in shown
    assert "benchmarks.rates droid=x" in shown
    print_cost(estimate(plan, Rates(rates=()), PRICES, 3))
    assert "unknown" in capsys.readouterr().out


def test_workers_that_would_wait_are_told_of_and_of_the_size_that_keeps_them_busy(capsys):
    from jobs._plan import print_cost

    plan = plan_of({"train": [EpisodeRef("f", n, 0, 1_000_000) for n in range(96)]})
    cost = estimate(plan, Rates(rates=(RATE,)), PRICES, 6)
    assert len(plan.shards) == 2
    assert cost.efficiency == pytest.approx(1 / 3)
    print_cost(cost)
    assert f"--set shard.episodes={cost.episodes_a_shard} keeps" in capsys.readouterr().err
    size = f"shard.episodes={cost.episodes_a_shard}"
    again = plan_of({"train": plan.shards[0].refs + plan.shards[1].refs}, [size])
    assert estimate(again, Rates(rates=(RATE,)), PRICES, 6).efficiency >= 0.9
    print_cost(estimate(plan, Rates(rates=(RATE,)), PRICES, 1000))
    assert "take fewer workers" in " ".join(capsys.readouterr().err.split())
    print_cost(estimate(plan, Rates(rates=(RATE,)), PRICES, 2))
    assert "note: 2 workers" not in capsys.readouterr().err


def test_a_fit_finds_the_parts_that_times_were_made_of():
    from benchmarks.rates import Measured, fit

    made = [
        Measured(n, mb, 10 * n + 4 * n + 0.5 * mb, 10 * n, 3 * n, 0, 900 * n)
        for n, mb in ((1, 2.0), (1, 6.0), (2, 5.0), (3, 30.0))
    ]
    assert fit(made) == {
        "camera_cpu_s": 10,
        "cpu_s": 4,
        "cpu_s_per_mb": 0.5,
        "clips": 3,
        "output_bytes": 900,
    }
    alike = fit([Measured(2, 4.0, 30.0, 20.0, 6, 0, 1800)])
    assert (alike["cpu_s"], alike["cpu_s_per_mb"]) == (5, 0)


def test_workers_take_the_longest_shards_first_and_equal_ones_in_the_plans_order():
    def shard(source, number, count):
        refs = tuple(EpisodeRef("f", n, 0, 1_000_000) for n in range(count))
        return ShardTask(f"robo4d-{source}-train-{number:05d}", source, "train", refs, "")

    def origin(source):
        return PlannedSource(source=source, layout="rlds", data="", dataset="", twin=False)

    tasks = (
        shard("bridge", 0, 3),
        shard("droid", 0, 2),
        shard("droid", 1, 2),
        shard("droid", 2, 4),
    )
    plan = BuildPlan((origin("bridge"), origin("droid")), BuildConfig(), "", tasks)
    order = [(task.source, len(task.refs), task.name[-1]) for task in longest_first(plan, tasks)]
    assert order == [("droid", 4, "2"), ("droid", 2, "0"), ("droid", 2, "1"), ("bridge", 3, "0")]
    unknown = BuildPlan((origin("bridge"), origin("rt1")), BuildConfig(), "", tasks)
    assert longest_first(unknown, tasks) == list(tasks)

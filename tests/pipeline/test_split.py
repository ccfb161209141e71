"""Splits by group and mixes of sources: no group on two sides, nothing moves when data grows."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import droid_values, example_bytes, write_droid

from pipeline.plan import make_plan
from pipeline.split import assign_splits, mix_sources, split_of
from schemas.config import BuildConfig, SourceConfig, SplitConfig, load_config
from schemas.plan import EpisodeRef, Groups
from schemas.reasons import Reason, UsageError

BY_SCENE = SplitConfig(by="scene")
names = st.text("abcde", max_size=3)
many_refs = st.lists(names, max_size=40).map(
    lambda scenes: [
        EpisodeRef(file="f", record=n, groups=Groups(scene=scene)) for n, scene in enumerate(scenes)
    ]
)


def records(lab_of_each: str) -> list[bytes]:
    """DROID records; the lab is the scene in this layout."""
    values = [droid_values(3, f"Mon_{n}", n) for n in range(len(lab_of_each))]
    for value, lab in zip(values, lab_of_each, strict=True):
        path = f"/data/{lab}/success/2026-01-01/Mon/trajectory.h5"
        value["episode_metadata/file_path"] = path
    return [example_bytes(value) for value in values]


@given(many_refs, many_refs, st.integers(0, 5))
def test_no_group_is_on_two_sides_in_one_source_or_over_several(one, two, seed):
    config = SplitConfig(by="scene", shares={"train": 0.4, "val": 0.3, "test": 0.3}, seed=seed)
    sides: dict[str, set[str]] = {}
    for source, refs in (("droid", one), ("bridge", two)):
        splits, notes = assign_splits(source, {"train": refs, "val": []}, config)
        assert sorted(r.record for part in splits.values() for r in part) == list(range(len(refs)))
        assert bool(notes) == any(ref.groups.scene == "" for ref in refs)
        for split, part in splits.items():
            for ref in part:
                key = ref.groups.scene or f"unnamed in {source}"
                sides.setdefault(key, set()).add(split)
    assert all(len(found) == 1 for found in sides.values())


@given(many_refs, many_refs)
def test_more_episodes_move_none_of_the_old_ones(old, new):
    def sides(refs):
        splits, _ = assign_splits("droid", {"train": refs}, BY_SCENE)
        return {(r.record, r.groups.scene): name for name, part in splits.items() for r in part}

    shifted = [replace(r, record=len(old) + r.record) for r in new]
    before, after = sides(old), sides(old + shifted)
    assert before.items() <= after.items()


def test_shares_are_met_over_many_groups():
    found = Counter(split_of("droid", Groups(scene=f"s{n}"), BY_SCENE) for n in range(20_000))
    # Four standard deviations of a binomial count.
    assert abs(found["train"] - 18_000) < 4 * (20_000 * 0.9 * 0.1) ** 0.5
    other = SplitConfig(by="scene", seed=1)
    moved = sum(
        split_of("droid", Groups(scene=f"s{n}"), BY_SCENE)
        != split_of("droid", Groups(scene=f"s{n}"), other)
        for n in range(2000)
    )
    assert moved > 200  # 2 * 0.9 * 0.1 of them, 360, if seeds are independent


def test_rlds_episodes_are_planned_by_the_groups_inside_their_records(tmp_path):
    write_droid(tmp_path / "data", records("ABCDEFGHABCDEFGH"))
    config = load_config(None, ["split.by=lab", "split.shares={train: 0.5, val: 0.5}"])
    plan = make_plan({"droid": str(tmp_path / "data")}, config)
    sides: dict[str, set[str]] = {}
    for task in plan.shards:
        assert task.name.startswith(f"robo4d-droid-{task.split}-")
        for ref in task.refs:
            sides.setdefault(ref.groups.lab, set()).add(task.split)
    assert sorted(sides) == list("ABCDEFGH")
    assert all(len(found) == 1 for found in sides.values())
    assert set().union(*sides.values()) == {"train", "val"}


def test_bridge_raw_and_rlds_share_their_scenes_sides():
    from converters.bridge import groups

    raw = groups("/d/bridge_data_v1/berkeley/toykitchen1/put_pot/2021-01-01_00-00-00/raw/x")
    rlds = groups("/nfs/numpy_256/bridge_data_v2/datacol2_toykitchen1/sweep/00/train/out.npy")
    assert raw.scene == rlds.scene == "toykitchen1"
    for seed in range(50):
        config = SplitConfig(by="scene", shares={"a": 0.5, "b": 0.5}, seed=seed)
        assert split_of("bridge", raw, config) == split_of("other", rlds, config)


def test_the_published_splits_stay_by_default_and_ask_nothing_of_the_records(tmp_path, monkeypatch):
    write_droid(tmp_path / "data", records("AB"))
    monkeypatch.setattr("converters.source.peek_texts", lambda *_: pytest.fail("peeked"))
    plan = make_plan({"droid": str(tmp_path / "data")}, BuildConfig())
    assert [task.split for task in plan.shards] == ["train"]


def test_how_a_shard_came_about_is_not_in_its_fingerprint(tmp_path):
    write_droid(tmp_path / "data", records("AB"))
    plain = make_plan({"droid": str(tmp_path / "data")}, BuildConfig())
    mixed = load_config(None, ["source.mix={droid: 1}", "split.seed=4"])
    again = make_plan({"droid": str(tmp_path / "data")}, mixed)
    assert [t.fingerprint for t in plain.shards] == [t.fingerprint for t in again.shards]


def refs(count: int, bad: int = 0) -> dict[str, list[EpisodeRef]]:
    lost = [
        EpisodeRef(file="f", record=count + n, defect=Reason.MISSING_RECORDS) for n in range(bad)
    ]
    return {"train": [EpisodeRef(file="f", record=n) for n in range(count)] + lost}


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 99), st.integers(0, 3))
def test_a_mix_meets_its_shares_repeats_nothing_and_hides_no_damage(a, b, percent, bad):
    config = SourceConfig(mix={"droid": percent / 100, "bridge": 1 - percent / 100})
    mixed = mix_sources({"droid": refs(a, bad), "bridge": refs(b)}, config)
    kept = {}
    for source, (by_split, _) in mixed.items():
        numbers = [ref.record for ref in by_split["train"]]
        assert numbers == sorted(set(numbers))
        kept[source] = sum(ref.defect is None for ref in by_split["train"])
    assert sum(ref.defect is not None for ref in mixed["droid"][0]["train"]) == bad
    assert kept["droid"] == a or kept["bridge"] == b  # as many as there can be
    total = min(a / percent, b / (100 - percent)) * 100
    for source, share in (("droid", percent / 100), ("bridge", 1 - percent / 100)):
        assert max(1, total * share - 1) <= kept[source] + 1e-6
        assert kept[source] <= max(1, total * share + 1e-6)


def test_a_mix_keeps_the_same_episodes_whatever_else_is_there():
    config = SourceConfig(mix={"droid": 0.5, "bridge": 0.5})

    def chosen(count: int) -> set[int]:
        by_split, notes = mix_sources({"droid": refs(count), "bridge": refs(50)}, config)["droid"]
        assert notes == [f"source.mix leaves out {count - 50} of {count} episodes"]
        return {ref.record for ref in by_split["train"]}

    small, large = chosen(100), chosen(120)
    assert {n for n in large if n < 100} <= small
    other = SourceConfig(mix={"droid": 0.5, "bridge": 0.5}, seed=1)
    by_split, _ = mix_sources({"droid": refs(100), "bridge": refs(50)}, other)["droid"]
    assert {ref.record for ref in by_split["train"]} != small


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source.mix={drod: 1}", "unknown source of this build 'drod'; did you mean 'droid'"),
        ("source.mix={droid: 0.5, bridge: 0.5}", "unknown source of this build 'bridge'"),
        ("source.mix={droid: 0.5}", "shares sum to 0.5"),
        ("source.mix={droid: 0}", "source.mix.droid is 0"),
        ("split.shares={train: 0.9}", "shares sum to 0.9"),
        ("split.shares={a/b: 1}", "split.shares.a/b"),
        ("split.by=robot", "split.by is 'robot'"),
    ],
)
def test_a_wrong_mix_or_split_is_refused(override, message, tmp_path):
    write_droid(tmp_path / "data", records("A"))
    with pytest.raises(UsageError, match=message):
        make_plan({"droid": str(tmp_path / "data")}, load_config(None, [override]))


def test_a_mix_leaves_no_source_out_unsaid(tmp_path):
    config = load_config(None, ["source.mix={droid: 1}"])
    inputs = {"droid": str(tmp_path), "bridge": str(tmp_path)}
    with pytest.raises(UsageError, match="gives bridge no share"):
        make_plan(inputs, config)
    with pytest.raises(UsageError, match="no readable record in droid"):
        mix_sources({"droid": refs(0, bad=2)}, config.source)

"""Whole builds through the real command: accounting, resume, bad input, exit codes."""

import json
import resource
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from records import droid_values, example_bytes, write_droid

import robo4d
from converters.tfrecord import frame
from schemas.reasons import Reason

SMALL = ("--set", "shard.episodes=2")


def sound(n: int, steps: int = 8) -> list[bytes]:
    return [example_bytes(droid_values(steps, f"Mon_{i}", i)) for i in range(n)]


def quarantine(out) -> dict[str, str]:
    rows = pq.read_table(out / "quarantine.parquet").to_pylist()
    return {row["episode_id"]: row["reason"] for row in rows}


def leftovers(out) -> list[str]:
    """Shards without an index, or anything still in the scratch folder."""
    tars = {p.stem for p in out.glob("*.tar")}
    indexes = {p.name.removesuffix(".index.json") for p in out.glob("*.index.json")}
    return sorted(tars ^ indexes) + [p.name for p in (out / ".tmp").glob("*")]


def build(run_cli, data, out, *args):
    # These frames are flat or noise: nothing to solve cameras from, and seconds to find that out.
    quick = ("--set", "camera.solve=never")
    return run_cli("build", "--source", "droid", "--data", data, "--out", out, *quick, *args)


def test_every_episode_is_built_or_quarantined_and_the_build_verifies(run_process, tmp_path):
    records = sound(5)
    bad = droid_values(8, "Bad")
    bad["steps/observation/joint_position"][2, 1] = np.nan
    records.insert(2, example_bytes(bad))
    write_droid(tmp_path / "data", records)
    out = tmp_path / "out"
    done = build(
        run_process,
        tmp_path / "data",
        out,
        *SMALL,
        "--json",
        *("--set", "quarantine.max_share=1", "--set", "camera.solve=auto"),
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["episodes_built"], summary["episodes_quarantined"]) == (5, 1)
    assert summary["quarantine_by_reason"] == {"non_finite": 1}
    assert quarantine(out) == {"droid/TEST/success/2026-01-01/Bad": "non_finite"}
    manifest = pq.read_table(out / "manifest.parquet").to_pylist()
    assert len({row["episode_id"] for row in manifest}) == 5
    assert len(manifest) == 15
    data = robo4d.open(out)
    assert {s.meta["id"] for s in data} == {row["episode_id"] for row in manifest}
    for row in manifest:
        sample = data[row["key"]]
        assert (sample.meta["camera"], len(sample.rgb)) == (row["camera"], row["frames"])
        assert row["depth_from"] == row["camera_from"] == "absent"
    verdict = run_process("verify", out, "--json")
    assert verdict.returncode == 0, verdict.stderr
    assert json.loads(verdict.stdout)["problems"] == []


def test_quarantine_above_the_allowed_share_exits_3_and_is_still_sound(run_cli, tmp_path):
    write_droid(tmp_path / "data", [*sound(1), b"junk"])
    done = build(run_cli, tmp_path / "data", tmp_path / "out")
    assert done.returncode == 3
    assert "50% of the episodes are in quarantine" in done.stderr
    assert run_cli("verify", tmp_path / "out").returncode == 0


def _defects(tmp_path):
    """(name, file bytes, reasons expected in quarantine, promised records)."""
    good = b"".join(map(frame, sound(2)))
    crc = bytearray(good)
    crc[40] ^= 1
    image = droid_values(8, "Image")
    image["steps/observation/wrist_image_left"][4] = b"\xff\xd8\xff\xe0 no jpeg"
    limits = droid_values(8, "Limits")
    for path in ("steps/observation/joint_position",):
        limits[path] = limits[path] + 6.0
    moved = droid_values(8, "Moved")
    moved["steps/observation/cartesian_position"] = (
        moved["steps/observation/cartesian_position"] + 0.05
    )
    missing = droid_values(8, "Missing")
    del missing["steps/reward"]
    dtype = droid_values(8, "Dtype")
    dtype["steps/action"] = dtype["steps/action"].astype(np.int64)
    twice = sound(1)[0]
    return [
        ("truncated", good[:-30], {Reason.TRUNCATED_RECORD: 1}, None),
        ("promised", good, {Reason.MISSING_RECORDS: 3}, 5),
        ("bad_crc", bytes(crc), {Reason.BAD_CRC: 1}, None),
        ("image", good + frame(example_bytes(image)), {Reason.UNDECODABLE_IMAGE: 1}, None),
        ("limits", good + frame(example_bytes(limits)), {Reason.JOINT_LIMITS: 1}, None),
        ("moved", good + frame(example_bytes(moved)), {Reason.KINEMATICS_MISMATCH: 1}, None),
        ("missing", good + frame(example_bytes(missing)), {Reason.MISSING_FEATURE: 1}, None),
        ("dtype", good + frame(example_bytes(dtype)), {Reason.WRONG_DTYPE: 1}, None),
        ("no steps", frame(example_bytes(droid_values(0, "No"))), {Reason.EMPTY_EPISODE: 1}, None),
        ("one step", frame(example_bytes(droid_values(1, "One"))), {Reason.TOO_SHORT: 1}, None),
        ("twice", frame(twice) + frame(twice), {Reason.DUPLICATE_EPISODE: 1}, None),
        ("empty", b"", {Reason.EMPTY_FILE: 1}, None),
        ("empty, promised", b"", {Reason.EMPTY_FILE: 4}, 4),
    ]


@pytest.mark.parametrize("number", range(13))
def test_a_bad_record_is_quarantined_with_its_reason(number, run_cli, tmp_path):
    name, content, expected, promised = _defects(tmp_path)[number]
    write_droid(tmp_path / "data", [], promised).write_bytes(content)
    out = tmp_path / "out"
    done = build(run_cli, tmp_path / "data", out, "--set", "quarantine.max_share=1", "--json")
    assert done.returncode == 0, (name, done.stderr)
    summary = json.loads(done.stdout)
    assert summary["quarantine_by_reason"] == {str(k): n for k, n in expected.items()}, name
    total = summary["episodes_built"] + summary["episodes_quarantined"]
    assert total == summary["episodes_planned"]
    assert leftovers(out) == []
    assert run_cli("verify", out).returncode == 0


def test_the_same_episode_in_two_shards_counts_once(run_cli, tmp_path):
    records = sound(3)
    write_droid(tmp_path / "data", [*records, records[0]])
    out = tmp_path / "out"
    done = build(run_cli, tmp_path / "data", out, *SMALL, "--set", "quarantine.max_share=1")
    assert done.returncode == 0, done.stderr
    assert quarantine(out) == {"droid/TEST/success/2026-01-01/Mon_0": "duplicate_episode"}
    assert len(pq.read_table(out / "manifest.parquet")) == 9
    assert run_cli("verify", out).returncode == 0


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["build", "-s", "drod"], 2, "unknown source 'drod'; did you mean 'droid'"),
        (["build", "-s", "droid", "-d", "EMPTY"], 2, "holds no data set"),
        (["build", "-s", "droid", "-d", "EMPTY/none"], 2, "is no folder"),
        (["build", "-s", "bridge", "-d", "DATA"], 2, "not of this source"),
        (["build", "-s", "droid", "-d", "DATA", "--set", "clip.frame=3"], 2, "did you mean"),
        (["build", "-s", "droid", "-d", "DATA", "-o", "FILE/out"], 1, "cannot write under"),
        (["build", "-s", "droid", "-d", "DATA", "-w", "0"], 2, "Invalid value"),
        (["verify", "EMPTY"], 2, "holds no build"),
        (["inspect", "EMPTY"], 2, "no shards at"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_wrong_use_is_explained_with_its_exit_code(args, code, message, run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    places = {"DATA": "data", "EMPTY": "empty", "FILE": "file"}
    for name, folder in places.items():
        args = [a.replace(name, str(tmp_path / folder)) for a in args]
    done = run_cli(*args)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_full_disk_stops_the_build_and_leaves_nothing_half_written(
    tmp_path, run_cli, run_process
):
    write_droid(tmp_path / "data", sound(4, steps=20))
    out = tmp_path / "out"
    whole = build(run_cli, tmp_path / "data", out, *SMALL)
    assert whole.returncode == 0, whole.stderr
    size = min(p.stat().st_size for p in out.glob("*.tar"))
    shutil.rmtree(out)
    # The kernel refuses to let any file grow past this: what a full disk does, without one.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limit[1]))
    try:
        done = build(run_process, tmp_path / "data", out, *SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert done.returncode == 1, done.stderr
    assert "cannot write under" in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(out) == []
    assert not list(out.glob("*.tar"))
    again = build(run_cli, tmp_path / "data", out, *SMALL)
    assert again.returncode == 0
    assert run_cli("verify", out).returncode == 0


def test_finished_shards_are_kept_and_a_changed_record_rebuilds_only_its_own(run_cli, tmp_path):
    records = sound(6)
    write_droid(tmp_path / "data", records)
    out = tmp_path / "out"
    assert build(run_cli, tmp_path / "data", out, *SMALL).returncode == 0
    again = json.loads(build(run_cli, tmp_path / "data", out, *SMALL, "--json").stdout)
    assert again["shards_skipped"] == 3
    records[5] = example_bytes(droid_values(8, "Mon_5", seed=77))
    write_droid(tmp_path / "data", records)
    changed = json.loads(build(run_cli, tmp_path / "data", out, *SMALL, "--json").stdout)
    assert changed["shards_skipped"] == 2
    fewer = build(run_cli, tmp_path / "data", out, "--set", "shard.episodes=6")
    assert fewer.returncode == 0
    assert len(list(out.glob("*.tar"))) == 1, "shards of the older plan are gone"
    assert run_cli("verify", out).returncode == 0


def test_a_source_that_grows_touches_only_new_shards_until_a_replan(run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(4))
    out = tmp_path / "out"
    assert build(run_cli, tmp_path / "data", out, *SMALL).returncode == 0
    old = {p.name: p.read_bytes() for p in out.glob("robo4d-*")}
    write_droid(tmp_path / "data", sound(5))
    args = ("-s", "droid", "-d", tmp_path / "data", "-o", out, *SMALL)
    asked = run_cli("plan", *args, "--set", "camera.solve=never", "--dry-run", "--json")
    (cost,) = json.loads(asked.stdout)["sources"]
    assert (cost["shards"], cost["kept"], cost["episodes"]) == (1, 2, 1)
    grown = build(run_cli, tmp_path / "data", out, *SMALL, "--json")
    assert "2 shard(s) of the plan before stay, 1 new" in grown.stderr
    summary = json.loads(grown.stdout)
    assert (summary["shards"], summary["shards_skipped"], summary["episodes_built"]) == (3, 2, 5)
    assert old.items() <= {p.name: p.read_bytes() for p in out.glob("robo4d-*")}.items()
    assert run_cli("verify", out).returncode == 0
    anew = json.loads(build(run_cli, tmp_path / "data", out, *SMALL, "--replan", "--json").stdout)
    fresh = tmp_path / "fresh"
    assert build(run_cli, tmp_path / "data", fresh, *SMALL).returncode == 0
    assert anew["shards"] == 3
    for path in fresh.glob("robo4d-*"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_damaged_plan_stops_a_build_and_says_how_to_go_on(run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(1))
    out = tmp_path / "out"
    out.mkdir()
    (out / "plan.json").write_text("{}")
    done = build(run_cli, tmp_path / "data", out)
    assert done.returncode == 2
    assert "--replan lays out all shards anew" in done.stderr
    assert build(run_cli, tmp_path / "data", out, "--replan").returncode == 0


def test_verify_notices_a_changed_byte_a_lost_shard_and_a_stranger(run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(4))
    out = tmp_path / "out"
    assert build(run_cli, tmp_path / "data", out, *SMALL).returncode == 0
    first, second = sorted(out.glob("*.tar"))
    raw = bytearray(first.read_bytes())
    raw[2000] ^= 1
    first.write_bytes(raw)
    second.unlink()
    (out / "robo4d-stranger.tar").touch()
    done = run_cli("verify", out, "--json")
    assert done.returncode == 1
    problems = " | ".join(json.loads(done.stdout)["problems"])
    for part in ("differ from the index's sha256", "No such file", "is in no plan"):
        assert part in problems
    assert "neither built nor quarantined" in problems


def test_inspect_lists_shows_and_draws(run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(1))
    out = tmp_path / "out"
    assert build(run_cli, tmp_path / "data", out).returncode == 0
    listed = json.loads(run_cli("inspect", out, "--json").stdout)
    assert len(listed) == 3
    png = tmp_path / "p.png"
    shown = run_cli("inspect", out, "--key", listed[0]["key"], "--png", png)
    assert shown.returncode == 0, shown.stderr
    assert "no camera calibration" in shown.stdout
    assert png.stat().st_size > 1000
    assert run_cli("inspect", out, "--key", "nope").returncode == 2


def test_plan_shows_shards_without_building(run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(5), promised=6)
    done = run_cli("plan", "-s", "droid", "-d", tmp_path / "data", *SMALL, "--json")
    plan = json.loads(done.stdout)
    refs = [ref for task in plan["shards"] for ref in task["refs"]]
    assert (len(plan["shards"]), [ref["record"] for ref in refs]) == (3, [0, 1, 2, 3, 4, 5])
    assert refs[5]["defect"] == "missing_records"
    assert [source["twin"] for source in plan["sources"]] == [False]


def test_several_sources_make_one_data_set(run_cli, tmp_path, bridge_data, menagerie):
    write_droid(tmp_path / "data", sound(2))
    out = tmp_path / "out"
    sources = ("-s", f"droid={tmp_path / 'data'}", "-s", f"bridge={bridge_data}")
    quick = ("--set", "source.max_episodes=2", "--set", "camera.solve=never")
    done = run_cli("build", *sources, "-o", out, "--json", *quick)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sources"] == ["droid", "bridge"]
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert {row["source"] for row in rows} == {"droid", "bridge"}
    assert len({row["episode_id"] for row in rows}) == 4
    assert len(robo4d.open(out)) == len(rows) == 12
    assert run_cli("verify", out).returncode == 0
    assert run_cli("build", *sources, "-d", "x").returncode == 2


def test_a_new_plan_drops_the_tables_and_the_indexes_of_what_it_builds_anew(run_cli, tmp_path):
    write_droid(tmp_path / "data", sound(2))
    out = tmp_path / "out"
    assert build(run_cli, tmp_path / "data", out).returncode == 0
    # A folder in the way of the first tar: the build stops there, before any of its own is whole.
    tar = next(out.glob("*.tar"))
    tar.unlink()
    (tar / "in the way").mkdir(parents=True)
    stopped = build(run_cli, tmp_path / "data", out, "--set", "shard.rgb_crf=30")
    assert stopped.returncode == 1, stopped.stderr
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left == {".lock", "plan.json"}, "nothing that tells of the older build as of a whole one"

"""Builds that split, mix, find duplicates and count: through the real command."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
from records import droid_values, example_bytes, write_droid

from pipeline.split import split_of
from schemas.config import SplitConfig
from schemas.plan import Groups

SMALL = ("--set", "shard.episodes=2", "--set", "camera.solve=never")
CAMERAS = [f"steps/observation/{n}" for n in ("exterior_image_1_left", "wrist_image_left")]


def values(name: str, seed: int, lab: str = "TEST", steps: int = 30):
    """A record with a view that is not flat."""
    made = droid_values(steps, name, seed)
    made["episode_metadata/file_path"] = f"/data/{lab}/success/2026-01-01/{name}/trajectory.h5"
    rng = np.random.default_rng(seed)
    view = np.kron(rng.integers(0, 255, (4, 8, 3)), np.ones((9, 8, 1))).astype(np.uint8)
    for camera in CAMERAS:
        made[camera] = [simplejpeg.encode_jpeg(view, 95, colorspace="RGB")] * steps
    return made


def copy_of(made, name: str, quality: int | None = None):
    """The same record under another id; with ``quality``, its views encoded once more."""
    made = dict(made)
    made["episode_metadata/file_path"] = f"/data/TEST/success/2026-01-01/{name}/trajectory.h5"
    for camera in CAMERAS if quality else ():
        image = simplejpeg.decode_jpeg(made[camera][0])
        made[camera] = [simplejpeg.encode_jpeg(image, quality, colorspace="RGB")] * len(
            made[camera]
        )
    return made


def rows(out, name):
    return pq.read_table(out / f"{name}.parquet").to_pylist()


@pytest.fixture(scope="module")
def built(tmp_path_factory, run_cli_session):
    """Two episodes, an exact and a re-encoded copy of the first, and one without a step."""
    root = tmp_path_factory.mktemp("curation")
    first = values("Mon_0", 0)
    made = [first, values("Mon_1", 40), copy_of(first, "Tue_0"), copy_of(first, "Tue_1", 60)]
    write_droid(root / "data", [example_bytes(v) for v in (*made, droid_values(0, "Empty"))])
    args = ("--set", "quarantine.max_share=1", *SMALL, "--json")
    done = run_cli_session("build", "-s", "droid", "-d", root / "data", "-o", root / "out", *args)
    assert done.returncode == 0, done.stderr
    return root / "out", json.loads(done.stdout)


def test_duplicates_are_reported_and_kept(built, run_cli):
    out, summary = built
    assert summary["duplicates"] == {"exact": 1, "near": 1}
    place = "droid/TEST/success/2026-01-01/"
    found = {row["episode_id"]: row for row in rows(out, "duplicates")}
    assert {name: row["kind"] for name, row in found.items()} == {
        f"{place}Tue_0": "exact",
        f"{place}Tue_1": "near",
    }
    assert found[f"{place}Tue_1"]["path_mm"] == 0
    repeats = {row["episode_id"]: row["duplicate_of"] for row in rows(out, "manifest")}
    assert repeats == {
        f"{place}Mon_0": None,
        f"{place}Mon_1": None,
        f"{place}Tue_0": f"{place}Mon_0",
        f"{place}Tue_1": f"{place}Mon_0",
    }
    assert run_cli("verify", out).returncode == 0


def test_idle_steps_and_trimmed_ends_are_in_the_manifest(tmp_path, run_cli):
    made = values("Mon_0", 0, steps=40)
    for path in ("steps/observation/joint_position", "steps/observation/cartesian_position"):
        made[path] = np.concatenate([np.repeat(made[path][:1], 10, 0), made[path][:30]])
    gripper = "steps/observation/gripper_position"
    made[gripper] = np.zeros((40, 1))
    for path in ("steps/observation/joint_position", "steps/observation/cartesian_position"):
        made[path][35:] = made[path][35]
    write_droid(tmp_path / "data", [example_bytes(made)])
    never = ("--set", "camera.solve=never")
    done = run_cli("build", "-s", "droid", "-d", tmp_path / "data", "-o", tmp_path / "out", *never)
    assert done.returncode == 0, done.stderr
    for row in rows(tmp_path / "out", "manifest"):
        # Steps 10 to 35 move: 25 of 39 transitions.
        assert (row["clip_start"], row["trimmed_start"], row["trimmed_end"]) == (10, 10, 4)
        assert row["idle_share"] == pytest.approx(14 / 39)


def test_stats_count_what_the_tables_hold(built, run_cli):
    out, summary = built
    done = run_cli("stats", out, "--json")
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)
    manifest = rows(out, "manifest")
    assert stats == json.loads((out / "stats.json").read_text())
    assert stats["quarantine"] == {"droid": {"empty_episode": 1}}
    assert (stats["episodes_planned"], stats["episodes_quarantined"]) == (5, 1)
    assert stats["duplicates"] == {"exact": 1, "near": 1, "across_splits": 0}
    assert stats["shard_bytes"] == sum(p.stat().st_size for p in out.glob("*.tar"))
    built_part = stats["built"]
    assert built_part["episodes"] == summary["episodes_built"] == 4
    assert built_part["samples"] == len(manifest) == 12
    assert built_part["frames"] == sum(row["frames"] for row in manifest)
    assert built_part["hours"] == pytest.approx(
        sum(row["frames"] / row["fps"] for row in manifest) / 3600, abs=1e-6
    )
    for name in ("source", "split", "outcome", "scene", "lab", "depth_from", "joints_from"):
        counts = {value: count["samples"] for value, count in stats["by"][name].items()}
        assert counts == Counter(row[name] for row in manifest)
    assert list(stats["by"]["task"]) == ["sweep"]
    shown = run_cli("stats", out, "--top", 1).stdout
    for part in ("4 of 5 episodes", "1 exact, 1 near", "empty_episode", "outcome", "success"):
        assert part in shown


def test_stats_of_what_is_no_build_are_explained(built, run_cli, tmp_path):
    done = run_cli("stats", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "no finished build" in done.stderr
    (tmp_path / "stats.json").write_text("{")
    assert "is damaged" in run_cli("stats", tmp_path).stderr


@pytest.mark.parametrize("name", ["duplicates.parquet", "stats.json"])
def test_verify_notices_a_table_that_was_changed(name, built, run_cli):
    out, _ = built
    path = out / name
    kept = path.read_bytes()
    try:
        path.unlink()
        assert f"{name} cannot be read" in run_cli("verify", out, "--json").stdout
        path.write_bytes(b"{}")
        assert name in run_cli("verify", out, "--json").stdout
    finally:
        path.write_bytes(kept)


def test_no_lab_is_on_both_sides_of_a_build_and_what_would_leak_is_set_aside(run_cli, tmp_path):
    config = SplitConfig(by="lab", shares={"a": 0.5, "b": 0.5})
    labs = [f"LAB{n}" for n in range(8)]
    # The peek takes no path this long, so that this record is planned as one without a lab.
    unnamed = split_of("droid", Groups(), config)
    elsewhere = next(n for n in labs if split_of("droid", Groups(lab=n), config) != unnamed)
    made = [values(f"Mon_{n}", n, lab, steps=4) for n, lab in enumerate([*labs, *labs])]
    made.append(values("Long", 30, "x" * 5000 + "/" + elsewhere, steps=4))
    write_droid(tmp_path / "data", [example_bytes(v) for v in made])
    out = tmp_path / "out"
    sets = ("split.by=lab", "split.shares={a: 0.5, b: 0.5}", "camera.solve=never")
    args = [part for value in sets for part in ("--set", value)]
    done = run_cli("build", "-s", "droid", "-d", tmp_path / "data", "-o", out, *args)
    assert done.returncode == 0, done.stderr
    assert "1 episodes name no lab" in done.stderr
    sides = {(row["lab"], row["split"]) for row in rows(out, "manifest")}
    assert sorted(lab for lab, _ in sides) == labs
    assert {split for _, split in sides} == {"a", "b"}
    assert [row["reason"] for row in rows(out, "quarantine")] == ["split_leak"]
    assert {p.name.split("-")[2] for p in out.glob("*.tar")} == {"a", "b"}
    assert run_cli("verify", out).returncode == 0

"""Builds into and out of an object store, by the real command, through faults of all kinds."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from records import droid_values, example_bytes, write_droid
from s3_server import TRANSIENT, Faults
from typer.testing import CliRunner

import robo4d
from jobs.cli import app
from pipeline.retries import again
from reconstruction.depth.simulator import open_truth
from schemas.reasons import EpisodeError
from schemas.truth import TRUTH_STORE, truth_group

REPO = Path(__file__).resolve().parents[2]
SMALL = ("--set", "shard.episodes=2", "--set", "camera.solve=never")


@pytest.fixture(scope="module")
def at_home(tmp_path_factory):
    """A small DROID data set and what a build into a folder makes of it: name -> bytes."""
    root = tmp_path_factory.mktemp("home")
    write_droid(root / "in", [example_bytes(droid_values(8, f"Mon_{i}", i)) for i in range(4)])
    code, said = in_process("build", "-s", "droid", "-d", root / "in", "-o", root / "out", *SMALL)
    assert code == 0, said
    return root / "in", files_of(root / "out")


def files_of(out: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.is_file() and path.name != ".lock"
    }


def upload(s3, folder: Path, prefix: str) -> None:
    client = s3.direct()
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder)}"
            client.put_object(
                Bucket="data", Key=key, Body=path.read_bytes(), ChecksumAlgorithm="CRC32"
            )


def built(s3) -> dict[str, bytes]:
    """Objects of the build in the bucket, but what it says of itself while it runs (`.run/`)."""
    return {key: data for key, data in s3.objects("data", "out/").items() if "/" not in key}


def in_process(*args):
    """The command in this process, where waits are patched out; exit code and what it said."""
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, list(map(str, args)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join((done.stdout + done.stderr).split())


def without_the_place(files: dict[str, bytes]) -> dict[str, object]:
    """The same but the input's place, which plan.json names."""
    plan = json.loads(files["plan.json"])
    for source in plan["sources"]:
        source["data"] = ""
    return {**files, "plan.json": plan}


def test_a_build_in_a_bucket_has_the_bytes_of_a_local_one_and_is_kept(at_home, s3):
    data, expected = at_home
    code, said = in_process("build", "-s", "droid", "-d", data, "-o", "s3://data/out", *SMALL)
    assert code == 0, said
    assert built(s3) == expected
    _, said = in_process("build", "-s", "droid", "-d", data, "-o", "s3://data/out/", *SMALL)
    assert "in 2 shard(s) (2 were there already)" in said


def test_a_build_in_a_store_is_verified_counted_inspected_and_opened(
    at_home, s3, tmp_path, monkeypatch
):
    _, expected = at_home
    for name, content in expected.items():
        s3.direct().put_object(Bucket="data", Key=f"out/{name}", Body=content)
    code, said = in_process("verify", "s3://data/out", "--json")
    assert code == 0, said
    code, said = in_process("stats", "s3://data/out", "--json")
    assert json.loads(said)["built"]["samples"] == 12
    code, said = in_process("inspect", "s3://data/out", "--json")
    assert len(json.loads(said)) == 12
    here = tmp_path / "here"
    here.mkdir()
    for name, content in expected.items():
        (here / name).write_bytes(content)
    there, local = robo4d.open("s3://data/out"), robo4d.open(here)
    assert there.keys == local.keys
    for sample in local:
        for member in sample.members:
            assert there[sample.key].read_bytes(member) == sample.read_bytes(member)
    one = robo4d.open("s3://data/out/robo4d-droid-train-00000.tar")
    assert one[0].meta == local[0].meta

    tar = bytearray(expected["robo4d-droid-train-00001.tar"])
    tar[5000] ^= 1
    s3.direct().put_object(Bucket="data", Key="out/robo4d-droid-train-00001.tar", Body=bytes(tar))
    s3.direct().delete_object(Bucket="data", Key="out/stats.json")
    code, said = in_process("verify", "s3://data/out")
    assert code == 1
    assert "robo4d-droid-train-00001.tar: bytes differ from the index's sha256" in said
    assert "stats.json cannot be read" in said
    assert in_process("stats", "s3://data/out")[0] == 2


def test_a_build_that_appears_after_the_first_look_is_found(at_home, s3):
    with pytest.raises(FileNotFoundError, match="no shards at"):
        robo4d.open("s3://data/out")
    for name, content in at_home[1].items():
        s3.direct().put_object(Bucket="data", Key=f"out/{name}", Body=content)
    assert len(robo4d.open("s3://data/out")) == 12


def test_rlds_in_a_store_gives_the_bytes_of_a_local_copy_through_faults(
    at_home, s3, no_waits, tmp_path, monkeypatch
):
    data, expected = at_home
    monkeypatch.setenv("ROBO4D_CACHE", str(tmp_path / "cache"))
    upload(s3, data, "in")
    out = tmp_path / "out"
    s3.faults = Faults(0.3, (*TRANSIENT, "flip_answer"), seed=5, methods=("GET", "HEAD"))
    # A garbled listing is no XML, and a garbled features.json is its own error: only records.
    s3.faults.part = "tfrecord"
    code, said = in_process("build", "-s", "droid", "-d", "s3://data/in", "-o", out, *SMALL)
    assert code == 0, said
    assert s3.faults.done >= 3
    assert without_the_place(files_of(out)) == without_the_place(expected)


@pytest.mark.parametrize(
    ("kind", "part", "code", "message"),
    [
        ("denied", "out", 1, "cannot reach s3://data/out: Forbidden;"),
        ("500", "out", 1, "cannot reach s3://data/out: Internal Server Error;"),
        ("500", "out/robo4d-droid", 1, "cannot reach s3://data/out"),
        ("denied", "in/", 2, "cannot read s3://data/in: "),
        ("500", "in/", 2, "cannot read s3://data/in: We encountered an internal error"),
        ("500", "tfrecord", 2, "cannot read s3://data/in: We encountered"),
    ],
)
def test_a_store_that_fails_for_good_ends_a_build_with_a_reason(
    kind, part, code, message, at_home, s3, no_waits, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROBO4D_CACHE", str(tmp_path / "cache"))
    upload(s3, at_home[0], "in")
    s3.faults = Faults(1, (kind,), part=part)
    got, said = in_process(
        "build", "-s", "droid", "-d", "s3://data/in", "-o", "s3://data/out", *SMALL
    )
    assert got == code, said
    assert message in said
    assert not any(key.endswith(".tar") for key in s3.objects("data"))
    for command in ("verify", "stats", "inspect", "overlay"):
        s3.faults = Faults(1, (kind,))
        got, said = in_process(command, "s3://data/out")
        assert (got in (1, 2), "cannot re" in said) == (True, True), (command, said)


def test_a_source_that_fails_while_shards_are_built_ends_with_a_reason(
    at_home, s3, no_waits, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROBO4D_CACHE", str(tmp_path / "cache"))
    upload(s3, at_home[0], "in")
    args = ("build", "-s", "droid", "-d", "s3://data/in", "-o", tmp_path / "out", *SMALL)
    assert in_process("plan", "-s", "droid", "-d", "s3://data/in", *SMALL)[0] == 0
    s3.faults = Faults(1, ("500",), methods=("GET",), part="tfrecord")  # planned from the cache
    code, said = in_process(*args)
    assert code == 2
    assert "cannot read droid-train.tfrecord-00000-of-00001 of s3://data/in" in said
    assert not list((tmp_path / "out").glob("*.tar"))
    s3.faults = Faults(0)
    assert in_process(*args)[0] == 0


def test_wrong_places_are_explained(at_home, s3, no_waits):
    data, _ = at_home
    build = ("build", "-s", "droid")
    for args, code, message in (
        ((*build, "-d", data, "-o", "s3://gone/out"), 1, "bucket does not exist"),
        ((*build, "-d", "s3://gone/in"), 2, "s3://gone/in is no folder"),
        ((*build, "-d", "s3://data/nothing"), 2, "s3://data/nothing is no folder"),
        ((*build, "-d", data, "-o", "nonsense://x/out"), 2, "Protocol not known"),
        ((*build, "-d", "nonsense://x/in"), 2, "cannot be opened"),
        (("verify", "s3://gone/out"), 2, "holds no build"),
        (("inspect", "s3://data/nothing"), 2, "no shards at s3://data/nothing"),
        (("inspect", "nonsense://x"), 2, "cannot be opened"),
    ):
        got, said = in_process(*args)
        assert (got, message in said) == (code, True), (args, said)


@pytest.mark.slow
def test_a_build_through_faults_and_a_kill_ends_in_the_same_bytes(at_home, s3, run_cli, tmp_path):
    data, expected = at_home
    upload(s3, data, "in")
    s3.faults = Faults(0.1, (*TRANSIENT, "flip_upload"), seed=7)
    args = ("build", "-s", "droid", "-d", "s3://data/in", "-o", "s3://data/out", *SMALL)
    env = {**os.environ, "ROBO4D_CACHE": str(tmp_path / "cache")}
    killed = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *args], cwd=REPO, env=env, stderr=subprocess.DEVNULL
    )
    while killed.poll() is None and not built(s3):
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    done = run_cli(*args, "-w", 2)
    assert done.returncode == 0, done.stderr
    assert s3.faults.done > 3
    assert without_the_place(built(s3)) == without_the_place(expected)
    s3.faults = Faults(0)
    assert run_cli("verify", "s3://data/out").returncode == 0


@pytest.mark.slow
def test_two_builds_of_one_plan_at_once_end_in_the_same_bytes(at_home, s3, tmp_path):
    data, expected = at_home
    command = [sys.executable, "-m", "jobs.cli", "build", "-s", "droid", "-d", data, *SMALL]
    command = [*map(str, command), "-o", "s3://data/out"]
    env = {**os.environ, "ROBO4D_CACHE": str(tmp_path / "cache")}
    both = [subprocess.Popen(command, cwd=REPO, env=env) for _ in range(2)]
    assert [build.wait(timeout=300) for build in both] == [0, 0]
    assert built(s3) == expected


def test_a_twins_truth_in_a_store_is_read_through_faults(s3, no_waits, tmp_path):
    depth = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    group = zarr.open_group(tmp_path / TRUTH_STORE, mode="w").create_group(truth_group("id", "cam"))
    group.create_array("depth", data=depth)
    group.create_array("K", data=np.eye(3)[None])
    group.create_array("base_from_camera", data=np.eye(4)[None])
    upload(s3, tmp_path, "in")
    for number in range(3):
        s3.faults = Faults(1, TRANSIENT, seed=number, most=3)
        truth = again(lambda: open_truth("s3://data/in", "id", "cam"))
        s3.faults = Faults(1, TRANSIENT, seed=number, most=3)
        np.testing.assert_array_equal(again(partial(truth.depth, [1])), depth[[1]])
    s3.faults = Faults(0)
    with pytest.raises(EpisodeError, match="no truth"):
        open_truth("s3://data/in", "other", "cam")


def test_an_input_by_file_url_gives_the_same_bytes(at_home, tmp_path):
    data, expected = at_home
    args = ("-d", f"file://{data}", "-o", f"file://{tmp_path}/out")
    code, said = in_process("build", "-s", "droid", *args, *SMALL)
    assert code == 0, said
    assert without_the_place(files_of(tmp_path / "out")) == without_the_place(expected)


def test_a_data_set_in_a_store_is_read_in_a_forked_worker(at_home, s3):
    for name, content in at_home[1].items():
        s3.direct().put_object(Bucket="data", Key=f"out/{name}", Body=content)
    # In a process of its own, which has no server's threads to fork.
    script = """
import os, robo4d
data = robo4d.open("s3://data/out")
first = data[0].read_bytes("meta.json")
child = os.fork()
if child == 0:
    os._exit(0 if data[0].read_bytes("meta.json") == first else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPO, timeout=100, check=True)

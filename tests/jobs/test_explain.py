"""`robo4d explain`: what it says of samples, judged by the files that they were made of."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from records import droid_values, example_bytes, write_droid

import robo4d
from converters.tfrecord import frame
from jobs._explain import explain_key, holds, print_chains
from schemas.reasons import UsageError

FILE = "droid-train.tfrecord-00000-of-00001"


def episode_id(name: str) -> str:
    return f"droid/TEST/success/2026-01-01/{name}"


@pytest.fixture(scope="module")
def built(tmp_path_factory, run_cli_session) -> Path:
    """Three shards of two: Mon_0 to Mon_2, one with a NaN, junk, and Mon_0 once more."""
    root = tmp_path_factory.mktemp("explained")
    bad = droid_values(8, "Nan")
    bad["steps/observation/joint_position"][2, 1] = np.nan
    sound = [example_bytes(droid_values(8, f"Mon_{n}", n)) for n in range(3)]
    file = write_droid(root / "data", [])
    records = (*sound, example_bytes(bad), b"junk", sound[0])
    file.write_bytes(b"".join(map(frame, records)))
    settings = ("shard.episodes=2", "camera.solve=never", "quarantine.max_share=1", "clip.frames=5")
    args = [part for setting in settings for part in ("--set", setting)]
    done = run_cli_session("build", "-s", "droid", "-d", root / "data", "-o", root / "out", *args)
    assert done.returncode == 0, done.stderr
    return root


def chains(where, key, **options):
    found = explain_key(str(where), key, **({"check": False, "source_data": None} | options))
    assert json.loads(json.dumps(found)) == found
    return found["records"]


def test_a_sample_is_traced_to_its_bytes_in_the_published_file_and_in_the_shard(built):
    for sample in robo4d.open(built / "out"):
        chain = chains(built / "out", sample.key)[0]
        record = chain["record"]
        whole = (built / "data/droid/1.0.0" / record["file"]).read_bytes()
        payload = whole[record["offset"] : record["offset"] + record["length"]]
        assert hashlib.sha256(payload).hexdigest() == record["sha256"]
        assert chain["episode_id"].rpartition("/")[2].encode() in payload
        (told,) = chain["samples"]
        assert (told["key"], told["lineage"]["record"]) == (sample.key, record["sha256"])
        with tarfile.open(built / "out" / told["stored"]["shard"]) as tar:
            inside = [info for info in tar if info.name.startswith(sample.key)]
        start = told["stored"]["offset"]
        assert start == inside[0].offset_data
        assert start + told["stored"]["bytes"] == inside[-1].offset_data + inside[-1].size
        shard = (built / "out" / told["stored"]["shard"]).read_bytes()
        assert hashlib.sha256(shard).hexdigest() == chain["shard"]["sha256"]


def test_what_differs_from_the_defaults_and_from_this_installation_is_said(built, monkeypatch):
    monkeypatch.setattr(
        "pipeline.explain.package_versions", lambda: {"numpy": "0.1", "brand-new": "1"}
    )
    (chain,) = chains(built / "out", f"{FILE}#1")
    lineage = chain["lineage"]
    assert lineage["changed"] == {"camera.solve": "never", "clip.frames": 5}
    assert lineage["here"]["same_code"]
    assert lineage["here"]["packages"]["numpy"] == "0.1"
    assert lineage["here"]["packages"]["brand-new"] == "1"
    assert lineage["here"]["packages"]["scipy"] == "none"


def test_an_episodes_id_and_its_record_name_all_its_cameras(built):
    (by_id,) = chains(built / "out", episode_id("Mon_1"))
    (by_record,) = chains(built / "out", f"{FILE}#1")
    assert by_id == by_record
    assert len(by_id["samples"]) == 3
    assert by_id["record"]["record"] == 1


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (episode_id("Nan"), "non_finite"),
        (f"{FILE}#3", "non_finite"),
        (f"droid/{FILE}#4", "undecodable_record"),
    ],
)
def test_what_was_set_aside_says_why_and_where_it_lay(key, reason, built):
    (chain,) = chains(built / "out", key)
    assert chain["set_aside"]["reason"] == reason
    assert chain["set_aside"]["message"]
    assert chain["samples"] == []
    record = chain["record"]
    whole = (built / "data/droid/1.0.0" / FILE).read_bytes()
    payload = whole[record["offset"] : record["offset"] + record["length"]]
    assert (b"Nan" in payload) == (reason == "non_finite")
    assert len(chain["lineage"]["config_sha256"]) == 64


def test_an_id_that_two_records_have_names_both(built):
    first, again = chains(built / "out", episode_id("Mon_0"), check=True)
    assert (first["record"]["record"], again["record"]["record"]) == (0, 5)
    assert first["set_aside"] is None
    assert again["set_aside"]["reason"] == "duplicate_episode"
    assert first["record"]["sha256"] == again["record"]["sha256"]
    assert all(one["holds"] for one in (*first["checked"], *again["checked"]))


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        (episode_id("Mon_11"), f"mean '{episode_id('Mon_1')}'"),
        (f"{FILE}#77", f"mean '{FILE}#"),
        ("zzz", "'zzz' names no sample, episode or record"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(wrong, nearest, built):
    for where in (built / "out", built / "out" / "robo4d-droid-train-00000.tar"):
        with pytest.raises(UsageError) as caught:
            chains(where, wrong)
        assert nearest in str(caught.value)


def test_a_shard_alone_says_the_same_as_its_build(built, tmp_path):
    for file in (built / "out").glob("robo4d-droid-train-00000.*"):
        shutil.copy(file, tmp_path)
    for where in (tmp_path, tmp_path / "robo4d-droid-train-00000.tar"):
        assert chains(where, f"{FILE}#1") == chains(built / "out", f"{FILE}#1")
    with pytest.raises(UsageError, match="--data"):
        chains(tmp_path, f"{FILE}#1", check=True)
    checked = chains(tmp_path, f"{FILE}#1", check=True, source_data=str(built / "data"))
    assert all(one["holds"] for one in checked[0]["checked"])


def test_a_build_is_explained_from_a_url(built):
    memory = fsspec.filesystem("memory")
    memory.put(str(built / "out"), "/explained", recursive=True)
    assert chains("memory://explained", f"{FILE}#1") == chains(built / "out", f"{FILE}#1")


def test_a_check_holds_until_the_record_or_the_shard_changes(built, tmp_path):
    shutil.copytree(built / "data", tmp_path / "data")
    shutil.copytree(built / "out", tmp_path / "out")
    (found,) = chains(tmp_path / "out", f"{FILE}#1", check=True, source_data=f"{tmp_path}/data")
    assert [one["holds"] for one in found["checked"]] == [True] * 5
    record = found["record"]
    file = tmp_path / "data/droid/1.0.0" / FILE
    raw = bytearray(file.read_bytes())
    # The same log in one episode more: framed well, of the same length, and another one.
    at = record["offset"]
    payload = bytes(raw[at : at + record["length"]]).replace(b"sweep", b"swept")
    raw[at - 12 : at + record["length"] + 4] = frame(payload)
    file.write_bytes(raw)
    shard = tmp_path / "out" / found["shard"]["name"]
    tar = bytearray(shard.read_bytes())
    tar[found["samples"][0]["stored"]["offset"] + 50] ^= 1
    shard.write_bytes(tar)
    again = explain_key(
        str(tmp_path / "out"), f"{FILE}#1", check=True, source_data=f"{tmp_path}/data"
    )
    assert not holds(again)
    wrong = [one["what"] for one in again["records"][0]["checked"] if one["holds"] is False]
    assert wrong == [
        f"record 1 of {FILE}",
        found["shard"]["name"],
        f"sample {found['samples'][0]['key']}",
    ]


def test_the_command_prints_a_tree_with_whole_hashes_or_one_object(built, run_cli):
    key = robo4d.open(built / "out")[0].key
    shown = run_cli("explain", built / "out", key, "--check")
    assert shown.returncode == 0, shown.stderr
    (chain,) = chains(built / "out", key)
    for text in (
        *(episode_id("Mon_0"), "droid/1.0.0", "camera.solve = never", "holds"),
        *(chain["record"]["sha256"], chain["shard"]["sha256"], chain["lineage"]["code"]),
    ):
        assert text in shown.stdout
    told = json.loads(run_cli("explain", built / "out", key, "--json").stdout)
    assert told == {"key": key, "records": [chain]}
    wrong = run_cli("explain", built / "out", key[:-1])
    assert wrong.returncode == 2
    assert f"did you mean '{key}'" in " ".join(wrong.stderr.split())


def test_every_kind_of_record_can_be_printed(built, capsys):
    for key in (f"{FILE}#{n}" for n in range(6)):
        print_chains(explain_key(str(built / "out"), key, check=True, source_data=None))
    out = capsys.readouterr().out
    assert "set aside" in out
    assert "none was kept of a record set aside" not in out, "its check is that it fails again"

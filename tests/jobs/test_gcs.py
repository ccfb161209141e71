"""A build in Google's object store, before an emulator of it on loopback."""

import json
import os
from collections.abc import Iterator

import fsspec
import pytest
from records import droid_values, example_bytes, write_droid

import robo4d
from pipeline.store import OutputError, Store

# Else gcsfs asks for the bucket's kind over gRPC with TLS, which no emulator answers; it reads this
# when it is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
SMALL = ("--set", "shard.episodes=2", "--set", "camera.solve=never")


@pytest.fixture
def bucket(monkeypatch, unused_port) -> Iterator[str]:
    """The URL of an empty bucket."""
    pytest.importorskip("gcsfs")
    server = pytest.importorskip("gcp_storage_emulator.server")
    running = server.create_server(
        "127.0.0.1", unused_port, in_memory=True, default_bucket="robo4d-test"
    )
    running.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    yield "gs://robo4d-test"
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    running.stop()


def files_of(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names() if name != ".lock"}


def test_a_build_in_a_google_bucket_has_the_bytes_of_a_local_one_and_is_kept(
    bucket, run_cli, tmp_path
):
    data, there = tmp_path / "in", f"{bucket}/out"
    write_droid(data, [example_bytes(droid_values(8, f"Mon_{i}", i)) for i in range(4)])
    build = ("build", "-s", "droid", "-d", data, *SMALL)
    for out in (tmp_path / "out", there):
        done = run_cli(*build, "-o", out)
        assert done.returncode == 0, done.stderr
    assert files_of(Store.at(there)) == files_of(Store.at(tmp_path / "out"))
    again = run_cli(*build, "-o", there, "--json")
    assert json.loads(again.stdout)["shards_skipped"] == 2
    verdict = run_cli("verify", there, "--json")
    assert (verdict.returncode, json.loads(verdict.stdout)["problems"]) == (0, [])
    opened, local = robo4d.open(there), robo4d.open(tmp_path / "out")
    assert opened.keys == local.keys
    for sample in local:
        assert opened[sample.key].read_bytes("meta.json") == sample.read_bytes("meta.json")


def test_a_google_store_takes_gives_lists_and_deletes_and_says_what_it_lacks(bucket):
    store = Store.at(f"{bucket}/a place/x")
    assert store.names() == {}
    large = bytes(range(256)) * 40_000  # more than one block of the file system's
    store.publish_bytes("one", large)
    store.publish_bytes("two", b"2")
    assert store.names() == {"one": len(large), "two": 1}
    assert store.read("one") == large
    assert store.read_all(["two", "one"]) == [b"2", large]
    with store.fetched("one") as folder:
        assert (folder / "one").read_bytes() == large
    store.delete("one")
    store.delete("one")
    assert store.names() == {"two": 1}
    with pytest.raises(FileNotFoundError):
        store.read("one")
    with pytest.raises(OutputError, match="cannot write under gs://nobody"):
        Store.at("gs://nobodys-bucket/x").publish_bytes("one", b"1")

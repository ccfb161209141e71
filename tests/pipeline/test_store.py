"""A build's store on disks and in an object store: whole files or none, whatever goes wrong."""

import errno
import hashlib
import pickle
import random

import pytest
from s3_server import TRANSIENT, Faults

from pipeline.retries import again, is_transient
from pipeline.store import OutputError, Store
from schemas.reasons import UsageError

SMALL = random.Random(1).randbytes(70_000)


def lies_there(s3, name: str) -> bytes | None:
    """What the server itself holds, past the proxy."""
    return s3.objects("data", "out/").get(name)


def test_paths_and_file_urls_are_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stores = [Store.at(where) for where in ("out", f"file://{tmp_path}/out/", tmp_path / "out")]
    assert {store.url for store in stores} == {str(tmp_path / "out")}
    stores[0].publish_bytes("a", b"1")
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    assert stores[1].names() == {"a": 1}


def test_a_url_that_nothing_opens_says_what_to_install(monkeypatch):
    import fsspec

    def missing(where):
        raise ImportError("Please install gcsfs to access Google Storage")

    with pytest.raises(UsageError, match="Protocol not known"):
        Store.at("nonsense://bucket/out")
    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UsageError, match=r"pip install 'robo4d\[gcs\]'"):
        Store.at("gs://bucket/out")


def test_a_disk_that_fills_up_is_explained_and_leaves_nothing(tmp_path):
    def write(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store.at(tmp_path / "out")
    with pytest.raises(OutputError, match="No space left on device; free space"):
        store.publish("a.tar", write)
    assert store.names() == {}
    assert list((tmp_path / "out" / ".tmp").iterdir()) == []


def test_what_is_published_is_what_is_read(s3):
    store = Store.at("s3://data/out/")
    assert store.names() == {}
    store.publish(
        "a.tar", lambda file: [file.write(SMALL[i : i + 7000]) for i in range(0, 70000, 7000)]
    )
    store.publish_bytes("b.json", b"{}")
    assert s3.objects("data") == {"out/a.tar": SMALL, "out/b.json": b"{}"}
    assert store.names() == {"a.tar": 70_000, "b.json": 2}
    assert store.read("a.tar") == SMALL
    assert store.read_all(["b.json", "a.tar"]) == [b"{}", SMALL]
    with store.fetched("a.tar") as folder:
        assert (folder / "a.tar").read_bytes() == SMALL
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    store.delete("b.json")
    store.delete("b.json")
    assert pickle.loads(pickle.dumps(store)).names() == {"a.tar": 70_000}  # noqa: S301


def test_what_another_process_changes_is_seen(s3):
    store, client = Store.at("s3://data/out"), s3.direct()
    store.publish_bytes("a", b"1")
    assert store.names() == {"a": 1}
    client.put_object(Bucket="data", Key="out/a", Body=b"22")
    client.put_object(Bucket="data", Key="out/b", Body=b"333")
    assert store.names() == {"a": 2, "b": 3}
    assert store.read("a") == b"22"
    with store.fetched("a") as folder:
        assert (folder / "a").read_bytes() == b"22"


@pytest.mark.parametrize("kind", TRANSIENT)
def test_faults_of_one_kind_at_any_request_change_nothing(kind, s3, no_waits):
    store = Store.at("s3://data/out")
    s3.faults = Faults(0.4, (kind,), seed=3)
    store.publish_bytes("a", SMALL)
    assert store.names() == {"a": len(SMALL)}
    assert store.read("a") == SMALL
    assert store.read_all(["a"]) == [SMALL]
    with store.fetched("a") as folder:
        assert (folder / "a").read_bytes() == SMALL
    store.publish_bytes("a", SMALL)
    store.delete("a")
    assert store.names() == {}
    assert s3.counts[kind] > 0


def test_an_upload_is_cut_and_nothing_is_there_under_its_name(s3, no_waits):
    s3.faults = Faults(1, ("cut_upload",))
    with pytest.raises(OutputError, match="cannot reach s3://data/out"):
        Store.at("s3://data/out").publish_bytes("a", SMALL)
    # The HTTP library itself sends what a reset cut off once more.
    assert s3.counts["cut_upload"] in (7, 14)
    assert s3.objects("data") == {}


def test_a_corrupted_upload_is_found_and_repeated(s3, no_waits):
    s3.faults = Faults(1, ("flip_upload",), most=2)
    Store.at("s3://data/out").publish_bytes("a", SMALL)
    assert s3.counts["flip_upload"] == 2
    assert lies_there(s3, "a") == SMALL


def test_an_upload_that_is_corrupted_every_time_is_taken_away(s3, no_waits):
    s3.faults = Faults(1, ("flip_upload",))
    with pytest.raises(OutputError, match="sha256|checksum"):
        Store.at("s3://data/out").publish_bytes("a", SMALL)
    assert s3.objects("data") == {}


def test_an_upload_that_cannot_be_read_back_does_not_stay(s3, no_waits):
    s3.faults = Faults(1, ("denied",), methods=("GET",))
    with pytest.raises(OutputError, match="Access Denied|Forbidden"):
        Store.at("s3://data/out").publish_bytes("a", SMALL)
    assert s3.objects("data") == {}


def test_a_corrupted_answer_is_asked_for_again(s3, no_waits):
    store = Store.at("s3://data/out")
    store.publish_bytes("a", SMALL)
    s3.faults = Faults(1, ("flip_answer",), methods=("GET",), most=2)
    assert store.read("a") == SMALL
    assert s3.counts["flip_answer"] == 2


@pytest.fixture
def parts_of_5_mib(monkeypatch):
    """Multipart uploads as of objects over 100 MiB, at 12."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 << 20)


def uploads_left(s3) -> list:
    return s3.direct().list_multipart_uploads(Bucket="data").get("Uploads", [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut_upload", "lost_answer", "500"])
def test_a_large_upload_comes_whole_through_faults(kind, s3, no_waits, parts_of_5_mib):
    big = random.Random(2).randbytes(12 << 20)
    s3.faults = Faults(0.5, (kind,), seed=1, methods=("PUT", "POST"), most=5)
    Store.at("s3://data/out").publish_bytes("big.tar", big)
    assert s3.counts["POST"] >= 2  # begun and completed: it was in parts
    assert s3.counts[kind] >= 2
    found = lies_there(s3, "big.tar")
    assert hashlib.sha256(found).digest() == hashlib.sha256(big).digest()


@pytest.mark.slow
def test_a_large_upload_that_fails_leaves_no_object_and_no_parts(s3, no_waits, parts_of_5_mib):
    s3.faults = Faults(1, ("cut_upload",), methods=("PUT",))
    with pytest.raises(OutputError, match="cannot reach"):
        Store.at("s3://data/out").publish_bytes("big.tar", bytes(12 << 20))
    assert s3.objects("data") == {}
    assert uploads_left(s3) == []


@pytest.mark.parametrize(
    ("kind", "attempts"), [*[(kind, 7) for kind in ("500", "slow_down", "reset")], ("denied", 1)]
)
def test_a_store_that_fails_for_good_is_explained(kind, attempts, s3, no_waits):
    store = Store.at("s3://data/out")
    s3.faults = Faults(1, (kind,))
    with pytest.raises(OutputError, match="cannot reach s3://data/out: .*; see that it is there"):
        store.names()
    assert s3.counts["GET"] in (attempts, 2 * attempts)
    for ask in (lambda: store.read("a"), lambda: store.publish_bytes("a", b"1")):
        with pytest.raises(OutputError):
            ask()


def test_no_bucket_no_credentials_and_no_server_are_explained(s3, no_waits, monkeypatch):
    import s3fs

    gone = Store.at("s3://gone/out")
    assert gone.names() == {}
    with pytest.raises(OutputError, match="bucket does not exist"):
        gone.publish_bytes("a", b"1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    before = sum(s3.counts.values())
    with pytest.raises(OutputError, match="Unable to locate credentials"):
        Store.at("s3://data/out").names()
    assert sum(s3.counts.values()) == before
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(OutputError, match="Could not connect to the endpoint"):
        Store.at("s3://data/out").names()


def test_a_full_temporary_folder_is_named_not_the_store(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def write(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=f"cannot write under {tmp_path}.*No space.*TMPDIR"):
        Store.at("s3://data/out").publish("a", write)
    assert list(tmp_path.iterdir()) == []
    assert s3.objects("data") == {}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="no temporary folder.*set TMPDIR"):
        Store.at("s3://data/out").publish_bytes("a", b"1")


def test_attempts_end_when_time_is_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tenacity.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    began = []

    def slow():
        began.append(now[0])
        now[0] += 50  # what the libraries below take to give up
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError):
        again(slow)
    assert len(began) == 3
    assert began[-1] < 120 + 30


def test_errors_of_google_storage_pass_or_last_as_their_status_says():
    retry = pytest.importorskip("gcsfs.retry")
    for code, passes in ((500, True), (503, True), (429, True), (403, False), (400, False)):
        assert is_transient(retry.HttpError({"code": code, "message": "x"})) is passes
    assert is_transient(retry.ChecksumError("x"))
    import google.auth.exceptions as auth

    assert is_transient(auth.TransportError("x"))
    assert not is_transient(auth.DefaultCredentialsError("x"))

"""Local, Beam and Ray: the same bytes, the same explained errors; parts and retries."""

import dataclasses
import json

import pytest
from records import droid_values, example_bytes, write_droid

import jobs.build
from jobs._status import read_status
from jobs.build import run_build, set_aside_for, unfinished
from jobs.monitor import Stopped
from pipeline import lineage
from pipeline.build import find_finished
from pipeline.plan import make_plan, renew
from pipeline.store import OutputError, Store
from pipeline.verify import read_plan, verify
from schemas.config import BuildConfig, RayConfig, RunConfig
from schemas.reasons import Reason, UsageError

QUICK = {"camera": {"solve": "never"}, "shard": {"episodes": 2}, "quarantine": {"max_share": 1}}
ENGINES = {
    "local": RunConfig(workers=2),
    "beam": RunConfig(engine="beam", workers=2),
    "ray": RunConfig(engine="ray", workers=2),
    "stages": RunConfig.model_validate({"engine": "ray", "workers": 1, "ray": {"stages": True}}),
}


def good(number: int) -> bytes:
    return example_bytes(droid_values(8, f"Mon_{number}", number))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Seven episodes in four shards, one of them not to be read."""
    root = tmp_path_factory.mktemp("engines")
    write_droid(root, [*(good(n) for n in range(4)), b"junk", *(good(n) for n in range(4, 6))])
    return make_plan({"droid": str(root)}, BuildConfig.model_validate(QUICK))


@pytest.fixture(scope="module")
def expected(plan, tmp_path_factory, sha256_of_files):
    """Hashes of what the builder gives in this process."""
    out = tmp_path_factory.mktemp("here")
    run_build(plan, Store.at(out), RunConfig())
    return sha256_of_files(out)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, which later builds of this process join: to start it takes seconds."""
    from jobs.on_ray import _cluster

    with _cluster(RayConfig()):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_the_same_bytes(
    name, plan, expected, tmp_path, sha256_of_files, request
):
    if name == "stages":
        request.getfixturevalue("cluster")
    if name == "ray":  # starts its own, which it can only while no fixture's runs
        import ray

        assert not ray.is_initialized()
    told = []
    run_build(plan, Store.at(tmp_path), ENGINES[name], told.append)
    assert sha256_of_files(tmp_path) == expected
    assert [status["shards_done"] for status in told] == [1, 2, 3, 4]
    assert told[-1]["quarantine"] == {"undecodable_record": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "beam", "ray"])
def test_an_error_of_a_worker_is_explained_whatever_the_engine(name, plan, tmp_path, request):
    if name == "ray":
        request.getfixturevalue("cluster")
    gone = dataclasses.replace(
        plan, sources=(plan.sources[0].model_copy(update={"data": str(tmp_path / "gone")}),)
    )
    with pytest.raises(UsageError, match=r"gone"):
        run_build(gone, Store.at(tmp_path / "out"), ENGINES[name])
    status = read_status(str(tmp_path / "out"))
    assert status["state"] == "failed"
    assert "gone" in status["why"]


def test_parts_build_every_shard_once_and_the_whole_merges_them(
    plan, expected, tmp_path, sha256_of_files
):
    store = Store.at(tmp_path)
    for number in (1, 0, 2):
        run_build(plan, store, RunConfig(), part=(number, 3))
        assert not (tmp_path / "dataset.json").exists()
    together = read_status(str(tmp_path))
    assert (together["shards"], together["shards_done"], together["episodes"]) == (4, 4, 7)
    assert together["parts"] == {"done": 3}
    told = []
    run_build(plan, store, RunConfig(), told.append)
    assert told[-1]["shards_skipped"] == 4
    assert sha256_of_files(tmp_path) == expected
    assert read_status(str(tmp_path))["part"] is None


def test_parts_run_at_once_and_a_whole_build_does_not_run_beside_them(plan, tmp_path):
    store, met = Store.at(tmp_path), []

    def beside(status):
        if not met:
            met.append(run_build(plan, store, RunConfig(), part=(1, 2))["shards"])
            with pytest.raises(OutputError, match="another build"):
                run_build(plan, store, RunConfig())

    run_build(plan, store, RunConfig(), beside, part=(0, 2))
    assert met == [2]


def test_beam_has_no_parts(plan, tmp_path):
    with pytest.raises(UsageError, match="--part"):
        run_build(plan, Store.at(tmp_path), RunConfig(engine="beam"), part=(0, 2))


def test_an_engine_that_is_not_installed_says_how_to_get_it(plan, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(jobs.build, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'robo4d\[ray\]'"):
        run_build(plan, Store.at(tmp_path), RunConfig(engine="ray"))


def test_a_retry_builds_again_what_a_reason_touched_and_nothing_else(
    tmp_path, monkeypatch, sha256_of_files
):
    data, store = tmp_path / "data", Store.at(tmp_path / "out")
    write_droid(data, [good(0), good(1), b"junk", good(2), good(3), good(4)])
    plan = make_plan({"droid": str(data)}, BuildConfig.model_validate(QUICK))
    run_build(plan, store, RunConfig())
    before = find_finished(plan.shards, store)
    touched = set_aside_for([Reason.UNDECODABLE_RECORD], plan, store)
    assert touched == {plan.shards[1].name}
    assert not set_aside_for([Reason.JOINT_LIMITS], plan, store)
    # Another code than the one that built the rest.
    monkeypatch.setattr(lineage, "code_version", lambda: "f" * 64)
    monkeypatch.setattr("pipeline.plan.code_version", lambda: "f" * 64)
    renewed = renew(plan, touched)
    told = []
    run_build(renewed, store, RunConfig(), told.append, again=touched)
    assert told[-1]["shards_skipped"] == 2
    after = find_finished(read_plan(store).shards, store)
    changed = {n for n in after if after[n].build["fingerprint"] != before[n].build["fingerprint"]}
    assert changed == touched
    assert verify(store).problems == []


def test_retry_says_what_it_does_and_refuses_what_it_cannot(run_cli, tmp_path):
    write_droid(tmp_path / "data", [good(0), b"junk", good(1)])
    quick = ("--set", "camera.solve=never", "--set", "shard.episodes=1")
    allowed = ("--set", "quarantine.max_share=1")
    built = run_cli(
        *("build", "-s", "droid", "-d", tmp_path / "data", "-o", tmp_path / "out"), *quick, *allowed
    )
    assert built.returncode == 0, built.stderr
    again = run_cli("retry", tmp_path / "out", "--reason", "undecodable_record", "--json")
    assert again.returncode == 0, again.stderr
    assert "1 of 3 shards are built again" in again.stderr
    assert json.loads(again.stdout)["shards_skipped"] == 2
    none = run_cli("retry", tmp_path / "out", "--reason", "joint_limits")
    assert none.returncode == 2
    assert "joint_limits" in none.stderr
    wrong = run_cli("retry", tmp_path / "out", "--reason", "bad_karma")
    assert wrong.returncode == 2


def test_a_retry_that_was_interrupted_goes_on(tmp_path, run_cli):
    write_droid(tmp_path / "data", [good(0), b"junk", good(1)])
    data = BuildConfig.model_validate({**QUICK, "shard": {"episodes": 1}})
    plan = make_plan({"droid": str(tmp_path / "data")}, data)
    store = Store.at(tmp_path / "out")
    run_build(plan, store, RunConfig())
    touched = set_aside_for([Reason.UNDECODABLE_RECORD], plan, store)

    def stop(status):
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        run_build(plan, store, RunConfig(), stop, again=frozenset(t.name for t in plan.shards))
    assert not (tmp_path / "out/dataset.json").exists()
    assert len(unfinished(plan, store)) == 2
    assert not touched - unfinished(plan, store)
    done = run_cli("retry", tmp_path / "out", "--reason", "undecodable_record", "--json")
    assert done.returncode == 0, done.stderr
    assert verify(store).problems == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", ""])
def test_a_plan_that_names_shards_elsewhere_is_refused(plan, tmp_path, name):
    bad = dataclasses.replace(plan.shards[0], name=name)
    store = Store.at(tmp_path / "out")
    store.publish_bytes("plan.json", dataclasses.replace(plan, shards=(bad,)).to_json())
    with pytest.raises(UsageError, match=r"plan\.json is damaged"):
        read_plan(store)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_a_store_reads_and_removes_nothing_outside(tmp_path, name):
    (tmp_path / "x").write_text("there")
    store = Store.at(tmp_path / "out")
    for ask in (store.read, store.delete):
        with pytest.raises(UsageError, match="leads out"):
            ask(name)
    with pytest.raises(UsageError, match="leads out"):
        store.publish_bytes(name, b"")
    assert (tmp_path / "x").read_text() == "there"


@pytest.mark.slow
def test_stages_that_would_wait_for_ever_are_refused(plan, tmp_path, cluster):
    full = RunConfig.model_validate(
        {"engine": "ray", "workers": 4, "ray": {"stages": True, "cpus": 64}}
    )
    with pytest.raises(UsageError, match="leave none"):
        run_build(plan, Store.at(tmp_path), full)

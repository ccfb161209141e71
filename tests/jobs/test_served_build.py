"""A local build whose workers ask one process for depth: same bytes, also where that one dies."""

import json
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children
from types import SimpleNamespace

import pytest
from depth_stubs import Scene, open_scene

pytest.importorskip("torch")

import jobs.local
import pipeline.samples
import robo4d
from jobs.build import WorkerLost, run_build
from pipeline.plan import make_plan
from pipeline.store import Store
from reconstruction.depth.served import ServerLost
from reconstruction.depth.served.process import serving
from schemas.config import BuildConfig, RunConfig
from schemas.plan import ShardTask

SERVED = {"workers": 2, "local": {"serve_network": True}}
TASKS = [
    ShardTask(name=name, source="droid", split="train", refs=(), fingerprint="") for name in "ab"
]


@pytest.fixture(scope="module")
def plan(droid_twin, tmp_path_factory):
    """Two shards of an episode each; of the checkpoint that it names only the hash is taken."""
    pytest.importorskip("transformers")
    model = tmp_path_factory.mktemp("network")
    (model / "config.json").touch()
    config = {
        "clip": {"frames": 5},
        "timing": {"enabled": False},
        "source": {"max_episodes": 2},
        "shard": {"episodes": 1},
        "depth": {"backend": "transformers", "model": str(model)},
    }
    made = make_plan({"droid": str(droid_twin)}, BuildConfig.model_validate(config))
    assert len(made.shards) == 2
    return made


@pytest.fixture(scope="module")
def expected(plan, tmp_path_factory, sha256_of_files):
    """Hashes of a build whose one process runs the network itself."""
    out = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.samples, "open_network", lambda _: Scene())
        run_build(plan, Store.at(out), RunConfig())
    anchoring = [sample.meta["depth_anchoring"] for sample in robo4d.open(out)]
    assert any(one and "held_back_pixels" in one for one in anchoring)  # there was depth to judge
    return sha256_of_files(out)


@pytest.mark.slow
def test_one_process_for_all_gives_the_same_bytes_also_where_it_dies_in_between(
    plan, expected, tmp_path, sha256_of_files, monkeypatch
):
    deaths = [2, None]  # of each server, in turn: the question that it dies of

    @contextmanager
    def fated(opener):
        with serving(partial(open_scene, opener, deaths.pop(0))) as address:
            yield address

    monkeypatch.setattr(jobs.local, "serving", fated)
    run_build(plan, Store.at(tmp_path), RunConfig.model_validate(SERVED))
    assert not deaths
    assert not active_children()
    assert sha256_of_files(tmp_path) == expected
    logs = [path.read_text().splitlines() for path in (tmp_path / ".run").rglob("*.jsonl")]
    events = [json.loads(line)["event"] for log in logs for line in log]
    assert events.count("a scene is open") == 2
    assert events.count("workers replaced") == 1


def test_a_process_that_always_dies_ends_the_build(monkeypatch):
    tried = []

    @contextmanager
    def dead(opener):
        tried.append(opener)
        raise ServerLost("died as it started")
        yield

    monkeypatch.setattr(jobs.local, "serving", dead)
    config = BuildConfig.model_validate({"depth": {"backend": "pointmap"}})
    builder = SimpleNamespace(store=None, config=config)
    run = RunConfig.model_validate({**SERVED, "retries": 1})
    with pytest.raises(WorkerLost, match="runs the depth network died .* 2 shards to go"):
        list(jobs.local.run_local(TASKS, builder, run))
    assert len(tried) == 2

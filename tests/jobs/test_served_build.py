"""A local build whose workers ask one process for depth: same bytes, also where that one dies."""

from contextlib import contextmanager
from multiprocessing import active_children

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import jobs.local
import robo4d
from jobs.build import WorkerLost, run_build
from pipeline.plan import make_plan
from pipeline.store import Store
from reconstruction.depth.pointmap.checkpoint import save_checkpoint
from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork
from reconstruction.depth.served.process import serving
from schemas.config import BuildConfig, RunConfig

pytestmark = pytest.mark.slow
SERVED = {"workers": 2, "local": {"serve_network": True}}


@pytest.fixture(scope="module")
def plan(droid_twin, tmp_path_factory):
    """Two shards of an episode each, depth by a network with random weights."""
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    tiny = NetworkConfig(width=32, blocks=1, heads=4, area=4096)
    save_checkpoint(PointmapNetwork(tiny), path, {})
    config = {
        "clip": {"frames": 5},
        "timing": {"enabled": False},
        "source": {"max_episodes": 2},
        "shard": {"episodes": 1},
        "depth": {"backend": "pointmap", "model": str(path)},
    }
    made = make_plan({"droid": str(droid_twin)}, BuildConfig.model_validate(config))
    assert len(made.shards) == 2
    return made


@pytest.fixture(scope="module")
def expected(plan, tmp_path_factory, sha256_of_files):
    """Hashes of a build whose one process runs the network itself."""
    out = tmp_path_factory.mktemp("here")
    run_build(plan, Store.at(out), RunConfig())
    anchoring = [sample.meta["depth_anchoring"] for sample in robo4d.open(out)]
    assert any(one and "held_back_pixels" in one for one in anchoring)  # there was depth to judge
    return sha256_of_files(out)


@pytest.fixture
def servers(monkeypatch):
    """What is to become of each server, in turn: a list to fill in with whether it is killed."""
    fates = []

    @contextmanager
    def fated(opener):
        with serving(opener) as address:
            if fates.pop(0):
                (server,) = (child for child in active_children() if child.daemon)
                server.kill()
                server.join()
            yield address

    monkeypatch.setattr(jobs.local, "serving", fated)
    return fates


@pytest.mark.parametrize("fates", [[False], [True, False]])
def test_one_process_for_all_gives_the_same_bytes(
    fates, servers, plan, expected, tmp_path, sha256_of_files
):
    servers += fates
    run_build(plan, Store.at(tmp_path), RunConfig.model_validate(SERVED))
    assert not servers
    assert sha256_of_files(tmp_path) == expected
    assert not active_children()


def test_a_process_that_always_dies_ends_the_build(servers, plan, tmp_path):
    servers += [True]
    run = RunConfig.model_validate({**SERVED, "retries": 0})
    with pytest.raises(WorkerLost, match="runs the depth network died .* 2 shards to go"):
        run_build(plan, Store.at(tmp_path), run)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".tar", ".parquet")]
    assert not active_children()

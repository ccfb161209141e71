"""A build whose depth is the embedded network's, made metric by the robot."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import robo4d
from reconstruction.depth.pointmap.checkpoint import checkpoint_hash, embedded_checkpoint
from reconstruction.depth.simulator import open_truth
from simulation.droid import RATE as DROID_RATE

pytestmark = pytest.mark.slow
QUICK = ["--set", "clip.frames=5", "--set", "timing.enabled=false"]


@pytest.fixture(scope="module")
def built(run_cli_session, droid_twin, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    done = run_cli_session(
        *("build", "--source", "droid", "--data", droid_twin, "--out", out, *QUICK),
        *("--set", "depth.backend=pointmap", "--set", "source.max_episodes=1"),
    )
    assert done.returncode == 0, done.stderr
    return out


def test_depth_is_the_networks_or_absent_with_the_reason(built, run_cli, droid_twin):
    assert run_cli("verify", built).returncode == 0
    metric = 0
    for sample in robo4d.open(built):
        said = sample.meta["fields"]["depth"]
        assert sample.meta["depth_anchoring"]["held_back_pixels"] >= 0
        if said["provenance"] == "absent":
            assert said["reason"].startswith("nothing says how large it is: ")
            assert "depth.r4a" not in sample.members
            continue
        metric += 1
        assert said["provenance"] == "estimated"
        truth = open_truth(str(droid_twin), sample.meta["id"], sample.meta["camera"])
        true = truth.depth(np.rint(sample.time * DROID_RATE).astype(int))
        known = (true > 0) & (sample.depth > 0)
        error = np.abs(sample.depth - true)[known] / true[known]
        # In metres, and right where it says that it is sure (of 6 %).
        assert np.median(error) < 0.15
        sure = sample.confidence[known] > 255 * np.exp(-0.06 / 0.05)
        assert sure.mean() > 0.05
        assert np.median(error[sure]) < 0.08
        assert (sample.confidence > 0).mean() > 0.5
    assert metric > 0


def test_which_checkpoint_it_was_is_in_the_lineage(built, run_cli):
    key = robo4d.open(built)[0].key
    told = json.loads(run_cli("explain", built, key, "--json").stdout)
    assert checkpoint_hash(embedded_checkpoint()) in json.dumps(told)

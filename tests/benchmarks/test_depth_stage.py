"""The stage that `benchmarks.depth_stage` measures, in one process and small."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import time
from multiprocessing import Pipe

from benchmarks._depth_clips import make_clips
from benchmarks._depth_worker import Stage, open_network
from benchmarks.depth_stage import _ready
from reconstruction.checkpoint import device
from reconstruction.depth.pointmap.checkpoint import save_checkpoint
from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork


def test_a_clip_is_lifted_and_each_part_is_timed(tmp_path):
    clips = make_clips(tmp_path / "clips", "rt1", 1, (128, 160), 3)
    model = tmp_path / "tiny.safetensors"
    save_checkpoint(PointmapNetwork(NetworkConfig(width=32, blocks=1, heads=2)), model, {})
    stage = Stage(clips, open_network(model, 8), pretend=True)
    try:
        found = stage.run(0, time.monotonic(), 0.01)
        bare = stage.bare((128, 160), [1])
    finally:
        stage.close()
    assert 0 < found["clips"] <= 1
    assert found["anchored"] == found["whole"] == 1
    parts = {"decode", "render", "network", "anchor", "mask", "residual", "encode"}
    assert found["wall"].keys() == found["cpu"].keys() == parts | {"all"}
    assert sum(found["wall"][part] for part in parts) <= found["wall"]["all"]
    assert bare["bare"]["1"] > 0


def test_the_wait_for_workers_ends_without_those_that_are_late():
    (here, there), (late, _kept) = Pipe(), Pipe()
    there.send((True, None))
    assert _ready([late, here], 0.05) == [here]
    there.close()
    with pytest.raises(RuntimeError, match="died"):
        _ready([here], 1.0)


def test_random_weights_are_drawn_on_the_device():
    network = open_network("tf_efficientnet_lite0", 4)
    assert network.batch == 4
    assert not network.network.training
    assert {str(value.device.type) for value in network.network.state_dict().values()} == {device()}

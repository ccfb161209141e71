"""The stage that `benchmarks.depth_stage` measures, in one process and small."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import json
import time
from multiprocessing import Pipe, active_children

from benchmarks._depth_clips import make_clips
from benchmarks._depth_processes import end, ready, workers_of
from benchmarks._depth_worker import Stage, bare, open_network
from benchmarks.depth_stage import main
from reconstruction.checkpoint import device
from reconstruction.depth.pointmap.checkpoint import save_checkpoint
from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), "rt1", 1, (128, 160), 3)


def test_a_clip_is_lifted_and_each_part_is_timed(clips, tmp_path):
    model = tmp_path / "tiny.safetensors"
    save_checkpoint(PointmapNetwork(NetworkConfig(width=32, blocks=1, heads=2)), model, {})
    stage = Stage(clips, open_network(model, 8), pretend=True)
    try:
        found = stage.run(0, time.monotonic(), 0.0)
    finally:
        stage.close()
    assert found["clips"] == 0  # none of it fell within no time
    assert found["anchored"] == found["whole"] == 1
    parts = {"decode", "render", "network", "anchor", "mask", "residual", "encode"}
    assert found["wall"].keys() == found["cpu"].keys() == parts | {"all"}
    assert sum(found["wall"][part] for part in parts) <= found["wall"]["all"]
    assert bare(model, 8, (128, 160), [1])["bare"]["1"] > 0


def test_the_wait_for_workers_ends_without_those_that_are_late():
    (here, there), (late, _kept) = Pipe(), Pipe()
    there.send((True, None))
    assert ready([late, here], 0.05) == [here]
    there.close()
    with pytest.raises(RuntimeError, match="died"):
        ready([here], 1.0)


@pytest.mark.slow
def test_a_worker_that_is_to_end_is_waited_for():
    others = set(active_children())
    with workers_of([{}]) as (worker,):
        assert ready([worker], 60.0)
        (process,) = set(active_children()) - others
        end(worker, 60.0)
        process.join(60.0)
        assert process.exitcode == 0
    here, _kept = Pipe()
    with pytest.raises(RuntimeError, match="is there after"):
        end(here, 0.0)


def test_random_weights_are_drawn_on_the_device():
    network = open_network("tf_efficientnet_lite0", 4)
    assert network.batch == 4
    assert not network.network.training
    assert {str(value.device.type) for value in network.network.state_dict().values()} == {device()}


@pytest.mark.slow
def test_workers_of_a_server_measure_the_whole_stage(tmp_path, capsys):
    model = tmp_path / "tiny.safetensors"
    save_checkpoint(PointmapNetwork(NetworkConfig(width=32, blocks=1, heads=2)), model, {})
    quick = ["--clips", "1", "--frames", "3", "--seconds", "0.1", "--bare-batch", "1"]
    main(["--served", "--workers", "2", "--size", "128x160", *quick, "--model", str(model)])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (run,) = [line for line in said if "stage_frames_per_s" in line]
    assert run["servers"] == 1
    assert run["clips"] >= 2

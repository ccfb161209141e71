"""What the mask network learns from, and how it learns and is handed on."""

import json
from pathlib import Path

import numpy as np
import pytest
from dying_film import film_and_die
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

import robots  # noqa: E402, F401  chooses the OpenGL
from jobs import train_masks as job  # noqa: E402
from pipeline.mask_training.batches import FrameCutter, warped  # noqa: E402
from pipeline.mask_training.export import export_network, run_onnx  # noqa: E402
from pipeline.mask_training.frames import (  # noqa: E402
    HELD_OUT,
    OF_SCENE,
    FramePlan,
    FrameSet,
    film_frames,
    plan_scenes,
)
from pipeline.mask_training.loop import (  # noqa: E402
    MaskTraining,
    mask_loss,
    rate_of,
    train_masks,
)
from pipeline.mask_training.network import SIZE, MaskNetwork  # noqa: E402
from schemas.reasons import UsageError  # noqa: E402
from simulation.depth_scenes.take import HEIGHT, WIDTH  # noqa: E402

CPU = torch.device("cpu")
KEPT = 4  # frames of each scene below


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> FrameSet:
    """Two scenes: bright discs, of which a dark bar hides some, on noise."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "done").mkdir()
    rng = np.random.default_rng(0)
    rows = 2 * OF_SCENE
    whole = np.zeros((rows, HEIGHT, WIDTH), np.uint8)
    rgb = rng.integers(0, 60, (rows, HEIGHT, WIDTH, 3), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for k in range(rows):
        at = rng.uniform([80, 80], [HEIGHT - 80, WIDTH - 80])
        whole[k][np.hypot(y - at[0], x - at[1]) < 50] = 255
    visible = whole.copy()
    visible[:, :, 150:165] = 0
    rgb[visible > 0] = [230, 200, 60]
    scenes = [{"row": k * OF_SCENE, "source": "droid", "number": k} for k in range(2)]
    for name, array in (("rgb", rgb), ("visible", visible), ("whole", whole)):
        np.save(folder / f"{name}.npy", array)
    (folder / "frames.json").write_text(json.dumps({"scenes": scenes}))
    for k in range(2):
        (folder / "done" / str(k)).write_text(str(KEPT))
    return FrameSet(folder)


def test_scenes_are_a_function_of_the_plan():
    plan = FramePlan(scenes=400)
    scenes = plan_scenes(plan)
    assert scenes == plan_scenes(plan)
    assert scenes[:9] == plan_scenes(FramePlan(scenes=9))
    assert {s.number for s in scenes}.isdisjoint(s.number for s in plan_scenes(FramePlan(seed=3)))
    assert abs(np.mean([scene.source == "droid" for scene in scenes]) - 0.85) < 0.06


def test_no_scene_both_trains_and_judges(frames):
    assert frames.validation.tolist() == list(range(KEPT))
    assert frames.training.tolist() == list(range(OF_SCENE, OF_SCENE + KEPT))
    assert HELD_OUT > 1


def test_a_warp_leads_to_where_pixels_come_from():
    picture = torch.zeros(1, 1, *SIZE)
    picture[..., 100, 200] = 1
    assert torch.allclose(warped(picture, torch.eye(3)[None]), picture, atol=1e-4)
    flipped = warped(picture, torch.diag(torch.tensor([-1.0, 1, 1]))[None])
    assert flipped[0, 0, 100, SIZE[1] - 1 - 200] == pytest.approx(1, abs=1e-3)


def test_a_plain_cut_is_the_middle_of_the_frame(frames):
    cutter = FrameCutter(frames, frames.training, CPU, resident=True)
    batch = cutter.plain(torch.arange(KEPT))
    edge = (HEIGHT - SIZE[0]) // 2
    middle = torch.from_numpy(frames.visible[frames.training][:, edge:-edge] / 255).float()
    assert torch.allclose(batch.visible, middle, atol=1e-4)
    assert not batch.given[:, 3:].any()
    told = cutter.plain(torch.arange(KEPT), torch.Generator().manual_seed(0)).given
    assert (told[:, 4] == 1).all()
    # Off, but near; and what hides the robot in the picture is not told.
    assert (told[:, 3] > 0.5).sum() > (batch.visible > 0.5).sum()
    assert ((told[:, 3] > 0.5) & (batch.visible > 0.5)).any((1, 2)).all()


def test_a_batch_is_a_function_of_its_generator_and_its_robot_stays_in_the_picture(frames):
    cutter = FrameCutter(frames, frames.training, CPU, resident=True)

    def cut(seed):
        return cutter.cut(64, torch.Generator().manual_seed(seed))

    batch, again = cut(5), cut(5)
    assert torch.equal(batch.given, again.given)
    assert torch.equal(batch.visible, again.visible)
    assert not torch.equal(batch.visible, cut(6).visible)
    rgb, told, there = batch.given.split([3, 1, 1], 1)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    given = there.flatten(1).mean(1)
    assert set(given.tolist()) == {0.0, 1.0}
    assert 0.5 < given.mean() < 0.9
    assert not told[given == 0].any()
    light, robot = rgb.mean(1), batch.visible > 0.99
    brighter = [
        bool(light[k][robot[k]].mean() > light[k][batch.visible[k] < 0.01].mean())
        for k in range(64)
        if robot[k].any()
    ]
    assert np.mean(brighter) > 0.95


def test_the_loss_is_least_where_the_mask_is_right():
    true = torch.zeros(2, 32, 32)
    true[:, 8:20, 8:20] = 1
    right = 12 * (2 * true - 1)
    assert mask_loss(right, true) < 0.01
    assert mask_loss(right.roll(4, 2), true) > mask_loss(right.roll(1, 2), true) > 0.1


def test_the_rate_rises_and_falls():
    training = MaskTraining(steps=100, warmup=10)
    rates = [rate_of(training, step) for step in range(100)]
    assert 8 <= int(np.argmax(rates)) <= 11
    assert max(rates) == pytest.approx(training.rate, rel=0.05)
    assert rates[0] < 0.01 * training.rate
    assert rates[-1] < 0.01 * training.rate


@pytest.mark.parametrize(
    ("training", "said"), [(MaskTraining(batch=3), "even"), (MaskTraining(batch=0), "even")]
)
def test_batches_that_cannot_be_drawn_are_refused(frames, tmp_path, training, said):
    with pytest.raises(UsageError, match=said):
        train_masks(training, frames, tmp_path, device=CPU, tell=print)


@pytest.mark.slow
def test_a_network_that_has_learned_is_the_same_as_onnx(frames, tmp_path):
    pytest.importorskip("onnx")
    told = []
    training = MaskTraining(steps=12, batch=4, warmup=2, judge_every=4, weights=None)
    network = train_masks(training, frames, tmp_path, device=CPU, tell=told.append)
    assert [line["step"] for line in told] == [4, 8, 12]
    assert told[-1]["loss"] < told[0]["loss"]
    assert 0 <= told[-1]["iou"] <= 1
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert curve[0]["steps"] == 12
    assert curve[1:] == told
    file = tmp_path / "robot_masks.onnx"
    export_network(network, file)
    weights = sum(p.numel() for p in network.parameters())
    assert file.stat().st_size < 2.3 * weights
    batch = FrameCutter(frames, frames.validation, CPU, resident=True).plain(
        torch.arange(2), torch.Generator().manual_seed(0)
    )
    for given in batch.given[:, None]:
        with torch.inference_mode():
            expected = network(given).numpy()
        found = run_onnx(file, given.numpy())
        assert found.shape == (1, 1, *SIZE)
        assert np.abs(found - expected).max() < 1e-2 * max(1, np.abs(expected).max())


def test_the_network_hears_what_it_is_told():
    torch.manual_seed(0)
    network = MaskNetwork().eval()
    given = torch.rand(1, 5, 64, 96)
    with torch.inference_mode():
        said, alone = (
            network(given),
            network(given * torch.tensor([1.0, 1, 1, 0, 0])[:, None, None]),
        )
    assert said.shape == (1, 1, 64, 96)
    assert (said - alone).abs().max() > 1e-4


@pytest.mark.slow
def test_a_process_that_dies_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.mask_training.frames._film_scene", film_and_die)
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        film_frames(FramePlan(scenes=1), tmp_path, workers=1)


@pytest.mark.slow
def test_filming_goes_on_where_it_was_broken_off(tmp_path):
    asked = ["--frames", tmp_path, "--scenes", 1, "--workers", 1, "--droid", 0]
    done = CliRunner().invoke(job.app, list(map(str, asked)), catch_exceptions=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["frames"]["validation"] > 0
    plan = FramePlan(scenes=1, droid=0)
    (scene,) = plan_scenes(plan)
    marker: Path = tmp_path / "done" / str(scene.number)
    before = marker.stat().st_mtime_ns
    again = film_frames(plan, tmp_path, workers=1)
    assert marker.stat().st_mtime_ns == before
    assert again.rgb[again.validation].any((1, 2, 3)).all()
    with pytest.raises(UsageError, match="frames of another plan"):
        film_frames(FramePlan(scenes=2, droid=0), tmp_path, workers=1)

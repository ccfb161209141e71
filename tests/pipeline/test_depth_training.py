"""What the depth network learns from, and the loop that it learns in."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from take_checks import share_that_agrees
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

import robots  # noqa: E402, F401  chooses the OpenGL
from jobs import train_depth  # noqa: E402
from pipeline.depth_training.batches import PairCutter  # noqa: E402
from pipeline.depth_training.loop import train_network  # noqa: E402
from pipeline.depth_training.takes import (  # noqa: E402
    VALIDATION_SCENES,
    TakePlan,
    TakeSet,
    film_takes,
    plan_units,
)
from reconstruction.depth.pointmap.checkpoint import embedded_checkpoint, load_checkpoint  # noqa: E402
from reconstruction.depth.pointmap.network import rays  # noqa: E402
from schemas.reasons import UsageError  # noqa: E402
from schemas.training import load_training  # noqa: E402
from simulation.depth_scenes import FIRST_SEED  # noqa: E402
from simulation.depth_scenes.take import FRAMES, HEIGHT, WIDTH, Take  # noqa: E402
from simulation.depth_scenes.twins import film_twin  # noqa: E402

REPO = Path(__file__).resolve().parents[2]
SCENES = ("KITCHEN_SCENE1", "KITCHEN_SCENE7", "STUDY_SCENE1", "STUDY_SCENE4")
PLAN = TakePlan(units=400, libero=0.6, seed=3)


def test_units_are_a_function_of_the_plan():
    assert plan_units(PLAN, SCENES) == plan_units(PLAN, SCENES)
    assert plan_units(PLAN, SCENES) != plan_units(TakePlan(400, 0.6, 4), SCENES)


def test_no_scene_both_trains_and_judges():
    units = plan_units(PLAN, SCENES)
    for unit in units:
        if unit.kind == "bank":
            assert unit.validation == (SCENES[unit.scene] in VALIDATION_SCENES)
    twins = [unit for unit in units if unit.kind != "bank"]
    trains = {unit.scene for unit in twins if not unit.validation}
    judges = {unit.scene for unit in twins if unit.validation}
    assert judges
    assert not trains & judges
    assert 0.5 < 1 - len(twins) / len(units) < 0.7


def test_twins_that_train_have_seeds_of_their_own():
    assert FIRST_SEED >= 5000  # those of tests and benchmarks are lower


@pytest.fixture(scope="module")
def take() -> Take:
    return next(film_twin("bridge", 2))


@pytest.mark.slow
def test_frames_of_a_take_see_the_same_scene(take):
    """Points of one frame lie on the surfaces that the next one sees, but where things moved."""
    assert np.nanmin(share_that_agrees(take)) > 0.7
    assert np.array_equal(take.base_from_camera[0], take.base_from_camera[1])


@pytest.mark.slow
def test_the_robot_of_a_take_is_where_the_picture_has_it(take):
    robot, depth = take.robot.astype(float), take.depth[:, 1::2, 1::2].astype(float)
    there = (robot > 0) & (depth > 0)
    assert there.sum() > 300
    off = (depth - robot)[there]
    assert (np.abs(off) < 0.02).mean() > 0.8
    assert (off > 0.02).mean() < 0.1  # what hides it is before it; the scene behind shows at edges


@pytest.mark.slow
def test_the_same_number_films_the_same_takes(take):
    again = next(film_twin("bridge", 2))
    assert np.array_equal(take.rgb, again.rgb)
    assert np.array_equal(take.depth, again.depth)


@pytest.mark.slow
def test_filming_goes_on_where_it_was_broken_off(tmp_path):
    asked = ["--takes", tmp_path, "--set", "takes.units=1", "--set", "takes.libero=0"]
    done = CliRunner().invoke(train_depth.app, list(map(str, asked)), catch_exceptions=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["takes"]["training"] + told[-1]["takes"]["validation"] > 0
    plan = TakePlan(units=1, libero=0, seed=0)
    before = (tmp_path / "done" / "0").stat().st_mtime_ns
    film_takes(plan, tmp_path, workers=1)
    assert (tmp_path / "done" / "0").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="takes of another plan"):
        film_takes(TakePlan(units=2, libero=0, seed=0), tmp_path, workers=1)


@pytest.fixture
def takes(tmp_path) -> TakeSet:
    """A slanted plane seen by cameras that step aside, analytically."""
    folder = tmp_path / "takes"
    (folder / "done").mkdir(parents=True)
    rows = 16
    rng = np.random.default_rng(0)
    K = np.array([[250.0, 0, 160], [0, 250, 128], [0, 0, 1]])
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ray = np.stack([(u - 160) / 250, (v - 128) / 250, np.ones_like(u)], -1)
    normal, distance = np.array([0.0, 0.5, 1.0]), 1.2
    depth = np.empty((rows, FRAMES, HEIGHT, WIDTH), np.float16)
    pose = np.broadcast_to(np.eye(4), (rows, FRAMES, 4, 4)).copy()
    pose[:, 2:, :3, 3] = rng.normal(0, 0.05, (rows, 2, 3))
    for row in range(rows):
        for k in range(FRAMES):
            depth[row, k] = (distance - pose[row, k, :3, 3] @ normal) / (ray @ normal)
    rgb = rng.integers(0, 255, (rows, FRAMES, HEIGHT // 16, WIDTH // 16, 3)).astype(np.uint8)
    np.save(folder / "rgb.npy", rgb.repeat(16, 2).repeat(16, 3))
    np.save(folder / "depth.npy", depth)
    robot = np.zeros((rows, FRAMES, HEIGHT // 2, WIDTH // 2), np.float16)
    robot[:, :, 40:90, 50:110] = depth[:, :, 1::2, 1::2][:, :, 40:90, 50:110]
    np.save(folder / "robot.npy", robot)
    np.save(folder / "K.npy", np.broadcast_to(K, (rows, FRAMES, 3, 3)).astype(np.float32))
    np.save(folder / "base_from_camera.npy", pose.astype(np.float32))
    units = [{"number": n, "validation": n == 1} for n in range(2)]
    (folder / "takes.json").write_text(json.dumps({"units": units}))
    for n in range(2):
        (folder / "done" / str(n)).write_text("8")
    return TakeSet(folder)


@pytest.mark.parametrize("plain", [True, False])
def test_a_cut_keeps_points_where_they_are(takes, plain):
    """Whatever is cut out, its points lie on the plane, and the shift leads to the reference's."""
    rows = torch.from_numpy(takes.training)
    cutter = PairCutter(takes, rows, torch.device("cpu"), resident=True)
    batch = cutter.cut(12, torch.Generator().manual_seed(0), plain=plain)
    depth = batch.truth.depth
    own = rays(batch.K, depth.shape[1:]) * depth[:, None]
    there = own + batch.truth.shift * depth[:, None]
    normal = torch.tensor([0.0, 0.5, 1.0])
    height = torch.einsum("bchw,c->bhw", there, normal)
    # In the reference's frame the plane is at one distance, which its place decides.
    assert torch.allclose(height, height.mean((1, 2), keepdim=True), atol=0.01)
    assert batch.frames.min() >= 0
    assert batch.frames.max() <= 1
    assert torch.allclose(batch.truth.log_focal.exp() * depth.shape[2], batch.K[:, 0, 0])
    there = batch.hints[:, 0] > 0
    told = batch.hints[:, 1].exp()[there]
    assert there.any()
    # The robot's maps are of the surface that the depth is of, but for what a solver errs by.
    assert torch.allclose(told, depth[:, 1::2, 1::2][there], rtol=0.02 if plain else 0.15)
    if plain:
        assert batch.truth.known.all()


SMALL = [
    "network.width=32",
    "network.blocks=1",
    "network.heads=4",
    "network.encoder=mobilenetv3_small_050",
    "network.encoder_weights=null",
    "loop.batch=2",
    "loop.warmup=1",
    "loop.judge_every=2",
    "loop.judged=4",
]


def same(one, other) -> bool:
    first, second = load_checkpoint(one).state_dict(), load_checkpoint(other).state_dict()
    return all(torch.equal(first[k], second[k]) for k in first)


def test_a_training_that_was_broken_off_ends_as_one_that_was_not(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.steps=3"])
    lines = []

    def train(out, **how):
        return train_network(
            config, takes, out, device=torch.device("cpu"), tell=lines.append, **how
        )

    whole = train(tmp_path / "whole")
    assert whole is not None
    assert train(tmp_path / "parts", until=-math.inf) is None  # stops after each step
    assert train(tmp_path / "parts", until=-math.inf) is None
    parts = train(tmp_path / "parts", until=-math.inf)
    assert parts is not None
    assert set(lines[0]["validation"]) >= {"abs_rel", "delta1"}
    assert same(whole, parts)


def test_a_training_that_is_done_gives_its_checkpoint_again(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.steps=2"])

    def train():
        out = tmp_path / "run"
        told = []
        made = train_network(config, takes, out, device=torch.device("cpu"), tell=told.append)
        return made, told

    made, told = train()
    assert told
    first = made.rename(tmp_path / "first.safetensors")
    made, told = train()
    assert not told
    assert same(first, made)


def test_a_training_that_was_killed_goes_on_from_the_last_look(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.steps=4"])

    def killed(line):
        if line["step"] == 4:
            raise KeyboardInterrupt

    def train(tell, out):
        return train_network(config, takes, out, device=torch.device("cpu"), tell=tell)

    with pytest.raises(KeyboardInterrupt):
        train(killed, tmp_path / "run")
    steps = []
    again = train(lambda line: steps.append(line["step"]), tmp_path / "run")
    whole = train(lambda line: None, tmp_path / "whole")
    assert same(again, whole)
    curve = (tmp_path / "run" / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in curve] == [4]


def test_scenes_of_libero_are_not_left_out_silently(tmp_path):
    with pytest.raises(UsageError, match=r"takes.libero is 0.6, which needs --bank and --site"):
        film_takes(TakePlan(units=4, libero=0.6, seed=0), tmp_path, workers=1)


def test_a_training_goes_on_with_its_own_configuration_only(takes, tmp_path):
    def train(*more):
        config = load_training(None, [*SMALL, "loop.steps=2", *more])
        return train_network(
            config,
            takes,
            tmp_path / "run",
            device=torch.device("cpu"),
            tell=lambda line: None,
            until=-math.inf,
        )

    assert train() is None
    with pytest.raises(UsageError, match="another configuration"):
        train("loop.rate=0.1")


def test_the_shipped_recipe_loads():
    shipped = load_training(REPO / "configs" / "depth_training.yaml")
    assert load_checkpoint(embedded_checkpoint()).config.to_tree() == shipped.network.model_dump(
        exclude={"encoder_weights"}
    )


def test_bad_keys_of_a_training_are_named():
    with pytest.raises(UsageError, match=r"unknown key 'loop.step'; did you mean 'loop.steps'"):
        load_training(None, ["loop.step=1"])

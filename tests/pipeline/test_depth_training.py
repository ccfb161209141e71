"""What the depth network learns from, and the loop that it learns in."""

import json
import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from take_checks import share_that_agrees
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from torch.nn.functional import grid_sample  # noqa: E402

import robots  # noqa: E402, F401  chooses the OpenGL
from jobs import mix_depth, train_depth  # noqa: E402
from pipeline.depth_training.batches import PairCutter  # noqa: E402
from pipeline.depth_training.crew import run_crew  # noqa: E402
from pipeline.depth_training.loop import (  # noqa: E402
    check_training,
    make_network,
    train_network,
)
from pipeline.depth_training.step import Step, look  # noqa: E402
from pipeline.depth_training.takes import (  # noqa: E402
    VALIDATION_SCENES,
    TakePlan,
    TakeSet,
    film_takes,
    plan_units,
)
from reconstruction.depth.pointmap.checkpoint import (  # noqa: E402
    embedded_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from reconstruction.depth.pointmap.losses import pointmap_loss  # noqa: E402
from reconstruction.depth.pointmap.network import rays  # noqa: E402
from robo4d.geometry import intrinsics  # noqa: E402
from schemas.reasons import UsageError  # noqa: E402
from schemas.training import load_training  # noqa: E402
from simulation.depth_scenes import FIRST_SEED  # noqa: E402
from simulation.depth_scenes.take import FRAMES, HEIGHT, WIDTH, Take, held_lens  # noqa: E402
from simulation.depth_scenes.twins import film_twin  # noqa: E402

REPO = Path(__file__).resolve().parents[2]
SCENES = ("KITCHEN_SCENE1", "KITCHEN_SCENE7", "STUDY_SCENE1", "STUDY_SCENE4")
PLAN = TakePlan(units=400, libero=0.6, seed=3)


def test_units_are_a_function_of_the_plan():
    assert plan_units(PLAN, SCENES) == plan_units(PLAN, SCENES)
    assert plan_units(PLAN, SCENES) != plan_units(TakePlan(400, 0.6, 4), SCENES)


@pytest.mark.parametrize("twins", [{"droid": 1}, {"droid": 2, "bridge": 1, "rt1": 1, "libero": 0}])
def test_twins_of_each_source_are_as_many_as_the_plan_says(twins):
    units = plan_units(replace(PLAN, libero=0.0, twins=twins), SCENES)
    for source, weight in twins.items():
        share = sum(unit.kind == source for unit in units) / len(units)
        assert abs(share - weight / sum(twins.values())) < 0.08


def test_some_twin_must_have_a_share():
    none = [f"takes.twins.{source}=0" for source in ("droid", "bridge", "rt1", "libero")]
    with pytest.raises(UsageError, match="every share of twins is 0"):
        load_training(None, none)
    assert load_training(None, none[1:]).takes.twins.droid == 2


def test_a_take_holds_a_source_s_whole_picture():
    square = intrinsics(250.0, 330.0, 128.0, 128.0)  # Bridge's
    assert np.array_equal(held_lens(square, (256, 256)), square)
    wide = held_lens(intrinsics(260.0, 260.0, 320.0, 180.0), (360, 640))
    assert wide[0, 0] == wide[1, 1] == 130.0


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
def scene() -> list[Take]:
    return list(film_twin("bridge", 2))


@pytest.fixture(scope="module")
def take(scene) -> Take:
    return scene[0]


@pytest.mark.slow
def test_frames_of_a_take_see_the_same_scene(scene):
    """Points of one frame lie on the surfaces that the next one sees, but where things moved; in a
    take or two the robot comes before the camera and hides most.
    """
    shares = np.array([share_that_agrees(take) for take in scene])
    assert len(shares) >= 6
    assert np.nanmedian(shares) > 0.85
    assert (np.nanmin(shares, 1) > 0.7).mean() >= 0.75
    for take in scene:  # none rides on the hand: Bridge's twin has no such camera
        assert np.array_equal(take.base_from_camera[0], take.base_from_camera[1])


@pytest.mark.slow
def test_the_robot_of_a_take_is_where_the_picture_has_it(take):
    robot, depth = take.robot.astype(float), take.depth[:, 1::2, 1::2].astype(float)
    there = (robot > 0) & (depth > 0)
    assert there.sum() > 300
    off = (depth - robot)[there]
    shown = off[off > -0.02]  # the rest is hidden by what is before it
    assert len(shown) > 0.5 * there.sum()
    assert np.median(np.abs(shown)) < 0.005
    assert (shown < 0.02).mean() > 0.9  # the scene behind it shows at edges only


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
    """A slanted plane seen by cameras that step aside and turn, analytically."""
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
    turns = Rotation.from_rotvec(rng.normal(0, 0.08, (2 * rows, 3))).as_matrix()
    pose[:, 2:, :3, :3] = turns.reshape(rows, 2, 3, 3)
    for row in range(rows):
        for k in range(FRAMES):
            turn, place = pose[row, k, :3, :3], pose[row, k, :3, 3]
            depth[row, k] = (distance - place @ normal) / (ray @ turn.T @ normal)
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


SIZES = ((256, 256), (192, 320), (224, 288))


def cutter_of(takes) -> PairCutter:
    rows = torch.from_numpy(takes.training)
    return PairCutter(takes, rows, SIZES, torch.device("cpu"), resident=True)


@pytest.mark.parametrize("plain", [True, False])
def test_the_shift_of_either_picture_leads_to_what_the_other_sees(takes, plain):
    """A point of one, in the other's frame, has the depth that the other has where it is seen."""
    pairs = 12
    batch = cutter_of(takes).cut(pairs, torch.Generator().manual_seed(0), plain=plain)
    depth, K = batch.truth.depth, batch.K.roll(pairs, 0)
    assert len(depth) == len(batch.pictures) == 2 * pairs
    there = (rays(batch.K, depth.shape[1:]) + batch.truth.shift) * depth[:, None]
    pixel = torch.einsum("bij,bjhw->bhwi", K, there / there[:, 2:])[..., :2]
    size = torch.tensor([depth.shape[2], depth.shape[1]])
    # A plane's inverse depth is linear in pixels, so that it is interpolated exactly.
    inverse = 1 / depth.roll(pairs, 0)[:, None]
    met = grid_sample(inverse, 2 * pixel / size - 1, align_corners=False)[:, 0]
    inside = ((pixel > 1) & (pixel < size - 1)).all(-1)
    assert (inside.float().mean((1, 2)) > 0.4).all()
    assert torch.allclose(met[inside] * there[:, 2][inside], torch.ones(()), atol=0.01)
    moved = batch.truth.shift.abs().amax((1, 2, 3)) > 0.02
    assert moved[:pairs].any()
    assert torch.equal(moved[:pairs], moved[pairs:])


@pytest.mark.parametrize("plain", [True, False])
def test_a_cut_keeps_what_is_known_of_either_picture(takes, plain):
    batch = cutter_of(takes).cut(12, torch.Generator().manual_seed(0), plain=plain)
    depth = batch.truth.depth
    assert batch.pictures.min() >= 0
    assert batch.pictures.max() <= 1
    assert torch.allclose(batch.truth.log_focal.exp() * depth.shape[2], batch.K[:, 0, 0])
    there = batch.hints[:, 0] > 0
    told = batch.hints[:, 1].exp()[there]
    assert there[:12].any()
    assert there[12:].any()
    # The robot's maps are of the surface that the depth is of, but for what a solver errs by.
    assert torch.allclose(told, depth[:, 1::2, 1::2][there], rtol=0.02 if plain else 0.15)
    if plain:
        assert batch.truth.known.all()


def test_a_batch_is_a_function_of_its_generator(takes):
    def cut(seed):
        batch = cutter_of(takes).cut(3, torch.Generator().manual_seed(seed))
        return [batch.pictures, batch.K, batch.hints, *vars(batch.truth).values()]

    assert all(torch.equal(a, b) for a, b in zip(cut(5), cut(5), strict=True))
    assert cut(5)[0].shape != cut(6)[0].shape or not torch.equal(cut(5)[0], cut(6)[0])


SMALL = [
    "network.width=32",
    "network.blocks=1",
    "network.heads=4",
    "network.area=16384",
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


def learn_once(crew, device, config, folder, out) -> None:
    """As one of a crew; each process writes what it ends with."""
    takes = TakeSet(folder)
    torch.manual_seed(0)
    step = Step(make_network(config), config.loop, crew)
    rows = torch.from_numpy(takes.training[crew.rank :: crew.size])
    step(0, PairCutter(takes, rows, SIZES[:1], device, resident=True))
    given = {k: p.grad for k, p in step.network.named_parameters() if p.grad is not None}
    torch.save({"grad": given, "after": step.network.state_dict()}, out / str(crew.rank))


@pytest.mark.slow
def test_a_crew_learns_the_mean_of_what_its_members_would(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.batch=4"])
    run_crew(2, "cpu", learn_once, (config, takes.folder, tmp_path))
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first["after"][k], second["after"][k]) for k in first["after"])
    alone = []
    for rank in (0, 1):  # each share's gradient, by itself
        torch.manual_seed(0)
        network = make_network(config)
        share = takes.training[rank::2]
        cutter = PairCutter(
            takes, torch.from_numpy(share), SIZES[:1], torch.device("cpu"), resident=True
        )
        seed = config.loop.seed * 1_000_003 * 2 + rank
        batch = cutter.cut(2, torch.Generator().manual_seed(seed))
        pointmap_loss(look(network, batch), batch.truth)[0].backward()
        learned = network.named_parameters()
        alone.append({k: p.grad for k, p in learned if p.grad is not None})
    mean = {k: (grad + alone[1][k]) / 2 for k, grad in alone[0].items()}
    size = torch.stack([g.norm() for g in mean.values()]).norm().clamp_min(1.0)  # it is clipped
    for name, value in mean.items():
        assert torch.allclose(first["grad"][name], value / size, atol=1e-5), name


def train_whole_and_in_parts(crew, device, config, folder, out) -> None:
    def tell(line):
        assert crew.leads

    for name, until in (("whole", math.inf), ("parts", -math.inf), ("parts", math.inf)):
        made = train_network(
            config,
            TakeSet(folder),
            out / name,
            device=device,
            tell=tell,
            until=until,
            crew=crew,
        )
        assert (made is None) == (until < 0)


@pytest.mark.slow
def test_a_crew_that_was_broken_off_ends_as_one_that_was_not(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.steps=9", "loop.judge_every=9"])
    run_crew(2, "cpu", train_whole_and_in_parts, (config, takes.folder, tmp_path))
    whole, parts = (tmp_path / out / "checkpoint.safetensors" for out in ("whole", "parts"))
    assert same(whole, parts)
    curves = [(tmp_path / out / "curve.jsonl").read_text() for out in ("whole", "parts")]
    assert [len(curve.splitlines()) for curve in curves] == [1, 1]


def test_what_cannot_be_parted_among_processes_is_told(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.batch=3"])
    with pytest.raises(UsageError, match="loop.batch is 3, which 2 processes cannot part evenly"):
        check_training(config, takes, tmp_path, 2)
    with pytest.raises(UsageError, match="has 8 takes to train on"):
        check_training(config, takes, tmp_path, 9)
    config = load_training(None, [*SMALL, "loop.steps=2"])
    how = {"device": torch.device("cpu"), "tell": lambda line: None, "until": -math.inf}
    train_network(config, takes, tmp_path, **how)
    with pytest.raises(UsageError, match="by 1 processes, not 2: --gpus 1 goes on with it"):
        check_training(config, takes, tmp_path, 2)


def test_takes_filmed_before_there_were_hands_at_work_are_of_the_same_plan(tmp_path):
    plan = TakePlan(units=1, libero=0.0, seed=0)
    (unit,) = plan_units(plan, ())
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "0").write_text("8")
    for name in ("rgb", "depth", "robot", "K", "base_from_camera"):
        np.save(tmp_path / f"{name}.npy", np.zeros((8, FRAMES)))
    (tmp_path / "takes.json").write_text(json.dumps({"units": [asdict(unit)], "scenes": []}))
    assert len(film_takes(plan, tmp_path, workers=1).training) == 0  # all of it judges
    with pytest.raises(UsageError, match="takes of another plan"):
        film_takes(replace(plan, hand_work=0.5), tmp_path, workers=1)


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


def test_a_training_begun_before_there_were_hands_at_work_goes_on(takes, tmp_path):
    begun = load_training(None, [*SMALL, "loop.steps=2"])
    how = {"device": torch.device("cpu"), "tell": lambda line: None}
    assert train_network(begun, takes, tmp_path, until=-math.inf, **how) is None
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    stored = json.loads(state["config"])
    del stored["takes"]["hand_work"]
    torch.save({**state, "config": json.dumps(stored)}, tmp_path / "state.pt")
    for told in ("takes.hand_work=0.5", "takes.seed=1"):
        other = load_training(None, [*SMALL, "loop.steps=2", told])
        with pytest.raises(UsageError, match="another configuration"):
            train_network(other, takes, tmp_path, **how)
    same_again = load_training(None, [*SMALL, "loop.steps=2", "takes.hand_work=0"])
    assert train_network(same_again, takes, tmp_path, **how) is not None


def test_a_state_with_a_key_that_is_no_more_is_of_another_configuration(takes, tmp_path):
    config = load_training(None, [*SMALL, "loop.steps=2"])
    how = {"device": torch.device("cpu"), "tell": lambda line: None, "until": -math.inf}
    train_network(config, takes, tmp_path, **how)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    stored = json.loads(state["config"]) | {"gone": 1}
    torch.save({**state, "config": json.dumps(stored)}, tmp_path / "state.pt")
    with pytest.raises(UsageError, match="another configuration"):
        train_network(config, takes, tmp_path, **how)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "earlier.safetensors"
    save_checkpoint(make_network(load_training(None, SMALL)), path, {})
    return path


def test_a_training_can_begin_with_a_checkpoint(checkpoint):
    begun = make_network(load_training(None, [*SMALL, f"network.start={checkpoint}"]))
    earlier = load_checkpoint(checkpoint).state_dict()
    assert all(torch.equal(value, earlier[key]) for key, value in begun.state_dict().items())
    assert begun.training


def test_a_flat_checkpoint_begins_to_be_sharp(tmp_path):
    torch.manual_seed(1)
    path, flat = tmp_path / "flat.safetensors", [*SMALL, "network.sharp=false"]
    save_checkpoint(make_network(load_training(None, flat)), path, {})
    start = f"network.start={path}"
    begun = make_network(load_training(None, [*SMALL, start, "network.area=20000"]))
    assert begun.sharpen is not None
    assert begun.config.area == 20000
    earlier = load_checkpoint(path).state_dict()
    assert all(torch.equal(begun.state_dict()[key], value) for key, value in earlier.items())


def test_what_a_training_cannot_begin_with_is_told(checkpoint):
    start = f"network.start={checkpoint}"
    with pytest.raises(UsageError, match=r"network has width 32, not 64; heads 4, not 8"):
        make_network(load_training(None, [*SMALL, start, "network.width=64", "network.heads=8"]))
    with pytest.raises(UsageError, match=r"set network.encoder_weights=null"):
        load_training(None, [start])
    with pytest.raises(UsageError, match=r"network.start is /nowhere, which is no file"):
        make_network(load_training(None, [*SMALL, "network.start=/nowhere"]))


def test_a_training_that_goes_on_needs_no_start(takes, checkpoint, tmp_path):
    def train(out, until=math.inf):
        return train_network(
            config, takes, out, device=torch.device("cpu"), tell=lambda line: None, until=until
        )

    config = load_training(None, [*SMALL, "loop.steps=2", f"network.start={checkpoint}"])
    whole = train(tmp_path / "whole")
    assert train(tmp_path / "parts", -math.inf) is None
    checkpoint.unlink()
    assert same(whole, train(tmp_path / "parts"))


@pytest.mark.slow
def test_a_compiled_step_learns_what_an_eager_one_does(takes, monkeypatch):
    """In one graph; what makes kernels of it takes minutes on a CPU, and is left out here."""
    traced = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)

    def learn(compiled):
        config = load_training(None, [*SMALL, f"loop.compiled={compiled}"])
        torch.manual_seed(0)
        step = Step(make_network(config), config.loop)
        parts = step(0, cutter_of(takes))
        return parts, step.network.state_dict()

    (eager, before), (compiled, after) = learn("false"), learn("true")
    for name, value in eager.items():
        assert torch.allclose(compiled[name], value, atol=1e-4), name
    assert before.keys() == after.keys()
    assert all(torch.allclose(after[key], before[key], atol=1e-2) for key in before)


def test_the_shipped_recipes_load():
    first, more = (
        load_training(REPO / "configs" / f"{part}.yaml").network.model_dump(
            exclude={"encoder_weights", "start"}
        )
        for part in ("depth_training", "depth_training_more")
    )
    assert load_checkpoint(embedded_checkpoint()).config.to_tree() == more
    assert first | {"area": more["area"], "sharp": True} == more  # as a training may go on


def test_bad_keys_of_a_training_are_named():
    with pytest.raises(UsageError, match=r"unknown key 'loop.step'; did you mean 'loop.steps'"):
        load_training(None, ["loop.step=1"])


def test_a_mix_lies_between_two_checkpoints(checkpoint, tmp_path):
    torch.manual_seed(2)
    other, out = tmp_path / "later.safetensors", tmp_path / "mixed.safetensors"
    save_checkpoint(make_network(load_training(None, SMALL)), other, {})
    asked = ["--new", other, "--old", checkpoint, "--out", out, "--share", 0.25]
    CliRunner().invoke(mix_depth.app, list(map(str, asked)), catch_exceptions=False)
    new, old, mixed = (load_checkpoint(p).state_dict() for p in (other, checkpoint, out))
    for name, value in mixed.items():
        if value.is_floating_point():
            expected = 0.75 * new[name] + 0.25 * old[name]
            assert torch.allclose(value, expected, atol=1e-3), name
    wide = tmp_path / "wide.safetensors"
    save_checkpoint(make_network(load_training(None, [*SMALL, "network.width=64"])), wide, {})
    asked[1] = wide
    done = CliRunner().invoke(mix_depth.app, list(map(str, asked)))
    assert done.exit_code != 0
    assert "are of other networks" in done.output

"""Builds over a staging folder: the same bytes, nothing made twice, and one column made anew."""

import hashlib
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pipeline.build
import pipeline.recall
import pipeline.samples
import robo4d
import robots.rasterizer
from jobs.build import run_build
from jobs.cli import app
from pipeline.made_by import code_of
from pipeline.plan import make_plan
from pipeline.store import Store
from pipeline.verify import read_plan, verify
from robots.offscreen import OffscreenRenderer
from schemas.config import RunConfig, load_config

pytestmark = pytest.mark.slow
# Short clips, no flow against the log: what is tested here is what is made and what is found.
QUICK = ["clip.frames=9", "timing.enabled=false"]
SHARD = "robo4d-droid-train-00000"
VIEWS = 6  # three cameras of two episodes


def build(data: Path, out: Path, kept: Path | None, *overrides: str) -> None:
    staging = [] if kept is None else [f"staging.path={kept}"]
    plan = make_plan({"droid": str(data)}, load_config(None, [*QUICK, *staging, *overrides]))
    run_build(plan, Store.at(out), RunConfig(log="none"))


def shard_bytes(out: Path) -> tuple[str, str]:
    files = (out / f"{SHARD}{end}" for end in (".tar", ".index.json"))
    tar, index = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return tar, index


def members(out: Path) -> dict[str, str]:
    with tarfile.open(out / f"{SHARD}.tar") as tar:
        found = {info.name: tar.extractfile(info) for info in tar}
        return {
            name: hashlib.sha256(file.read()).hexdigest() for name, file in found.items() if file
        }


@pytest.fixture(scope="module")
def plain(droid_twin, tmp_path_factory) -> Path:
    """A build without staging."""
    out = tmp_path_factory.mktemp("plain")
    build(droid_twin, out, None)
    return out


@pytest.fixture(scope="module")
def staged(droid_twin, tmp_path_factory) -> tuple[Path, Path]:
    """A build with staging, and its staging folder."""
    root = tmp_path_factory.mktemp("staged")
    build(droid_twin, root / "out", root / "kept")
    return root / "out", root / "kept"


@pytest.fixture(scope="module")
def without_depth(droid_twin, tmp_path_factory) -> Path:
    """A build of another configuration, without staging."""
    out = tmp_path_factory.mktemp("without-depth")
    build(droid_twin, out, None, "depth.backend=none")
    return out


@pytest.fixture
def kept(staged, tmp_path) -> Path:
    """A copy of the staging folder."""
    return shutil.copytree(staged[1], tmp_path / "kept")


@pytest.fixture
def made(monkeypatch) -> Counter[str]:
    """Counts what is reconstructed from now on: cameras, robots rendered, depth looked up."""
    count: Counter[str] = Counter()

    def counted(name: str, inner: Callable) -> Callable:
        def call(*args, **kwargs):
            count[name] += 1
            return inner(*args, **kwargs)

        return call

    for name in ("choose_camera", "lift_clip"):
        monkeypatch.setattr(pipeline.samples, name, counted(name, getattr(pipeline.samples, name)))
    renderer = robots.rasterizer.RobotRasterizer
    monkeypatch.setattr(renderer, "__call__", counted("rendered", renderer.__call__))
    depth = pipeline.samples.SimulatorDepth
    monkeypatch.setattr(depth, "__call__", counted("depth", depth.__call__))
    return count


def test_a_build_with_staging_has_the_bytes_of_one_without(plain, staged):
    assert shard_bytes(staged[0]) == shard_bytes(plain)
    assert len(list(staged[1].rglob("*.zarr.zip"))) == 3 * VIEWS
    assert read_plan(Store.at(staged[0])).shards == read_plan(Store.at(plain)).shards


def test_a_build_with_known_cameras_makes_no_opengl_context(droid_twin, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        made.append(1)
        raise AssertionError("an OpenGL context")

    made: list[int] = []
    monkeypatch.setattr(OffscreenRenderer, "__init__", refuse)
    build(droid_twin, tmp_path, None, "source.max_episodes=1")
    assert not made
    samples = list(robo4d.open(tmp_path))
    assert len(samples) == VIEWS / 2
    for sample in samples:
        assert sample.meta["fields"]["base_from_camera"]["provenance"] == "simulated"
        assert (sample.robot_depth > 0).any()


def test_a_later_build_reconstructs_nothing_and_has_the_same_bytes(
    plain, kept, droid_twin, tmp_path, made
):
    build(droid_twin, tmp_path / "out", kept)
    assert not made
    assert shard_bytes(tmp_path / "out") == shard_bytes(plain)


def test_a_build_that_died_goes_on_without_the_episode_it_had_finished(
    plain, droid_twin, tmp_path, monkeypatch, made
):
    lift, lifted = pipeline.build.lift_sample, []

    def die_at_the_fifth(ready, *args):
        lifted.append(ready.episode.id)
        if len(lifted) == 5:
            raise KeyboardInterrupt
        return lift(ready, *args)

    out, kept = tmp_path / "out", tmp_path / "kept"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.build, "lift_sample", die_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            build(droid_twin, out, kept)
    first, second = lifted[0], lifted[-1]
    assert [lifted.count(one) for one in (first, second)] == [3, 2]
    assert not list(out.glob("*.tar"))
    assert made == {"choose_camera": 4, "lift_clip": 4, "rendered": 4, "depth": 4}
    made.clear()
    # What was being written when the end came, by this process or one on another machine.
    done = sorted(kept.rglob("*.zarr.zip"))
    (kept / ".tmp/half.zarr.zip.elsewhere.1").write_bytes(done[0].read_bytes()[:100])
    build(droid_twin, out, kept)
    assert made == {"choose_camera": 2, "lift_clip": 2, "rendered": 2, "depth": 2}
    assert shard_bytes(out) == shard_bytes(plain)
    assert verify(Store.at(out)).problems == []


def test_damage_is_found_and_only_what_it_hit_is_made_again(
    plain, kept, droid_twin, tmp_path, made
):
    camera, robot, depth = (
        sorted(kept.rglob(f"*.{part}.*"))[0] for part in ("camera", "robot", "depth")
    )
    whole = depth.read_bytes()
    for path in (camera, depth):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    build(droid_twin, tmp_path / "out", kept)
    assert made == {"choose_camera": 1, "lift_clip": 1, "depth": 1}
    assert shard_bytes(tmp_path / "out") == shard_bytes(plain)
    assert depth.read_bytes() == whole
    robot.unlink()
    made.clear()
    build(droid_twin, tmp_path / "again", kept)
    assert made["rendered"] == 1
    assert not made["choose_camera"]
    assert shard_bytes(tmp_path / "again") == shard_bytes(plain)


@pytest.mark.parametrize(
    ("override", "cameras", "rendered", "lifted"),
    [
        ("depth.backend=none", 0, 0, VIEWS),
        ("clip.frames=8", 0, VIEWS, VIEWS),
        # Another search, which twins need not: the camera is the same, and so is what follows.
        ("camera.seed=7", VIEWS, 0, 0),
        ("shard.rgb_crf=30", 0, 0, 0),
    ],
)
def test_another_configuration_makes_anew_what_depends_on_it(
    override, cameras, rendered, lifted, kept, droid_twin, tmp_path, made
):
    build(droid_twin, tmp_path / "out", kept, override)
    assert (made["choose_camera"], made["rendered"], made["lift_clip"]) == (
        cameras,
        rendered,
        lifted,
    )
    build(droid_twin, tmp_path / "fresh", None, override)
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("camera", {"choose_camera": VIEWS}),
        ("robot", {"rendered": VIEWS, "lift_clip": VIEWS, "depth": VIEWS}),
        ("depth", {"lift_clip": VIEWS, "depth": VIEWS}),
    ],
)
def test_other_code_makes_anew_what_is_made_by_it(
    part, counts, plain, kept, droid_twin, tmp_path, made, monkeypatch
):
    roots, _ = pipeline.recall._MADE_BY[part]
    monkeypatch.setattr(
        pipeline.recall,
        "code_of",
        lambda asked, alone: "other" if asked == roots else code_of(asked, alone),
    )
    build(droid_twin, tmp_path / "out", kept)
    assert made == counts
    assert shard_bytes(tmp_path / "out") == shard_bytes(plain)


def backfill(out: Path, *args: str) -> tuple[int, dict, str]:
    done = CliRunner().invoke(
        app, ["backfill", str(out), "--field", "depth", "--json", "--set", "run.log=none", *args]
    )
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}, done.stderr


def set_all(*args: str) -> list[str]:
    return [word for arg in args for word in ("--set", arg)]


def test_a_backfill_changes_one_column_and_calls_nothing_else(
    staged, without_depth, kept, tmp_path, monkeypatch, made
):
    out = shutil.copytree(staged[0], tmp_path / "out")
    before = members(out)
    never = pytest.fail

    monkeypatch.setattr(pipeline.samples, "choose_camera", lambda *_: never("a camera is solved"))
    renderer = robots.rasterizer.RobotRasterizer
    monkeypatch.setattr(renderer, "__init__", lambda *_: never("a robot is drawn"))
    there = [f"staging.path={kept}", "depth.backend=none"]
    code, told, said = backfill(out, *set_all(*there))
    assert code == 0, said
    after = members(out)
    ends = {name.partition(".")[2] for name in before}
    assert {name.partition(".")[2] for name in after} == ends - {
        *("depth.r4a", "confidence.r4a", "robot_visible.r4a")
    }
    other = {name for name in after if after[name] != before[name]}
    assert {name.partition(".")[2] for name in other} == {"meta.json"}
    assert told["removed"] == dict.fromkeys(
        ("confidence.r4a", "depth.r4a", "robot_visible.r4a"), VIEWS
    )
    assert (told["changed"], told["beyond"]) == ({"meta.json": VIEWS}, [])
    assert told["same"]["camera.safetensors"] == told["same"]["robot_depth.r4a"] == VIEWS
    assert verify(Store.at(out)).problems == []
    # And what a build of that configuration gives is the same.
    assert shard_bytes(out) == shard_bytes(without_depth)
    monkeypatch.undo()
    # Back again: both depths are kept, so that nothing at all is made.
    code, told, said = backfill(out, *set_all("depth.backend=auto"))
    assert code == 0, said
    assert told["added"]["depth.r4a"] == VIEWS
    assert members(out) == before
    assert shard_bytes(out) == shard_bytes(staged[0])


def test_a_backfill_that_died_goes_on_by_the_same_command(
    staged, without_depth, kept, tmp_path, monkeypatch, no_waits
):
    out = shutil.copytree(staged[0], tmp_path / "out")
    args = set_all(f"staging.path={kept}", "depth.backend=none")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.build, "lift_sample", lambda *_: (_ for _ in ()).throw(OSError(5)))
        code, _, _ = backfill(out, *args)
    assert code != 0
    code, told, said = backfill(out, *args)
    assert code == 0, said
    assert (told["beyond"], told["samples_compared"]) == ([], 0)
    assert verify(Store.at(out)).problems == []
    assert shard_bytes(out) == shard_bytes(without_depth)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["depth.backend=none", "camera.seed=1"], "changes camera"),
        (["depth.backend=auto"], "is as this build has it"),
        (["depth.backend=none", "staging.path=null"], "kept no reconstruction"),
        (["depth.backend=magic"], "depth.backend is 'magic'"),
        (["depth.backnd=none"], "did you mean 'depth.backend'"),
    ],
)
def test_wrong_use_of_a_backfill_is_explained_and_harms_nothing(args, said, staged):
    before = shard_bytes(staged[0])
    code, _, stderr = backfill(staged[0], *set_all(*args))
    assert code == 2
    assert said in " ".join(stderr.split())
    assert shard_bytes(staged[0]) == before


def test_a_backfill_that_another_result_came_of_says_so(staged, kept, tmp_path, monkeypatch):
    out = shutil.copytree(staged[0], tmp_path / "out")
    for path in kept.rglob("*.camera.*"):
        path.unlink()
    choose = pipeline.samples.choose_camera

    def elsewhere(*args):
        choice = choose(*args)
        choice.calibration.base_from_camera[..., 0, 3] += 0.01
        return choice

    monkeypatch.setattr(pipeline.samples, "choose_camera", elsewhere)
    code, told, stderr = backfill(out, *set_all(f"staging.path={kept}", "depth.backend=none"))
    assert code == 1
    assert "camera.safetensors" in told["beyond"]
    assert "differ too" in stderr

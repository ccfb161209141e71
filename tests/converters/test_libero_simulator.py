"""The rebuilt scene against LIBERO's own simulator, in its own environment (MuJoCo 3.17, robosuite
1.4): what its cameras showed, where its bodies were, what it logged.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest
from libero_rlds_files import JOINTS, OBSERVATION, STATE, published, values, write
from records import example_bytes
from scipy.spatial.transform import Rotation

import robo4d
from converters import open_source
from robo4d.geometry import invert, make_pose, project, rotation_angle, transform, unproject
from robots.kinematics import link_poses
from robots.models import ROBOTS
from robots.render import RobotRenderer
from schemas.config import LiberoConfig, SourceConfig
from schemas.episode import Episode

pytestmark = pytest.mark.slow
ROBOT = ROBOTS["panda_libero"]
RECORD = Path(__file__).resolve().parents[1] / "helpers" / "libero_record.py"


@dataclass
class Recorded:
    """A demo recorded by LIBERO's own simulator, and what that says of its states."""

    file: Path
    site: Path
    truth: dict

    def episode(self, size=128) -> Episode:
        settings = LiberoConfig(assets=str(self.site), height=size, width=size)
        source = open_source("libero", str(self.file), SourceConfig(libero=settings))
        [ref] = source.refs(None)["train"]
        assert ref.defect is None, ref.message
        return source.read(ref, "train", None)

    def world_from(self, body) -> np.ndarray:
        """(T, 4, 4), of the simulator itself."""
        number = list(self.truth["bodies"]).index(body)
        return make_pose(self.truth["body_rot"][:, number], self.truth["body_pos"][:, number])


@pytest.fixture(scope="module")
def recorded(libero_site, made_once):
    python = libero_site.parents[2] / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not here: LIBERO_SITE is no environment of its own")

    def record(out):
        out.mkdir()
        made = subprocess.run(
            [python, RECORD, out, "libero_goal", "7", "12"],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert made.returncode == 0, made.stderr[-3000:]

    out = made_once("libero-recorded", record)
    [file] = out.glob("*_demo.hdf5")
    with np.load(out / "truth.npz") as truth:
        return Recorded(file, libero_site, dict(truth))


@pytest.fixture(scope="module")
def episode(recorded):
    return recorded.episode()


def psnr(ours, theirs):
    error = ((ours.astype(float) - theirs.astype(float)) ** 2).mean((-3, -2, -1))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-9))


@pytest.mark.parametrize(
    ("camera", "theirs"), [("agentview", "agentview"), ("eye_in_hand", "robot0_eye_in_hand")]
)
def test_frames_of_a_state_are_the_environments_own(camera, theirs, recorded, episode):
    """The last state has the stove on: its burner glows. Theirs are upside down."""
    frames = episode.cameras[camera].decode(recorded.truth["steps"])
    upright = recorded.truth[theirs][:, ::-1]
    assert psnr(frames, upright).min() > 40
    assert psnr(frames, recorded.truth[theirs]).max() < 25


def test_frames_of_another_size_are_what_the_environment_renders_at_it(recorded):
    frame = recorded.episode(256).cameras["agentview"].decode(recorded.truth["steps"][-1:])
    assert psnr(frame[0], recorded.truth["agentview_256"][::-1]) > 40


def test_links_are_where_the_simulator_has_them(recorded, episode):
    log = episode.robot
    ours = link_poses(ROBOT, log.joints, log.fingers)
    np.testing.assert_array_equal(log.joints, recorded.truth["joints"])
    base = invert(recorded.world_from("robot0_link0"))
    bodies = [str(name) for name in recorded.truth["bodies"]]
    shared = 0
    for number, link in enumerate(ROBOT.link_names):
        [body] = [b for b in bodies if b in (f"robot0_{link}", f"gripper0_{link}")]
        theirs = base @ recorded.world_from(body)
        assert np.linalg.norm(ours[:, number, :3, 3] - theirs[:, :3, 3], axis=1).max() < 1e-4, link
        assert rotation_angle(ours[:, number, :3, :3], theirs[:, :3, :3]).max() < 1e-4, link
        shared += 1
    # Base, eight links, hand, gripper, eef, two fingers and their tips.
    assert shared == len(ROBOT.link_names) == 16
    apart = np.abs(log.fingers[:, 0] - log.fingers[:, 1])
    assert apart.max() > 0.4, "the fingers do not always move alike"


def test_the_ee_pose_is_the_one_that_libero_logs(recorded, episode):
    world = recorded.world_from("robot0_link0")[recorded.truth["steps"]]
    ee = world @ episode.robot.ee[recorded.truth["steps"]]
    np.testing.assert_allclose(ee[:, :3, 3], recorded.truth["ee_pos"], atol=1e-6)
    logged = Rotation.from_quat(recorded.truth["ee_quat_xyzw"]).as_matrix()
    assert rotation_angle(ee[:, :3, :3], logged).max() < 1e-4


def test_stored_observations_are_of_the_step_after(recorded, episode):
    with h5py.File(recorded.file) as file:
        stored = file["data/demo_0/obs/joint_states"][()]
    # One substep of 25 short of the next state, as the environment samples them.
    late = np.abs(stored[2:-2] - episode.robot.joints[3:-1]).max()
    same = np.abs(stored[2:-2] - episode.robot.joints[2:-2]).max()
    assert same > 5 * late


def test_depth_of_one_view_is_found_again_in_the_other(recorded):
    """At points that rays of MuJoCo's show to be seen by both, away from outlines."""
    episode = recorded.episode(256)
    agent, wrist = (episode.cameras[name] for name in ("agentview", "eye_in_hand"))
    scene = wrist.frames.scene
    world = recorded.world_from("robot0_link0")
    rng, gaps, far = np.random.default_rng(0), [], []
    for step in (0, 6, 11):
        here, there = (v.calibration.poses(np.array([step]))[0] for v in (agent, wrist))
        depth = agent.frames.depth([step])[0]
        points = transform(here, unproject(depth, agent.calibration.K).reshape(-1, 3))
        pixels, z = project(transform(invert(there), points), wrist.calibration.K)
        with np.errstate(invalid="ignore"):
            inside = np.flatnonzero((z > 0) & (pixels > 1).all(1) & (pixels < 255).all(1))
        chosen = rng.choice(inside, min(4000, len(inside)), replace=False)
        [state] = scene._states([step])
        eye = (world[step] @ there)[:3, 3]
        at = transform(world[step], points[chosen])
        chosen = chosen[[sees(scene.model, state, eye, point) for point in at]]
        found, smooth = sample_depth(wrist.frames.depth([step])[0], pixels[chosen])
        gaps.append(np.abs(found - z[chosen])[smooth])
        far.append(smooth.mean())
    gap = np.concatenate(gaps)
    assert len(gap) > 3000
    assert min(far) > 0.8
    assert gap.max() < 0.005
    print(f"{len(gap)} points: median {np.median(gap)}, largest {gap.max()} m")


def sees(model, state, eye, at) -> bool:
    """Whether a ray from ``eye`` meets the point ``at`` first, among what is shown."""
    way = np.linalg.norm(at - eye)
    shown = np.array([0, 1, 1, 0, 0, 0], np.uint8)
    hit = mujoco.mj_ray(model, state, eye, (at - eye) / way, shown, 1, -1, np.zeros(1, np.int32))
    return abs(hit - way) < 0.002


def sample_depth(depth, pixels):
    """Depth between four pixels, and where these lie on one surface; 1/z is linear on a plane."""
    at = pixels - 0.5
    i, j = np.floor(at[:, 1]).astype(int), np.floor(at[:, 0]).astype(int)
    near = np.stack([depth[i + a, j + b] for a in (0, 1) for b in (0, 1)])
    v, u = at[:, 1] - i, at[:, 0] - j
    weights = np.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])
    smooth = (near > 0).all(axis=0) & (np.ptp(near, axis=0) < 0.005)
    with np.errstate(divide="ignore"):
        return 1 / (weights / near).sum(axis=0), smooth


@pytest.mark.parametrize("camera", ["agentview", "eye_in_hand"])
def test_the_robots_mask_is_the_simulators_segmentation(camera, recorded):
    episode = recorded.episode(256)
    view, steps = episode.cameras[camera], recorded.truth["steps"]
    depth, geoms = view.frames.depth_and_geoms(steps)
    model = view.frames.scene.model
    names = [model.body(model.geom_bodyid[g]).name for g in range(model.ngeom)]
    mine = [name.startswith(("robot0_", "gripper0_")) for name in names]
    theirs = np.append(mine, False)[geoms]
    K = np.repeat(view.calibration.K[None], len(steps), 0)
    with RobotRenderer(ROBOT, 256, 256) as renderer:
        robot, part = renderer(
            episode.robot.joints[steps],
            episode.robot.fingers[steps],
            K,
            view.calibration.poses(steps),
        )
    hidden = (depth > 0) & (depth < robot - 0.003)
    ours = (part > 0) & ~hidden
    for a, b in zip(ours, theirs, strict=True):
        assert (a & b).sum() / (a | b).sum() >= 0.99
    assert np.abs(depth - robot)[ours & theirs].max() < 0.003
    print(camera, [(a & b).sum() / (a | b).sum() for a, b in zip(ours, theirs, strict=True)])


def test_a_build_has_the_simulators_truth_and_the_same_bytes_again(
    recorded, run_cli, tmp_path, sha256_of_files
):
    hashes = []
    for name in ("a", "b"):
        out = tmp_path / name
        done = run_cli(
            *("build", "-s", f"libero={recorded.file}", "--out", out, "--json"),
            *("--set", f"source.libero.assets={recorded.site}", "--set", "clip.frames=3"),
            *("--set", "source.libero.height=96", "--set", "source.libero.width=128"),
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["episodes_built"] == 1
        hashes.append({k: v for k, v in sha256_of_files(out).items() if k.endswith(".tar")})
    assert hashes[0] == hashes[1]
    assert run_cli("verify", tmp_path / "a").returncode == 0
    samples = list(robo4d.open(str(tmp_path / "a")))
    assert sorted(s.meta["camera"] for s in samples) == ["agentview", "eye_in_hand"]
    for sample in samples:
        assert sample.rgb.shape == (3, 96, 128, 3)
        joints = recorded.truth["joints"][sample.step]
        np.testing.assert_allclose(sample.joints, joints, atol=1e-6)
        said = {name: field["provenance"] for name, field in sample.meta["fields"].items()}
        assert set(said.values()) == {"simulated"}
        assert sample.meta["quality"]["ee_residual_m"] < 1e-5
        assert (sample.depth > 0).mean() > 0.9
        assert sample.robot_visible.any()


def test_an_rlds_copy_is_read_as_the_demo_it_was_made_of(recorded, tmp_path):
    """What the simulator gave for some states, published as openvla publishes."""
    truth = recorded.truth
    demo = recorded.episode()
    made = values(len(truth["steps"]))
    turn = Rotation.from_quat(truth["ee_quat_xyzw"]).as_rotvec()
    made[JOINTS] = truth["joints"][truth["steps"]]
    fingers = np.full((len(turn), 2), 0.02) * [1, -1]
    made[STATE] = np.concatenate([truth["ee_pos"], turn, fingers], axis=1)
    views = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}
    for name, camera in views.items():
        made[f"{OBSERVATION}/{name}"] = [published(seen[::-1]) for seen in truth[camera]]
    root = write(tmp_path, [example_bytes(made)])
    source = open_source("libero", str(root))
    [ref] = source.refs(None)["train"]
    copy = source.read(ref, "train", None)
    ee = demo.robot.ee[truth["steps"]]
    np.testing.assert_allclose(copy.robot.ee[:, :3, 3], ee[:, :3, 3], atol=2e-4)
    assert rotation_angle(copy.robot.ee[:, :3, :3], ee[:, :3, :3]).max() < 1e-3
    everything = range(len(turn))
    for name, camera in (("image", "agentview"), ("wrist_image", "eye_in_hand")):
        frames = demo.cameras[camera].decode(truth["steps"])
        assert psnr(copy.cameras[name].decode(everything), frames).min() > 33
        assert psnr(copy.cameras[name].decode(everything)[:, :, ::-1], frames).max() < 25

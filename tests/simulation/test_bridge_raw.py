"""The twin of Bridge's raw release: read back, it is what was simulated."""

from __future__ import annotations

import dataclasses
import io
import pickle
from datetime import datetime
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import simplejpeg
import zarr
from scipy.spatial.transform import Rotation

from converters import open_source
from converters.bridge import DEFAULT_ROTATION
from robots.models import ROBOTS
from schemas.truth import truth_group
from simulation import bridge_raw

pytestmark = pytest.mark.slow
STEPS = 14
LATE, BLANK = 1, 2


def shortened(episode):
    script = episode.script
    cut = {n: getattr(script, n)[:STEPS] for n in ("joints", "closed", "things", "held")}
    return dataclasses.replace(episode, script=dataclasses.replace(script, **cut))


@pytest.fixture(scope="module")
def twin(menagerie, tmp_path_factory):
    """The whole twin of three episodes; filming is what takes time, so they are cut short."""
    drawn = [shortened(bridge_raw.draw_episode(0, index)) for index in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bridge_raw, "draw_episode", lambda seed, index: drawn[index])
        root = bridge_raw.write_bridge_raw_twin(tmp_path_factory.mktemp("raw"), 3, 0)
    source = open_source("bridge", str(root))
    refs = sorted(source.refs(None)["train"], key=lambda ref: ref.file[-1])
    assert all(ref.defect is None for ref in refs)
    episodes = [source.read(ref, "train", None) for ref in refs]
    return SimpleNamespace(root=root, source=source, refs=refs, drawn=drawn, episodes=episodes)


def raw(twin, index, name):
    return pickle.loads((twin.root / twin.refs[index].file / name).read_bytes())  # noqa: S301  ours


def forward(joints):
    """Positions and rotations of Interbotix' ee_gripper_link, by MuJoCo alone."""
    robot = ROBOTS["widowx_250s"]
    model = robot.compile()
    data = mujoco.MjData(model)
    places, turns = [], []
    for qpos in robot.qpos(joints, np.ones(len(joints))):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        turn = data.body("wx250s/gripper_link").xmat.reshape(3, 3).copy()
        places.append(data.body("wx250s/gripper_link").xpos + 0.093575 * turn[:, 0])
        turns.append(turn)
    return np.array(places), np.array(turns)


def test_it_says_that_it_is_a_twin(twin):
    assert twin.source.layout == "raw"
    assert twin.source.twin
    assert all(episode.twin for episode in twin.episodes)


def test_reading_it_gives_the_simulators_joints_and_gripper(twin):
    for made, episode in zip(twin.drawn, twin.episodes, strict=True):
        assert len(episode) == STEPS - 1
        np.testing.assert_array_equal(episode.robot.joints, made.script.joints[: STEPS - 1])
        np.testing.assert_allclose(
            episode.robot.gripper, made.script.opening[: STEPS - 1], atol=1e-6
        )
        places, turns = forward(made.script.joints[: STEPS - 1])
        np.testing.assert_allclose(episode.robot.ee[:, :3, 3], places, atol=1e-6)
        np.testing.assert_allclose(episode.robot.ee[:, :3, :3], turns, atol=1e-5)


def test_every_action_leads_to_the_next_pose_whenever_it_was_collected(twin):
    for made, episode in zip(twin.drawn, twin.episodes, strict=True):
        places, turns = forward(made.script.joints)
        action = episode.actions["action"]
        np.testing.assert_allclose(action[:, :3], np.diff(places, axis=0), atol=1e-6)
        logged = Rotation.from_matrix(turns @ DEFAULT_ROTATION.T)
        turned = (logged[1:] * logged[:-1].inv()).as_euler("xyz")
        np.testing.assert_allclose(action[:, 3:6], turned, atol=1e-5)


def test_only_the_old_trajectory_has_its_actions_one_step_before_their_observation(twin):
    for index in range(3):
        state = raw(twin, index, "obs_dict.pkl")["state"]
        action = np.array([step["actions"] for step in raw(twin, index, "policy_out.pkl")])
        assert len(action) == len(state) - 1
        move = np.diff(state[:, :3], axis=0)
        beside, late = (
            np.abs(move[lag:] - action[: len(action) - lag, :3]).max() for lag in (0, 1)
        )
        right, wrong = (late, beside) if index == LATE else (beside, late)
        assert right < 1e-6
        assert wrong > 1e-3
        date = datetime.strptime(twin.refs[index].file.split("/")[-4], "%Y-%m-%d_%H-%M-%S")
        assert (date < datetime(2021, 7, 23)) == (index == LATE)
        said = any("before 2021-07-23" in note for note in twin.episodes[index].notes)
        assert said == (index == LATE)


def test_frames_and_truth_are_of_the_steps_that_are_read(twin):
    for index, (made, episode) in enumerate(zip(twin.drawn, twin.episodes, strict=True)):
        films = bridge_raw.film_episode(made) if index == LATE else None
        for name, camera in episode.cameras.items():
            truth = zarr.open_group(
                twin.root / "truth.zarr", path=truth_group(episode.id, name), mode="r"
            )
            assert truth["depth"].shape == (STEPS - 1, 256, 256)
            if films:
                film = films[name.replace("images", "image_")]
                np.testing.assert_array_equal(truth["depth"][:], film.depth[: STEPS - 1])
                for t in (0, 5, STEPS - 2):
                    expected = simplejpeg.decode_jpeg(film.frames[t])
                    np.testing.assert_array_equal(camera.decode([t])[0], expected)


def test_one_view_is_blank_and_one_text_is_missing(twin):
    for index, episode in enumerate(twin.episodes):
        views = {"images0", "images1", "images2"} - ({"images2"} if index == BLANK else set())
        assert set(episode.cameras) == views
        assert ("view images2 is blank" in episode.notes) == (index == BLANK)
        text = () if index == BLANK else (twin.drawn[index].instruction,)
        assert episode.instructions == text
    truth = zarr.open_group(twin.root / "truth.zarr", mode="r")
    assert truth_group(twin.episodes[BLANK].id, "images2") not in truth


def test_pickles_hold_arrays_and_plain_containers_only(twin):
    named = set()

    class Listing(pickle.Unpickler):
        def find_class(self, module, name):
            named.add(f"{module}.{name}")
            return super().find_class(module, name)

    files = list(twin.root.rglob("*.pkl"))
    assert len(files) == 9
    for file in files:
        Listing(io.BytesIO(file.read_bytes())).load()
    assert {name.replace("_core", "core") for name in named} <= {
        "numpy.core.multiarray._reconstruct",
        "numpy.core.numeric._frombuffer",
        "numpy.ndarray",
        "numpy.dtype",
    }

"""Demo files made to order: identities, outcomes, what is refused and why. No LIBERO is needed."""

import dataclasses
import json

import h5py
import mujoco
import numpy as np
import pytest

from benchmarks.inputs_libero import JOINTS, assets, model, write_demo
from converters import open_source
from robo4d.geometry import invert, make_pose
from schemas.config import LiberoConfig, SourceConfig
from schemas.episode import Provenance
from schemas.reasons import EpisodeError, Reason, UsageError


@pytest.fixture
def site(tmp_path):
    assets(tmp_path)
    return tmp_path / "site"


@pytest.fixture
def opened(tmp_path, site):
    def make(data=None, **settings):
        libero = LiberoConfig(assets=str(site), **settings)
        return open_source("libero", str(data or tmp_path / "data"), SourceConfig(libero=libero))

    return make


def read_one(source, fps=None):
    [ref] = source.refs(None)["train"]
    return source.read(ref, "train", fps)


def defect(source):
    [ref] = source.refs(None)["train"]
    if ref.defect is not None:
        return ref.defect, ref.message
    with pytest.raises(EpisodeError) as caught:
        source.read(ref, "train", None)
    return caught.value.reason, str(caught.value)


def test_an_episode_is_named_by_suite_task_and_demo(tmp_path, opened):
    write_demo(tmp_path / "data" / "libero_90")
    episode = read_one(opened())
    assert episode.id == "libero/libero_100/KITCHEN_SCENE1_open_it/demo_0"
    assert dataclasses.asdict(episode.groups) == {
        "scene": "KITCHEN_SCENE1",
        "lab": "libero",
        "task": "KITCHEN_SCENE1_open_it",
    }
    assert episode.instructions == ("open it",)
    assert (episode.fps, episode.outcome, episode.simulated) == (20.0, "success", True)
    np.testing.assert_allclose(episode.time, 0.05 * np.arange(4), atol=1e-12)
    assert episode.time_provenance == Provenance.SIMULATED
    assert [ref.groups for ref in opened().refs(None)["train"]] == [episode.groups]


def test_a_task_without_a_scene_in_its_name_counts_to_its_problem(tmp_path, opened):
    write_demo(tmp_path / "data", task="turn_on_the_stove")
    assert read_one(opened()).groups.scene == "libero_kitchen"


def test_poses_are_where_mujoco_puts_the_bodies(tmp_path, opened):
    rng = np.random.default_rng(0)
    states = np.concatenate(
        [np.arange(5)[:, None] / 20, rng.uniform(-1, 1, (5, 2 * JOINTS))], axis=1
    )
    states[:, [8, 9]] = [0.03, -0.01]  # the fingers
    write_demo(tmp_path / "data", steps=5, states=states)
    episode = read_one(opened(height=32, width=48))
    text = model().partition("?>")[2]
    judge = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(judge)
    for t in range(5):
        data.qpos[:] = states[t, 1 : 1 + JOINTS]
        mujoco.mj_forward(judge, data)
        base = make_pose(
            data.body("robot0_link0").xmat.reshape(3, 3), data.body("robot0_link0").xpos
        )
        grip = make_pose(
            data.body("gripper0_eef").xmat.reshape(3, 3), data.body("gripper0_eef").xpos
        )
        np.testing.assert_allclose(episode.robot.ee[t], invert(base) @ grip, atol=1e-12)
        view = episode.cameras["eye_in_hand"].calibration.base_from_camera[t]
        cam = data.camera("robot0_eye_in_hand")
        np.testing.assert_allclose((base @ view)[:3, 3], cam.xpos, atol=1e-12)
        np.testing.assert_allclose((base @ view)[:3, 2], -cam.xmat.reshape(3, 3)[:, 2], atol=1e-12)
    np.testing.assert_allclose(episode.robot.joints, states[:, 1:8])
    np.testing.assert_allclose(episode.robot.fingers, [[0.75, 0.25]] * 5)
    np.testing.assert_allclose(episode.robot.gripper, 0.5)
    view = episode.cameras["agentview"]
    assert view.calibration.base_from_camera.shape == (4, 4)
    assert view.size() == (32, 48)
    # LIBERO's agentview at 256 x 256 has f = 309.019.
    np.testing.assert_allclose(view.calibration.K[0, 0] * 256 / 32, 309.019, atol=1e-3)
    np.testing.assert_allclose(view.calibration.K[:2, 2], [24, 16])


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"success": True, "result": "success"}, "success"),
        ({"success": False, "result": "near_miss"}, "failure"),
        ({"result": "?"}, "unknown"),
    ],
)
def test_a_rollout_says_its_outcome_and_its_noise(said, outcome, tmp_path, opened):
    record = {"policy": "scripted", "noise_type": "bias", "noise_strength": 0.04, **said}
    write_demo(tmp_path / "data", demo_attributes={"robo4d_rollout": json.dumps(record)})
    episode = read_one(opened())
    assert episode.outcome == outcome
    assert "noise_strength 0.04, noise_type bias, policy scripted" in episode.notes[0]
    assert episode.id.startswith("libero/libero_100/KITCHEN_SCENE1_open_it/rollout_")


def test_rollouts_of_one_task_in_two_files_have_two_names(tmp_path, opened):
    for number in range(2):
        record = {"robo4d_rollout": json.dumps({"success": False, "seed": [number, 0]})}
        write_demo(tmp_path / "data" / str(number), demo_attributes=record)
    source = opened()
    names = {source.read(ref, "train", None).id for ref in source.refs(None)["train"]}
    assert len(names) == 2


def test_a_demo_that_does_not_end_in_success_is_unknown(tmp_path, opened):
    write_demo(tmp_path / "data", rewards=np.zeros(4), dones=np.zeros(4, np.uint8))
    assert read_one(opened()).outcome == "unknown"


def test_times_that_stand_still_are_replaced_and_said_so(tmp_path, opened):
    states = np.zeros((4, 1 + 2 * JOINTS))
    write_demo(tmp_path / "data", states=states)
    episode = read_one(opened(), fps=10)
    np.testing.assert_allclose(episode.time, np.arange(4) / 10)
    assert episode.time_provenance == Provenance.ESTIMATED
    assert "do not increase" in episode.notes[0]


def test_demos_come_in_the_order_of_their_numbers(tmp_path, opened):
    path = write_demo(tmp_path / "data")
    with h5py.File(path, "a") as file:
        for number in (10, 2):
            file.copy("data/demo_0", f"data/demo_{number}")
        file["data"].create_group("mask")
    assert [ref.record for ref in opened().refs(None)["train"]] == [0, 2, 10]
    assert opened(path).refs(None) == opened().refs(None)


BAD = np.zeros((4, 1 + 2 * JOINTS))
BAD[2, 3] = np.nan


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"states": np.zeros((4, 12))}, Reason.WRONG_SHAPE, "asks for time, 9 positions"),
        ({"states": np.zeros((3, 19))}, Reason.WRONG_SHAPE, "3 rows"),
        ({"states": np.zeros(4)}, Reason.WRONG_SHAPE, "states"),
        ({"states": np.zeros((4, 5000))}, Reason.TOO_LARGE, "5000"),
        ({"states": BAD}, Reason.NON_FINITE, "step 2"),
        ({"states": None}, Reason.MISSING_FEATURE, "no states"),
        ({"states": np.array([b"x"] * 4)}, Reason.WRONG_DTYPE, "not numbers"),
        ({"actions": np.zeros((4, 6))}, Reason.WRONG_SHAPE, "actions"),
        ({"actions": np.full((4, 7), np.inf)}, Reason.NON_FINITE, "actions"),
        ({"actions": None}, Reason.MISSING_FEATURE, "no actions"),
        ({"dones": np.zeros(3)}, Reason.WRONG_SHAPE, "dones"),
        ({"rewards": np.zeros((4, 2))}, Reason.WRONG_SHAPE, "rewards"),
        ({"demo_attributes": {"num_samples": 5}}, Reason.WRONG_SHAPE, "num_samples 5"),
        ({"demo_attributes": {"num_samples": "4"}}, Reason.WRONG_DTYPE, "num_samples"),
        ({"demo_attributes": {"model_file": 3}}, Reason.WRONG_DTYPE, "model_file"),
        ({"demo_attributes": {"model_file": ["a", "b"]}}, Reason.WRONG_DTYPE, "model_file"),
        ({"demo_attributes": {"robo4d_rollout": "{"}}, Reason.UNDECODABLE_RECORD, "no JSON"),
        ({"demo_attributes": {"robo4d_rollout": "[" * 9999}}, Reason.UNDECODABLE_RECORD, "JSON"),
        ({"text": "<mujoco/>"}, Reason.WRONG_SHAPE, "0 positions"),
        (
            {"text": model().replace("gripper0_eef", "other")},
            Reason.MISSING_FEATURE,
            "no body 'gripper0_eef'",
        ),
        ({"text": model(top='<include file="/etc/passwd"/>')}, Reason.UNSAFE_MODEL, "<include>"),
        ({"text": " " * (1 << 23)}, Reason.TOO_LARGE, "model_file"),
        ({"attributes": {"problem_info": "3"}}, Reason.WRONG_DTYPE, "problem_info"),
        ({"attributes": {"env_args": "x" * 99999}}, Reason.TOO_LARGE, "env_args"),
        ({"attributes": {"bddl_file_name": "a/../x.bddl"}}, Reason.BAD_IDENTITY, "'..'"),
        ({"actions": np.zeros((0, 7))}, Reason.EMPTY_EPISODE, "no step"),
    ],
)
def test_a_bad_demo_is_set_aside_with_its_reason(changes, reason, said, tmp_path, opened):
    write_demo(tmp_path / "data", **changes)
    found, message = defect(opened())
    assert found == reason
    assert said in message


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "none"])
def test_a_damaged_file_is_a_defect_of_the_plan(damage, tmp_path, opened):
    path = write_demo(tmp_path / "data")
    raw = path.read_bytes()
    if damage == "none":
        with h5py.File(path, "w") as file:
            file.create_group("data")
    else:
        path.write_bytes({"empty": b"", "cut": raw[: len(raw) // 2], "text": b"hello" * 99}[damage])
    [ref] = opened().refs(None)["train"]
    wanted = Reason.EMPTY_FILE if damage in ("empty", "none") else Reason.UNDECODABLE_RECORD
    assert ref.defect == wanted


@pytest.mark.parametrize("link", ["soft", "external"])
def test_links_in_the_file_are_refused(link, tmp_path, opened):
    path = write_demo(tmp_path / "data")
    other = write_demo(tmp_path / "elsewhere")
    with h5py.File(path, "a") as file:
        del file["data/demo_0/states"]
        file["data/demo_0/states"] = (
            h5py.SoftLink("/data/demo_0/actions")
            if link == "soft"
            else h5py.ExternalLink(str(other), "/data/demo_0/states")
        )
    assert defect(opened())[0] == Reason.UNDECODABLE_RECORD


def test_another_content_gives_another_checksum(tmp_path, opened):
    def crc(**changes):
        write_demo(tmp_path / "data", **changes)
        return opened().refs(None)["train"][0].crc

    actions = np.zeros((4, 7))
    actions[2, 3] = 1e-9
    marks = {crc(), crc(actions=actions), crc(text=model(world="<body/>"))}
    marks.add(crc(attributes={"env_args": "{}"}))
    assert len(marks) == 4
    assert crc() == crc()


def test_what_is_no_demo_is_refused(tmp_path, opened):
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match=r"_demo\.hdf5"):
        opened()
    with pytest.raises(UsageError, match="local"):
        opened("memory://bucket/libero")
    (tmp_path / "other.hdf5").write_bytes(b"")
    with pytest.raises(UsageError, match=r"_demo\.hdf5"):
        opened(tmp_path / "other.hdf5")


def test_a_demo_whose_name_is_no_text_is_quarantined(tmp_path, opened):
    path = write_demo(tmp_path / "data")
    path.write_bytes(path.read_bytes().replace(b"demo_0", b"d\xffmo_0"))
    assert defect(opened())[0] == Reason.UNDECODABLE_RECORD

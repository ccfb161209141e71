"""The twins of Bridge and RT-1: published layout, logged poses, outcomes, and a true truth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import mujoco
import numpy as np
import pytest
import simplejpeg
from scipy.spatial.transform import Rotation

from converters import bridge as bridge_source
from converters import rt1 as rt1_source
from converters.rlds import decode_record, open_rlds
from robo4d.geometry import invert
from robots.kinematics import ee_poses, solve_joints
from robots.models import ROBOTS, RobotAssetsError
from robots.render import RobotRenderer
from schemas.reasons import UsageError
from simulation import bridge, rt1
from simulation import twin as twin_module
from simulation.defects import Defects
from simulation.script import PLACED_WITHIN
from simulation.twin import default_twin, make_twin

pytestmark = pytest.mark.slow

SOURCES = {"bridge": bridge, "rt1": rt1}
VIEWS = {"bridge": bridge.VIEWS, "rt1": ("image",)}


@pytest.fixture(params=["bridge", "rt1"])
def made(request):
    """Source and twin, one after the other."""
    return request.param, request.getfixturevalue(f"{request.param}_twin")


def converted(source, twin, episode=0):
    """The episode that the converter makes of a record."""
    converter = {"bridge": bridge_source, "rt1": rt1_source}[source]
    dataset = open_rlds(str(twin.folder), converter.REQUIRED)
    payload = twin.records[episode].SerializeToString(deterministic=True)
    record = decode_record(payload, dataset.features, "train", dataset.files[0][1], episode)
    return converter.convert(record, dataset, None)


def ints(twin, feature, episode=0):
    return list(twin.records[episode].features.feature[feature].int64_list.value)


def test_bridge_features_are_the_published_ones_but_for_the_image_size(bridge_twin, bridge_data):
    ours = (bridge_twin.folder / "features.json").read_text()
    real = json.loads((bridge_data / "bridge_dataset/1.0.0/features.json").read_text())
    assert json.loads(ours.replace('"256"', '"64"')) == real


# https://www.tensorflow.org/datasets/catalog/fractal20220817_data
RT1_STEPS = {
    "action/base_displacement_vector": ("float32", (2,)),
    "action/base_displacement_vertical_rotation": ("float32", (1,)),
    "action/gripper_closedness_action": ("float32", (1,)),
    "action/rotation_delta": ("float32", (3,)),
    "action/terminate_episode": ("int32", (3,)),
    "action/world_vector": ("float32", (3,)),
    "is_first": ("bool", ()),
    "is_last": ("bool", ()),
    "is_terminal": ("bool", ()),
    "observation/base_pose_tool_reached": ("float32", (7,)),
    "observation/gripper_closed": ("float32", (1,)),
    "observation/gripper_closedness_commanded": ("float32", (1,)),
    "observation/height_to_bottom": ("float32", (1,)),
    "observation/image": ("uint8", (256, 320, 3)),
    "observation/natural_language_embedding": ("float32", (512,)),
    "observation/natural_language_instruction": ("string", ()),
    "observation/orientation_box": ("float32", (2, 3)),
    "observation/orientation_start": ("float32", (4,)),
    "observation/robot_orientation_positions_box": ("float32", (3, 3)),
    "observation/rotation_delta_to_go": ("float32", (3,)),
    "observation/src_rotation": ("float32", (4,)),
    "observation/vector_to_go": ("float32", (3,)),
    "observation/workspace_bounds": ("float32", (3, 3)),
    "reward": ("float32", ()),
}
RT1_EPISODE = {
    **{
        f"aspects/{name}": "bool"
        for name in ("already_success", "feasible", "has_aspects", "success", "undesirable")
    },
    **{
        f"attributes/{name}{end}": dtype
        for name in (
            *("collection_mode", "data_type", "env"),
            *("location", "objects_family", "task_family"),
        )
        for end, dtype in (("", "int64"), ("_name", "string"))
    },
}


def test_rt1_features_are_those_of_the_catalogue(rt1_twin):
    found = _leaves(json.loads((rt1_twin.folder / "features.json").read_text()))
    published = {f"steps/{name}": kind for name, kind in RT1_STEPS.items()}
    published |= {name: (dtype, ()) for name, dtype in RT1_EPISODE.items()}
    assert found == published


def test_tfds_opens_it(made):
    import tensorflow_datasets as tfds

    source, twin = made
    info = tfds.builder_from_directory(str(twin.folder)).info
    assert info.splits["train"].num_examples == len(twin.records)
    assert f"{info.name}/{info.version}" == twin_module.TWINS[source]


def test_the_converter_reads_it_under_the_id_of_its_truth(made):
    source, twin = made
    for k in range(len(twin.records)):
        episode = converted(source, twin, k)
        assert episode.twin
        assert episode.fps == SOURCES[source].RATE
        assert tuple(episode.cameras) == VIEWS[source]
        for camera in episode.cameras:
            truth = twin.truth_of(episode.id, camera)
            assert truth["depth"].shape[0] == truth["joints"].shape[0] == len(episode.time)


def test_rate_and_length(made):
    source, twin = made
    info = json.loads((twin.folder / "dataset_info.json").read_text())
    assert f" at {SOURCES[source].RATE:g} Hz" in info["description"]
    for k in range(len(twin.records)):
        last = ints(twin, "steps/is_last", k)
        assert 25 <= len(last) <= 40
        assert last == ints(twin, "steps/is_first", k)[::-1] == [0] * (len(last) - 1) + [1]


def test_only_bridges_fourth_view_is_blank_and_none_is_announced(bridge_twin):
    for name in (*bridge.VIEWS, "image_3"):
        for frame in bridge_twin.images(0, name)[::10]:
            picture = simplejpeg.decode_jpeg(frame)
            assert picture.shape == (256, 256, 3)
            assert (np.ptp(picture) == 0) == (name == "image_3")
        assert ints(bridge_twin, f"episode_metadata/has_{name}") == [0]


def test_bridge_state_is_the_pose_of_the_true_joints(bridge_twin):
    truth = bridge_twin.truth_of(bridge.draw_episode(0, 0).id, "image_0")
    state = bridge_twin.floats(0, "observation/state", 7).astype(float)
    model = ROBOTS["widowx_250s"].compile()
    data = mujoco.MjData(model)
    qpos = ROBOTS["widowx_250s"].qpos(truth["joints"][:], truth["gripper"][:])
    for q, row in zip(qpos, state, strict=True):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        body = data.body("wx250s/gripper_link")
        turn = body.xmat.reshape(3, 3)
        np.testing.assert_allclose(row[:3], body.xpos + 0.093575 * turn[:, 0], atol=1e-6)
        # Fingers down is zero: R_state D = R_ee, whose x points along the fingers.
        logged = Rotation.from_euler("xyz", row[3:6]).as_matrix()
        np.testing.assert_allclose(-logged[:, 2], turn[:, 0], atol=1e-6)
        np.testing.assert_allclose(logged[:, 1], turn[:, 1], atol=1e-6)
    np.testing.assert_allclose(state[:, 6], truth["gripper"][:], atol=1e-6)


def test_rt1_pose_is_that_of_the_true_joints_with_the_quaternion_xyzw(rt1_twin):
    truth = rt1_twin.truth_of(converted("rt1", rt1_twin).id, "image")
    logged = rt1_twin.floats(0, "observation/base_pose_tool_reached", 7)
    pose = ee_poses(ROBOTS["google_robot"], truth["joints"][:])
    np.testing.assert_allclose(logged[:, :3], pose[:, :3, 3], atol=1e-6)
    turn = Rotation.from_quat(logged[:, 3:]).as_matrix()  # scipy's order is xyzw
    np.testing.assert_allclose(turn, pose[:, :3, :3], atol=1e-6)


def test_actions_lead_to_the_next_state(bridge_twin, rt1_twin):
    state = bridge_twin.floats(0, "observation/state", 7).astype(float)
    action = bridge_twin.floats(0, "action", 7).astype(float)
    np.testing.assert_allclose(state[:-1, :3] + action[:-1, :3], state[1:, :3], atol=1e-6)
    turn = Rotation.from_euler("xyz", action[:-1, 3:6])
    now, then = (Rotation.from_euler("xyz", s[:, 3:6]) for s in (state[:-1], state[1:]))
    assert (turn * now * then.inv()).magnitude().max() < 1e-5
    assert set(action[:, 6]) == {0.0, 1.0}
    opening = np.diff(state[:, 6])
    assert (action[:-1][opening < -1e-3, 6] == 0).all()
    assert (action[:-1][opening > 1e-3, 6] == 1).all()
    told = rt1_twin.floats(0, "observation/gripper_closedness_commanded")[:, 0]
    change = rt1_twin.floats(0, "action/gripper_closedness_action")[:, 0]
    np.testing.assert_array_equal(told[:-1] + change[:-1], told[1:])
    assert {*change} == {-1.0, 0.0, 1.0}


def test_joints_solved_from_the_log_reach_the_true_pose(made):
    source, twin = made
    episode = converted(source, twin)
    robot = ROBOTS[episode.robot.robot]
    found = solve_joints(robot, episode.robot.ee, episode.time)
    assert not found.flagged.any()
    true = twin.truth_of(episode.id, VIEWS[source][0])["joints"][:]
    error = invert(ee_poses(robot, true)) @ ee_poses(robot, found.joints)
    assert np.linalg.norm(error[:, :3, 3], axis=1).max() < 1e-4
    assert Rotation.from_matrix(error[:, :3, :3]).magnitude().max() < 1e-3


def test_robot_pixels_are_the_robot_rendered_alone_from_the_true_joints(made):
    source, twin = made
    episode = converted(source, twin)
    height, width = (256, 256) if source == "bridge" else (256, 320)
    robot = ROBOTS[episode.robot.robot]
    with RobotRenderer(robot, height, width) as render:
        for name in VIEWS[source]:
            truth = twin.truth_of(episode.id, name)
            steps = [0, len(episode.time) // 2]
            depth, part = render(
                truth["joints"][:][steps],
                truth["gripper"][:][steps],
                np.repeat(truth["K"][:][None], len(steps), 0),
                truth["base_from_camera"][:][steps],
            )
            seen, whole = truth["robot_part"][:][steps], truth["depth"][:][steps]
            assert (seen > 0).mean() > 0.01
            assert (part[seen > 0] == seen[seen > 0]).mean() > 0.999
            gap = np.abs(depth - whole)[(seen > 0) & (part == seen)]
            assert np.quantile(gap, 0.999) < 1e-3
            # Where the robot alone is nearer than all else, it must be seen.
            assert not ((part > 0) & (seen == 0) & (depth < whole - 1e-3)).any()
            assert ((whole > 0.01) & (whole < 15)).all()


def test_outcomes_are_said_where_the_layout_has_a_place_for_them(rt1_twin, bridge_twin):
    for k, success in enumerate((True, False)):
        episode = converted("rt1", rt1_twin, k)
        assert episode.outcome == ("success" if success else "failure")
        assert rt1_twin.truth_of(episode.id, "image").attrs["success"] is success
    truth = bridge_twin.truth_of(bridge.draw_episode(0, 0).id, "image_0")
    assert truth.attrs["success"] is True


@pytest.mark.parametrize("source", SOURCES)
def test_episodes_end_as_they_were_meant_to(source, menagerie):
    plans = set()
    for seed, index in ((0, 0), (0, 1), (1, 1), (0, 2)):
        episode = SOURCES[source].draw_episode(seed, index)
        script, layout = episode.script, episode.layout
        gap = np.linalg.norm(script.things[-1, 0, :2, 3] - layout.plate[:2])
        assert script.success == (episode.plan == "place") == bool(gap < PLACED_WITHIN)
        if not script.success:
            assert abs(script.things[-1, 0, 2, 3] - layout.table - layout.things[0].half[2]) < 1e-6
        assert script.held.any() == (episode.plan != "miss")
        plans.add(episode.plan)
    assert plans == {"place", "miss", "drop"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_held_thing_fills_the_gap_between_the_fingers(source, menagerie):
    rig = SOURCES[source].RIG
    episode = SOURCES[source].draw_episode(0, 0)
    script, thing = episode.script, episode.layout.things[0]
    held = np.flatnonzero(script.held)
    tool = ee_poses(rig.robot, script.joints[held]) @ invert(rig.tool_from_ee)
    relative = invert(tool) @ script.things[held, 0]
    np.testing.assert_allclose(relative, np.repeat(relative[:1], len(held), 0), atol=1e-9)
    assert abs(relative[0, 1, 3]) < 1e-3  # midway between the fingers
    assert abs(relative[0, 2, 3] - rig.pad_reach(script.opening[held[0]])) < 0.03
    assert abs(script.opening[held[1]] - rig.opening_for(2 * thing.half[1])) < 1e-6


def test_bridge_scenes_and_ids_differ(menagerie):
    episodes = [bridge.draw_episode(seed, index) for seed in range(2) for index in range(4)]
    assert {e.layout.furniture for e in episodes} == {"table", "sink", "drawer"}
    assert len({e.id for e in episodes}) == len(episodes)
    for episode in episodes:
        assert episode.file_path.startswith("/nfs/kun2/users/homer/datasets/bridge_data_all/")


def test_late_images_lag_behind_the_log(rt1_twin, menagerie):
    film = rt1.film_episode(_short(rt1.draw_episode(0, 0), 3))["image"]
    late = Defects(latency=(1, 1)).spoil({"image": film}, 0, 0)[0]["image"]
    assert late.frames == (film.frames[0], film.frames[0], film.frames[1])
    np.testing.assert_array_equal(late.depth, film.depth[[0, 0, 1]])
    # And filming again gives what was filmed before.
    assert list(film.frames) == rt1_twin.images(0, "image")[:3]
    with pytest.raises(UsageError, match="latency is -1"):
        make_twin("rt1", Path("unused"), latency=-1)


def test_the_default_twin_is_kept_by_source(menagerie, tmp_path, monkeypatch):
    monkeypatch.setattr(twin_module, "_film_all", lambda *_: [b"record"])
    for source in SOURCES:
        first = default_twin(source, tmp_path, episodes=1)
        assert default_twin(source, tmp_path, episodes=1) == first
        assert first.parts[-2:] == tuple(twin_module.TWINS[source].split("/"))
        name = f"{first.parts[-2]}-train.tfrecord-00000-of-00001"
        assert (first / name).is_file()


def test_a_missing_robot_is_said(tmp_path, monkeypatch):
    def missing():
        raise RobotAssetsError("set MENAGERIE_ROOT")

    monkeypatch.setattr("robots.models._compiled", lambda _: missing())
    with pytest.raises(RobotAssetsError, match="MENAGERIE_ROOT"):
        default_twin("bridge", tmp_path)
    assert list(tmp_path.iterdir()) == []


def _short(episode, steps):
    cut = {k: getattr(episode.script, k)[:steps] for k in ("joints", "closed", "things", "held")}
    return dataclasses.replace(episode, script=dataclasses.replace(episode.script, **cut))


def _leaves(node: dict, path: str = "") -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every leaf of a features.json."""
    if "featuresDict" in node:
        found = {}
        for name, child in node["featuresDict"]["features"].items():
            found |= _leaves(child, f"{path}/{name}".strip("/"))
        return found
    if "sequence" in node:
        return _leaves(node["sequence"]["feature"], path)
    leaf = node.get("tensor") or node["image"]
    return {path: (leaf["dtype"], tuple(int(n) for n in leaf["shape"].get("dimensions", ())))}

"""The DROID twin: its layout is the publisher's, its log is its motion, its truth is true."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import google_crc32c
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robo4d.geometry import invert, make_pose, project, transform, unproject
from robots.models import ROBOTS
from robots.render import RobotRenderer
from schemas.reasons import UsageError
from schemas.truth import TWIN_MARK
from simulation import droid
from simulation import twin as twin_module
from simulation.script import PLACED_WITHIN
from simulation.twin import default_twin, make_twin

pytestmark = pytest.mark.slow

ROBOT = ROBOTS["panda_robotiq"]
CAMERAS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
REAL = Path(__file__).resolve().parents[3] / "shared/data/droid_rlds/droid/1.0.0"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real DROID records at {REAL}")


@needs_real
def test_features_are_the_published_ones(twin):
    ours = json.loads((twin.folder / "features.json").read_text())
    assert ours == json.loads((REAL / "features.json").read_text())


@needs_real
def test_records_hold_the_published_features(twin):
    from tensorflow_datasets.proto import tf_example_pb2

    with sorted(REAL.glob("*.tfrecord-*"))[0].open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(12)[:8])
        real = tf_example_pb2.Example.FromString(file.read(length)).features.feature
    ours = twin.records[0].features.feature
    assert {k: ours[k].WhichOneof("kind") for k in ours} == {
        k: real[k].WhichOneof("kind") for k in real
    }


def test_tfds_opens_it(twin):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(twin.folder))
    assert builder.info.splits["train"].num_examples == 2
    assert builder.info.splits["train"].num_shards == 2


def test_dataset_info_says_that_it_is_a_twin_and_its_rate(twin):
    info = json.loads((twin.folder / "dataset_info.json").read_text())
    assert TWIN_MARK in info["description"]
    assert " at 15 Hz" in info["description"]
    assert info["splits"][0]["shardLengths"] == ["1", "1"]
    assert (info["name"], info["version"], info["fileFormat"]) == ("droid", "1.0.0", "tfrecord")


def test_framing_carries_masked_checksums(twin):
    def mask(data: bytes) -> int:
        crc = google_crc32c.value(data)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    data = (twin.folder / "droid-train.tfrecord-00000-of-00002").read_bytes()
    length, head = struct.unpack_from("<QI", data)
    assert len(data) == length + 16
    assert head == mask(data[:8])
    assert struct.unpack("<I", data[-4:])[0] == mask(data[12:-4])


def test_first_and_last_step_are_marked(twin):
    for episode in range(2):
        feature = twin.records[episode].features.feature
        steps = len(twin.floats(episode, "reward"))
        assert 55 <= steps <= 85
        last = [0] * (steps - 1) + [1]
        assert list(feature["steps/is_first"].int64_list.value) == last[::-1]
        assert list(feature["steps/is_last"].int64_list.value) == last
        success = "/success/" in twin.text(episode, "episode_metadata/file_path")
        assert twin.floats(episode, "reward")[:, 0].tolist() == [x * success for x in last]


def test_logged_pose_is_mujocos_flange(twin):
    model = ROBOT.compile()
    data = mujoco.MjData(model)
    for episode in range(2):
        joints = twin.floats(episode, "observation/joint_position", 7).astype(float)
        opening = 1 - twin.floats(episode, "observation/gripper_position")[:, 0].astype(float)
        logged = twin.floats(episode, "observation/cartesian_position", 6)
        for qpos, pose in zip(ROBOT.qpos(joints, opening), logged, strict=True):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            turn = data.body("link7").xmat.reshape(3, 3)
            np.testing.assert_allclose(
                pose[:3], data.body("link7").xpos + 0.107 * turn[:, 2], atol=1e-6
            )
            np.testing.assert_allclose(
                Rotation.from_euler("xyz", pose[3:]).as_matrix(), turn, atol=1e-6
            )


def test_actions_aim_at_the_next_step(twin):
    pose = twin.floats(0, "observation/cartesian_position", 6)
    closed = twin.floats(0, "observation/gripper_position")
    np.testing.assert_array_equal(
        twin.floats(0, "action", 7)[:-1], np.concatenate([pose, closed], 1)[1:]
    )
    np.testing.assert_array_equal(
        twin.floats(0, "action_dict/cartesian_position", 6)[:-1], pose[1:]
    )


def test_exterior_views_agree_on_where_things_are(twin):
    for t in (0, 40):
        one, two = (twin.truth(0, name) for name in CAMERAS[:2])
        points = transform(
            one["base_from_camera"][t], unproject(one["depth"][t], one["K"][:]).reshape(-1, 3)
        )
        beyond = _beyond(points, two, t)
        # What one view sees cannot lie in front of what the other sees along its own ray.
        assert (beyond > 0.03).mean() < 0.01
        assert (np.abs(beyond) < 0.01).mean() > 0.3


def test_wrist_view_moves_and_agrees_with_an_exterior_one(twin):
    wrist, exterior = twin.truth(0, CAMERAS[2]), twin.truth(0, CAMERAS[0])
    assert np.ptp(wrist["base_from_camera"][:, :3, 3], axis=0).max() > 0.1
    for t in (0, 40):
        points = unproject(wrist["depth"][t], wrist["K"][:])
        beyond = _beyond(
            transform(wrist["base_from_camera"][t], points).reshape(-1, 3), exterior, t
        )
        assert (beyond > 0.03).mean() < 0.01
        assert (np.abs(beyond) < 0.01).mean() > 0.2


def test_robot_pixels_are_the_robot_rendered_alone_from_the_log(twin):
    steps = [0, 30, 50]
    joints = twin.floats(1, "observation/joint_position", 7)[steps]
    opening = 1 - twin.floats(1, "observation/gripper_position")[steps, 0].astype(float)
    with RobotRenderer(ROBOT, 180, 320) as render:
        for name in CAMERAS:
            truth = twin.truth(1, name)
            depth, part = render(
                joints,
                opening,
                np.repeat(truth["K"][:][None], len(steps), 0),
                truth["base_from_camera"][:][steps],
            )
            seen = truth["robot_part"][:][steps]
            assert (seen > 0).mean() > 0.01
            assert (part[seen > 0] == seen[seen > 0]).mean() > 0.999
            gap = np.abs(depth - truth["depth"][:][steps])[(seen > 0) & (part == seen)]
            assert np.quantile(gap, 0.999) < 1e-3
            # Where the robot alone is nearer than all else, it must be seen.
            assert not ((part > 0) & (seen == 0) & (depth < truth["depth"][:][steps] - 1e-3)).any()


def test_depth_is_everywhere_and_finite(twin):
    for name in CAMERAS:
        depth = twin.truth(1, name)["depth"][:]
        assert depth.dtype == np.float32
        assert depth.shape[1:] == (180, 320)
        assert ((depth > 0.01) & (depth < 15)).all()


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 1), (0, 4), (3, 1), (5, 2)])
def test_episodes_end_as_they_were_meant_to(seed, index):
    episode = droid.draw_episode(seed, index)
    script, layout = episode.script, episode.layout
    gap = np.linalg.norm(script.things[-1, 0, :2, 3] - layout.plate[:2])
    assert script.success == (episode.plan == "place")
    assert f"/{'success' if script.success else 'failure'}/" in episode.id
    if script.success:
        assert gap < PLACED_WITHIN
    else:
        assert gap > 0.1
        assert abs(script.things[-1, 0, 2, 3] - layout.table - layout.things[0].half[2]) < 1e-6
    moved = np.ptp(script.things[:, 0, :3, 3], axis=0).max()
    assert (moved > 0.1) == (episode.plan == "place") or episode.plan == "drop"
    assert script.held.any() == (episode.plan != "miss")


def test_a_held_thing_moves_with_the_flange_and_between_the_pads():
    episode = droid.draw_episode(0, 0)
    script, thing = episode.script, episode.layout.things[0]
    model = ROBOT.compile()
    data = mujoco.MjData(model)
    relative = []
    for t in np.flatnonzero(script.held):
        data.qpos[:] = ROBOT.qpos(script.joints[t : t + 1], script.opening[t : t + 1])[0]
        mujoco.mj_kinematics(model, data)
        link = make_pose(data.body("link7").xmat.reshape(3, 3), data.body("link7").xpos)
        relative.append(invert(link) @ script.things[t, 0])
        left, right = (data.geom(f"{s}_fingerpad_collision").xpos for s in ("left", "right"))
        assert np.linalg.norm((left + right)[:2] / 2 - script.things[t, 0, :2, 3]) < 0.01
        # The pads are 2 mm thick, so their middles are 2 mm more apart than the thing is wide.
        assert abs(np.linalg.norm(left - right) - 2 * thing.half[1] - 0.002) < 0.001
    np.testing.assert_allclose(relative, np.repeat(relative[:1], len(relative), 0), atol=1e-9)


def test_filming_again_gives_the_same_frames_and_truth(twin):
    episode = droid.draw_episode(0, 0)
    assert episode.id == twin.id(0)
    steps = 4
    cut = {k: getattr(episode.script, k)[:steps] for k in ("joints", "closed", "things", "held")}
    short = dataclasses.replace(episode, script=dataclasses.replace(episode.script, **cut))
    for name, film in droid.film_episode(short).items():
        assert list(film.frames) == twin.images(0, name)[:steps]
        np.testing.assert_array_equal(film.depth, twin.truth(0, name)["depth"][:steps])
        np.testing.assert_array_equal(film.robot_part, twin.truth(0, name)["robot_part"][:steps])


def test_the_same_seed_gives_the_same_bytes(rt1_twin, tmp_path):
    """All of it anew, of the twin that is filmed in the shortest time."""
    again = make_twin("rt1", tmp_path / "again", episodes=2)
    assert _other_files(again, rt1_twin.folder) == []


def test_what_was_filmed_is_drawn_and_written_again_in_the_same_bytes(twin, tmp_path, monkeypatch):
    drawn = [droid.draw_episode(0, index) for index in range(2)]

    def film(episode):
        (index,) = (k for k, one in enumerate(drawn) if one.id == episode.id)
        return {name: twin.film(index, name) for name in CAMERAS}

    def film_all(source, store, episodes, seed, defects, progress):
        return [twin_module._film_one(source, store, seed, defects, k) for k in range(episodes)]

    monkeypatch.setattr(droid, "film_episode", film)
    monkeypatch.setattr(twin_module, "_film_all", film_all)
    again = make_twin("droid", tmp_path / "again", episodes=2)
    assert _other_files(again, twin.folder) == []


def test_other_seeds_are_other_episodes():
    assert droid.draw_episode(0, 0).id != droid.draw_episode(1, 0).id


def test_unknown_twins_are_refused(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'droid'"):
        make_twin("droyd", tmp_path / "out")


def test_a_folder_in_use_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        make_twin("droid", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_broken_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(twin_module, "_film_all", fail)
    with pytest.raises(KeyboardInterrupt):
        make_twin("droid", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_default_twin_is_made_once(tmp_path, monkeypatch):
    calls = []

    def film(source, store, episodes, seed, latency, progress):
        calls.append(seed)
        return [b"record"] * episodes

    monkeypatch.setattr(twin_module, "_film_all", film)
    first = default_twin("droid", tmp_path)
    assert default_twin("droid", tmp_path) == first
    assert calls == [0]
    assert default_twin("droid", tmp_path, seed=1) != first
    assert calls == [0, 1]
    assert sorted(p.name for p in first.glob("*.tfrecord-*")) == [
        "droid-train.tfrecord-00000-of-00002",
        "droid-train.tfrecord-00001-of-00002",
    ]


def _other_files(one: Path, other: Path) -> list[str]:
    """Names of the files that only one of two folders has, or that differ."""
    ours, theirs = (
        {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (one, other)
    )
    assert ours
    return sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))


def _beyond(points: np.ndarray, view, t: int) -> np.ndarray:
    """How far what ``view`` sees lies beyond base-frame points (N, 3) on the same rays, in m."""
    K, depth = view["K"][:], view["depth"][t]
    pixels, z = project(transform(invert(view["base_from_camera"][t]), points), K)
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (pixels > 1).all(1) & (pixels < [319, 179]).all(1)
    columns, rows = pixels[inside].astype(int).T
    # The farthest neighbour: next to an edge, either side of it may be what the ray meets.
    near = np.stack([depth[rows + i, columns + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    gap = near - z[inside]
    return gap[np.abs(gap).argmin(0), np.arange(gap.shape[1])]

"""Bridge's raw trajectories: made to order as bridge_data_robot writes them."""

import json
import os
import pickle
import random
import shutil

import fsspec
import numpy as np
import pytest
import simplejpeg
from s3_server import TRANSIENT, Faults
from scipy.spatial.transform import Rotation

from converters._listing import read_head
from converters.bridge import DEFAULT_ROTATION
from converters.bridge_raw import is_bridge_raw, open_bridge_raw
from pipeline.retries import again
from schemas.episode import Provenance
from schemas.reasons import EpisodeError, Reason, UsageError

AFTER, BEFORE = "2022-03-04_10-11-12", "2021-07-22_23-59-59"
SCENE = "bridge_data_v2/deepthought_toykitchen2/put_pot_on_stove/02"


def jpeg(level: int, blank: bool = False) -> bytes:
    """A small JPEG whose mean tells which frame it is."""
    image = np.full((24, 32, 3), level, np.uint8)
    if not blank:
        image[:8, :8] = 255 - level
    return simplejpeg.encode_jpeg(image, colorspace="RGB", quality=95)


def log(steps: int) -> dict:
    """An obs_dict of RobotBaseEnv.current_obs, stacked."""
    t = np.arange(steps)
    state = np.zeros((steps, 7))
    state[:, 0] = 0.25 + 0.001 * t
    state[:, 5] = 0.01 * t
    state[:, 6] = np.linspace(1.02, 0, steps)
    return {
        "joint_effort": np.zeros((steps, 6)),
        "qpos": 0.01 * t[:, None] + np.arange(6),
        "full_state": state,
        "state": state,
        "desired_state": state,
        "time_stamp": 1.6e9 + 0.2 * t + 0.01 * (t % 2),
        "eef_transform": np.repeat(np.eye(4)[None], steps, 0),
        "env_done": np.zeros(steps, bool),
        "t_get_obs": np.full(steps, 0.03),
    }


def policy(steps: int) -> list[dict]:
    """A policy_out; action i holds i in its first column."""
    return [
        {
            "actions": np.array([i, 0, 0, 0, 0, 0, 1.0]),
            "delta_robot_transform": np.eye(4),
            "policy_type": "VRTeleopPolicy",
        }
        for i in range(steps - 1)
    ]


def write(root, date=AFTER, number=0, steps=12, *, obs=None, actions=None, views=(0, 1), text=None):
    """One trajectory; returns its folder."""
    folder = root / SCENE / date / "raw" / "traj_group0" / f"traj{number}"
    folder.mkdir(parents=True)
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps(obs or log(steps)))
    (folder / "policy_out.pkl").write_bytes(
        pickle.dumps(policy(steps) if actions is None else actions)
    )
    (folder / "agent_data.pkl").write_bytes(pickle.dumps({"traj_ok": True}))
    for view in views:
        (folder / f"images{view}").mkdir()
        for t in range(steps):
            (folder / f"images{view}" / f"im_{t}.jpg").write_bytes(jpeg(40 + 5 * t))
    if text is not None:
        (folder / "lang.txt").write_text(text)
    topics = ["/D435/color/image_raw", {"name": "/blue/image_raw", "flip": False}]
    (folder.parents[2] / "config.json").write_text(
        json.dumps({"agent": {"env": ["WidowX", {"camera_topics": topics}]}})
    )
    (folder.parents[2] / "collection_metadata.json").write_text(
        json.dumps({"environment": "toykitchen2", "policy_desc": "human demo"})
    )
    return folder


def read(root, fps=None):
    source = open_bridge_raw(str(root))
    (ref,) = source.refs(None)["train"]
    return source.read(ref, "train", fps)


def reason_of(root) -> Reason:
    with pytest.raises(EpisodeError) as caught:
        read(root)
    assert caught.value.reason == Reason.MISSING_FEATURE or caught.value.episode_id
    return caught.value.reason


def test_a_sound_trajectory_becomes_an_episode(tmp_path):
    write(
        tmp_path, text="put the pot on the stove\nmove the pot\n\nconfidence: 1.0\nmove the pot\n"
    )
    episode, made = read(tmp_path), log(12)
    kept = slice(0, 11)  # the last observation has no action
    assert len(episode) == 11
    assert episode.id == f"bridge/{SCENE}/{AFTER}/raw/traj_group0/traj0"
    assert episode.outcome == "unknown"
    assert episode.instructions == ("put the pot on the stove", "move the pot")
    assert episode.fps == 5
    assert episode.time_provenance == Provenance.MEASURED
    stamps = made["time_stamp"]
    np.testing.assert_allclose(episode.time, stamps[kept] - stamps[0])
    np.testing.assert_array_equal(episode.robot.joints, made["qpos"][kept])
    np.testing.assert_allclose(episode.robot.gripper, np.clip(made["state"][kept, 6], 0, 1))
    np.testing.assert_array_equal(episode.actions["action"][:, 0], np.arange(11))
    # Judged by the publishers' own relation: R_state = R_ee D^T.
    rotation = episode.robot.ee[:, :3, :3] @ DEFAULT_ROTATION.T
    euler = Rotation.from_matrix(rotation).as_euler("xyz")
    np.testing.assert_allclose(euler, made["state"][kept, 3:6], atol=1e-12)
    assert list(episode.cameras) == ["images0", "images1"]
    notes = " ".join(episode.notes)
    for said in ("clipped", "images1 is camera /blue/image_raw", "toykitchen2", "confidence: 1.0"):
        assert said in notes
    assert len(episode.origin.sha256) == 64


def test_frames_are_in_numeric_order(tmp_path):
    write(tmp_path, steps=13)
    frames = read(tmp_path).cameras["images0"].decode(range(12))
    means = frames[:, 12:, 12:].mean((1, 2, 3))
    np.testing.assert_allclose(means, 40 + 5 * np.arange(12), atol=2)


@pytest.mark.parametrize(("date", "delay"), [(AFTER, 0), (BEFORE, 1), ("2021-07-23_00-00-00", 0)])
def test_before_23_july_2021_actions_belong_to_the_next_observation(tmp_path, date, delay):
    """bridge_data_v2, bridgedata_raw_to_numpy.py: observations[1:] beside actions[:-1]."""
    write(tmp_path, date=date, steps=10)
    episode, made = read(tmp_path), log(10)
    assert len(episode) == 9 - delay
    # Pictures, state and joints move together; the actions alone shift against them.
    np.testing.assert_array_equal(episode.actions["action"][:, 0], np.arange(9 - delay))
    np.testing.assert_array_equal(episode.robot.joints, made["qpos"][delay:9])
    np.testing.assert_allclose(episode.robot.ee[:, 0, 3], made["state"][delay:9, 0])
    means = episode.cameras["images1"].decode(range(9 - delay))[:, 12:, 12:].mean((1, 2, 3))
    np.testing.assert_allclose(means, 40 + 5 * np.arange(delay, 9), atol=2)
    assert episode.time[0] == 0
    assert any("before 2021-07-23" in note for note in episode.notes) == bool(delay)


def test_what_an_episode_lacks_is_absent_and_said(tmp_path):
    made = log(8)
    del made["qpos"], made["time_stamp"]
    folder = write(tmp_path, steps=8, obs=made, views=(0, 2))
    for t in range(8):
        (folder / "images2" / f"im_{t}.jpg").write_bytes(jpeg(0, blank=True))
    (folder / "depth_images0").mkdir()
    (folder / "depth_images0" / "im_0.png").write_bytes(b"x")
    episode = read(tmp_path)
    assert episode.robot.joints is None
    assert episode.time_provenance == Provenance.ESTIMATED
    np.testing.assert_allclose(episode.time, np.arange(7) / 5)
    assert episode.instructions == ()
    assert list(episode.cameras) == ["images0"]
    for said in ("no qpos", "view images2 is blank", "depth_images0 is there and is not read"):
        assert any(said in note for note in episode.notes)
    np.testing.assert_allclose(read(tmp_path, fps=10).time, np.arange(7) / 10)


def test_joints_leave_the_gripper_out(tmp_path):
    made = log(6)
    made["qpos"] = np.concatenate([made["qpos"], np.ones((6, 3))], axis=1)
    write(tmp_path, steps=6, obs=made)
    np.testing.assert_array_equal(read(tmp_path).robot.joints, made["qpos"][:5, :6])


def test_actions_may_be_plain_arrays(tmp_path):
    write(tmp_path, steps=6, actions=[step["actions"] for step in policy(6)])
    np.testing.assert_array_equal(read(tmp_path).actions["action"][:, 0], np.arange(5))


def changed(key, value):
    return {**log(12), key: value}


@pytest.mark.parametrize(
    ("reason", "made"),
    [
        (Reason.UNDECODABLE_RECORD, {"obs": {"state": os.system}}),
        (Reason.WRONG_DTYPE, {"obs": [1, 2]}),
        (Reason.WRONG_DTYPE, {"obs": changed("full_state", np.array([["x"] * 7] * 12))}),
        (Reason.MISSING_FEATURE, {"obs": {"qpos": np.zeros((12, 6))}}),
        (Reason.WRONG_SHAPE, {"obs": changed("full_state", np.zeros((12, 6)))}),
        (Reason.WRONG_SHAPE, {"obs": changed("qpos", np.zeros((11, 6)))}),
        (Reason.WRONG_SHAPE, {"obs": changed("time_stamp", np.zeros(11))}),
        (Reason.NON_FINITE, {"obs": changed("full_state", np.full((12, 7), np.nan))}),
        (Reason.NON_MONOTONIC_TIME, {"obs": changed("time_stamp", np.zeros(12))}),
        (Reason.WRONG_SHAPE, {"actions": policy(13)}),
        (Reason.WRONG_SHAPE, {"actions": []}),
        (Reason.WRONG_SHAPE, {"actions": [np.zeros(7), np.zeros(6)]}),
        (Reason.MISSING_FEATURE, {"actions": [{"action": np.zeros(7)}] * 11}),
        (Reason.WRONG_DTYPE, {"actions": {"actions": np.zeros((11, 7))}}),
        (Reason.NO_CAMERA, {"views": ()}),
        (Reason.BAD_IDENTITY, {"date": "yesterday"}),
        (Reason.EMPTY_EPISODE, {"steps": 1, "actions": np.zeros((0, 7))}),
        (Reason.EMPTY_EPISODE, {"steps": 2, "date": BEFORE}),
    ],
)
def test_each_defect_has_its_reason(tmp_path, reason, made):
    write(tmp_path, **made)
    assert reason_of(tmp_path) == reason


def test_missing_frames_and_files_are_named(tmp_path):
    folder = write(tmp_path)
    (folder / "images0" / "im_7.jpg").unlink()
    with pytest.raises(EpisodeError, match="images0 .* differ is 7"):
        read(tmp_path)
    (folder / "policy_out.pkl").unlink()
    (ref,) = open_bridge_raw(str(tmp_path)).refs(None)["train"]
    assert ref.defect == Reason.MISSING_FEATURE
    assert "policy_out.pkl" in ref.message
    assert reason_of(tmp_path) == Reason.MISSING_FEATURE


def test_trajectories_that_go_away_after_the_plan_are_an_os_error(tmp_path):
    folder = write(tmp_path)
    source = open_bridge_raw(str(tmp_path))
    (ref,) = source.refs(None)["train"]
    shutil.rmtree(folder)
    with pytest.raises(OSError, match="obs_dict"):
        source.read(ref, "train", None)


def test_bounds_and_image_bombs(tmp_path, monkeypatch):
    folder = write(tmp_path)
    bomb = bytearray(jpeg(60))
    at = bytes(bomb).index(b"\xff\xc0") + 5
    bomb[at : at + 4] = b"\x7f\xf0\x7f\xf0"
    (folder / "images0" / "im_0.jpg").write_bytes(bomb)
    assert reason_of(tmp_path) == Reason.TOO_LARGE
    monkeypatch.setattr("converters._bridge_files._IMAGE_LIMIT", 100)
    assert reason_of(tmp_path) == Reason.TOO_LARGE
    monkeypatch.setattr("converters.bridge_raw._EPISODE_LIMIT", 1000)
    assert reason_of(tmp_path) == Reason.TOO_LARGE


def test_refs_are_in_natural_order_and_stamped_by_content(tmp_path):
    for number in (0, 2, 10):
        write(tmp_path, number=number, steps=4)
    write(tmp_path, date=BEFORE, number=1, steps=4)
    (tmp_path / SCENE / "lmdb" / AFTER / "raw" / "traj_group0" / "traj0").mkdir(parents=True)
    source = open_bridge_raw(str(tmp_path))
    refs = source.refs(None)["train"]
    assert [ref.file.split("/")[-4:] for ref in refs] == [
        [BEFORE, "raw", "traj_group0", "traj1"],
        *([AFTER, "raw", "traj_group0", f"traj{n}"] for n in (0, 2, 10)),
    ]
    assert refs[1].crc == refs[2].crc == refs[3].crc  # the same content
    (tmp_path / refs[2].file / "lang.txt").write_text("lift")
    again = source.refs(None)["train"]
    assert [a.crc == b.crc for a, b in zip(refs, again, strict=True)] == [True, True, False, True]
    assert all(ref.length > 0 for ref in refs)


@pytest.mark.parametrize("up", range(8))
def test_an_episode_keeps_its_id_whichever_folder_is_opened(tmp_path, up):
    folder = write(tmp_path, steps=4)
    root = folder.parents[2 + up] if up < 6 else tmp_path
    assert is_bridge_raw(str(root))
    assert read(root).id == f"bridge/{SCENE}/{AFTER}/raw/traj_group0/traj0"


def test_a_copy_outside_bridges_tree_is_named_by_its_path(tmp_path):
    folder = write(tmp_path / "made", steps=4)
    dated = tmp_path / "kitchen" / AFTER
    shutil.copytree(folder.parents[2], dated)
    shutil.rmtree(tmp_path / "made")
    assert read(tmp_path).id == f"bridge/kitchen/{AFTER}/raw/traj_group0/traj0"
    assert read(dated).id == f"bridge/{AFTER}/raw/traj_group0/traj0"
    assert read(dated / "raw").id == f"bridge/{AFTER}/raw/traj_group0/traj0"


def test_a_twin_says_so(tmp_path):
    folder = write(tmp_path)
    assert not read(tmp_path).twin
    (folder.parents[2] / "collection_metadata.json").write_text('{"made_by": "robo4d-twin"}')
    assert open_bridge_raw(str(tmp_path)).twin
    assert read(tmp_path).twin


def test_a_folder_without_trajectories_is_a_usage_error(tmp_path, bridge_data):
    for data in (tmp_path, tmp_path / "absent", bridge_data):
        assert not is_bridge_raw(str(data))
        with pytest.raises(UsageError, match="traj_group"):
            open_bridge_raw(str(data))


def test_mutated_trajectories_are_read_or_refused(tmp_path):
    """Seeded damage to every file of a trajectory, one or several at a time."""
    sound = write(tmp_path / "sound", steps=6, text="lift the pot\nconfidence: 1\n").parents[2]
    names = [p.relative_to(sound) for p in sorted(sound.rglob("*")) if p.is_file()]
    shutil.copytree(sound, tmp_path / "bridge_data_v2" / AFTER)
    root = tmp_path / "bridge_data_v2"
    draw, built = random.Random(0), 0
    source = open_bridge_raw(str(root))
    for _ in range(250):
        hit = draw.sample(names, draw.randint(1, 3))
        for name in hit:
            data = bytearray((sound / name).read_bytes())
            for _ in range(draw.randint(1, 8)):
                at = draw.randrange(len(data)) if data else 0
                if draw.random() < 0.7 and data:
                    data[at] = draw.randrange(256)
                elif draw.random() < 0.5:
                    del data[at:]
                else:
                    data[at:at] = draw.randbytes(8)
            (root / AFTER / name).write_bytes(data)
        (ref,) = source.refs(None)["train"]
        try:
            episode = source.read(ref, "train", None)
            for camera in episode.cameras.values():
                camera.decode(range(len(episode)))
            built += 1
        except EpisodeError as error:
            assert isinstance(error.reason, Reason)  # noqa: PT017
        for name in hit:
            shutil.copyfile(sound / name, root / AFTER / name)
    assert 0 < built < 250


def test_an_object_store_gives_what_a_folder_gives_whatever_it_answers_first(
    s3, no_waits, tmp_path
):
    import s3fs

    for number in range(2):
        write(tmp_path, number=number, text="put the pot on the stove")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            key = f"in/{path.relative_to(tmp_path)}"
            s3.direct().put_object(
                Bucket="data", Key=key, Body=path.read_bytes(), ChecksumAlgorithm="CRC32"
            )
    here = open_bridge_raw(str(tmp_path))
    s3.faults = Faults(1, TRANSIENT, most=4)
    there = again(lambda: open_bridge_raw("s3://data/in"))
    assert there.root == "s3://data/in"
    refs = {}
    # A folder deep down that cannot be listed once: nothing may be missing for it.
    for kind, part in (("500", "traj_group0"), ("slow_down", "traj1"), ("reset", "images1")):
        s3.faults = Faults(1, (kind,), part=part, most=1)
        s3fs.S3FileSystem.clear_instance_cache()  # and with it what was listed
        refs = again(lambda: there.refs(None))
        assert s3.faults.done == 1
        assert refs == here.refs(None)
    for ref in refs["train"]:
        s3.faults = Faults(1, (*TRANSIENT, "flip_answer"), methods=("GET",), part="im_", most=5)
        far, near = (
            again(lambda source=source, ref=ref: source.read(ref, "train", None))
            for source in (there, here)
        )
        assert s3.faults.done == 5
        assert (far.id, far.notes, far.instructions) == (near.id, near.notes, near.instructions)
        assert far.origin == near.origin  # with a hash of every byte read
        assert {n: c.frames for n, c in far.cameras.items()} == {
            n: c.frames for n, c in near.cameras.items()
        }
        np.testing.assert_array_equal(far.robot.joints, near.robot.joints)
    s3.faults = Faults(1, ("500",), part="traj1")
    with pytest.raises(OSError, match="internal error"):
        again(lambda: there.refs(None))


def test_the_head_of_an_object_is_read_where_it_starts(s3):
    fs = fsspec.filesystem("s3")
    for name, content in (("whole", b"0123"), ("long", b"0123456789"), ("empty", b"")):
        s3.direct().put_object(Bucket="data", Key=name, Body=content)
        assert read_head(fs, f"data/{name}", 5) == content[:5]
    assert read_head(fs, "data/none", 5) == b""
    assert read_head(fs, "data", 5) == b""

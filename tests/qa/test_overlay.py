"""The robot over the frames, judged by SciPy, by OpenCV's projection and its video reader."""

import json
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from records import droid_values, example_bytes, write_droid
from scipy.ndimage import binary_dilation, binary_erosion

import robo4d
from qa.overlay import contact_sheet, film, overlay, robot_rows
from qa.picture import picture
from robo4d.geometry import intrinsics, invert, make_pose
from robo4d.sample import encode_sample
from robo4d.shard import ShardWriter
from robots.kinematics import link_poses
from robots.models import ROBOTS
from schemas.reasons import UsageError

GREY = 128
LINE = 16  # height of a tile's label where the tile is 320 wide
WHY = "no solver has run"


def write_shard(path, *samples):
    """A shard of (fields, meta) samples with keys k0, k1, ...; returns its data set."""
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for i, (values, meta) in enumerate(samples):
            writer.add(f"k{i}", encode_sample(values, meta, 10.0, crf=0))
        writer.finish(path.name)
    return robo4d.open(path)


def wandering(n=12, height=36, width=64):
    """Grey frames, and a robot of two parts that moves a pixel a frame."""
    part = np.zeros((n, height, width), np.uint8)
    for t in range(n):
        part[t, 10:20, 4 + t : 14 + t] = 1
        part[t, 20:36, 8 + t : 20 + t] = 5
    rgb = np.full((n, height, width, 3), GREY, np.uint8)
    return {"rgb": rgb, "robot_part": part}


def outline(mask):
    """The mask's last pixels inside; the image's border ends no robot."""
    return mask & ~binary_erosion(mask, border_value=1)


@given(arrays(np.uint8, (2, 9, 11), elements=st.sampled_from([0, 0, 3, 7])))
def test_the_outline_is_the_edge_of_the_silhouette_inside_and_out(part):
    rgb = np.full((*part.shape, 3), GREY, np.uint8)
    drawn = overlay(rgb, part)
    for image, robot in zip(drawn, part > 0, strict=True):
        edge = outline(robot)
        beyond = binary_dilation(robot) & ~robot
        np.testing.assert_array_equal((image == 255).all(-1), edge)
        np.testing.assert_array_equal((image == 0).all(-1), beyond)
        np.testing.assert_array_equal(image[~robot & ~beyond], GREY)
    assert (rgb == GREY).all(), "the caller's frames were drawn on"


def test_parts_differ_in_colour_and_hidden_ones_are_fainter():
    part = np.repeat(np.repeat([[1, 2], [1, 2]], 9, 0), 9, 1).astype(np.uint8)[None]
    visible = np.ones(part.shape, bool)
    visible[:, 9:] = False
    drawn = overlay(np.full((*part.shape, 3), GREY, np.uint8), part, visible)[0].astype(int)
    (one, two), (hidden_one, hidden_two) = drawn[4, [4, 13]], drawn[13, [4, 13]]
    assert np.abs(one - two).max() > 60
    for shown, hidden in ((one, hidden_one), (two, hidden_two)):
        assert 0 < np.abs(hidden - GREY).max() < 0.6 * np.abs(shown - GREY).max()


def test_a_sheet_shows_ten_frames_over_the_clip_where_the_robot_is(tmp_path):
    values = wandering(n=28)
    sample = write_shard(tmp_path / "s.tar", (values, {}))["k0"]
    sheet = contact_sheet(sample, robot_rows(sample))
    height, width = 36 * 5 + LINE, 320  # 64 pixels wide: enlarged five times
    assert sheet.shape[1] == 5 * width
    body = sheet[-2 * height :]
    for n, t in enumerate(range(0, 28, 3)):  # 0, 3, ... 27: ten, evenly
        tile = body[(n // 5) * height :][LINE:height, (n % 5) * width :][:, :width]
        robot = np.kron(values["robot_part"][t] > 0, np.ones((5, 5), bool))
        np.testing.assert_array_equal((tile == 255).all(-1), outline(robot))


@pytest.mark.parametrize("count", [1, 7, 49])
def test_a_clip_of_any_length_fills_a_sheet(tmp_path, count):
    sample = write_shard(tmp_path / "s.tar", (wandering(n=count), {}))["k0"]
    sheet = contact_sheet(sample, robot_rows(sample))
    assert sheet.shape[1] == 320 * min(count, 5)


@pytest.mark.parametrize("size", [(36, 64), (37, 65)])
def test_a_film_shows_every_frame_in_sides_that_every_player_takes(tmp_path, size):
    values = wandering(12, *size)
    sample = write_shard(tmp_path / "s.tar", (values, {}))["k0"]
    frames = film(sample, robot_rows(sample))
    assert len(frames) == 12
    assert frames.shape[1] % 2 == frames.shape[2] % 2 == 0
    robot = np.kron(values["robot_part"][5] > 0, np.ones((10, 10), bool))
    below = frames[5, : frames.shape[1] - frames.shape[1] % 2]
    tile = below[-robot.shape[0] :, : robot.shape[1]]
    np.testing.assert_array_equal((tile == 255).all(-1), outline(robot))


def test_a_robot_whose_hidden_pixels_nobody_knows_is_drawn_whole(tmp_path):
    values = wandering()
    sample = write_shard(tmp_path / "s.tar", (values, {"fields": {}}))["k0"]
    [row] = robot_rows(sample)
    assert row.visible is None
    assert picture(sample).shape == (3 * 36, 4 * 64, 3)


def test_the_command_writes_what_it_lists_and_names_what_it_skips(run_cli, tmp_path):
    values = wandering()
    bare = {"rgb": values["rgb"]}
    absent = {"fields": {"robot_part": {"provenance": "absent", "reason": WHY}}}
    facts = {"verdict": "usable", "why": "few poses", "quality": {"edge_px": 1.25}}
    solved = {"camera": "right", "camera_solution": facts}
    write_shard(tmp_path / "s.tar", (values, {"camera": "left"}), (bare, absent), (values, solved))
    out = tmp_path / "new" / "pictures"
    done = run_cli("overlay", tmp_path / "s.tar", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [(w["key"], w["camera"]) for w in said["written"]] == [
        ("k0", "left"),
        ("k2", "right usable"),
    ]
    assert said["skipped"] == [{"key": "k1", "reason": f"no camera: {WHY}"}]
    assert said["not_looked_at"] == 0
    listed = {item[kind] for item in said["written"] for kind in ("sheet", "video")}
    assert listed == {str(path) for path in out.iterdir()}
    sheet = cv2.imread(said["written"][1]["sheet"])
    sample = robo4d.open(tmp_path / "s.tar")["k2"]
    np.testing.assert_array_equal(sheet[..., ::-1], contact_sheet(sample, robot_rows(sample)))

    reader = cv2.VideoCapture(said["written"][0]["video"])
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    robots = [np.kron(part > 0, np.ones((10, 10), bool)) for part in values["robot_part"]]
    for robot in robots:
        got, frame = reader.read()
        assert got
        tile = frame[-360:].astype(float)
        # H.264 blurs lines of a pixel; inside stays coloured, and far outside grey.
        inside, outside = binary_erosion(robot, iterations=6), ~binary_dilation(robot, iterations=6)
        assert np.ptp(tile[inside], axis=-1).min() > 25
        assert np.abs(tile[outside] - GREY).max() < 12
        assert tile[outline(robot)].mean() > 185
    assert not reader.read()[0]


def test_wrong_keys_lost_shards_and_limits_are_said(run_cli, tmp_path):
    write_shard(tmp_path / "s.tar", *[(wandering(2), {})] * 3)
    few = run_cli("overlay", tmp_path / "s.tar", "--out", tmp_path, "--limit", 1)
    assert few.returncode == 0, few.stderr
    assert "2 more sample(s) not looked at: raise --limit" in few.stderr
    assert len(list(tmp_path.glob("*.mp4"))) == 1
    for args, words in (
        ((tmp_path / "s.tar", "--key", "nope"), "no sample 'nope'"),
        ((tmp_path / "nowhere",), "no shards at"),
        ((tmp_path / "s.tar", "--out", tmp_path / "s.tar"), "choose another --out"),
    ):
        done = run_cli("overlay", *args)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_samples_without_a_camera_are_counted_and_get_no_picture(run_cli, tmp_path):
    write_droid(tmp_path / "data", [example_bytes(droid_values(8, "Mon", 0))])
    out = tmp_path / "out"
    never = ("--set", "camera.solve=never")
    built = run_cli("build", "-s", "droid", "-d", tmp_path / "data", "--out", out, *never)
    assert built.returncode == 0, built.stderr
    done = run_cli("overlay", out, "--out", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    assert "no picture of 3 sample(s): no camera: the source ships no camera" in done.stderr
    assert not (tmp_path / "pictures").exists()


def looking(yaw):
    """base_from_camera of a view on the Panda, turned by ``yaw`` rad."""
    eye, target = np.array([1.6, -1.4, 0.9]), np.array([0.2, 0, 0.4])
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    pose = make_pose(np.stack([x, np.cross(z, x), z], 1), eye)
    turn, _ = cv2.Rodrigues(np.array([0, yaw, 0.0]))
    pose[:3, :3] = pose[:3, :3] @ turn
    return pose


def shipped_sample(provenance="measured", **changes):
    robot = ROBOTS["panda_robotiq"]
    values = wandering(3, 120, 160)
    K, pose = intrinsics(140, 145, 83, 58), looking(0.1)
    values["joints"] = np.repeat(np.array(robot.rest)[None], 3, 0)
    values["joints"][:, 0] = [-0.4, 0, 0.4]
    values["gripper"] = np.array([0, 0.5, 1])
    shipped = {"K": K.tolist(), "base_from_camera": pose.tolist(), "provenance": provenance}
    meta = {"robot": {"name": robot.name}, "camera_solution": {"shipped": shipped | changes}}
    return values, meta, K, pose


@pytest.mark.slow
def test_the_camera_that_was_shipped_is_drawn_before_the_samples_own(tmp_path):
    values, meta, K, pose = shipped_sample("posthoc")
    alone = {name: value for name, value in values.items() if name != "robot_part"}
    data = write_shard(tmp_path / "s.tar", (values, meta), (alone, meta))
    before, after = robot_rows(data["k0"])
    assert before.label == "before (posthoc)"
    assert after.label.startswith("after")
    np.testing.assert_array_equal(after.part, values["robot_part"])
    # Where OpenCV projects the links, there is a robot, of those very links by and large.
    robot = ROBOTS["panda_robotiq"]
    links = link_poses(robot, values["joints"], values["gripper"])[:, :, :3, 3]
    rotation, shift = cv2.Rodrigues(invert(pose)[:3, :3])[0], invert(pose)[:3, 3]
    for part, points in zip(before.part, links, strict=True):
        uv = cv2.projectPoints(points, rotation, shift, K, None)[0][:, 0]
        columns, rows = np.floor(uv).astype(int).T
        near = binary_dilation(part > 0, iterations=2)
        assert near[rows, columns].mean() > 0.9
        hits = [
            i + 1 in part[r - 3 : r + 4, c - 3 : c + 4]
            for i, (r, c) in enumerate(zip(rows, columns, strict=True))
        ]
        assert np.mean(hits) > 0.6
    assert film(data["k0"], [before, after]).shape[2] == 2 * 640
    # A sample whose own camera was rejected still shows what was shipped.
    [only] = robot_rows(data["k1"])
    np.testing.assert_array_equal(only.part, before.part)


@pytest.mark.slow
def test_a_shipped_camera_that_is_none_is_said(run_cli, tmp_path):
    values, meta, _, _ = shipped_sample(K=[[1.0, 0], [0, 1]])
    write_shard(tmp_path / "s.tar", (values, meta))
    done = run_cli("overlay", tmp_path / "s.tar", "--out", tmp_path)
    assert done.returncode == 2
    assert "sample k0: shipped K has shape (2, 2); expected (3, 3)" in done.stderr
    values, meta, _, _ = shipped_sample()
    meta["robot"]["name"] = "pandaa"
    with pytest.raises(UsageError, match="unknown robot 'pandaa'; did you mean 'panda"):
        robot_rows(write_shard(tmp_path / "t.tar", (values, meta))["k0"])


@pytest.mark.slow
def test_a_built_twin_is_drawn_where_its_masks_say(run_cli, built_droid_twin, tmp_path):
    out = built_droid_twin
    [shard] = out.glob("*.tar")
    moved = shutil.copy(shard, tmp_path / "alone.tar")  # a shard without its index, too
    key = next(s.key for s in robo4d.open(out) if s.meta["camera"] == "exterior_image_1_left")
    done = run_cli("overlay", moved, "--key", key, "--out", tmp_path / "pictures", "--json")
    assert done.returncode == 0, done.stderr
    [written] = json.loads(done.stdout)["written"]
    sample = robo4d.open(out)[key]
    sheet = cv2.imread(written["sheet"])
    height = 180 + LINE
    assert sheet.shape[1] == 5 * 320
    times = np.linspace(0, len(sample.rgb) - 1, 10).round().astype(int)
    for n, t in enumerate(times):
        tile = sheet[-2 * height :][(n // 5) * height :][LINE:height, (n % 5) * 320 :][:, :320]
        robot = sample.robot_part[t] > 0
        assert robot.any()
        assert (tile[outline(robot)] == 255).all()
        far = ~binary_dilation(robot)
        np.testing.assert_array_equal(tile[far], sample.rgb[t][far][:, ::-1])
    reader = cv2.VideoCapture(written["video"])
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == len(sample.rgb)

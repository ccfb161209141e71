"""DROID's post-hoc files: read as published, joined to their own episode or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import droid_values, example_bytes, write_droid
from scipy.spatial.transform import Rotation

from converters import open_source
from converters._droid_files import episode_path, same_episode
from converters.droid_calibration import (
    CalibrationIndex,
    join_rlds,
    keep_of_steps,
    read_calibration,
    read_relative_poses,
)
from schemas.config import DroidConfig, SourceConfig
from schemas.episode import Provenance
from schemas.reasons import UsageError

HD, RLDS = (720, 1280), (180, 320)
# Three episodes of one rig: the same cameras, so a serial alone cannot tell them apart.
UUIDS = tuple(f"IRIS+ef107c48+2023-03-07-16h-19m-{n}s" for n in (10, 20, 30))
PATHS = tuple(f"IRIS/success/2023-03-07/Tue_Mar__7_16:19:{n}_2023" for n in (10, 20, 30))
EXT1, EXT2, WRIST = "20521388", "24259877", "13062452"
PREFIX = "gs://xembodiment_data/r2d2/r2d2-data-full"


def pose_of(n: int, camera: int = 0) -> list[float]:
    return [0.5 + n / 10, 0.1 * camera, 0.4, -1.9, 0.2 + camera, 0.3 + n / 10]


def published() -> dict[str, Any]:
    """The files' contents by name, as published."""
    files: dict[str, Any] = {
        "episode_id_to_path": dict(zip(UUIDS, PATHS, strict=True)),
        "camera_serials": {
            uuid: {"ext1_cam_serial": EXT1, "ext2_cam_serial": EXT2, "wrist_cam_serial": WRIST}
            for uuid in UUIDS
        },
        "intrinsics": {
            uuid: {
                serial: {
                    "cameraMatrix": [530.0 + n, 640.0, 531.0 + n, 360.0],
                    "distCoeffs": [0.0] * 5,
                    "width": 1280,
                    "height": 720,
                }
                for serial in (EXT1, EXT2, WRIST)
            }
            for n, uuid in enumerate(UUIDS)
        },
        "cam2base_extrinsics": {
            uuid: {"relative_path": path, EXT1: pose_of(n), "quality_metric": 0.9}
            for n, (uuid, path) in enumerate(zip(UUIDS, PATHS, strict=True))
        },
        "cam2base_extrinsic_superset": {
            uuid: {"relative_path": path, EXT1: pose_of(n), EXT2: pose_of(n, 1)}
            for n, (uuid, path) in enumerate(zip(UUIDS, PATHS, strict=True))
        },
        "droid_language_annotations": {
            uuid: {f"language_instruction{k}": f"do {n}.{k}" for k in (1, 2, 3)}
            for n, uuid in enumerate(UUIDS)
        },
        "keep_ranges_1_0_1": {
            f"{PREFIX}/{path}/recordings/MP4--{PREFIX}/{path}/trajectory.h5": [[n, 20], [30, 41]]
            for n, path in enumerate(PATHS)
        },
    }
    return files


def read(folder: Path, files: dict[str, Any]) -> CalibrationIndex:
    for name, tree in files.items():
        text = tree if isinstance(tree, str) else json.dumps(tree)
        (folder / f"{name}.json").write_text(text)
    return read_calibration(folder)


def x_of(index: CalibrationIndex, serial: str = EXT1, **key: str) -> float | None:
    """Where the camera stands: which episode's calibration this is."""
    found = index.lookup(serial, HD, **key)
    return None if found is None else round(float(found.base_from_camera[0, 3]), 6)


def twice(tree: dict[str, Any], key: str, value: Any) -> str:
    """JSON with ``key`` a second time."""
    return json.dumps(tree)[:-1] + f", {json.dumps(key)}: {json.dumps(value)}}}"


# What is read


def test_intrinsics_are_fx_cx_fy_cy_and_follow_the_resize(tmp_path):
    index = read(tmp_path, published())
    K = index.lookup(EXT1, HD, uuid=UUIDS[1]).K
    # OpenCV's pixel centres are at whole numbers, this product's at +0.5.
    np.testing.assert_allclose(K, [[531, 0, 640.5], [0, 532, 360.5], [0, 0, 1]])
    small = index.lookup(EXT1, RLDS, uuid=UUIDS[1]).K
    np.testing.assert_allclose(small[:2], K[:2] / 4)


def test_poses_are_camera_to_base_with_euler_xyz(tmp_path):
    found = read(tmp_path, published()).lookup(EXT2, HD, uuid=UUIDS[2])
    pose = pose_of(2, 1)
    np.testing.assert_allclose(found.base_from_camera[:3, 3], pose[:3])
    np.testing.assert_allclose(
        found.base_from_camera[:3, :3], Rotation.from_euler("xyz", pose[3:]).as_matrix()
    )
    assert found.provenance == Provenance.POSTHOC


def test_a_bare_list_of_intrinsics_is_read_as_the_readme_has_it(tmp_path):
    files = published()
    files["intrinsics"][UUIDS[0]][EXT1] = [500.0, 641.0, 501.0, 362.0]
    K = read(tmp_path, files).lookup(EXT1, HD, uuid=UUIDS[0]).K
    np.testing.assert_allclose(K, [[500, 0, 641.5], [0, 501, 362.5], [0, 0, 1]])


def test_frames_of_another_aspect_are_a_miss(tmp_path):
    assert read(tmp_path, published()).lookup(EXT1, (480, 640), uuid=UUIDS[0]) is None


def test_all_zero_intrinsics_are_absent(tmp_path):
    files = published()
    files["intrinsics"][UUIDS[0]][EXT1]["cameraMatrix"] = [0, 0, 0, 0]
    index = read(tmp_path, files)
    assert [x_of(index, uuid=uuid) for uuid in UUIDS] == [None, 0.6, 0.7]
    assert any("all zero" in note for note in index.notes)


def test_the_direct_calibration_wins_over_the_superset(tmp_path):
    files = published()
    files["cam2base_extrinsic_superset"][UUIDS[0]][EXT1] = pose_of(7)
    assert x_of(read(tmp_path, files), uuid=UUIDS[0]) == 0.5


def test_the_moving_camera_gets_no_fixed_pose(tmp_path):
    files = published()
    files["cam2base_extrinsics"][UUIDS[0]][WRIST] = pose_of(0)
    index = read(tmp_path, files)
    assert index.lookup(WRIST, HD, uuid=UUIDS[0]) is None
    assert any("wrist" in note for note in index.notes)


def test_annotations_are_read(tmp_path):
    index = read(tmp_path, published())
    assert index.instructions(path=PATHS[1]) == ("do 1.1", "do 1.2", "do 1.3")
    assert index.keep_ranges(PATHS[2]) == ((2, 20), (30, 41))
    assert index.notes == ()


def test_keep_ranges_are_half_open_and_of_the_logs_rows():
    rows = np.array([0, 1, 2, 3, 4, 6, 7])  # row 5 has no frame
    assert keep_of_steps(((2, 4), (5, 6), (6, 7)), rows) == ((2, 4), (5, 6))


def test_relative_poses_are_read_apart(tmp_path):
    left, right = np.eye(4), np.eye(4)
    left[:3, 3], right[:3, 3] = [1, 0, 0], [0, 2, 0]
    sides = {"left_cam": {"pose": left.tolist()}, "right_cam": {"pose": right.tolist()}}
    skewed = {**sides, "left_cam": {"pose": (2 * left).tolist()}}
    tree = {UUIDS[0]: sides, UUIDS[1]: skewed, UUIDS[2]: {"left_cam": 5}}
    (tmp_path / "cam2cam_extrinsics.json").write_text(json.dumps(tree))
    poses = read_relative_poses(tmp_path)
    assert list(poses) == [UUIDS[0]]
    np.testing.assert_allclose(poses[UUIDS[0]][:3, 3], [1, -2, 0])


# Joined to their own


def test_uuid_path_and_both_find_the_same(tmp_path):
    index = read(tmp_path, published())
    for n, (uuid, path) in enumerate(zip(UUIDS, PATHS, strict=True)):
        assert x_of(index, uuid=uuid) == 0.5 + n / 10
        assert x_of(index, path=f"{PREFIX}/{path}/trajectory.h5") == 0.5 + n / 10
        assert x_of(index, path=path.replace(":", "_"), uuid=uuid) == 0.5 + n / 10


def test_what_is_unknown_is_a_miss(tmp_path):
    index = read(tmp_path, published())
    assert x_of(index, uuid=UUIDS[0].replace("10s", "11s")) is None
    assert x_of(index, path=PATHS[0].replace(":10_", ":11_")) is None
    assert x_of(index, path=PATHS[0].replace("success", "failure")) is None
    assert x_of(index, "99999999", uuid=UUIDS[0]) is None
    assert x_of(index, path="nowhere") is None


def test_uuid_and_path_of_two_episodes_are_a_miss(tmp_path):
    index = read(tmp_path, published())
    assert x_of(index, uuid=UUIDS[0], path=PATHS[1]) is None
    assert index.instructions(uuid=UUIDS[0], path=PATHS[1]) == ()


def test_without_the_path_table_lab_and_time_must_agree(tmp_path):
    files = published()
    del files["episode_id_to_path"]
    index = read(tmp_path, files)
    assert x_of(index, uuid=UUIDS[0], path=PATHS[0]) == 0.5
    assert x_of(index, uuid=UUIDS[0], path=PATHS[1]) is None
    assert x_of(index, uuid=UUIDS[0], path=PATHS[0].replace("IRIS", "TRI")) is None
    assert x_of(index, path=PATHS[0]) is None


@pytest.mark.parametrize(
    "name",
    ["episode_id_to_path", "cam2base_extrinsics", "cam2base_extrinsic_superset"],
)
def test_shuffled_ids_are_caught(tmp_path, name):
    """Values moved by one: nothing of another episode may be given out."""
    files = published()
    for other in ("cam2base_extrinsics", "cam2base_extrinsic_superset"):
        if name not in ("episode_id_to_path", other):
            del files[other]
    values = list(files[name].values())
    files[name] = dict(zip(UUIDS, values[1:] + values[:1], strict=True))
    index = read(tmp_path, files)
    for uuid, path in zip(UUIDS, PATHS, strict=True):
        assert x_of(index, uuid=uuid, path=path) is None
        assert x_of(index, path=path) is None
    assert any("3 dropped" in note for note in index.notes)


def test_shuffled_cameras_are_caught(tmp_path):
    files = published()
    rigs = [{"ext1_cam_serial": f"1{n}", "ext2_cam_serial": f"2{n}"} for n in range(3)]
    files["camera_serials"] = dict(zip(UUIDS, rigs[1:] + rigs[:1], strict=True))
    for name in ("cam2base_extrinsics", "cam2base_extrinsic_superset"):
        files[name] = {uuid: {f"1{n}": pose_of(n)} for n, uuid in enumerate(UUIDS)}
    files["intrinsics"] = {
        uuid: {f"1{n}": [530.0, 640.0, 530.0, 360.0]} for n, uuid in enumerate(UUIDS)
    }
    index = read(tmp_path, files)
    assert all(x_of(index, f"1{n}", uuid=uuid) is None for n, uuid in enumerate(UUIDS))


def test_an_id_with_two_paths_is_dropped(tmp_path):
    files = published()
    other = PATHS[0].replace("success", "failure")
    files["episode_id_to_path"] = twice(files["episode_id_to_path"], UUIDS[0], other)
    index = read(tmp_path, files)
    for path in (PATHS[0], other):
        assert x_of(index, path=path) is None
        assert x_of(index, uuid=UUIDS[0], path=path) is None
    assert x_of(index, path=PATHS[1]) == 0.6
    assert any("two paths" in note for note in index.notes)


def test_a_path_with_two_ids_is_dropped(tmp_path):
    files = published()
    again = UUIDS[0].replace("ef107c48", "0d4edc62")
    files["episode_id_to_path"][again] = PATHS[0]
    index = read(tmp_path, files)
    assert x_of(index, path=PATHS[0]) is None
    assert x_of(index, uuid=again, path=PATHS[0]) is None
    assert any("two ids" in note for note in index.notes)


@pytest.mark.parametrize(
    "name", ["cam2base_extrinsics", "intrinsics", "droid_language_annotations"]
)
def test_an_id_twice_with_different_values_is_dropped(tmp_path, name):
    files = published()
    del files["cam2base_extrinsic_superset"]
    files[name] = twice(files[name], UUIDS[0], files[name][UUIDS[1]])
    index = read(tmp_path, files)
    if name == "droid_language_annotations":
        assert index.instructions(uuid=UUIDS[0]) == ()
    else:
        assert x_of(index, uuid=UUIDS[0]) is None
    assert x_of(index, uuid=UUIDS[1]) == 0.6
    assert any("an id twice" in note for note in index.notes)


def test_an_id_twice_with_the_same_value_is_no_conflict(tmp_path):
    files = published()
    tree = files["cam2base_extrinsics"]
    files["cam2base_extrinsics"] = twice(tree, UUIDS[0], tree[UUIDS[0]])
    assert x_of(read(tmp_path, files), uuid=UUIDS[0]) == 0.5


def test_keep_ranges_of_two_episodes_are_dropped(tmp_path):
    files = published()
    mixed = f"{PREFIX}/{PATHS[0]}/recordings/MP4--{PREFIX}/{PATHS[1]}/trajectory.h5"
    files["keep_ranges_1_0_1"] = {mixed: [[0, 5]]}
    index = read(tmp_path, files)
    assert [index.keep_ranges(path) for path in PATHS] == [None] * 3


# RLDS


def test_rlds_episodes_are_joined_by_their_path(tmp_path):
    join = join_rlds(read(tmp_path, published()), f"{PREFIX}/{PATHS[2]}/trajectory.h5")
    assert join.uuid == UUIDS[2]
    assert list(join.calibrations) == ["exterior_image_1_left", "exterior_image_2_left"]
    second = join.calibrations["exterior_image_2_left"]
    np.testing.assert_allclose(second.base_from_camera[:3, 3], pose_of(2, 1)[:3])
    assert second.K[0, 0] == 532 / 4
    assert join.instructions[0] == "do 2.1"
    assert join.keep_ranges == ((2, 20), (30, 41))


def test_a_build_of_rlds_joins_what_its_configuration_names(tmp_path):
    """One record that the files know, and one of the same lab, day and cameras that they do not."""
    files, annotations = published(), tmp_path / "annotations"
    annotations.mkdir()
    for name, tree in files.items():
        (annotations / f"{name}.json").write_text(json.dumps(tree))
    records = []
    for second in (20, 40):
        values = droid_values(steps=45)
        path = f"IRIS/success/2023-03-07/Tue_Mar__7_16:19:{second}_2023"
        values["episode_metadata/file_path"] = f"{PREFIX}/{path}/trajectory.h5"
        records.append(example_bytes(values))
    write_droid(tmp_path, records)
    settings = SourceConfig(droid=DroidConfig(annotations=str(annotations)))
    source = open_source("droid", str(tmp_path / "droid"), settings)
    known, unknown = (source.read(ref, "train", None) for ref in source.refs(None)["train"])
    view = known.cameras["exterior_image_1_left"].calibration
    assert view.provenance == Provenance.POSTHOC
    np.testing.assert_allclose(view.base_from_camera[:3, 3], pose_of(1)[:3])
    assert view.K[0, 0] == pytest.approx(531 * 64 / 1280)  # the test's frames are 64 wide
    assert known.cameras["wrist_image_left"].calibration is None
    assert (known.aliases, known.keep) == ((UUIDS[1],), ((1, 20), (30, 41)))
    assert known.instructions == ("do 1.1", "do 1.2", "do 1.3", "sweep")
    assert known.groups.lab == "IRIS"
    assert all(camera.calibration is None for camera in unknown.cameras.values())
    assert (unknown.aliases, unknown.keep, unknown.instructions) == ((), None, ("sweep",))
    # The annotations decide the shards' bytes, and so their fingerprint.
    bare = open_source("droid", str(tmp_path / "droid"))
    assert bare.joined != source.joined


def test_an_rlds_episode_that_is_not_there_joins_nothing(tmp_path):
    join = join_rlds(read(tmp_path, published()), "/data/CTRLWORLD/success/2023-01-01/episode_0")
    assert (join.uuid, dict(join.calibrations), join.instructions) == (None, {}, ())


# Damage


@pytest.mark.parametrize(
    "value",
    [None, [], [1, 2], ["a"] * 6, [float("nan")] * 6, [1e9] * 6, [10**400] * 6, {}, True, [0] * 6],
)
def test_what_is_no_pose_is_a_miss(tmp_path, value):
    files = published()
    del files["cam2base_extrinsic_superset"]
    files["cam2base_extrinsics"][UUIDS[0]][EXT1] = value
    index = read(tmp_path, files)
    assert x_of(index, uuid=UUIDS[0]) is None
    assert x_of(index, uuid=UUIDS[1]) == 0.6


@pytest.mark.parametrize(
    "value", [None, [1, 2, 3], {"cameraMatrix": [-5, 640, 530, 360]}, [530, 530, 640, 9e9], "x"]
)
def test_what_are_no_intrinsics_is_a_miss(tmp_path, value):
    files = published()
    files["intrinsics"][UUIDS[0]][EXT1] = value
    assert x_of(read(tmp_path, files), uuid=UUIDS[0]) is None


@pytest.mark.parametrize("name", list(published()))
@pytest.mark.parametrize("value", [None, 5, "x", [], [[]], {"a": {"b": [1]}}])
def test_entries_of_any_kind_are_survived(tmp_path, name, value):
    files = published()
    files[name] = {key: value for key in files[name]}
    index = read(tmp_path, files)
    for uuid, path in zip(UUIDS, PATHS, strict=True):
        index.lookup(EXT1, HD, uuid=uuid, path=path)
        join_rlds(index, path)
        index.digest(uuid=uuid, path=path)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": ', "[" * 100_000])
def test_files_that_are_no_objects_stop_the_build(tmp_path, text):
    with pytest.raises(UsageError, match="intrinsics.json"):
        read(tmp_path, {**published(), "intrinsics": text})


def test_a_folder_without_files_is_said(tmp_path):
    with pytest.raises(UsageError, match="none of KarlP/droid's"):
        read_calibration(tmp_path)


def test_a_changed_file_is_read_again_and_changes_the_digest(tmp_path):
    files = published()
    first = read(tmp_path, files)
    files["cam2base_extrinsics"][UUIDS[0]][EXT1] = pose_of(5)
    second = read(tmp_path, files)
    key = [{"uuid": uuid, "path": path} for uuid, path in zip(UUIDS, PATHS, strict=True)]
    assert first.digest(**key[0]) != second.digest(**key[0])
    assert first.digest(**key[1]) == second.digest(**key[1])


def test_paths_are_normalised():
    plain = "IRIS/success/2023-03-07/Tue_Mar__7_16_19_10_2023"
    for path in (
        PATHS[0],
        f"{PREFIX}/{PATHS[0]}/trajectory.h5",
        f"/nfs/{PATHS[0]}/recordings/MP4",
        f"{PATHS[0]}/",
    ):
        assert episode_path(path) == plain
    assert episode_path("IRIS/2023-03-07/Tue_Mar__7_16_19_10_2023") is None
    assert episode_path("IRIS/success/2023-03-07") is None


def test_uuid_and_path_are_compared_by_lab_and_time():
    assert same_episode(UUIDS[0], PATHS[0].replace(":", "_"))
    assert not same_episode(UUIDS[0], PATHS[1].replace(":", "_"))
    assert not same_episode(UUIDS[0].replace("IRIS", "TRI"), PATHS[0].replace(":", "_"))
    assert same_episode("not-published-like-that", PATHS[0])

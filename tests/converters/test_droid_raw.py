"""DROID's raw layout: folders made to order, one defect at a time."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from converters.droid_frames import align_frames
from converters.droid_raw import DroidRawSource, is_droid_raw, open_droid_raw
from robo4d.geometry import make_pose
from schemas.episode import Episode, Provenance
from schemas.plan import EpisodeRef
from schemas.reasons import EpisodeError, Reason, UsageError

PATH = "IRIS/success/2023-03-07/Tue_Mar__7_16_19_59_2023"
UUID = "IRIS+ef107c48+2023-03-07-16h-19m-59s"
SERIALS = {"wrist": "13062452", "ext1": "20521388", "ext2": "24259877"}
CAMERAS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
ROWS = 12
T0 = 1_678_205_999_000  # ms
STATE = "observation/robot_state"
MOUNT = [0.05, 0.0, 0.06, 0.1, -0.2, 0.3]


def clock(rows: int = ROWS) -> np.ndarray:
    """Row times in ms: 15 Hz with the jitter of a real loop."""
    return T0 + np.round(np.arange(rows) * 1000 / 15).astype(np.int64) + np.arange(rows) % 3


def log_values(rows: int = ROWS) -> dict[str, np.ndarray]:
    """What trajectory.h5 holds, by path."""
    sweep = np.linspace(0, 0.5, rows)
    joints = np.tile([0.0, -0.6, 0.0, -2.5, 0.0, 1.9, 0.0], (rows, 1))
    joints[:, 0] = sweep
    pose = np.column_stack([0.4 + sweep, sweep, 0.3 - sweep, np.pi - sweep, sweep, 2 * sweep])
    closed = np.linspace(0, 1, rows)
    values: dict[str, np.ndarray] = {
        f"{STATE}/joint_positions": joints,
        f"{STATE}/cartesian_position": pose,
        f"{STATE}/gripper_position": closed,
        f"{STATE}/joint_velocities": joints,
        "action/cartesian_position": pose,
        "action/cartesian_velocity": pose,
        "action/gripper_position": closed,
        "action/gripper_velocity": closed,
        "action/joint_position": joints,
        "action/joint_velocity": joints,
        "action/target_gripper_position": closed,
        "observation/timestamp/robot_state/read_start": clock(rows),
        "observation/timestamp/skip_action": np.arange(rows) < 2,
    }
    for role, serial in SERIALS.items():
        values[f"observation/camera_type/{serial}"] = np.full(rows, int(role != "wrist"))
        values[f"observation/camera_extrinsics/{serial}_left"] = pose
        values[f"observation/timestamp/cameras/{serial}_frame_received"] = clock(rows) + 9
    values[f"observation/camera_extrinsics/{SERIALS['wrist']}_left_gripper_offset"] = np.tile(
        MOUNT, (rows, 1)
    )
    return values


def write_log(file: Path, values: dict[str, np.ndarray]) -> None:
    with h5py.File(file, "w") as log:
        for name, data in values.items():
            log.create_dataset(name, data=data, maxshape=(None, *data.shape[1:]))


def write_video(file: Path, frames: int, size: tuple[int, int] = (36, 64)) -> None:
    """MPEG-4 as OpenCV writes it, grey level 8 * frame number."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            image = np.full((*size, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def metadata_of(uuid: str = UUID, path: str = PATH) -> dict:
    found = {
        "uuid": uuid,
        "hdf5_path": f"{path.split('/', 1)[1]}/trajectory.h5",
        "success": "/success/" in path,
        "current_task": "Move object to a new position",
    }
    for role, serial in SERIALS.items():
        found[f"{role}_cam_serial"] = serial
        found[f"{role}_cam_extrinsics"] = [0.1] * 6
        found[f"{role}_mp4_path"] = f"success/2023-03-07/x/recordings/MP4/{serial}.mp4"
    return found


def write_episode(
    root: Path,
    path: str = PATH,
    uuid: str = UUID,
    *,
    frames: int = ROWS,
    values: dict[str, np.ndarray] | None = None,
    metadata: dict | None = None,
) -> Path:
    """A sound episode, or one with the values and metadata given."""
    folder = root / path
    videos = folder / "recordings" / "MP4"
    videos.mkdir(parents=True)
    write_log(folder / "trajectory.h5", log_values() if values is None else values)
    tree = metadata_of(uuid, path) if metadata is None else metadata
    (folder / f"metadata_{uuid}.json").write_text(json.dumps(tree))
    for serial in SERIALS.values():
        write_video(videos / f"{serial}.mp4", frames)
    return folder


def write_recorded(folder: Path, times: list[int], *serials: str) -> None:
    for serial in serials or SERIALS.values():
        file = folder / "recordings" / "MP4" / f"{serial}_timestamps.json"
        file.write_text(json.dumps(times))


def opened(root: Path, **options: bool) -> tuple[DroidRawSource, list[EpisodeRef]]:
    source = open_droid_raw(str(root), **options)
    return source, source.refs(None)["train"]


def read(root: Path, **options: bool) -> Episode:
    source, refs = opened(root, **options)
    assert len(refs) == 1
    return source.read(refs[0], "train", None)


def refused(root: Path, **options: bool) -> EpisodeError:
    with pytest.raises(EpisodeError) as caught:
        read(root, **options)
    return caught.value


def grey(episode: Episode, camera: str, step: int) -> float:
    return float(episode.cameras[camera].decode([step]).mean())


def edit(folder: Path, change) -> None:
    with h5py.File(folder / "trajectory.h5", "a") as log:
        change(log)


# What is read


def test_a_sound_episode_is_read_whole(tmp_path):
    write_episode(tmp_path)
    episode = read(tmp_path)
    values = log_values()
    assert episode.id == f"droid/{PATH}"
    assert episode.outcome == "success"
    assert episode.instructions == ("Move object to a new position",)
    assert list(episode.cameras) == list(CAMERAS)
    np.testing.assert_array_equal(episode.robot.joints, values[f"{STATE}/joint_positions"])
    np.testing.assert_allclose(episode.robot.gripper, 1 - values[f"{STATE}/gripper_position"])
    pose = values[f"{STATE}/cartesian_position"]
    np.testing.assert_allclose(
        episode.robot.ee,
        make_pose(Rotation.from_euler("xyz", pose[:, 3:]).as_matrix(), pose[:, :3]),
    )
    assert set(episode.actions) == {
        *("cartesian_position", "cartesian_velocity", "gripper_position", "gripper_velocity"),
        *("joint_position", "joint_velocity", "target_gripper_position"),
    }
    assert episode.actions["gripper_position"].shape == (ROWS, 1)
    assert all(camera.calibration is None for camera in episode.cameras.values())
    assert not episode.twin


def test_times_are_the_logs_own(tmp_path):
    write_episode(tmp_path)
    episode = read(tmp_path)
    np.testing.assert_allclose(episode.time, (clock() - clock()[0]) / 1000)
    assert episode.time_provenance == Provenance.MEASURED
    assert episode.fps == pytest.approx((ROWS - 1) * 1000 / (clock()[-1] - clock()[0]))


def test_a_log_without_clock_has_estimated_times_at_the_rate_given(tmp_path):
    values = log_values()
    del values["observation/timestamp/robot_state/read_start"]
    write_episode(tmp_path, values=values)
    source, refs = opened(tmp_path)
    episode = source.read(refs[0], "train", 5.0)
    assert (episode.fps, episode.time[1]) == (5.0, 0.2)
    assert episode.time_provenance == Provenance.ESTIMATED
    assert any("no timestamps; 5 Hz is assumed" in note for note in episode.notes)


def test_streams_are_the_metadatas_serials(tmp_path):
    folder = write_episode(tmp_path)
    wrist = folder / "recordings" / "MP4" / f"{SERIALS['wrist']}.mp4"
    write_video(wrist, ROWS, (72, 128))
    episode = read(tmp_path)
    assert [episode.cameras[name].size() for name in CAMERAS] == [(36, 64), (36, 64), (72, 128)]
    assert grey(episode, CAMERAS[0], 5) == pytest.approx(40, abs=3)


def test_fixed_cameras_name_lab_day_and_serial_as_their_setup(tmp_path):
    write_episode(tmp_path)
    episode = read(tmp_path)
    setups = {name: camera.setup for name, camera in episode.cameras.items()}
    assert setups == {
        "exterior_image_1_left": "IRIS/2023-03-07/20521388",
        "exterior_image_2_left": "IRIS/2023-03-07/24259877",
        "wrist_image_left": "",
    }


def test_skipped_steps_delays_and_stereo_are_noted(tmp_path):
    folder = write_episode(tmp_path)
    (folder / "recordings" / "MP4" / f"{SERIALS['ext1']}-stereo.mp4").write_bytes(b"")
    episode = read(tmp_path)
    assert episode.aliases == (UUID,)
    notes = episode.notes
    for said in (
        "2 of 12 steps were logged while the operator moved nothing; kept",
        "exterior_image_1_left: frames came in 9 ms (median) after their step",
        f"{SERIALS['ext1']}-stereo.mp4 is not used",
    ):
        assert any(said in note for note in notes), said


def write_stereo(folder: Path, role: str, frames: int = ROWS, width: int = 128) -> None:
    """Left half black; the right one of grey level 8 * frame number, as the left recording."""
    with av.open(str(folder / "recordings/MP4" / f"{SERIALS[role]}-stereo.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.height, stream.width, stream.pix_fmt = 36, width, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            image = np.zeros((36, width, 3), np.uint8)
            image[:, width // 2 :] = 8 * number
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_the_right_views_come_where_asked_for_and_published(tmp_path):
    folder = write_episode(tmp_path)
    for role in ("wrist", "ext1"):
        write_stereo(folder, role)
    assert all(camera.right is None for camera in read(tmp_path).cameras.values())
    cameras = read(tmp_path, stereo=True).cameras
    first, second, wrist = (cameras[name].right for name in CAMERAS)
    assert (first.baseline, second, wrist.baseline) == (0.12, None, 0.063)
    assert first.frames.size() == cameras[CAMERAS[0]].size()
    seen = first.frames.decode([2, 5])
    assert seen.shape == (2, 36, 64, 3)
    np.testing.assert_allclose(seen[:, 10:26, 10:].mean((1, 2, 3)), [16, 40], atol=3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"frames": ROWS - 1}, r"11 frames of \(36, 128\); expected 12"),
        ({"width": 64}, r"12 frames of \(36, 64\); expected 12 of \(36, 128\)"),
    ],
)
def test_a_right_view_that_does_not_fit_is_left_out_with_a_note(tmp_path, wrong, said):
    write_stereo(write_episode(tmp_path), "ext2", **wrong)
    episode = read(tmp_path, stereo=True)
    assert episode.cameras[CAMERAS[1]].right is None
    (note,) = (note for note in episode.notes if "right view" in note)
    assert re.search(said, note)


def test_the_folder_decides_the_outcome_and_a_disagreement_is_noted(tmp_path):
    path = PATH.replace("success", "failure")
    write_episode(tmp_path, path, metadata={**metadata_of(path=path), "success": True})
    episode = read(tmp_path)
    assert episode.outcome == "failure"
    assert any("metadata says success: True" in note for note in episode.notes)


def test_a_gripper_beyond_its_range_is_clipped_and_noted(tmp_path):
    values = log_values()
    values[f"{STATE}/gripper_position"] = np.linspace(-0.01, 1.02, ROWS)
    write_episode(tmp_path, values=values)
    episode = read(tmp_path)
    assert episode.robot.gripper.max() == 1
    assert any("clipped" in note for note in episode.notes)


def test_colons_and_underscores_name_the_same_episode(tmp_path):
    write_episode(tmp_path, PATH.replace("16_19_59", "16:19:59"))
    assert read(tmp_path).id == f"droid/{PATH}"


def test_start_poses_are_the_logs_and_not_a_calibration(tmp_path):
    write_episode(tmp_path)
    source, refs = opened(tmp_path)
    starts = source.start_poses(refs[0])
    pose = log_values()[f"{STATE}/cartesian_position"]
    np.testing.assert_allclose(starts[CAMERAS[0]].base_from_camera[:, :3, 3], pose[:, :3])
    assert starts[CAMERAS[0]].gripper_from_camera is None
    mount = starts["wrist_image_left"].gripper_from_camera
    assert mount is not None
    np.testing.assert_allclose(mount[:3, 3], MOUNT[:3])


# Frames and steps


def test_a_video_one_short_is_paired_by_its_own_timestamps(tmp_path):
    folder = write_episode(tmp_path, frames=ROWS - 1)
    write_recorded(folder, (clock()[:-1] + 9).tolist())
    episode = read(tmp_path)
    assert len(episode) == ROWS - 1
    assert grey(episode, CAMERAS[1], 4) == pytest.approx(32, abs=3)
    assert any("11 frames for 12 steps; paired by the recording's own" in n for n in episode.notes)
    assert any("1 of 12 steps lack a frame; left out: [11]" in note for note in episode.notes)


def test_a_frame_lost_at_the_start_shifts_the_rest(tmp_path):
    folder = write_episode(tmp_path, frames=ROWS - 1)
    write_recorded(folder, (clock()[1:] + 9).tolist())
    episode = read(tmp_path)
    np.testing.assert_array_equal(
        episode.robot.joints, log_values()[f"{STATE}/joint_positions"][1:]
    )
    assert episode.time[0] == 0
    assert grey(episode, CAMERAS[0], 0) == pytest.approx(0, abs=3)


def test_a_frame_lost_by_one_camera_takes_the_step_from_all(tmp_path):
    folder = write_episode(tmp_path)
    wrist = SERIALS["wrist"]
    write_video(folder / "recordings" / "MP4" / f"{wrist}.mp4", ROWS - 1)
    write_recorded(folder, np.delete(clock() + 9, 6).tolist(), wrist)
    episode = read(tmp_path)
    assert len(episode) == ROWS - 1
    assert [grey(episode, name, 6) for name in CAMERAS] == pytest.approx([56, 56, 48], abs=3)


def test_a_repeated_camera_timestamp_shows_where_no_frame_came(tmp_path):
    values = log_values()
    name = f"observation/timestamp/cameras/{SERIALS['ext2']}_frame_received"
    values[name][7] = values[name][6]
    folder = write_episode(tmp_path, values=values)
    write_video(folder / "recordings" / "MP4" / f"{SERIALS['ext2']}.mp4", ROWS - 1)
    episode = read(tmp_path)
    assert len(episode) == ROWS
    shown = [grey(episode, "exterior_image_2_left", step) for step in (6, 7, 8)]
    assert shown == pytest.approx([48, 48, 56], abs=3)


def test_an_unset_camera_timestamp_is_a_step_without_frame(tmp_path):
    values = log_values()
    for serial in SERIALS.values():
        values[f"observation/timestamp/cameras/{serial}_frame_received"][-1] = 0
    write_episode(tmp_path, values=values, frames=ROWS - 1)
    assert len(read(tmp_path)) == ROWS - 1


def test_a_video_one_short_without_evidence_is_refused(tmp_path):
    write_episode(tmp_path, frames=ROWS - 1)
    error = refused(tmp_path)
    assert error.reason == Reason.WRONG_SHAPE
    assert error.episode_id == f"droid/{PATH}"
    assert "11 frames for 12 steps" in str(error)


def test_a_user_may_trust_the_order_and_it_is_said(tmp_path):
    write_episode(tmp_path, frames=ROWS - 1)
    episode = read(tmp_path, trust_order=True)
    assert len(episode) == ROWS - 1
    assert any("on the user's word" in note for note in episode.notes)


@pytest.mark.parametrize("frames", [ROWS - 3, ROWS + 2])
def test_other_counts_need_timestamps_too(tmp_path, frames):
    write_episode(tmp_path, frames=frames)
    assert refused(tmp_path).reason == Reason.WRONG_SHAPE


def test_a_recording_of_another_time_is_refused(tmp_path):
    folder = write_episode(tmp_path)
    write_recorded(folder, (clock() + 777_777).tolist())
    assert "another episode's" in str(refused(tmp_path))


def test_a_recording_that_goes_back_in_time_is_refused(tmp_path):
    folder = write_episode(tmp_path)
    write_recorded(folder, (clock() + 9)[::-1].tolist())
    assert refused(tmp_path).reason == Reason.NON_MONOTONIC_TIME


def test_alignment_never_gives_a_frame_that_is_not_there():
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = int(rng.integers(2, 30))
        times = np.cumsum(rng.integers(1, 90, rows)).astype(float) + T0
        kept = np.sort(rng.choice(rows, int(rng.integers(rows // 2 + 1, rows + 1)), replace=False))
        frame_of_row = align_frames("c", len(kept), rows, times, times[kept]).frame_of_row
        np.testing.assert_array_equal(np.flatnonzero(frame_of_row >= 0), kept)
        np.testing.assert_array_equal(frame_of_row[kept], np.arange(len(kept)))


# Damage


def test_time_must_rise(tmp_path):
    values = log_values()
    values["observation/timestamp/robot_state/read_start"][5] = clock()[4]
    write_episode(tmp_path, values=values)
    error = refused(tmp_path)
    assert (error.reason, "at step 5" in str(error)) == (Reason.NON_MONOTONIC_TIME, True)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (f"{STATE}/joint_positions", None, Reason.MISSING_FEATURE),
        (f"{STATE}/joint_positions", np.zeros((ROWS, 6)), Reason.WRONG_SHAPE),
        (f"{STATE}/joint_positions", np.zeros((0, 7)), Reason.EMPTY_EPISODE),
        (f"{STATE}/joint_positions", np.full((ROWS, 7), np.nan), Reason.NON_FINITE),
        (f"{STATE}/gripper_position", np.zeros(ROWS - 1), Reason.WRONG_SHAPE),
        (f"{STATE}/cartesian_position", np.zeros((ROWS, 6), "S4"), Reason.WRONG_DTYPE),
        ("action/joint_position", np.full((ROWS, 7), np.inf), Reason.NON_FINITE),
    ],
)
def test_a_wrong_log_is_refused_with_its_reason(tmp_path, name, value, reason):
    values = log_values()
    del values[name]
    if value is not None:
        values[name] = value
    write_episode(tmp_path, values=values)
    assert refused(tmp_path).reason == reason


def test_missing_parts_are_known_from_the_plan(tmp_path):
    for n, part in enumerate(["trajectory.h5", f"metadata_{UUID}.json", "recordings/MP4"]):
        folder = write_episode(tmp_path, f"{PATH}{n}")
        gone = folder / part
        for file in [gone] if gone.is_file() else list(gone.iterdir()):
            file.unlink()
    source, refs = opened(tmp_path)
    assert [ref.defect for ref in refs] == [
        Reason.MISSING_FEATURE,
        Reason.MISSING_FEATURE,
        Reason.NO_CAMERA,
    ]
    with pytest.raises(EpisodeError, match="no trajectory.h5"):
        source.read(refs[0], "train", None)


def test_an_empty_log_and_two_metadata_are_known_from_the_plan(tmp_path):
    (write_episode(tmp_path, f"{PATH}0") / "trajectory.h5").write_bytes(b"")
    (write_episode(tmp_path, f"{PATH}1") / "metadata_other.json").write_text("{}")
    assert [ref.defect for ref in opened(tmp_path)[1]] == [Reason.EMPTY_FILE, Reason.BAD_IDENTITY]


def test_one_missing_video_is_refused(tmp_path):
    folder = write_episode(tmp_path)
    (folder / "recordings" / "MP4" / f"{SERIALS['ext1']}.mp4").unlink()
    assert refused(tmp_path).reason == Reason.MISSING_FEATURE


@pytest.mark.parametrize("data", [b"", b"#EXTM3U\nhttp://localhost/x.ts\n", b"\0" * 4096])
def test_what_is_no_video_is_refused(tmp_path, data):
    folder = write_episode(tmp_path)
    (folder / "recordings" / "MP4" / f"{SERIALS['ext1']}.mp4").write_bytes(data)
    assert refused(tmp_path).reason == Reason.UNDECODABLE_IMAGE


def test_a_cut_log_and_noise_are_refused(tmp_path):
    file = write_episode(tmp_path) / "trajectory.h5"
    whole = file.read_bytes()
    for data in (whole[: len(whole) // 2], b"\x89HDF\r\n\x1a\n" + b"\xff" * 500, b"no HDF5"):
        file.write_bytes(data)
        assert refused(tmp_path).reason == Reason.UNDECODABLE_RECORD


def test_a_log_gone_since_the_plan_is_the_users_to_know(tmp_path):
    folder = write_episode(tmp_path)
    source, refs = opened(tmp_path)
    (folder / "trajectory.h5").unlink()
    with pytest.raises(OSError, match=r"trajectory\.h5"):
        source.read(refs[0], "train", None)


def test_the_mark_changes_with_log_metadata_and_video(tmp_path):
    folder = write_episode(tmp_path)
    marks = [opened(tmp_path)[1][0].crc]
    assert marks == [opened(tmp_path)[1][0].crc]
    edit(folder, lambda log: log.create_dataset("action/more", data=np.zeros(9)))
    marks.append(opened(tmp_path)[1][0].crc)
    (folder / f"metadata_{UUID}.json").write_text(json.dumps({**metadata_of(), "success": False}))
    marks.append(opened(tmp_path)[1][0].crc)
    write_video(folder / "recordings" / "MP4" / f"{SERIALS['ext2']}.mp4", ROWS + 1)
    marks.append(opened(tmp_path)[1][0].crc)
    assert len(set(marks)) == 4


# Calibration


def test_the_records_hash_covers_every_file_that_is_read_and_no_other(tmp_path):
    folder = write_episode(tmp_path)
    hashes = [read(tmp_path).origin.sha256]
    edit(folder, lambda log: log["action/joint_position"].__setitem__((0, 0), 0.1))
    hashes.append(read(tmp_path).origin.sha256)
    write_recorded(folder, (clock() + 9).tolist(), SERIALS["ext1"])
    hashes.append(read(tmp_path).origin.sha256)
    video = folder / "recordings" / "MP4" / f"{SERIALS['ext2']}.mp4"
    video.write_bytes(video.read_bytes() + b"\0\0\0\x08free")
    hashes.append(read(tmp_path).origin.sha256)
    assert len(set(hashes)) == 4
    video.with_name(f"{SERIALS['ext2']}-stereo.mp4").write_bytes(b"never opened")
    assert read(tmp_path).origin.sha256 == hashes[-1]
    assert read(tmp_path, stereo=True).origin.sha256 not in hashes


def test_what_is_refused_is_said_alike_wherever_the_data_lies(tmp_path):
    said = set()
    for place in ("one", "elsewhere/two"):
        folder = write_episode(tmp_path / place)
        (folder / "recordings" / "MP4" / f"{SERIALS['ext1']}.mp4").write_bytes(b"junk")
        said.add(str(refused(tmp_path / place)))
    assert len(said) == 1


def write_annotations(root: Path, uuids: list[str], paths: list[str]) -> None:
    """Post-hoc files of one rig: the first camera of episode n stands at x = n / 10."""
    serials = {f"{role}_cam_serial": serial for role, serial in SERIALS.items()}
    files = {
        "episode_id_to_path": dict(zip(uuids, paths, strict=True)),
        "camera_serials": dict.fromkeys(uuids, serials),
        "intrinsics": {
            uuid: {serial: [530.0, 639.5, 531.0, 359.5] for serial in SERIALS.values()}
            for uuid in uuids
        },
        "cam2base_extrinsics": {
            uuid: {"relative_path": path, SERIALS["ext1"]: [n / 10, 0, 0.5, -1.9, 0, 0.3]}
            for n, (uuid, path) in enumerate(zip(uuids, paths, strict=True))
        },
        "droid_language_annotations": {uuid: {"language_instruction1": uuid} for uuid in uuids},
        "keep_ranges_1_0_1": {f"{p}/recordings/MP4--{p}/trajectory.h5": [[1, 5]] for p in paths},
    }
    for name, tree in files.items():
        (root / f"{name}.json").write_text(json.dumps(tree))


def test_each_episode_carries_its_own_calibration_and_texts(tmp_path):
    uuids = [UUID.replace("59s", f"{n}0s") for n in range(3)]
    paths = [PATH.replace("_59_2023", f"_{n}0_2023") for n in range(3)]
    for uuid, path in zip(uuids, paths, strict=True):
        write_episode(tmp_path, path, uuid)
    write_annotations(tmp_path, uuids, paths)
    source, refs = opened(tmp_path)
    for n, ref in enumerate(refs):
        episode = source.read(ref, "train", None)
        first, second, wrist = (episode.cameras[name].calibration for name in CAMERAS)
        assert first is not None
        assert first.base_from_camera[0, 3] == n / 10
        np.testing.assert_allclose(first.K[0], [530 / 20, 0, 32])  # frames are 64 wide
        assert (second, wrist) == (None, None)
        assert episode.instructions == (uuids[n],)
        assert episode.keep == ((1, 5),)
    assert source.calibration is opened(tmp_path)[0].calibration  # read once


def test_annotations_may_lie_elsewhere_and_count_in_the_mark(tmp_path):
    write_episode(tmp_path / "data")
    bare = opened(tmp_path / "data")[1][0]
    (tmp_path / "notes").mkdir()
    write_annotations(tmp_path / "notes", [UUID], [PATH])
    source = open_droid_raw(str(tmp_path / "data"), str(tmp_path / "notes"))
    ref = source.refs(None)["train"][0]
    assert source.read(ref, "train", None).cameras[CAMERAS[0]].calibration is not None
    assert ref.crc != bare.crc


# Another episode's


@pytest.mark.parametrize(
    "change",
    [
        {"uuid": UUID.replace("59s", "58s")},
        {"hdf5_path": "success/2023-03-07/Tue_Mar__7_16:20:59_2023/trajectory.h5"},
        {"ext1_cam_serial": "99999999"},
        {"ext1_cam_serial": SERIALS["wrist"], "wrist_cam_serial": SERIALS["ext1"]},
        {"ext1_cam_serial": SERIALS["ext2"]},
    ],
)
def test_metadata_of_another_episode_is_refused(tmp_path, change):
    write_episode(tmp_path, metadata={**metadata_of(), **change})
    assert refused(tmp_path).reason == Reason.BAD_IDENTITY


def test_metadata_moved_from_another_folder_is_refused(tmp_path):
    other = UUID.replace("19m", "23m")
    write_episode(tmp_path, uuid=other, metadata={**metadata_of(), "uuid": other})
    assert refused(tmp_path).reason == Reason.BAD_IDENTITY


# Hostile


@pytest.mark.parametrize("serial", ["../../../secret", "/etc/passwd", "1" * 40, "", None, {"a": 1}])
def test_a_serial_cannot_lead_out_of_the_folder(tmp_path, serial):
    write_episode(tmp_path, metadata={**metadata_of(), "ext1_cam_serial": serial})
    assert refused(tmp_path).reason in (Reason.WRONG_DTYPE, Reason.MISSING_FEATURE)


def test_paths_in_the_metadata_are_not_followed(tmp_path):
    escape = {f"{role}_mp4_path": "../../../../../../etc/passwd" for role in SERIALS}
    folder = write_episode(tmp_path, metadata={**metadata_of(), **escape})
    for camera in read(tmp_path).cameras.values():
        assert Path(camera.frames.url).parent == folder / "recordings" / "MP4"


@pytest.mark.parametrize(
    "part", ["trajectory.h5", f"metadata_{UUID}.json", f"recordings/MP4/{SERIALS['ext1']}.mp4"]
)
def test_links_out_of_the_folder_are_refused(tmp_path, part):
    folder = write_episode(tmp_path / "data")
    (folder / part).rename(tmp_path / "elsewhere")
    (folder / part).symlink_to(tmp_path / "elsewhere")
    assert refused(tmp_path / "data").reason == Reason.BAD_IDENTITY


def test_a_plan_cannot_name_a_place_outside(tmp_path):
    write_episode(tmp_path / "data")
    source, refs = opened(tmp_path / "data")
    for file in (f"../data/{PATH}", f"/etc/{PATH}", "nowhere"):
        with pytest.raises(EpisodeError) as caught:
            source.read(dataclasses.replace(refs[0], file=file), "train", None)
        assert caught.value.reason == Reason.BAD_IDENTITY


def _external_link(log: h5py.File, secret: Path) -> None:
    log["action/joint_position"] = h5py.ExternalLink(str(secret), "values")


def _soft_link(log: h5py.File, secret: Path) -> None:
    log["away"] = h5py.ExternalLink(str(secret), "/")
    log["action/joint_position"] = h5py.SoftLink("/away/values")


def _external_group(log: h5py.File, secret: Path) -> None:
    del log["action"]
    log["action"] = h5py.ExternalLink(str(secret), "/")


def _virtual(log: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((ROWS, 7), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "values", (ROWS, 7))
    log.create_virtual_dataset("action/joint_position", layout)


def _external_storage(log: h5py.File, secret: Path) -> None:
    log.create_dataset(
        "action/joint_position", (ROWS, 7), "f8", external=[(str(secret), 0, ROWS * 56)]
    )


@pytest.mark.parametrize(
    "attack", [_external_link, _soft_link, _external_group, _virtual, _external_storage]
)
def test_other_files_are_never_read_through_hdf5(tmp_path, attack):
    secret = tmp_path / "secret.h5"
    write_log(secret, {"values": np.full((ROWS, 7), 0.5), "joint_position": np.zeros((ROWS, 7))})
    values = log_values()
    del values["action/joint_position"]
    folder = write_episode(tmp_path / "data", values=values)
    edit(folder, lambda log: attack(log, secret))
    error = refused(tmp_path / "data")
    assert error.reason == Reason.UNDECODABLE_RECORD
    assert "refused" in str(error)


def test_objects_are_not_read(tmp_path):
    def change(log):
        del log["action/joint_position"]
        log.create_dataset("action/joint_position", (ROWS, 7), h5py.string_dtype())

    edit(write_episode(tmp_path), change)
    assert refused(tmp_path).reason == Reason.WRONG_DTYPE


@pytest.mark.parametrize(
    ("shape", "chunks"), [((1 << 40, 7), (1, 7)), ((ROWS, 7), (1 << 27, 7)), ((1 << 20, 7), (1, 7))]
)
def test_huge_claims_are_refused_before_memory_is_set_aside(tmp_path, shape, chunks):
    def change(log):
        del log["action/joint_position"]
        log.create_dataset("action/joint_position", shape, "f4", chunks=chunks, maxshape=(None, 7))

    edit(write_episode(tmp_path), change)
    assert refused(tmp_path).reason == Reason.TOO_LARGE


def test_foreign_filters_are_refused(tmp_path):
    def change(log):
        del log["action/joint_position"]
        data = np.zeros((ROWS, 7))
        log.create_dataset("action/joint_position", data=data, compression="lzf")

    edit(write_episode(tmp_path), change)
    assert refused(tmp_path).reason == Reason.UNDECODABLE_RECORD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" " * (9 << 20), Reason.TOO_LARGE),
        ("[" * 100_000, Reason.UNDECODABLE_RECORD),
        ("[]", Reason.WRONG_DTYPE),
        ('{"uuid": ', Reason.UNDECODABLE_RECORD),
    ],
)
def test_metadata_that_is_no_sane_json_is_refused(tmp_path, text, reason):
    folder = write_episode(tmp_path)
    (folder / f"metadata_{UUID}.json").write_text(text)
    assert refused(tmp_path).reason == reason


def test_damaged_logs_are_refused_or_read_but_never_crash(tmp_path):
    """A hundred seeded mutations, in a process of its own: HDF5's library is C."""
    folder = write_episode(tmp_path)
    script = """
import sys
from pathlib import Path
import numpy as np
from converters.droid_raw import open_droid_raw
from schemas.reasons import EpisodeError
file = Path(sys.argv[2])
whole = np.frombuffer(file.read_bytes(), np.uint8)
source = open_droid_raw(sys.argv[1])
ref = source.refs(None)["train"][0]
rng = np.random.default_rng(0)
for _ in range(100):
    data = whole.copy()
    at = rng.integers(0, len(data), rng.integers(1, 9))
    data[at] = rng.integers(0, 256, len(at))
    file.write_bytes(data.tobytes()[: len(data) - int(rng.integers(0, 3)) * 100])
    try:
        source.read(ref, "train", None)
    except EpisodeError:
        pass
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(folder / "trajectory.h5")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr


# Finding it


def test_the_layout_is_known_at_and_up_to_two_folders_above_the_labs(tmp_path):
    root = tmp_path / "droid_raw" / "1.0.1"
    write_episode(root)
    for data in (root, root.parent, tmp_path):
        assert is_droid_raw(str(data))
        assert open_droid_raw(str(data)).root == str(root)
    assert not is_droid_raw(str(root / "IRIS"))
    assert not is_droid_raw(str(tmp_path / "nowhere"))


def test_rlds_is_not_taken_for_it(tmp_path):
    write_episode(tmp_path)
    (tmp_path / "features.json").write_text("{}")
    assert not is_droid_raw(str(tmp_path))


def test_urls_nothing_and_two_data_sets_are_refused(tmp_path):
    with pytest.raises(UsageError, match="local folders only"):
        open_droid_raw("gs://gresearch/robotics/droid_raw/1.0.1")
    assert not is_droid_raw("gs://gresearch/robotics/droid_raw/1.0.1")
    with pytest.raises(UsageError, match="holds none"):
        open_droid_raw(str(tmp_path))
    for version in ("1.0.0", "1.0.1"):
        write_episode(tmp_path / version)
    with pytest.raises(UsageError, match="2 raw data sets"):
        open_droid_raw(str(tmp_path))


def test_episodes_come_in_order_of_their_path(tmp_path):
    for lab in ("TRI", "CLVR"):
        for outcome in ("success", "failure"):
            path = PATH.replace("IRIS", lab).replace("success", outcome)
            write_episode(tmp_path, path, UUID.replace("IRIS", lab), metadata=metadata_of())
    files = [ref.file for ref in opened(tmp_path)[1]]
    assert files == sorted(files)
    assert len(files) == 4


# The twin


@pytest.mark.slow
def test_the_twin_is_read_and_its_truth_and_calibration_agree(tmp_path, monkeypatch):
    import zarr

    from robo4d.geometry import rotation_angle
    from robots.kinematics import ee_poses
    from robots.models import ROBOTS
    from schemas.truth import truth_group
    from simulation import droid_raw

    # Filming is what takes time: a few steps hold every defect, if the camera stalls early.
    drawn = [_shortened(droid_raw.draw_episode(0, index), 6) for index in range(3)]
    monkeypatch.setattr(droid_raw, "draw_episode", lambda seed, index: drawn[index])
    root = droid_raw.write_droid_raw_twin(tmp_path, episodes=3, seed=0, stalled=3)
    source, refs = opened(tmp_path)
    assert source.twin
    episodes = {ref.file: source.read(ref, "train", None) for ref in refs}
    lost = [1, 0, 0]
    zeros = 0
    for index, made in enumerate(drawn):
        episode = episodes[made.id.removeprefix("droid/").replace(":", "_")]
        steps = len(made.script.joints) - lost[index]
        assert len(episode) == steps
        assert episode.outcome == ("success" if made.script.success else "failure")
        ee = ee_poses(ROBOTS["panda_robotiq"], episode.robot.joints)
        np.testing.assert_allclose(ee, episode.robot.ee, atol=1e-5)
        starts = source.start_poses(next(ref for ref in refs if f"droid/{ref.file}" == episode.id))
        for name, camera in episode.cameras.items():
            truth = zarr.open_group(
                root / "truth.zarr", path=truth_group(episode.id, name), mode="r"
            )
            assert truth["depth"].shape == (steps, *camera.size())
            true_pose = truth["base_from_camera"][0]
            off = starts[name].base_from_camera[0, :3, 3] - true_pose[:3, 3]
            assert 0.003 < np.linalg.norm(off) < 0.3
            if camera.calibration is None:
                zeros += name != "wrist_image_left"
                continue
            np.testing.assert_allclose(camera.calibration.K, truth["K"][:], atol=1e-9)
            pose = camera.calibration.base_from_camera
            assert np.linalg.norm(pose[:3, 3] - true_pose[:3, 3]) < 0.01
            assert rotation_angle(pose[:3, :3], true_pose[:3, :3]) < 0.012
    assert zeros == 1
    wrist = episodes[drawn[2].id.removeprefix("droid/").replace(":", "_")].cameras[CAMERAS[2]]
    assert np.diff(wrist.frames.frame_of_step).min() == 0


def _shortened(episode, steps: int):
    script = episode.script
    cut = {name: getattr(script, name)[:steps] for name in ("joints", "closed", "things", "held")}
    return dataclasses.replace(episode, script=dataclasses.replace(script, **cut))

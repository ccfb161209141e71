"""Small sound raw folders made to order, as ``{path: bytes}``: DROID's and Bridge's."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs_rlds import STEPS, Files, bridge_state, euler_pose, picture, sweep
from converters import bridge, droid

DROID_PATH = "IRIS/success/2023-03-07/Tue_Mar__7_16_19_59_2023"
DROID_UUID = "IRIS+ef107c48+2023-03-07-16h-19m-59s"
SERIALS = {"wrist": "13062452", "ext1": "20521388", "ext2": "24259877"}
BRIDGE_DATED = "bridge_data_v2/kitchen/pot/02/2022-03-04_10-11-12"
_STATE, _STAMPS = "observation/robot_state", "observation/timestamp"


def write(files: Mapping[str, bytes], root: Path) -> Path:
    """Write files below ``root``; returns it."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def droid_log(
    steps: int = STEPS, start: int = 1_678_205_999_000, offset: float = 0.0, name: str = ""
) -> bytes:
    """``trajectory.h5`` at 15 Hz; ``start`` is its first row's time in ms, ``name`` its folder's
    name, which DROID's collector keeps as an attribute.
    """
    joints, ee = sweep(droid.ROBOT, steps, offset)
    pose, closed = euler_pose(ee), np.linspace(0, 1, steps)
    time = start + np.round(np.arange(steps) * 1000 / droid.RATE).astype(np.int64)
    values: dict[str, NDArray] = {
        f"{_STATE}/joint_positions": joints,
        f"{_STATE}/cartesian_position": pose,
        f"{_STATE}/gripper_position": closed,
        "action/cartesian_position": pose,
        "action/gripper_position": closed,
        "action/joint_position": joints,
        f"{_STAMPS}/robot_state/read_start": time,
        f"{_STAMPS}/skip_action": np.arange(steps) < 1,
    }
    for role, serial in SERIALS.items():
        values[f"observation/camera_type/{serial}"] = np.full(steps, int(role != "wrist"))
        values[f"observation/camera_extrinsics/{serial}_left"] = pose
        values[f"{_STAMPS}/cameras/{serial}_frame_received"] = time + 9
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as log:
        for path, data in values.items():
            log.create_dataset(path, data=data, maxshape=(None, *data.shape[1:]))
        if name:
            log.attrs["time"] = name.replace("_16_", "_16:")
    return buffer.getvalue()


def film(frames: int, level: int = 0, size: tuple[int, int] = (36, 64)) -> bytes:
    """An MP4 whose frame n has the grey ``level`` + 8 n."""
    greys = ((level + 8 * number) % 256 for number in range(frames))
    return film_of([np.full((*size, 3), grey, np.uint8) for grey in greys])


def film_of(pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    """An MP4 as OpenCV writes it (MPEG-4 part 2) of pictures (H, W, 3)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.bit_rate = 4_000_000
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def droid_metadata(path: str = DROID_PATH, uuid: str = DROID_UUID) -> dict[str, Any]:
    """``metadata_<uuid>.json``, of what is read and a path that is not followed."""
    tree: dict[str, Any] = {
        "uuid": uuid,
        "lab": path.split("/")[0],
        "hdf5_path": f"{path.split('/', 1)[1]}/trajectory.h5",
        "success": "/success/" in path,
        "current_task": "Move object to a new position",
    }
    for role, serial in SERIALS.items():
        tree[f"{role}_cam_serial"] = serial
        tree[f"{role}_mp4_path"] = f"success/2023-03-07/x/recordings/MP4/{serial}.mp4"
    return tree


def droid_folder(
    path: str = DROID_PATH,
    uuid: str = DROID_UUID,
    *,
    steps: int = STEPS,
    start: int = 1_678_205_999_000,
    level: int = 0,
    log: bytes | None = None,
    video: bytes | None = None,
) -> Files:
    """One sound episode of DROID's raw release; its log and video may be given, made before."""
    files = {
        f"{path}/trajectory.h5": log or droid_log(steps, start, name=path.rpartition("/")[2]),
        f"{path}/metadata_{uuid}.json": json.dumps(droid_metadata(path, uuid)).encode(),
    }
    for serial in SERIALS.values():
        files[f"{path}/recordings/MP4/{serial}.mp4"] = video or film(steps, level)
    return files


def with_times(
    files: Files, path: str = DROID_PATH, start: int = 1_678_205_999_000, steps: int = STEPS
) -> Files:
    """The folder with ``<serial>_timestamps.json`` beside its videos, as published for some."""
    times = start + 9 + np.round(np.arange(steps) * 1000 / droid.RATE).astype(np.int64)
    beside = {
        f"{path}/recordings/MP4/{serial}_timestamps.json": json.dumps(times.tolist()).encode()
        for serial in SERIALS.values()
    }
    return {**files, **beside}


def camera_pose(number: int, camera: int = 0) -> list[float]:
    """Where a camera of episode ``number`` stands: x tells which episode's it is."""
    return [0.5 + number / 100, 0.3 * camera, 0.6, -2.0, 0.1 * camera, 0.4]


def droid_annotations(uuids: Sequence[str], paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The post-hoc files of one rig by name, as published (`converters.droid_calibration`)."""
    numbered = list(enumerate(zip(uuids, paths, strict=True)))
    serials = {f"{role}_cam_serial": serial for role, serial in SERIALS.items()}
    ext1, ext2 = SERIALS["ext1"], SERIALS["ext2"]
    return {
        "episode_id_to_path": dict(zip(uuids, paths, strict=True)),
        "camera_serials": {uuid: dict(serials) for uuid in uuids},
        "intrinsics": {
            uuid: {s: {"cameraMatrix": [530.0 + n, 640.0, 530.0 + n, 360.0]} for s in (ext1, ext2)}
            for n, (uuid, _) in numbered
        },
        "cam2base_extrinsics": {
            uuid: {"relative_path": path, ext1: camera_pose(n), "quality_metric": 0.9}
            for n, (uuid, path) in numbered
        },
        "cam2base_extrinsic_superset": {
            uuid: {"relative_path": path, ext1: camera_pose(n), ext2: camera_pose(n, 1)}
            for n, (uuid, path) in numbered
        },
        "droid_language_annotations": {
            uuid: {f"language_instruction{k}": f"do {n}.{k}" for k in (1, 2, 3)}
            for n, (uuid, _) in numbered
        },
        "keep_ranges_1_0_1": {
            f"gs://x/{path}/recordings/MP4--gs://x/{path}/trajectory.h5": [[0, 3 + n]]
            for n, (_, path) in numbered
        },
    }


def annotation_files(trees: Mapping[str, Any]) -> Files:
    """Trees by name as JSON files; a text stands for itself."""
    return {
        f"{name}.json": (tree if isinstance(tree, str) else json.dumps(tree)).encode()
        for name, tree in trees.items()
    }


def bridge_folder(number: int = 0, steps: int = STEPS, views: Sequence[int] = (0, 1)) -> Files:
    """One sound trajectory as bridge_data_robot writes it, with the collection's own files."""
    folder = f"{BRIDGE_DATED}/raw/traj_group0/traj{number}"
    joints, _ = sweep(bridge.ROBOT, steps)
    log = {
        "qpos": joints,
        "full_state": bridge_state(steps),
        "time_stamp": 1.6e9 + 0.2 * np.arange(steps),
        "env_done": np.zeros(steps, bool),
    }
    policy = [{"actions": np.zeros(7), "policy_type": "VRTeleopPolicy"} for _ in range(steps - 1)]
    topics = [{"name": "/D435/color/image_raw", "flip": False}, "/blue/image_raw"]
    config = {"agent": {"env": ["WidowX", {"camera_topics": topics}]}}
    return {
        f"{BRIDGE_DATED}/config.json": json.dumps(config).encode(),
        f"{BRIDGE_DATED}/collection_metadata.json": b'{"environment": "kitchen"}',
        f"{folder}/obs_dict.pkl": pickle.dumps(log),
        f"{folder}/policy_out.pkl": pickle.dumps(policy),
        f"{folder}/lang.txt": b"move the pot\nconfidence: 1.0\n",
        **{
            f"{folder}/images{view}/im_{t}.jpg": picture(30 + 7 * (t % 30))
            for view in views
            for t in range(steps)
        },
    }

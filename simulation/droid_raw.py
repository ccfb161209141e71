"""The twin of DROID's raw release: the episodes of `simulation.droid`, a folder each.

::

    out/droid_raw/1.0.1/TWIN/{success,failure}/<date>/<time>/trajectory.h5, metadata_<uuid>.json
                                                             recordings/MP4/<serial>.mp4
                        dataset_info.json         says that it is a twin; the release has none
                        <KarlP/droid's files>     post-hoc calibration, texts, idle ranges
                        truth.zarr                `schemas.truth`

What is unlike the release: videos have the film's 320x180, not 1280x720; there is no right view
(``-stereo.mp4``) and no SVO. Its defects are here: shipped extrinsics are off by degrees and
centimetres; the first episode's videos lack the last frame (with ``_timestamps.json``), the third's
wrist camera stalls once; one camera's intrinsics are all zero.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import Floats, invert, make_pose
from robots.kinematics import ee_poses
from schemas.images import decode_image
from schemas.truth import TRUTH_STORE, TWIN_MARK
from simulation._store import write_truth
from simulation.droid import (
    RATE,
    ROBOT,
    DroidEpisode,
    draw_episode,
    encode_episode,
    film_episode,
)
from simulation.film import Film

LAYOUT = "droid_raw/1.0.1"
_SERIALS = {
    "exterior_image_1_left": ("ext1", "20000001"),
    "exterior_image_2_left": ("ext2", "20000002"),
    "wrist_image_left": ("wrist", "10000001"),
}
_SHIPPED_M, _SHIPPED_RAD = 0.04, 0.06  # error of shipped extrinsics, one sigma an axis
_POSTHOC_M, _POSTHOC_RAD = 0.002, 0.002


def write_droid_raw_twin(out: Path, episodes: int, seed: int, stalled: int = 20) -> Path:
    """Make the twin under ``out``; the same episodes and seed give the same episodes.

    Args:
        stalled: row at which the third episode's wrist camera gives no new frame, at least 1.

    Returns:
        The folder of labs: ``out/droid_raw/1.0.1``.
    """
    root = out / LAYOUT
    root.mkdir(parents=True)
    zarr.open_group(root / TRUTH_STORE, mode="w")
    entries = []
    for index in range(episodes):
        episode = draw_episode(seed, index)
        entries.append(write_episode(root, episode, film_episode(episode), seed, index, stalled))
    write_annotations(root, entries, seed)
    return root


def write_episode(
    root: Path,
    episode: DroidEpisode,
    films: dict[str, Film],
    seed: int,
    index: int,
    stalled: int,
) -> dict[str, Any]:
    """One folder and its truth; returns what `write_annotations` needs of it."""
    rng = np.random.default_rng([seed, index, 7])
    steps = encode_episode(episode, films)["steps"]
    path = episode.id.removeprefix("droid/").replace(":", "_")  # as the release's bucket has it
    uuid = _uuid(path)
    folder = root / path
    videos = folder / "recordings" / "MP4"
    videos.mkdir(parents=True)
    rows = len(episode.script.joints)
    stamps = _stamps(path, rows, rng)
    kept = {name: np.arange(rows) for name in films}
    if index == 0:
        kept = {name: np.arange(rows - 1) for name in films}
    if index == 2:
        kept["wrist_image_left"] = np.delete(np.arange(rows), stalled)
        stamps["wrist_image_left"][stalled] = stamps["wrist_image_left"][stalled - 1]
    for name, film in films.items():
        serial = _SERIALS[name][1]
        _write_video(videos / f"{serial}.mp4", [film.frames[t] for t in kept[name]])
        if index == 0:
            (videos / f"{serial}_timestamps.json").write_text(
                json.dumps(stamps[name][kept[name]].tolist())
            )
    shipped = {name: _noisy(film, rng, _SHIPPED_M, _SHIPPED_RAD) for name, film in films.items()}
    _write_log(folder / "trajectory.h5", steps, stamps, shipped)
    (folder / f"metadata_{uuid}.json").write_text(
        json.dumps(_metadata(uuid, path, episode, shipped), indent=2)
    )
    # Steps that no reader can keep have no truth either, so that both number steps alike.
    last = rows - 1 if index == 0 else rows
    write_truth(
        root / TRUTH_STORE,
        f"droid/{path}",
        {n: f.showing(np.arange(last)) for n, f in films.items()},
    )
    return {
        "uuid": uuid,
        "path": path,
        "steps": rows,
        "texts": [steps[0][f"language_instruction{n}"] for n in ("", "_2", "_3")],
        "K": {name: film.K for name, film in films.items()},
        "poses": {
            name: _noisy(film, rng, _POSTHOC_M, _POSTHOC_RAD)[0]
            for name, film in films.items()
            if not episode.layout.cameras[name].on_wrist
        },
    }


def write_annotations(root: Path, entries: list[dict[str, Any]], seed: int) -> None:
    """``dataset_info.json`` and KarlP/droid's files; the last episode's first K is all zero."""
    serial_of = {name: serial for name, (_, serial) in _SERIALS.items()}
    blank = (entries[-1]["uuid"], "exterior_image_1_left")
    files: dict[str, Any] = {
        "dataset_info": {
            "name": "droid_raw",
            "version": "1.0.1",
            "description": f"{TWIN_MARK}: simulated pick-and-place with a Franka Panda and a "
            f"Robotiq 2F-85, laid out as DROID raw, at {RATE:g} Hz (seed {seed}). Not DROID's "
            "data.",
        },
        "episode_id_to_path": {e["uuid"]: e["path"] for e in entries},
        "camera_serials": {
            e["uuid"]: {f"{role}_cam_serial": serial for role, serial in _SERIALS.values()}
            for e in entries
        },
        "intrinsics": {
            e["uuid"]: {
                serial_of[name]: _intrinsics(K, (e["uuid"], name) == blank)
                for name, K in e["K"].items()
            }
            for e in entries
        },
        "cam2base_extrinsics": {
            e["uuid"]: {
                "relative_path": e["path"],
                **{serial_of[name]: pose.tolist() for name, pose in e["poses"].items()},
            }
            for e in entries
        },
        "droid_language_annotations": {
            e["uuid"]: {f"language_instruction{n}": text for n, text in enumerate(e["texts"], 1)}
            for e in entries
        },
        "keep_ranges_1_0_1": {
            f"{e['path']}/recordings/MP4--{e['path']}/trajectory.h5": [[0, e["steps"] - 1]]
            for e in entries
        },
    }
    for name, tree in files.items():
        (root / f"{name}.json").write_text(json.dumps(tree, indent=2) + "\n")


def _uuid(path: str) -> str:
    """<LAB>+<user>+<time>, as droid/postprocessing/stages.py makes it."""
    lab, when = path.split("/")[0], path.split("/")[-1]
    time = datetime.strptime(when.replace("__", "_"), "%a_%b_%d_%H_%M_%S_%Y")
    user = hashlib.sha256(lab.encode()).hexdigest()[:8]
    return f"{lab}+{user}+{time:%Y-%m-%d-%Hh-%Mm-%Ss}"


def _stamps(path: str, rows: int, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """ms: when each row's state was read ("state"), and when each camera's frame came in."""
    day = datetime.fromisoformat(path.split("/")[2])
    start = int((day - datetime(1970, 1, 1)).total_seconds() * 1000)
    state = start + np.round(np.arange(rows) * 1000 / RATE).astype(np.int64)
    state = state + rng.integers(0, 4, rows)
    return {"state": state, **{name: state + rng.integers(4, 14, rows) for name in _SERIALS}}


def _write_log(
    file: Path,
    steps: list[dict[str, Any]],
    stamps: dict[str, NDArray[np.int64]],
    shipped: dict[str, Floats],
) -> None:
    action = {n: np.array([s["action_dict"][n] for s in steps]) for n in steps[0]["action_dict"]}
    state = {
        n: np.array([s["observation"][n] for s in steps])
        for n in ("joint_position", "cartesian_position", "gripper_position")
    }
    rows = len(steps)
    values: dict[str, NDArray] = {
        **{f"action/{name}": v[:, 0] if v.shape[1] == 1 else v for name, v in action.items()},
        "observation/robot_state/joint_positions": state["joint_position"],
        "observation/robot_state/cartesian_position": state["cartesian_position"],
        "observation/robot_state/gripper_position": state["gripper_position"][:, 0],
        "observation/timestamp/robot_state/read_start": stamps["state"],
        "observation/timestamp/robot_state/read_end": stamps["state"] + 2,
        "observation/timestamp/control/step_start": stamps["state"],
        "observation/timestamp/skip_action": np.zeros(rows, bool),
        "observation/controller_info/movement_enabled": np.ones(rows, bool),
    }
    for name, (role, serial) in _SERIALS.items():
        values[f"observation/camera_type/{serial}"] = np.full(rows, int(role != "wrist"))
        values[f"observation/camera_extrinsics/{serial}_left"] = shipped[name]
        values[f"observation/timestamp/cameras/{serial}_frame_received"] = stamps[name]
    wrist = _SERIALS["wrist_image_left"][1]
    gripper = ee_poses(ROBOT, state["joint_position"][:1])[0]
    mount = invert(gripper) @ _matrix(shipped["wrist_image_left"][0])
    values[f"observation/camera_extrinsics/{wrist}_left_gripper_offset"] = np.tile(
        _vector(mount), (rows, 1)
    )
    with h5py.File(file, "w") as log:
        for name, data in values.items():
            log.create_dataset(name, data=data, maxshape=(None, *data.shape[1:]))


def _metadata(
    uuid: str, path: str, episode: DroidEpisode, shipped: dict[str, Floats]
) -> dict[str, Any]:
    lab, outcome, day, when = path.split("/")
    within = f"{outcome}/{day}/{when}"
    tree: dict[str, Any] = {
        "uuid": uuid,
        "lab": lab,
        "user": "twin",
        "user_id": uuid.split("+")[1],
        "date": day,
        "timestamp": uuid.split("+")[2],
        "hdf5_path": f"{within}/trajectory.h5",
        "success": outcome == "success",
        "current_task": "Move object to a new position and orientation",
        "trajectory_length": len(episode.script.joints),
    }
    for name, (role, serial) in _SERIALS.items():
        tree[f"{role}_cam_serial"] = serial
        tree[f"{role}_cam_extrinsics"] = shipped[name][0].tolist()
        tree[f"{role}_mp4_path"] = f"{within}/recordings/MP4/{serial}.mp4"
    return tree


def _write_video(file: Path, frames: list[bytes]) -> None:
    """MPEG-4 at 60 frames a second, whatever the true rate, as the release has it."""
    first = decode_image(frames[0])
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=Fraction(60))
        stream.height, stream.width, stream.pix_fmt = first.shape[0], first.shape[1], "yuv420p"
        stream.bit_rate = 12_000_000
        stream.codec_context.thread_count = 1
        for data in frames:
            frame = av.VideoFrame.from_ndarray(decode_image(data), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _noisy(film: Film, rng: np.random.Generator, metres: float, radians: float) -> Floats:
    """(T, 6) of the film's poses, all off by the same shift and turn of the camera."""
    turn = Rotation.from_rotvec(rng.normal(0, radians, 3)).as_matrix()
    error = make_pose(turn, rng.normal(0, metres, 3))
    return np.stack([_vector(pose @ error) for pose in film.base_from_camera])


def _vector(pose: Floats) -> Floats:
    return np.concatenate([pose[:3, 3], Rotation.from_matrix(pose[:3, :3]).as_euler("xyz")])


def _matrix(values: Floats) -> Floats:
    return make_pose(Rotation.from_euler("xyz", values[3:]).as_matrix(), values[:3])


def _intrinsics(K: Floats, blank: bool) -> dict[str, Any]:
    """[fx, cx, fy, cy] at 1280x720; OpenCV counts from pixel centres, K from corners."""
    scale = 4  # 320x180 to 1280x720
    values = [K[0, 0] * scale, K[0, 2] * scale - 0.5, K[1, 1] * scale, K[1, 2] * scale - 0.5]
    matrix = [0.0] * 4 if blank else [float(v) for v in values]
    return {"cameraMatrix": matrix, "distCoeffs": [0.0] * 5, "width": 1280, "height": 720}

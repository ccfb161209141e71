"""The twin of DROID: episodes in the layout of its RLDS release, ``droid/1.0.0``."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import intrinsics, make_pose
from robots.kinematics import ee_poses
from robots.models import ROBOTS
from schemas.truth import TWIN_MARK
from simulation.draw import draw_scripted
from simulation.film import Film, film_script
from simulation.layout import Camera, Layout, Workspace, covered, look_at
from simulation.rig import Rig
from simulation.script import Plan, Script, name_thing

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

HOLDS_JOINTS = True
ROBOT = ROBOTS["panda_robotiq"]
WIDTH, HEIGHT = 320, 180
RATE = 15.0
RIG = Rig(
    robot_name=ROBOT.name,
    rate=RATE,
    body_from_tool=ROBOT.body_from_ee,  # the flange
    fingers=("left_fingerpad_collision", "right_fingerpad_collision"),
    below_pad=0.02,
    approach=0.11,
    lift=(0.03, 0.08),
    pitch=(-0.15, 0.15),
    home=((-0.04, -0.12, -0.03, -0.3, -0.3), (0.08, 0.12, 0.08, 0.3, 0.1)),
    beats=((11, 6, 4, 5, 12, 5, 4, 8), (14, 9, 6, 8, 15, 8, 6, 11)),
)
_SPACE = Workspace(
    table=(-0.04, 0.06),
    reach=((0.38, -0.22), (0.62, 0.22)),
    apart=(0.22, 0.36),
    room=((0.3, -0.36), (0.72, 0.36)),
    clutter=(3, 6),
    clearance=0.12,  # the open gripper is 0.17 m across
    plate_radius=0.075,
    scale=1.0,
    focus=(0.4, 0.0, 0.1),
)
# m in the flange's frame, and degrees.
_WRIST_POSITION, _WRIST_TILT = (0.07, -0.02, 0.02), 17.0
# One action of full speed, 1.0, moves the target by this much: m, rad, rad a joint, and share of
# the gripper's travel (droid/robot_ik/robot_ik_solver.py in droid-dataset/droid).
_MAX_LINEAR, _MAX_ANGULAR, _MAX_JOINT, _MAX_GRIPPER = 0.075, 0.15, 0.2, 0.25


@dataclass(frozen=True)
class DroidEpisode:
    """One simulated episode before it is filmed.

    Attributes:
        id: as `converters` will name it.
        plan: what was meant to happen; ``script.success`` is what did.
    """

    id: str
    layout: Layout
    plan: Plan
    script: Script

    @property
    def folder(self) -> str:
        """The path that DROID's metadata give."""
        # RLDS paths write the time with colons, ids with the raw bucket's underscores.
        path = re.sub(r"_(\d\d)_(\d\d)_(\d\d)_(\d{4})$", r"_\1:\2:\3_\4", self.id)
        return f"/nfs/kun2/datasets/r2d2/r2d2-data-full/{path.removeprefix('droid/')}"


def draw_episode(seed: int, index: int) -> DroidEpisode:
    """Episode ``index`` of the twin of ``seed``; see `draw_scripted`."""
    layout, plan, script = draw_scripted(
        seed, index, RIG, _SPACE, "lab", (HEIGHT, WIDTH), _cameras, _covered
    )
    outcome = "success" if script.success else "failure"
    # A day a seed, three minutes an episode. ctime is how DROID names its folders.
    date = datetime(2026, 1, 1, 10) + timedelta(days=seed, minutes=3 * index)
    when = f"{date:%Y-%m-%d}/{date.ctime().replace(' ', '_')}"
    identity = f"droid/TWIN/{outcome}/{when}".replace(":", "_")
    return DroidEpisode(identity, layout, plan, script)


def film_episode(episode: DroidEpisode) -> dict[str, Film]:
    """Frames and truth of every camera, by the camera's name in DROID."""
    return film_script(episode.layout, episode.script, ROBOT)


def episode_id(episode: DroidEpisode, example: dict[str, Any]) -> str:
    """As `converters` will name it."""
    return episode.id


def encode_episode(episode: DroidEpisode, films: dict[str, Film]) -> dict[str, Any]:
    """The record as `tfds_features` takes it."""
    return {
        "steps": _steps(episode, films),
        "episode_metadata": {
            "file_path": f"{episode.folder}/trajectory.h5",
            "recording_folderpath": f"{episode.folder}/recordings/MP4",
        },
    }


def tfds_features() -> FeaturesDict:
    """The features of ``droid/1.0.0``."""
    # Imported here: the command line must not wait for it when no twin is made.
    import tensorflow_datasets as tfds

    def vector(length: int) -> Any:
        return tfds.features.Tensor(shape=(length,), dtype=np.float64)

    def image() -> Any:
        return tfds.features.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="jpeg")

    steps = {
        "action": vector(7),
        "action_dict": {
            "cartesian_position": vector(6),
            "cartesian_velocity": vector(6),
            "gripper_position": vector(1),
            "gripper_velocity": vector(1),
            "joint_position": vector(7),
            "joint_velocity": vector(7),
        },
        "discount": tfds.features.Scalar(dtype=np.float32),
        "is_first": tfds.features.Scalar(dtype=np.bool_),
        "is_last": tfds.features.Scalar(dtype=np.bool_),
        "is_terminal": tfds.features.Scalar(dtype=np.bool_),
        "language_instruction": tfds.features.Text(),
        "language_instruction_2": tfds.features.Text(),
        "language_instruction_3": tfds.features.Text(),
        "observation": {
            "cartesian_position": vector(6),
            "exterior_image_1_left": image(),
            "exterior_image_2_left": image(),
            "gripper_position": vector(1),
            "joint_position": vector(7),
            "wrist_image_left": image(),
        },
        "reward": tfds.features.Scalar(dtype=np.float32),
    }
    return tfds.features.FeaturesDict(
        {
            "episode_metadata": {
                "file_path": tfds.features.Text(),
                "recording_folderpath": tfds.features.Text(),
            },
            "steps": tfds.features.Dataset(steps),
        }
    )


def describe(seed: int) -> str:
    """What ``dataset_info.json`` says of the data set, its rate included."""
    return (
        f"{TWIN_MARK}: simulated pick-and-place with a Franka Panda and a Robotiq 2F-85, laid out "
        f"as DROID RLDS, at {RATE:g} Hz (seed {seed}). Not DROID's data."
    )


def _covered(layout: Layout, script: Script) -> bool:
    """Both exterior views hold the robot's shoulder, its flange throughout, thing and plate."""
    ee = ee_poses(ROBOT, script.joints)[:, :3, 3]
    points = np.concatenate([ee, script.things[:, 0, :3, 3], [layout.plate, [0.0, 0.0, 0.25]]])
    fixed = (camera for camera in layout.cameras.values() if not camera.on_wrist)
    return all(covered(camera, points, layout.size, margin=4) for camera in fixed)


def _cameras(rng: np.random.Generator, table: float) -> dict[str, Camera]:
    """Two beside the table, left and right of the robot, and one on the wrist."""
    return {
        "exterior_image_1_left": _exterior(rng, table, side=1.0),
        "exterior_image_2_left": _exterior(rng, table, side=-1.0),
        "wrist_image_left": _wrist(rng),
    }


def _exterior(rng: np.random.Generator, table: float, side: float) -> Camera:
    azimuth = side * np.radians(rng.uniform(55, 125))
    radius = rng.uniform(0.7, 1.0)
    position = [
        0.42 + radius * np.cos(azimuth),
        radius * np.sin(azimuth),
        table + rng.uniform(0.4, 0.75),
    ]
    target = [0.3, 0.0, table + 0.22] + rng.uniform(-0.07, 0.07, 3)
    # ZED 2 at 1280x720 has f of about 525 px; DROID's frames are a quarter of that.
    return Camera(_intrinsics(rng, 131.0), look_at(position, target, rng.normal(0, 0.03)))


def _wrist(rng: np.random.Generator) -> Camera:
    # A ZED Mini's left eye on the flange's +x side, tipped towards the fingertips: those then
    # come into the picture from below, as in DROID's own wrist views.
    tilt = np.radians(_WRIST_TILT) + rng.normal(0, 0.02)
    c, s = np.cos(tilt), np.sin(tilt)
    # Columns: image right is the flange's +y, image down its -x, forward its z.
    level = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    tipped = level @ np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]])
    position = np.array(_WRIST_POSITION) + rng.normal(0, 0.003, 3)
    return Camera(_intrinsics(rng, 0.57 * WIDTH), make_pose(tipped, position), on_wrist=True)


def _intrinsics(rng: np.random.Generator, focal: float) -> NDArray[np.floating]:
    f = focal * rng.uniform(0.98, 1.02)
    cx, cy = np.array([WIDTH, HEIGHT]) / 2 + rng.normal(0, 2.5, 2)
    return intrinsics(f, f, cx, cy)


def _steps(episode: DroidEpisode, films: dict[str, Film]) -> list[dict[str, Any]]:
    script = episode.script
    pose = ee_poses(ROBOT, script.joints)
    rotation = Rotation.from_matrix(pose[:, :3, :3])
    cartesian = np.concatenate([pose[:, :3, 3], rotation.as_euler("xyz")], axis=1)
    joints = script.joints.astype(np.float64)
    closed = script.closed.astype(np.float64)[:, None]
    # The target of a step is where the next one finds the robot; the last one stays.
    aim = np.minimum(np.arange(1, len(pose) + 1), len(pose) - 1)
    turn = (rotation[aim] * rotation.inv()).as_euler("xyz")
    move = cartesian[aim, :3] - cartesian[:, :3]
    velocity = np.concatenate([move / _MAX_LINEAR, turn / _MAX_ANGULAR], axis=1)
    texts = _instructions(episode)
    last = len(pose) - 1
    return [
        {
            "action": np.concatenate([cartesian[aim[t]], closed[aim[t]]]),
            "action_dict": {
                "cartesian_position": cartesian[aim[t]],
                "cartesian_velocity": velocity[t],
                "gripper_position": closed[aim[t]],
                "gripper_velocity": (closed[aim[t]] - closed[t]) / _MAX_GRIPPER,
                "joint_position": joints[aim[t]],
                "joint_velocity": (joints[aim[t]] - joints[t]) / _MAX_JOINT,
            },
            "discount": np.float32(1.0),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": t == last,
            "language_instruction": texts[0],
            "language_instruction_2": texts[1],
            "language_instruction_3": texts[2],
            "observation": {
                "cartesian_position": cartesian[t],
                "gripper_position": closed[t],
                "joint_position": joints[t],
                **{name: io.BytesIO(film.frames[t]) for name, film in films.items()},
            },
            "reward": np.float32(script.success and t == last),
        }
        for t in range(len(pose))
    ]


def _instructions(episode: DroidEpisode) -> tuple[str, str, str]:
    what = f"the {name_thing(episode.layout.things[0])}"
    where = f"the {episode.layout.plate_colour} plate"
    return (
        f"Put {what} on {where}",
        f"Pick up {what} and place it on {where}",
        f"Move {what} to {where}",
    )

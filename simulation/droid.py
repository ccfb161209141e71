"""The twin of DROID: episodes in the layout of its RLDS release, ``droid/1.0.0``."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from robo4d.geometry import invert, project, transform
from robots.kinematics import ee_poses
from robots.models import ROBOTS
from schemas.truth import TWIN_MARK
from simulation.film import Film, film_script
from simulation.layout import HEIGHT, WIDTH, Layout, draw_layout
from simulation.script import RATE, Plan, Script, write_script

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

ROBOT = ROBOTS["panda_robotiq"]
_ATTEMPTS = 60
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
        return f"/nfs/kun2/datasets/r2d2/r2d2-data-full/{self.id.removeprefix('droid/')}"


def draw_episode(seed: int, index: int) -> DroidEpisode:
    """Episode ``index`` of the twin of ``seed``: every third fails, by a miss and a drop in turn.

    Scenes in which the arm cannot follow its script, or which the cameras do not cover, are drawn
    anew.
    """
    plan = _plan(seed, index)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, index, attempt])
        layout = draw_layout(rng)
        script = write_script(layout, plan, rng)
        if script is not None and _covered(layout, script):
            outcome = "success" if script.success else "failure"
            # A day a seed, three minutes an episode. ctime is how DROID names its folders.
            date = datetime(2026, 1, 1, 10) + timedelta(days=seed, minutes=3 * index)
            when = f"{date:%Y-%m-%d}/{date.ctime().replace(' ', '_')}"
            return DroidEpisode(f"droid/TWIN/{outcome}/{when}", layout, plan, script)
    raise RuntimeError(
        f"no scene for episode {index} of seed {seed} in {_ATTEMPTS} attempts; "
        "simulation/layout.py draws scenes that the arm cannot work in"
    )


def film_episode(episode: DroidEpisode) -> dict[str, Film]:
    """Frames and truth of every camera, by the camera's name in DROID."""
    return film_script(episode.layout, episode.script, ROBOT)


def encode_episode(episode: DroidEpisode, films: dict[str, Film]) -> bytes:
    """The record, a ``tf.train.Example``, by the same code that wrote the published ones."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = droid_features()
    example = {
        "steps": _steps(episode, films),
        "episode_metadata": {
            "file_path": f"{episode.folder}/trajectory.h5",
            "recording_folderpath": f"{episode.folder}/recordings/MP4",
        },
    }
    written = features.serialize_example(features.encode_example(example))
    # The order of a protobuf map is left to chance, unless it is asked for: the same twin shall
    # have the same bytes.
    return tf_example_pb2.Example.FromString(written).SerializeToString(deterministic=True)


def droid_features() -> FeaturesDict:
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


def _plan(seed: int, index: int) -> Plan:
    if index % 3 != 1:
        return "place"
    return "miss" if (index // 3 + seed) % 2 else "drop"


def _covered(layout: Layout, script: Script) -> bool:
    """Both exterior views hold the robot's shoulder, its flange throughout, thing and plate."""
    ee = ee_poses(ROBOT, script.joints)[:, :3, 3]
    points = np.concatenate([ee, script.things[:, 0, :3, 3], [layout.plate, [0.0, 0.0, 0.25]]])
    margin = 4
    for camera in layout.cameras.values():
        if camera.on_wrist:
            continue
        pixels, depth = project(transform(invert(camera.mount), points), camera.K)
        inside = (pixels > margin).all() and (pixels < [WIDTH - margin, HEIGHT - margin]).all()
        if depth.min() < 0.25 or not inside:
            return False
    return True


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
    shape = {"box": "block", "sphere": "ball"}
    thing = episode.layout.things[0]
    what = f"the {thing.colour} {shape.get(thing.shape, thing.shape)}"
    where = f"the {episode.layout.plate_colour} plate"
    return (
        f"Put {what} on {where}",
        f"Pick up {what} and place it on {where}",
        f"Move {what} to {where}",
    )

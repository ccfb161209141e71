"""The twin of RT-1: episodes in the layout of its RLDS release, ``fractal20220817_data/0.1.0``.

Quaternions are xyzw: simpler-env/SimplerEnv replays the published ``base_pose_tool_reached`` so.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import intrinsics, make_pose
from robots.kinematics import ee_poses, link_poses
from schemas.truth import TWIN_MARK
from simulation.draw import draw_scripted
from simulation.film import Film, film_script
from simulation.layout import Camera, Layout, Workspace, covered, look_at
from simulation.rig import Rig
from simulation.script import Plan, Script, name_thing

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

HOLDS_JOINTS = False
WIDTH, HEIGHT = 320, 256
RATE = 3.0
RIG = Rig(
    robot_name="google_robot",
    rate=RATE,
    # Fingers point along link_gripper's z and close along its y; at rest its x faces the robot.
    body_from_tool=make_pose(np.diag([-1.0, -1.0, 1.0]), [0, 0, 0]),
    fingers=("link_finger_tip_left", "link_finger_tip_right"),
    below_pad=0.018,
    approach=0.1,
    lift=(0.02, 0.07),
    pitch=(-0.35, -0.05),
    # The rest posture holds the gripper at the height of the counter.
    home=((-0.1, 0.02, 0.28, -0.3, -0.4), (0.04, 0.14, 0.36, 0.3, -0.1)),
    beats=((6, 3, 2, 3, 5, 3, 2, 3), (9, 5, 3, 5, 8, 4, 4, 6)),
)
_SPACE = Workspace(
    table=(0.64, 0.74),
    reach=((0.47, -0.26), (0.7, 0.14)),
    apart=(0.2, 0.34),
    room=((0.42, -0.42), (0.85, 0.36)),
    clutter=(3, 6),
    clearance=0.12,
    plate_radius=0.08,
    scale=1.1,  # the gripper opens to 130 mm
    focus=(0.55, 0.0, 0.75),
)
_ELBOW = (0.27, -0.08)  # greatest x and y in m
# The head's camera, tilted down by 45 degrees, and its K at 640x512 (simpler-env/SimplerEnv).
_CAMERA, _TILT, _FOCAL = (0.157, 0.0, 1.2), 45.0, 425.0
# In the order in which an episode's identity takes them.
_ACTIONS = (
    "world_vector",
    "rotation_delta",
    "gripper_closedness_action",
    "base_displacement_vector",
    "base_displacement_vertical_rotation",
    "terminate_episode",
)
# Of the base's origin over the ground: the radius of its wheels, m.
_BASE_HEIGHT = 0.064


@dataclass(frozen=True)
class Rt1Episode:
    """One simulated episode before it is filmed.

    Attributes:
        plan: what was meant to happen; ``script.success`` is what did.
    """

    instruction: str
    layout: Layout
    plan: Plan
    script: Script


def draw_episode(seed: int, index: int) -> Rt1Episode:
    """Episode ``index`` of the twin of ``seed``; see `draw_scripted`."""
    layout, plan, script = draw_scripted(
        seed, index, RIG, _SPACE, "kitchen", (HEIGHT, WIDTH), _cameras, _covered
    )
    text = f"place {name_thing(layout.things[0])} on {layout.plate_colour} plate"
    return Rt1Episode(text, layout, plan, script)


def film_episode(episode: Rt1Episode) -> dict[str, Film]:
    """Frames and truth of the head's camera, by its name in the layout."""
    return film_script(episode.layout, episode.script, RIG.robot)


def episode_id(episode: Rt1Episode, example: dict[str, Any]) -> str:
    """As `converters` will name it: a hash of log and instruction, the layout's only identity."""
    steps = example["steps"]
    digest = hashlib.sha256(steps[0]["observation"]["natural_language_instruction"].encode())
    for name in ("base_pose_tool_reached", "gripper_closed"):
        digest.update(np.array([step["observation"][name] for step in steps], "<f4").tobytes())
    for name in _ACTIONS:
        digest.update(np.array([step["action"][name] for step in steps], "<f4").tobytes())
    return f"rt1/{digest.hexdigest()[:16]}"


def encode_episode(episode: Rt1Episode, films: dict[str, Film]) -> dict[str, Any]:
    """The record as `tfds_features` takes it."""
    names = {
        "collection_mode": "simulated",
        "data_type": "scripted",
        "env": "twin",
        "location": "twin",
        "objects_family": "shapes",
        "task_family": "place",
    }
    return {
        "aspects": {
            "already_success": False,
            "feasible": True,
            "has_aspects": True,
            "success": episode.script.success,
            "undesirable": False,
        },
        "attributes": {
            **dict.fromkeys(names, 0),
            **{f"{key}_name": name for key, name in names.items()},
        },
        "steps": _steps(episode, films),
    }


def tfds_features() -> FeaturesDict:
    """The features of ``fractal20220817_data/0.1.0``, as TFDS' catalogue lists them."""
    # Imported here: the command line must not wait for it when no twin is made.
    import tensorflow_datasets as tfds

    def tensor(*shape: int, dtype: Any = np.float32, doc: str | None = None) -> Any:
        return tfds.features.Tensor(shape=shape, dtype=dtype, doc=doc)

    names = ("collection_mode", "data_type", "env", "location", "objects_family", "task_family")
    aspects = ("already_success", "feasible", "has_aspects", "success", "undesirable")
    steps = {
        "action": {
            "base_displacement_vector": tensor(2),
            "base_displacement_vertical_rotation": tensor(1),
            "gripper_closedness_action": tensor(1, doc="continuous gripper position"),
            "rotation_delta": tensor(
                3, doc="rpy commanded orientation displacement, in base-relative frame"
            ),
            "terminate_episode": tensor(3, dtype=np.int32),
            "world_vector": tensor(
                3, doc="commanded end-effector displacement, in base-relative frame"
            ),
        },
        "is_first": tensor(dtype=np.bool_),
        "is_last": tensor(dtype=np.bool_),
        "is_terminal": tensor(dtype=np.bool_),
        "observation": {
            "base_pose_tool_reached": tensor(
                7, doc="end-effector base-relative position+quaternion pose"
            ),
            "gripper_closed": tensor(1),
            "gripper_closedness_commanded": tensor(1, doc="continuous gripper position"),
            "height_to_bottom": tensor(1, doc="height of end-effector from ground"),
            "image": tfds.features.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="jpeg"),
            "natural_language_embedding": tensor(512),
            "natural_language_instruction": tensor(dtype=np.object_),
            "orientation_box": tensor(2, 3),
            "orientation_start": tensor(4),
            "robot_orientation_positions_box": tensor(3, 3),
            "rotation_delta_to_go": tensor(
                3, doc="rotational displacement from current orientation to target"
            ),
            "src_rotation": tensor(4),
            "vector_to_go": tensor(
                3, doc="displacement from current end-effector position to target"
            ),
            "workspace_bounds": tensor(3, 3),
        },
        "reward": tfds.features.Scalar(dtype=np.float32),
    }
    return tfds.features.FeaturesDict(
        {
            "aspects": tfds.features.FeaturesDict(
                {name: tensor(dtype=np.bool_) for name in aspects},
                doc="Session Aspects for crowdcompute ratings",
            ),
            "attributes": {
                **{name: tensor(dtype=np.int64) for name in names},
                **{f"{name}_name": tensor(dtype=np.object_) for name in names},
            },
            "steps": tfds.features.Dataset(steps),
        }
    )


def describe(seed: int) -> str:
    """What ``dataset_info.json`` says of the data set, its rate included."""
    return (
        f"{TWIN_MARK}: simulated pick-and-place with the Google robot, laid out as RT-1 RLDS, "
        f"at {RATE:g} Hz (seed {seed}). Not RT-1's data."
    )


def _covered(layout: Layout, script: Script) -> bool:
    """The view holds thing, goal and the gripper throughout, and the arm stays out of its way.

    Seven joints can also reach over the counter with the elbow before the head, as no operator
    would; it shall stay at the robot's right.
    """
    links = link_poses(RIG.robot, script.joints, script.opening)
    elbow = links[:, RIG.robot.link_names.index("link_elbow"), :3, 3]
    if elbow[:, 0].max() > _ELBOW[0] or elbow[:, 1].max() > _ELBOW[1]:
        return False
    ee = ee_poses(RIG.robot, script.joints)[:, :3, 3]
    points = np.concatenate([script.things[:, 0, :3, 3], [layout.plate], ee])
    return covered(layout.cameras["image"], points, layout.size, margin=6, nearest=0.2)


def _cameras(rng: np.random.Generator, table: float) -> dict[str, Camera]:
    """The one in the robot's head, which looks down at the counter and stays there."""
    position = np.array(_CAMERA) + rng.normal(0, 0.006, 3)
    tilt, pan = np.radians([_TILT, 0.0]) + rng.normal(0, 0.03, 2)
    ahead = [np.cos(tilt) * np.cos(pan), np.cos(tilt) * np.sin(pan), -np.sin(tilt)]
    return {"image": Camera(_intrinsics(rng), look_at(position, position + ahead))}


def _intrinsics(rng: np.random.Generator) -> NDArray[np.floating]:
    f = _FOCAL / 2 * rng.uniform(0.98, 1.02)
    cx, cy = np.array([WIDTH, HEIGHT]) / 2 + rng.normal(0, 2.0, 2)
    return intrinsics(f, f, cx, cy)


def _steps(episode: Rt1Episode, films: dict[str, Film]) -> list[dict[str, Any]]:
    script = episode.script
    pose = ee_poses(RIG.robot, script.joints)
    rotation = Rotation.from_matrix(pose[:, :3, :3])
    xyzw = rotation.as_quat()
    # An action leads to the next state; the last one stays.
    last = len(pose) - 1
    aim = np.minimum(np.arange(1, len(pose) + 1), last)
    turn = (rotation[aim] * rotation.inv()).as_euler("xyz")
    turn_to_go = (rotation[last] * rotation.inv()).as_euler("xyz")
    commanded = script.commanded
    return [
        {
            "action": {
                "base_displacement_vector": np.zeros(2, np.float32),  # the base stands
                "base_displacement_vertical_rotation": np.zeros(1, np.float32),
                "gripper_closedness_action": _f32([commanded[aim[t]] - commanded[t]]),
                "rotation_delta": _f32(turn[t]),
                "terminate_episode": np.array([t == last, t != last, False], np.int32),
                "world_vector": _f32(pose[aim[t], :3, 3] - pose[t, :3, 3]),
            },
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": t == last,
            "observation": {
                "base_pose_tool_reached": _f32([*pose[t, :3, 3], *xyzw[t]]),
                "gripper_closed": _f32([script.closed[t]]),
                "gripper_closedness_commanded": _f32([commanded[t]]),
                "height_to_bottom": _f32([pose[t, 2, 3] + _BASE_HEIGHT]),
                "image": io.BytesIO(films["image"].frames[t]),
                # No sentence encoder here; zeros cannot be mistaken for one's output.
                "natural_language_embedding": np.zeros(512, np.float32),
                "natural_language_instruction": episode.instruction,
                "orientation_box": np.full((2, 3), np.nan, np.float32),  # as in reality
                "orientation_start": _f32(xyzw[0]),
                # What this box and the bounds below hold is not published.
                "robot_orientation_positions_box": np.zeros((3, 3), np.float32),
                "rotation_delta_to_go": _f32(turn_to_go[t]),
                "src_rotation": _f32(xyzw[t]),
                "vector_to_go": _f32(pose[last, :3, 3] - pose[t, :3, 3]),
                "workspace_bounds": np.zeros((3, 3), np.float32),
            },
            "reward": np.float32(script.success and t == last),
        }
        for t in range(len(pose))
    ]


def _f32(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)

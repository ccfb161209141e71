"""The twin of LIBERO as RLDS: ``libero_spatial_no_noops/1.0.0`` of openvla's modified_libero_rlds.

Not LIBERO's own scenes (`simulation.rollout` makes episodes in those): its robot, cameras, table,
rate and layout, published as openvla does, pictures mirrored. Where it differs: every third
episode fails, truly, with no reward, and the few idle steps that openvla drops are there.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import intrinsics, make_pose, matrix_from_quaternion
from robots.kinematics import ee_poses
from schemas.truth import TWIN_MARK
from simulation.draw import draw_scripted
from simulation.film import Film, film_script
from simulation.layout import Camera, Layout, Workspace, covered
from simulation.rig import Rig
from simulation.script import Plan, Script, name_thing

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

HOLDS_JOINTS = True
SIDE = 256
RATE = 20.0
VIEWS = ("image", "wrist_image")
RIG = Rig(
    robot_name="panda_libero",
    rate=RATE,
    body_from_tool=np.eye(4),  # right_hand: z along the fingers, y across them
    fingers=("finger1_pad_collision", "finger2_pad_collision"),
    below_pad=0.014,
    approach=0.1,
    lift=(0.03, 0.08),
    pitch=(-0.12, 0.12),
    # LIBERO begins lower and farther ahead than the robot's rest: init_qpos of its MountedPanda.
    home=((0.07, -0.04, -0.16, -0.2, -0.1), (0.13, 0.04, -0.1, 0.2, 0.1)),
    beats=((14, 8, 5, 7, 16, 7, 5, 10), (19, 12, 8, 10, 20, 11, 8, 14)),
)
# LIBERO's tabletop scenes, m: where the robot's base stands in the world, and the table's top.
WORLD_FROM_BASE = np.array([-0.66, 0.0, 0.912])
_TABLE = 0.9 - WORLD_FROM_BASE[2]
_SPACE = Workspace(
    table=(_TABLE, _TABLE),
    reach=((0.45, -0.2), (0.66, 0.2)),
    apart=(0.2, 0.34),
    room=((0.4, -0.3), (0.78, 0.3)),
    clutter=(3, 6),
    clearance=0.12,  # the open hand is 0.2 m across
    plate_radius=0.075,
    scale=0.9,  # the gripper opens to 80 mm
    focus=(0.55, 0.0, _TABLE),
)
# libero_tabletop_manipulation.py: agentview, position in the world and quaternion wxyz of MuJoCo's
# camera; 45 degrees high. It never moves.
_AGENTVIEW = (0.6586131746834771, 0.0, 1.6103500240372423)
_AGENTVIEW_TURN = (0.6380177736282349, 0.3048497438430786, 0.30484986305236816, 0.6380177736282349)
_AGENTVIEW_FOV = 45.0
# robosuite's panda/robot.xml: eye_in_hand, in right_hand; 75 degrees high.
_EYE, _EYE_TURN, _EYE_FOV = (0.05, 0.0, 0.0), (0.0, 0.707108, 0.707108, 0.0), 75.0
# MuJoCo's cameras look along -z with y up.
_OPENCV = np.diag([1.0, -1.0, -1.0])
# What an action of 1 asks for: m and rad (robosuite 1.4, controllers/config/osc_pose.json).
_MAX_LINEAR, _MAX_ANGULAR = 0.05, 0.5
_FINGER = 0.04  # m, a finger's travel
_QUALITY = 95  # TensorFlow's own


@dataclass(frozen=True)
class LiberoEpisode:
    """One simulated episode before it is filmed.

    Attributes:
        plan: what was meant to happen; ``script.success`` is what did.
    """

    instruction: str
    layout: Layout
    plan: Plan
    script: Script

    @property
    def stem(self) -> str:
        """The task as LIBERO names its files."""
        return self.instruction.replace(" ", "_")


def draw_episode(seed: int, index: int) -> LiberoEpisode:
    """Episode ``index`` of the twin of ``seed``; see `draw_scripted`."""
    layout, plan, script = draw_scripted(
        seed, index, RIG, _SPACE, "arena", (SIDE, SIDE), _cameras, _covered
    )
    what = name_thing(layout.things[0])
    text = f"pick up the {what} and place it on the {layout.plate_colour} plate"
    return LiberoEpisode(text, layout, plan, script)


def film_episode(episode: LiberoEpisode) -> dict[str, Film]:
    """Frames and truth of both cameras as they see it, not mirrored."""
    return film_script(episode.layout, episode.script, RIG.robot)


def episode_id(episode: LiberoEpisode, example: dict[str, Any]) -> str:
    """As `converters` will name it: by path, and a hash of log and instruction."""
    steps = example["steps"]
    digest = hashlib.sha256(episode.instruction.encode())
    digest.update(np.array([step["action"] for step in steps], "<f4").tobytes())
    for name in ("state", "joint_state"):
        digest.update(np.array([step["observation"][name] for step in steps], "<f4").tobytes())
    return f"libero/libero_spatial_no_noops/{episode.stem}/{digest.hexdigest()[:16]}"


def encode_episode(episode: LiberoEpisode, films: dict[str, Film]) -> dict[str, Any]:
    """The record as `tfds_features` takes it."""
    folder = "/twin/LIBERO/libero/datasets/libero_spatial_no_noops"
    return {
        "steps": _steps(episode, films),
        "episode_metadata": {"file_path": f"{folder}/{episode.stem}_demo.hdf5"},
    }


def tfds_features() -> FeaturesDict:
    """The features of modified_libero_rlds, as its builders declare them."""
    # Imported here: the command line must not wait for it when no twin is made.
    import tensorflow_datasets as tfds

    def vector(length: int, doc: str) -> Any:
        return tfds.features.Tensor(shape=(length,), dtype=np.float32, doc=doc)

    def scalar(dtype: Any, doc: str) -> Any:
        return tfds.features.Scalar(dtype=dtype, doc=doc)

    def image(doc: str) -> Any:
        return tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg", doc=doc)

    steps = {
        "observation": {
            "image": image("Main camera RGB observation."),
            "wrist_image": image("Wrist camera RGB observation."),
            "state": vector(8, "Robot EEF state (6D pose, 2D gripper)."),
            "joint_state": vector(7, "Robot joint angles."),
        },
        "action": vector(7, "Robot EEF action."),
        "discount": scalar(np.float32, "Discount if provided, default to 1."),
        "reward": scalar(np.float32, "Reward if provided, 1 on final step for demos."),
        "is_first": scalar(np.bool_, "True on first step of the episode."),
        "is_last": scalar(np.bool_, "True on last step of the episode."),
        "is_terminal": scalar(
            np.bool_, "True on last step of the episode if it is a terminal step, True for demos."
        ),
        "language_instruction": tfds.features.Text(doc="Language Instruction."),
    }
    metadata = {"file_path": tfds.features.Text(doc="Path to the original data file.")}
    return tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset(steps), "episode_metadata": metadata}
    )


def describe(seed: int) -> str:
    """What ``dataset_info.json`` says of the data set, its rate included."""
    return (
        f"{TWIN_MARK}: simulated pick-and-place with LIBERO's Panda, laid out as LIBERO RLDS, "
        f"at {RATE:g} Hz (seed {seed}). Not LIBERO's data."
    )


def _covered(layout: Layout, script: Script) -> bool:
    """Agentview holds thing and goal throughout, and the hand while it works."""
    ee = ee_poses(RIG.robot, script.joints)[:, :3, 3]
    low = ee[ee[:, 2] < layout.table + 0.2]
    points = np.concatenate([script.things[:, 0, :3, 3], [layout.plate], low])
    return covered(layout.cameras["image"], points, layout.size, margin=6)


def _cameras(rng: np.random.Generator, table: float) -> dict[str, Camera]:
    """Agentview and the hand's, as LIBERO has them: nothing of them is drawn."""
    agentview = make_pose(
        matrix_from_quaternion(np.array(_AGENTVIEW_TURN)) @ _OPENCV,
        np.array(_AGENTVIEW) - WORLD_FROM_BASE,
    )
    eye = make_pose(matrix_from_quaternion(np.array(_EYE_TURN)) @ _OPENCV, np.array(_EYE))
    eye[:3, 3] -= RIG.robot.body_from_ee[:3, 3]  # a mount is relative to the ee
    return {
        "image": Camera(_intrinsics(_AGENTVIEW_FOV), agentview),
        "wrist_image": Camera(_intrinsics(_EYE_FOV), eye, on_wrist=True),
    }


def _intrinsics(fov: float) -> NDArray[np.floating]:
    """K of a picture that is ``fov`` degrees high."""
    f = SIDE / 2 / np.tan(np.radians(fov) / 2)
    return intrinsics(f, f, SIDE / 2, SIDE / 2)


def _steps(episode: LiberoEpisode, films: dict[str, Film]) -> list[dict[str, Any]]:
    script = episode.script
    pose = ee_poses(RIG.robot, script.joints)
    rotation = Rotation.from_matrix(pose[:, :3, :3])
    opening = script.opening[:, None]
    state = np.concatenate(
        [
            pose[:, :3, 3] + WORLD_FROM_BASE,
            rotation.as_rotvec(),
            _FINGER * opening,
            -_FINGER * opening,
        ],
        axis=1,
    ).astype(np.float32)
    # An action leads to the next state; the last one stays.
    last = len(pose) - 1
    aim = np.minimum(np.arange(1, len(pose) + 1), last)
    move = (pose[aim, :3, 3] - pose[:, :3, 3]) / _MAX_LINEAR
    turn = (rotation[aim] * rotation.inv()).as_rotvec() / _MAX_ANGULAR
    grip = 2 * script.commanded[aim, None] - 1  # -1 opens, 1 closes
    action = np.concatenate([move, turn, grip], axis=1).clip(-1, 1).astype(np.float32)
    return [
        {
            "observation": {
                **{name: io.BytesIO(_mirrored(films[name].frames[t])) for name in VIEWS},
                "state": state[t],
                "joint_state": script.joints[t],
            },
            "action": action[t],
            "discount": np.float32(1.0),
            "reward": np.float32(script.success and t == last),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": t == last,
            "language_instruction": episode.instruction,
        }
        for t in range(len(pose))
    ]


def _mirrored(frame: bytes) -> bytes:
    """As published: columns reversed (see `converters.libero_rlds`)."""
    picture = simplejpeg.decode_jpeg(frame)[:, ::-1]
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=_QUALITY)

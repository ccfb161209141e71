"""The twin of BridgeData V2: episodes in the layout of its RLDS release, ``bridge_dataset/1.0.0``.

Images are 256x256 as published (the octo debug set that tests compare with was cut to 64x64).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import intrinsics, make_pose
from robots.kinematics import ee_poses
from schemas.truth import TWIN_MARK
from simulation.draw import draw_scripted
from simulation.film import Film, film_script
from simulation.layout import Camera, Furniture, Layout, Workspace, covered, look_at
from simulation.rig import Rig
from simulation.script import Plan, Script, name_thing

if TYPE_CHECKING:
    from tensorflow_datasets.core.features import FeaturesDict

HOLDS_JOINTS = False
SIDE = 256
RATE = 5.0
VIEWS = ("image_0", "image_1", "image_2")  # image_3, the wrist's, is blank in most of Bridge
RIG = Rig(
    robot_name="widowx_250s",
    rate=RATE,
    # Fingers point along the gripper's x and close along its y; origin at Interbotix' ee frame.
    body_from_tool=make_pose(np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]]), [0.093575, 0, 0]),
    fingers=("wx250s/left_finger_link", "wx250s/right_finger_link"),
    below_pad=0.013,
    approach=0.08,
    lift=(0.01, 0.04),
    pitch=(-0.25, 0.1),
    # The published neutral posture holds the gripper nearer than episodes begin.
    home=((0.09, -0.08, -0.09, -0.3, -0.3), (0.17, 0.1, -0.03, 0.3, 0.1)),
    beats=((5, 3, 2, 3, 5, 3, 2, 3), (8, 5, 3, 5, 8, 4, 4, 6)),
)
_SPACE = Workspace(
    table=(-0.03, -0.005),
    reach=((0.23, -0.13), (0.4, 0.13)),
    apart=(0.17, 0.26),
    room=((0.17, -0.2), (0.46, 0.2)),
    clutter=(2, 5),
    clearance=0.075,
    plate_radius=0.06,
    scale=0.6,  # the gripper opens to 52 mm
    focus=(0.3, 0.0, 0.1),
)
_FURNITURE: tuple[Furniture, ...] = ("table", "sink", "drawer")
# The logged rotation is R_ee D^T: zero angles are fingers pointing down
# (rail-berkeley/bridge_data_robot, widowx_controller: DEFAULT_ROTATION).
_DEFAULT_ROTATION = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class BridgeEpisode:
    """One simulated episode before it is filmed.

    Attributes:
        number: in its file, as the layout has it; here the index in the twin.
        folder: scene, task and collection, below the twin's own root.
        plan: what was meant to happen; ``script.success`` is what did.
    """

    number: int
    folder: str
    instruction: str
    layout: Layout
    plan: Plan
    script: Script

    @property
    def file_path(self) -> str:
        """The path that Bridge's metadata give."""
        root = "/nfs/kun2/users/homer/datasets/bridge_data_all/numpy_256"
        return f"{root}/bridge_data_v2/twin/{self.folder}/train/out.npy"

    @property
    def id(self) -> str:
        """As `converters` will name it."""
        return f"bridge/bridge_data_v2/twin/{self.folder}/train/out.npy#{self.number}"


def draw_episode(seed: int, index: int) -> BridgeEpisode:
    """Episode ``index`` of the twin of ``seed``; table, sink and drawer alternate."""
    furniture = _FURNITURE[(index + index // 3 + seed) % 3]
    layout, plan, script = draw_scripted(
        seed, index, RIG, _SPACE, furniture, (SIDE, SIDE), _cameras, _covered
    )
    where = {
        "drawer": f"in the {layout.plate_colour} drawer",
        "sink": f"on the {layout.plate_colour} plate in the sink",
    }.get(furniture, f"on the {layout.plate_colour} plate")
    text = f"put the {name_thing(layout.things[0])} {where}"
    folder = f"{furniture}/{text.replace(' the ', ' ').replace(' ', '_')}/{seed:02d}"
    return BridgeEpisode(index, folder, text, layout, plan, script)


def film_episode(episode: BridgeEpisode) -> dict[str, Film]:
    """Frames and truth of every camera that is not blank, by the camera's name in Bridge."""
    return film_script(episode.layout, episode.script, RIG.robot)


def episode_id(episode: BridgeEpisode, example: dict[str, Any]) -> str:
    """As `converters` will name it."""
    return episode.id


def encode_episode(episode: BridgeEpisode, films: dict[str, Film]) -> dict[str, Any]:
    """The record as `tfds_features` takes it."""
    return {
        "steps": _steps(episode, films),
        "episode_metadata": {
            "file_path": episode.file_path,
            "episode_id": episode.number,
            "has_language": True,
            # False throughout the published data, whatever the views hold.
            **{f"has_image_{k}": False for k in range(4)},
        },
    }


def tfds_features() -> FeaturesDict:
    """The features of ``bridge_dataset/1.0.0``; two of the publisher's texts are wrong."""
    # Imported here: the command line must not wait for it when no twin is made.
    import tensorflow_datasets as tfds

    def vector(length: int, doc: str) -> Any:
        return tfds.features.Tensor(shape=(length,), dtype=np.float32, doc=doc)

    def scalar(dtype: Any, doc: str) -> Any:
        return tfds.features.Scalar(dtype=dtype, doc=doc)

    def image() -> Any:
        return tfds.features.Image(
            shape=(SIDE, SIDE, 3), encoding_format="jpeg", doc="Main camera RGB observation."
        )

    steps = {
        "observation": {
            **{f"image_{k}": image() for k in range(4)},
            "state": vector(
                7,
                "Robot state, consists of [7x robot joint angles, 2x gripper position, "
                "1x door opening angle].",
            ),
        },
        "action": vector(
            7,
            "Robot action, consists of [7x joint velocities, 2x gripper velocities, "
            "1x terminate episode].",
        ),
        "discount": scalar(np.float32, "Discount if provided, default to 1."),
        "reward": scalar(np.float32, "Reward if provided, 1 on final step for demos."),
        "is_first": scalar(np.bool_, "True on first step of the episode."),
        "is_last": scalar(np.bool_, "True on last step of the episode."),
        "is_terminal": scalar(
            np.bool_, "True on last step of the episode if it is a terminal step, True for demos."
        ),
        "language_instruction": tfds.features.Text(doc="Language Instruction."),
        "language_embedding": vector(
            512,
            "Kona language embedding. "
            "See https://tfhub.dev/google/universal-sentence-encoder-large/5",
        ),
    }
    metadata = {
        "file_path": tfds.features.Text(doc="Path to the original data file."),
        "episode_id": scalar(np.int32, "ID of episode in file_path."),
        "has_language": scalar(
            np.bool_, "True if language exists in observation, otherwise empty string."
        ),
        **{
            f"has_image_{k}": scalar(
                np.bool_, f"True if image{k} exists in observation, otherwise dummy value."
            )
            for k in range(4)
        },
    }
    return tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset(steps), "episode_metadata": metadata}
    )


def describe(seed: int) -> str:
    """What ``dataset_info.json`` says of the data set, its rate included."""
    return (
        f"{TWIN_MARK}: simulated pick-and-place with a WidowX 250s, laid out as Bridge RLDS, "
        f"at {RATE:g} Hz (seed {seed}). Not BridgeData's data."
    )


def _covered(layout: Layout, script: Script) -> bool:
    """Every view holds thing and goal throughout, and the fingers while they work."""
    ee = ee_poses(RIG.robot, script.joints)[:, :3, 3]
    low = ee[ee[:, 2] < layout.table + 0.15]
    points = np.concatenate([script.things[:, 0, :3, 3], [layout.plate], low])
    return all(
        covered(camera, points, layout.size, margin=6, nearest=0.12)
        for camera in layout.cameras.values()
    )


def _cameras(rng: np.random.Generator, table: float) -> dict[str, Camera]:
    """One over the robot's shoulder, and two that look back at it from where they were put."""
    # Logitech C920 and its place beside the base, as calibrated by simpler-env/SimplerEnv.
    position = np.array([0.0, -0.16, 0.336]) + rng.normal(0, 0.012, 3)
    target = np.array([0.3, -0.01, 0.036]) + rng.normal(0, 0.012, 3)
    shoulder = Camera(_intrinsics(rng), look_at(position, target, rng.normal(0, 0.02)))
    return {
        "image_0": shoulder,
        "image_1": _opposite(rng, table, side=1.0),
        "image_2": _opposite(rng, table, side=-1.0),
    }


def _opposite(rng: np.random.Generator, table: float, side: float) -> Camera:
    azimuth = side * np.radians(rng.uniform(15, 85))
    radius = rng.uniform(0.38, 0.52)
    position = [
        0.3 + radius * np.cos(azimuth),
        radius * np.sin(azimuth),
        table + rng.uniform(0.32, 0.5),
    ]
    target = [0.29, 0.0, table + 0.05] + rng.uniform(-0.03, 0.03, 3)
    return Camera(_intrinsics(rng), look_at(position, target, rng.normal(0, 0.05)))


def _intrinsics(rng: np.random.Generator) -> NDArray[np.floating]:
    # The published frames are 640x480 ones squashed to a square (bridge_data_v2,
    # bridgedata_raw_to_numpy.py: squash), so a pixel is not square.
    f = 623.588 * rng.uniform(0.97, 1.03)
    cx, cy = SIDE / 2 + rng.normal(0, 1.5, 2)
    return intrinsics(f * SIDE / 640, f * SIDE / 480, cx, cy)


def _steps(episode: BridgeEpisode, films: dict[str, Film]) -> list[dict[str, Any]]:
    script = episode.script
    pose = ee_poses(RIG.robot, script.joints)
    rotation = Rotation.from_matrix(pose[:, :3, :3] @ _DEFAULT_ROTATION.T)
    state = np.concatenate(
        [pose[:, :3, 3], rotation.as_euler("xyz"), script.opening[:, None]], axis=1
    ).astype(np.float32)
    # An action leads to the next state; the last one stays.
    aim = np.minimum(np.arange(1, len(pose) + 1), len(pose) - 1)
    action = np.concatenate(
        [
            pose[aim, :3, 3] - pose[:, :3, 3],
            (rotation[aim] * rotation.inv()).as_euler("xyz"),
            1 - script.commanded[aim, None],
        ],
        axis=1,
    ).astype(np.float32)
    blank = simplejpeg.encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8), quality=92)
    last = len(pose) - 1
    return [
        {
            "observation": {
                **{name: io.BytesIO(films[name].frames[t]) for name in VIEWS},
                "image_3": io.BytesIO(blank),
                "state": state[t],
            },
            "action": action[t],
            "discount": np.float32(1.0),
            "reward": np.float32(script.success and t == last),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": t == last,
            "language_instruction": episode.instruction,
            # No sentence encoder here; zeros cannot be mistaken for one's output.
            "language_embedding": np.zeros(512, np.float32),
        }
        for t in range(len(pose))
    ]

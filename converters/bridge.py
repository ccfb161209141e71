"""BridgeData V2 as RLDS (``bridge_dataset/1.0.x``): WidowX 250s, one to four views."""

from __future__ import annotations

import re

import numpy as np
from scipy.spatial.transform import Rotation

from converters._common import encoded_images, finite, require_steps, unique_texts
from converters.rlds import Record, RldsDataset
from robo4d.geometry import make_pose
from schemas.episode import CameraStream, Episode, Origin, Provenance, RobotTrajectory
from schemas.images import decode_image
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason

ROBOT = "widowx_250s"
CAMERAS = ("image_0", "image_1", "image_2", "image_3")
RATE = 5.0
LICENCE = "CC-BY-4.0"
CITATION = "Walke et al., BridgeData V2: A Dataset for Robot Learning at Scale, CoRL 2023"
# features.json calls these joint angles; bridge_data_robot's code shows what they are.
ACTION_COLUMNS = {"action": ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper_open")}
GROUPED_BY = ("episode_metadata/file_path",)
REQUIRED = (
    *GROUPED_BY,
    "episode_metadata/episode_id",
    "steps/action",
    "steps/observation/state",
    "steps/observation/image_0",
)
# The logged Euler angles are relative to a gripper that points down: R_state = R_ee D^T
# (rail-berkeley/bridge_data_robot, widowx_controller: DEFAULT_ROTATION).
DEFAULT_ROTATION = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
# A blank view is one colour; JPEG keeps a flat block flat to within a level or two.
_BLANK_SPREAD = 4


def convert(record: Record, dataset: RldsDataset, fps: float | None) -> Episode:
    """One record to an `Episode`. Joints are not in this layout: only the ee pose is.

    Args:
        fps: step rate in Hz; None takes what the data set states, else Bridge's 5.

    Raises:
        EpisodeError: no identity, no step, no view with a picture, or a value not finite.
    """
    identity = _identity(record)
    try:
        require_steps(record)
        state = finite(record, "steps/observation/state", 7)
        action = finite(record, "steps/action", 7)
        cameras = _cameras(record)
    except EpisodeError as error:
        raise EpisodeError(error.reason, str(error), episode_id=identity) from error
    rate = fps or dataset.stated_rate() or RATE
    opening = state[:, 6]
    notes = [f"view {name} is blank" for name in CAMERAS if name not in cameras]
    if opening.min() < 0 or opening.max() > 1:
        notes.append(f"gripper state spans {opening.min():.4f} to {opening.max():.4f}; clipped")
    return Episode(
        id=identity,
        source="bridge",
        split=record.split,
        outcome="unknown",  # the layout does not say
        instructions=unique_texts(record, "steps/language_instruction"),
        fps=rate,
        time=np.arange(record.steps) / rate,
        time_provenance=Provenance.ESTIMATED,
        cameras=cameras,
        robot=RobotTrajectory(
            robot=ROBOT, gripper=np.clip(opening, 0, 1), joints=None, ee=ee_from_state(state)
        ),
        actions={"action": action},
        action_columns=ACTION_COLUMNS,
        licence=dataset.licence or LICENCE,
        citation=CITATION,  # the published dataset_info.json holds a template here
        origin=Origin(record.file, record.record, record.sha256),
        twin=dataset.twin,
        groups=groups(record.text("episode_metadata/file_path")),
        notes=tuple(notes),
    )


def ee_from_state(state: np.ndarray) -> np.ndarray:
    """base_from_ee (T, 4, 4) of Interbotix' ee_gripper_link from states (T, 7).

    R = Rz Ry Rx of [roll, pitch, yaw], then the default rotation.
    """
    rotation = Rotation.from_euler("xyz", state[:, 3:6]).as_matrix() @ DEFAULT_ROTATION
    return make_pose(rotation, state[:, :3])


def _cameras(record: Record) -> dict[str, CameraStream]:
    """Views that hold pictures, judged by their pixels: ``has_image_*`` is false throughout."""
    cameras = {}
    for name in CAMERAS:
        path = f"steps/observation/{name}"
        if path not in record.values:
            continue
        frames = encoded_images(record, path)
        probes = sorted({0, record.steps // 2, record.steps - 1})
        if any(np.ptp(decode_image(frames[t])) > _BLANK_SPREAD for t in probes):
            cameras[name] = CameraStream(name, frames)
    if not cameras:
        raise EpisodeError(Reason.NO_CAMERA, f"all of {', '.join(CAMERAS)} are blank or missing")
    return cameras


def groups(path: str) -> Groups:
    """Scene, lab and task from a path in Bridge's own tree.

    ``bridge_data_v1/<lab>/<scene>/<task>/...``, ``bridge_data_v2/[datacol<n>_]<scene>/<task>/...``
    (rail-berkeley/bridge_data_v2). One kitchen has the same name in both, so it is one scene.
    """
    own = re.search(r"bridge_data_v(\d+)/(.+)$", path)
    if own is None:
        return Groups()
    version, parts = own[1], own[2].split("/")
    lab = parts.pop(0) if version == "1" else "berkeley"
    scene, task = (*parts, "", "")[:2]
    return Groups(scene=re.sub(r"^datacol\d+_", "", scene), lab=lab, task=task)


def _identity(record: Record) -> str:
    """The path within Bridge's own tree, and the episode's number in that file."""
    path = record.text("episode_metadata/file_path")
    own = re.search(r"bridge_data_v\d+/.+$", path)
    name = own[0] if own else path.strip("/")
    if not name:
        raise EpisodeError(Reason.BAD_IDENTITY, "episode_metadata/file_path is empty")
    number = record["episode_metadata/episode_id"]
    if not isinstance(number, np.ndarray) or number.shape != ():
        raise EpisodeError(Reason.WRONG_DTYPE, "episode_metadata/episode_id is no number")
    return f"bridge/{name}#{int(number)}"

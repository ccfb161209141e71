"""DROID as RLDS (``droid/1.0.x``): Panda with Robotiq 2F-85, two exterior views, one wrist view."""

from __future__ import annotations

import re

import numpy as np
from scipy.spatial.transform import Rotation

from converters._common import encoded_images, finite, require_steps, unique_texts
from converters.droid_calibration import NOTHING, CalibrationIndex, join_rlds
from converters.rlds import Record, RldsDataset
from robo4d.geometry import make_pose
from schemas.episode import CameraStream, Episode, Origin, Outcome, Provenance, RobotTrajectory
from schemas.images import image_size
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason

ROBOT = "panda_robotiq"
CAMERAS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
# Rate of the published log (DROID, arXiv 2403.12945); a copy at another rate states its own.
RATE = 15.0
LICENCE = "CC-BY-4.0"
CITATION = "Khazatsky et al., DROID: A Large-Scale In-The-Wild Robot Manipulation Dataset, 2024"

_POSE = ("x", "y", "z", "roll", "pitch", "yaw")
_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
ACTION_COLUMNS = {
    # Real records hold the commanded pose and gripper here, whatever the feature's text says.
    "action": (*_POSE, "gripper_closed"),
    "cartesian_position": _POSE,
    "cartesian_velocity": _POSE,
    "gripper_position": ("gripper_closed",),
    "gripper_velocity": ("gripper_closed",),
    "joint_position": _JOINTS,
    "joint_velocity": _JOINTS,
}
_ACTION_PATHS = {
    name: "steps/action" if name == "action" else f"steps/action_dict/{name}"
    for name in ACTION_COLUMNS
}
GROUPED_BY = ("episode_metadata/file_path",)
REQUIRED = (
    *GROUPED_BY,
    *_ACTION_PATHS.values(),
    "steps/observation/cartesian_position",
    "steps/observation/gripper_position",
    "steps/observation/joint_position",
    *(f"steps/observation/{name}" for name in CAMERAS),
)


def convert(
    record: Record,
    dataset: RldsDataset,
    fps: float | None,
    annotations: CalibrationIndex | None = None,
) -> Episode:
    """One record to an `Episode`.

    Args:
        fps: step rate in Hz; None takes what the data set states, else DROID's 15.
        annotations: post-hoc calibration, instructions and idle ranges, joined by the record's
            path; an episode that they do not know gets nothing of them.

    Raises:
        EpisodeError: no identity, no step, or a value that is not finite.
    """
    path = record.text("episode_metadata/file_path")
    identity, outcome = _identity(path)
    try:
        require_steps(record)
        rate = fps or dataset.stated_rate() or RATE
        pose = finite(record, "steps/observation/cartesian_position", 6)
        closed = finite(record, "steps/observation/gripper_position", 1)[:, 0]
        notes = []
        if closed.min() < 0 or closed.max() > 1:
            notes.append(
                f"gripper_position spans {closed.min():.4f} to {closed.max():.4f}; clipped"
            )
        actions = {
            name: finite(record, path, len(ACTION_COLUMNS[name]))
            for name, path in _ACTION_PATHS.items()
        }
        joints = finite(record, "steps/observation/joint_position", 7)
        frames = {name: encoded_images(record, f"steps/observation/{name}") for name in CAMERAS}
        if annotations is None:
            join = NOTHING
        else:
            join = join_rlds(annotations, path, image_size(frames[CAMERAS[0]][0]))
    except EpisodeError as error:
        raise EpisodeError(error.reason, str(error), episode_id=identity) from error
    own_texts = unique_texts(
        record,
        "steps/language_instruction",
        "steps/language_instruction_2",
        "steps/language_instruction_3",
    )
    keep = join.keep_ranges
    if keep and (rate != RATE or keep[-1][1] > record.steps):
        notes.append(f"keep_ranges count {RATE:g} Hz steps of another copy than this; not used")
        keep = None
    return Episode(
        id=identity,
        source="droid",
        split=record.split,
        outcome=outcome,
        instructions=tuple(dict.fromkeys((*join.instructions, *own_texts))),
        fps=rate,
        time=np.arange(record.steps) / rate,
        time_provenance=Provenance.ESTIMATED,  # RLDS drops the log's timestamps
        cameras={
            name: CameraStream(name, images, join.calibrations.get(name))
            for name, images in frames.items()
        },
        robot=RobotTrajectory(
            robot=ROBOT,
            gripper=np.clip(1 - closed, 0, 1),
            joints=joints,
            ee=make_pose(Rotation.from_euler("xyz", pose[:, 3:]).as_matrix(), pose[:, :3]),
        ),
        actions=actions,
        action_columns=ACTION_COLUMNS,
        licence=dataset.licence or LICENCE,
        citation=dataset.citation or CITATION,
        origin=Origin(record.file, record.record, record.sha256),
        twin=dataset.twin,
        aliases=() if join.uuid is None else (join.uuid,),
        groups=groups(path),
        keep=keep,
        notes=tuple(notes),
    )


def groups(path: str) -> Groups:
    """What the path tells: the lab. The layout names no scene, so the lab stands for it too."""
    lab = _identity(path)[0].split("/")[1]
    return Groups(scene=lab, lab=lab)


def _identity(path: str) -> tuple[str, Outcome]:
    """Id and outcome from ``.../<LAB>/{success,failure}/<date>/<time>/trajectory.h5``."""
    match = re.search(r"(?:^|/)([^/]+)/(success|failure)/(.+?)/?(?:trajectory\.h5)?$", path)
    if match is None:
        raise EpisodeError(
            Reason.BAD_IDENTITY,
            f"file_path {path!r} holds no <LAB>/success|failure/<date>/<time>; no id can be made",
        )
    lab, outcome, rest = match.groups()
    # The raw bucket writes the time with underscores where RLDS paths have colons.
    rest = rest.replace(":", "_")
    return f"droid/{lab}/{outcome}/{rest}", "success" if outcome == "success" else "failure"

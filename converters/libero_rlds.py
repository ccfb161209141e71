"""LIBERO as RLDS (openvla's ``modified_libero_rlds``): pictures and the robot's log, 20 Hz.

openvla replays the demos without their idle actions at 256x256, keeps those that succeed
(experiments/robot/libero/regenerate_libero_dataset.py) and turns the pictures by 180 degrees.
LIBERO stores its pictures upside down, rows reversed only, so a turned one is upright but mirrored:
columns are reversed back here, and every picture is as its camera saw it.

Dropped, and why: ``discount`` (always 1), ``is_first``, ``is_last``, ``is_terminal`` (the place in
the episode, whatever happened). The layout has no depth, no camera, no state of objects and no
time: no field is made up for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from converters._common import encoded_images, finite, require_steps, unique_texts
from converters._libero import (
    ACTION_COLUMNS,
    CITATION,
    LICENCE,
    RATE,
    ROBOT,
    SUFFIX,
    safe_name,
    scene_of,
)
from converters.rlds import Record, RldsDataset
from robo4d.geometry import Floats, make_pose, rotation_angle
from robots.kinematics import ee_poses
from robots.models import ROBOTS
from schemas.episode import (
    CameraStream,
    Episode,
    Origin,
    Outcome,
    Provenance,
    RobotTrajectory,
)
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason

CAMERAS = ("image", "wrist_image")
_PATH = "episode_metadata/file_path"
_TEXT = "steps/language_instruction"
_ACTION = "steps/action"
_STATE = "steps/observation/state"
_JOINTS = "steps/observation/joint_state"
_REWARD = "steps/reward"
_NUMBERS = {_ACTION: 7, _STATE: 8, _JOINTS: 7}
GROUPED_BY = (_PATH,)
REQUIRED = (
    _PATH,
    _TEXT,
    *_NUMBERS,
    _REWARD,
    *(f"steps/observation/{name}" for name in CAMERAS),
)
# MuJoCo integrates last, so that robosuite logs poses one physics step, 2 ms, older than the joints
# beside them: 0.7 mm apart at 0.4 m/s. At 0.05 m and 0.5 rad an action at 20 Hz, the most that
# LIBERO's controller is asked for, it is 2 mm and 0.02 rad; beyond, they are of different frames.
_MAX_OFF, _MAX_TURN = 2e-3, 0.02
# MuJoCo's limits give way by less under the grip of a hand.
_FINGER_SLACK = 0.1


@dataclass(frozen=True)
class MirroredFrames:
    """A stream of pictures with their columns reversed, a `FrameSource`."""

    stream: CameraStream

    def __len__(self) -> int:
        return len(self.stream.frames)

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.stream.size()

    def decode(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """(n, H, W, 3) uint8 RGB at ``steps``; raises `EpisodeError`."""
        return np.ascontiguousarray(self.stream.decode(steps)[:, :, ::-1])


def convert(record: Record, dataset: RldsDataset, fps: float | None) -> Episode:
    """One record to an `Episode`.

    Args:
        fps: step rate in Hz; None takes what the data set states, else LIBERO's 20.

    Raises:
        EpisodeError: no identity, no step, or a value not finite or of another shape.
        RobotAssetsError: the robot's description is not here.
    """
    suite, stem = _task(record.text(_PATH))
    identity = f"libero/{suite}/{stem}/{_digest(record)}"
    try:
        require_steps(record)
        numbers = {path: finite(record, path, width) for path, width in _NUMBERS.items()}
        cameras = {
            name: CameraStream(name, encoded_images(record, f"steps/observation/{name}"))
            for name in CAMERAS
        }
        outcome = _outcome(record)
        instructions = unique_texts(record, _TEXT)
    except EpisodeError as error:
        raise EpisodeError(error.reason, str(error), episode_id=identity) from error
    state, joints = numbers[_STATE], numbers[_JOINTS]
    ee, frame_note = ee_in_base(state, joints)
    fingers, finger_notes = _fingers(state[:, 6:])
    rate = fps or dataset.stated_rate() or RATE
    return Episode(
        id=identity,
        source="libero",
        split=record.split,
        outcome=outcome,
        instructions=instructions,
        fps=rate,
        time=np.arange(record.steps) / rate,
        time_provenance=Provenance.ESTIMATED,  # the layout holds no timestamps
        cameras={name: CameraStream(name, MirroredFrames(at)) for name, at in cameras.items()},
        robot=RobotTrajectory(
            robot=ROBOT,
            gripper=np.clip(fingers.mean(axis=1), 0, 1),
            joints=joints,
            ee=ee,
            fingers=fingers,
        ),
        actions={"action": numbers[_ACTION]},
        action_columns=ACTION_COLUMNS,
        licence=dataset.licence or LICENCE,
        citation=CITATION,  # builders of this family leave a template in dataset_info.json
        origin=Origin(record.file, record.record, record.sha256),
        twin=dataset.twin,
        simulated=True,
        groups=groups(record.text(_PATH)),
        notes=(
            "pictures are published mirrored (turned by 180 degrees from upside down); their "
            "columns are reversed back",
            frame_note,
            *finger_notes,
        ),
    )


def ee_in_base(state: Floats, joints: Floats) -> tuple[Floats | None, str]:
    """base_from_ee (T, 4, 4) from the logged world poses, and what was found.

    LIBERO's robots stand upright and face along the world's x at a place that depends on the
    scene and is not in the layout. It is solved as the shift between log and forward kinematics.

    Args:
        state: (T, 8): world position in m, axis times angle in rad, finger joints in m.
        joints: (T, 7) rad.

    Returns:
        None instead of poses where no place of the base explains the log.
    """
    rotation = Rotation.from_rotvec(state[:, 3:6]).as_matrix()
    reached = ee_poses(ROBOTS[ROBOT], joints)
    shifts = state[:, :3] - reached[:, :3, 3]
    base = np.median(shifts, axis=0)
    off = float(np.linalg.norm(shifts - base, axis=1).max())
    turn = float(rotation_angle(rotation, reached[:, :3, :3]).max())
    fit = f"log and joints agree to {off * 1e3:.3g} mm and {np.degrees(turn):.3g} degrees"
    if off > _MAX_OFF or turn > _MAX_TURN:
        return None, f"no place of the robot's base explains the logged ee poses, left out: {fit}"
    place = ", ".join(f"{value:.4f}" for value in np.round(base, 4) + 0.0)  # no minus zero
    return make_pose(rotation, state[:, :3] - base), (
        f"the base stands at ({place}) m of the world, solved from the joints: {fit}"
    )


def groups(path: str) -> Groups:
    """Scene, lab and task from the path of the demo's file; without a scene its suite counts."""
    try:
        suite, stem = _task(path)
    except EpisodeError:
        return Groups()
    return Groups(scene=scene_of(stem) or suite, lab="libero", task=stem)


def _task(path: str) -> tuple[str, str]:
    """Suite and task from ``<anywhere>/<suite>/<task>_demo.hdf5``.

    Raises:
        EpisodeError: `BAD_IDENTITY`.
    """
    file = PurePosixPath(path)
    return safe_name(file.parent.name or "unknown"), safe_name(file.name.removesuffix(SUFFIX))


def _digest(record: Record) -> str:
    """Hash of log and instruction: fifty demos share a path, and the layout numbers none.

    Of the values, as in `converters.rt1`: a copy with other pictures is the same episode.
    """
    digest = hashlib.sha256(record.text(_TEXT).encode())
    for path in _NUMBERS:
        values = record[path]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
            raise EpisodeError(Reason.WRONG_DTYPE, f"{path} holds no numbers")
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def _outcome(record: Record) -> Outcome:
    """1 at the end is a success; anything else says nothing."""
    reward = finite(record, _REWARD)
    if reward.shape != (record.steps,):
        raise EpisodeError(
            Reason.WRONG_SHAPE, f"{_REWARD} has shape {reward.shape}; expected ({record.steps},)"
        )
    return "success" if reward[-1] == 1 else "unknown"


def _fingers(joints: Floats) -> tuple[Floats, list[str]]:
    """Opening 0..1 of each finger (T, 2) from its joint in m."""
    closed, opened = np.array(list(ROBOTS[ROBOT].gripper.values())).T
    fingers = (joints - closed) / (opened - closed)
    low, high = fingers.min(), fingers.max()
    if low >= -_FINGER_SLACK and high <= 1 + _FINGER_SLACK:
        return fingers, []
    return fingers, [f"the fingers' opening spans {low:.4f} to {high:.4f} of their travel"]

"""RT-1 as RLDS (``fractal20220817_data/0.1.0``): the Google robot, one head camera, 3 Hz.

Not read, because nothing downstream needs them or nobody says what they mean:
``natural_language_embedding`` (made from the instruction by the Universal Sentence Encoder),
``height_to_bottom``, ``gripper_closedness_commanded``, ``orientation_start``,
``orientation_box`` (NaN in real records), ``robot_orientation_positions_box``,
``workspace_bounds``, ``src_rotation``, ``vector_to_go``, ``rotation_delta_to_go`` (the
collector's own targets), the numbers of ``attributes/*`` (their ``*_name`` say the same),
``reward``, ``is_first``, ``is_last``, ``is_terminal``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from converters._common import encoded_images, finite, require_steps, unique_texts
from converters.rlds import Record, RldsDataset
from robo4d.geometry import Floats, make_pose, matrix_from_quaternion
from schemas.episode import CameraStream, Episode, Origin, Outcome, Provenance, RobotTrajectory
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason

ROBOT = "google_robot"
RATE = 3.0  # RT-1, arXiv 2212.06817, 5.1: "run at 3 Hz"
LICENCE = "CC-BY-4.0"
CITATION = "Brohan et al., RT-1: Robotics Transformer for Real-World Control at Scale, RSS 2023"

ACTION_COLUMNS = {
    # features.json: "commanded end-effector displacement, in base-relative frame", in m.
    "world_vector": ("dx", "dy", "dz"),
    # features.json: "rpy commanded orientation displacement, in base-relative frame", in rad.
    "rotation_delta": ("droll", "dpitch", "dyaw"),
    # Added to the gripper's closedness, whatever features.json says (SimplerEnv,
    # google_robot_test_dataset_inference_rollout_gt_traj_in_sim.py).
    "gripper_closedness_action": ("dgripper_closed",),
    "base_displacement_vector": ("base_dx", "base_dy"),
    "base_displacement_vertical_rotation": ("base_dyaw",),
    # One-hot over the modes of RT-1, 5.1 (terminate, arm, base). Only the first one's place is
    # documented: SimplerEnv, maniskill2_evaluator.py, reads [0] as "terminate".
    "terminate_episode": ("terminate", "mode_1", "mode_2"),
}
_IMAGE = "steps/observation/image"
_POSE = "steps/observation/base_pose_tool_reached"
_GRIPPER = "steps/observation/gripper_closed"
_TEXT = "steps/observation/natural_language_instruction"
_ASPECTS = ("already_success", "feasible", "has_aspects", "success", "undesirable")
REQUIRED = (
    *(f"aspects/{name}" for name in _ASPECTS),
    *(f"steps/action/{name}" for name in ACTION_COLUMNS),
    _IMAGE,
    _POSE,
    _GRIPPER,
    _TEXT,
)
GROUPED_BY = tuple(f"attributes/{name}_name" for name in ("location", "env", "task_family"))
# float32 rounding leaves a unit quaternion within 1e-6 of unit length; a wider gap is no rotation.
_NORM_SLACK = 1e-2


def convert(record: Record, dataset: RldsDataset, fps: float | None) -> Episode:
    """One record to an `Episode`. Joints are not in this layout: only the tool pose is.

    Args:
        fps: step rate in Hz; None takes what the data set states, else RT-1's 3.

    Raises:
        EpisodeError: no step, a value not finite, or a quaternion that is no rotation.
    """
    identity = _identity(record)
    try:
        require_steps(record)
        ee = ee_from_tool(finite(record, _POSE, 7))
        closed = finite(record, _GRIPPER, 1)[:, 0]
        actions = {
            name: finite(record, f"steps/action/{name}", len(columns))
            for name, columns in ACTION_COLUMNS.items()
        }
        frames = encoded_images(record, _IMAGE)
        outcome, notes = _outcome(record)
        instructions = unique_texts(record, _TEXT)
    except EpisodeError as error:
        raise EpisodeError(error.reason, str(error), episode_id=identity) from error
    rate = fps or dataset.stated_rate() or RATE
    if closed.min() < 0 or closed.max() > 1:
        notes.append(f"gripper_closed spans {closed.min():.4f} to {closed.max():.4f}; clipped")
    notes += _base_notes(actions)
    return Episode(
        id=identity,
        source="rt1",
        split=record.split,
        outcome=outcome,
        instructions=instructions,
        fps=rate,
        time=np.arange(record.steps) / rate,
        time_provenance=Provenance.ESTIMATED,  # the layout holds no timestamps
        cameras={"image": CameraStream("image", frames)},
        robot=RobotTrajectory(robot=ROBOT, gripper=np.clip(1 - closed, 0, 1), joints=None, ee=ee),
        actions=actions,
        action_columns=ACTION_COLUMNS,
        licence=dataset.licence or LICENCE,
        citation=dataset.citation or CITATION,
        origin=Origin(record.file, record.record, record.sha256),
        twin=dataset.twin,
        groups=groups(*(record.text(path) if path in record.values else "" for path in GROUPED_BY)),
        notes=tuple(notes),
    )


def ee_from_tool(pose: Floats) -> Floats:
    """base_from_ee (T, 4, 4) from ``base_pose_tool_reached`` (T, 7): xyz in m, quaternion xyzw.

    The order is stated by SimplerEnv, tools/sysid/prepare_sysid_dataset.py, and by
    allenzren/open-pi-zero, src/agent/env_adapter/simpler.py. The frame is ``link_gripper_tcp``
    in ``link_base``, as SimplerEnv solves its joints for it.

    Raises:
        EpisodeError: `WRONG_SHAPE`, a quaternion that is not of unit length.
    """
    xyzw = pose[:, 3:]
    norm = np.linalg.norm(xyzw, axis=1)
    bad = np.flatnonzero(np.abs(norm - 1) > _NORM_SLACK)
    if len(bad):
        raise EpisodeError(
            Reason.WRONG_SHAPE,
            f"{_POSE} has the quaternion {xyzw[bad[0]]} of length {norm[bad[0]]:.4f} at step "
            f"{bad[0]}; expected unit length",
        )
    return make_pose(matrix_from_quaternion(np.roll(xyzw, 1, axis=1)), pose[:, :3])


def groups(location: str, env: str, task_family: str) -> Groups:
    """Location and environment are the scene; copies without these attributes name none."""
    scene = "/".join(name for name in (location, env) if name)
    return Groups(scene=scene, lab="google", task=task_family)


def _outcome(record: Record) -> tuple[Outcome, list[str]]:
    """Outcome as the raters gave it, and what else they said."""
    aspects = {name: _flag(record, f"aspects/{name}") for name in _ASPECTS}
    if not aspects["has_aspects"]:
        return "unknown", []
    notes = [f"rated {name}" for name in ("already_success", "undesirable") if aspects[name]]
    if not aspects["feasible"]:
        notes.append("rated infeasible")
    return "success" if aspects["success"] else "failure", notes


def _flag(record: Record, path: str) -> bool:
    value = record[path]
    if not isinstance(value, np.ndarray) or value.shape != ():
        raise EpisodeError(Reason.WRONG_DTYPE, f"{path} is no flag")
    return bool(value)


def _base_notes(actions: Mapping[str, Floats]) -> list[str]:
    """Says that the base was told to move: tool poses are then in a frame that moves."""
    shift = np.linalg.norm(actions["base_displacement_vector"], axis=1).max()
    turn = np.abs(actions["base_displacement_vertical_rotation"]).max()
    if shift == 0 and turn == 0:
        return []
    return [
        f"the base is told to move by up to {shift:.4f} m and {turn:.4f} rad a step; poses are "
        "relative to the moving base"
    ]


def _identity(record: Record) -> str:
    """Hash of the robot's log and the instruction: the layout holds no name, path or number.

    Of the decoded values, not of the record's bytes: protobuf does not fix the order of a
    record's features, and a copy with smaller images is the same episode.
    """
    digest = hashlib.sha256(record.text(_TEXT).encode())
    for path in (_POSE, _GRIPPER, *(f"steps/action/{name}" for name in ACTION_COLUMNS)):
        values = record[path]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
            raise EpisodeError(Reason.WRONG_DTYPE, f"{path} holds no numbers")
        digest.update(values.astype("<f4").tobytes())
    return f"rt1/{digest.hexdigest()[:16]}"

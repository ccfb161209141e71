"""What is said of a sample: state at the clip's steps, row of the manifest, metadata."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.base import base_motion
from pipeline.camera import CameraChoice
from pipeline.lineage import Lineage
from pipeline.timing import Timing
from reconstruction.lift import Lifted
from reconstruction.motion import Motion
from robots.models import RobotModel
from schemas.episode import Episode, Provenance
from schemas.plan import ClipPlan, PlannedSource


def put_state(
    lifted: Lifted, episode: Episode, clip: ClipPlan, motion: Motion, timing: Timing
) -> None:
    """Put the robot's state, times and steps of the clip, each with where it came from."""
    steps = clip.steps
    logged = episode.logged
    lifted.put("time", episode.time[steps], episode.time_provenance)
    lifted.put("step", steps, logged)
    lifted.put("joints", motion.joints[steps], motion.joints_from)
    if motion.joints_from == Provenance.ESTIMATED:
        lifted.put("joints_flagged", motion.flagged[steps], Provenance.ESTIMATED)
    # Of a shifted log nothing is as measured; actions and times stay where the source has them.
    state = Provenance.ESTIMATED if timing.corrected else logged
    lifted.put("gripper", motion.gripper[steps], state)
    # Forward kinematics of measured joints is as measured as they are; of solved joints it is
    # the logged pose again, to within the recorded residual.
    lifted.put("ee", motion.ee[steps], state)
    lifted.put("link_poses", motion.link_poses[steps], motion.joints_from)
    lifted.provenance["rgb"] = lifted.provenance["actions"] = logged


def row_facts(
    episode: Episode,
    camera: str,
    clip: ClipPlan,
    motion: Motion,
    timing: Timing,
    choice: CameraChoice,
    lifted: Lifted,
    key: str,
    shape: tuple[int, ...],
) -> dict[str, Any]:
    """Values of the manifest row; place and size come when the sample is written."""
    robot = lifted.fields.get("robot_depth")
    position, rotation = motion.position_error, motion.rotation_error
    return {
        "key": key,
        "episode_id": episode.id,
        "source": episode.source,
        "split": episode.split,
        "camera": camera,
        "frames": shape[0],
        "height": shape[1],
        "width": shape[2],
        "fps": clip.fps,
        "clip_start": int(clip.steps[0]),
        "clip_end": int(clip.steps[-1]),
        "episode_steps": len(episode),
        "robot": episode.robot.robot,
        "outcome": episode.outcome,
        "instruction": episode.instructions[0] if episode.instructions else "",
        **asdict(episode.groups),
        "twin": episode.twin,
        "depth_from": str(lifted.provenance["depth"]),
        "camera_from": str(lifted.provenance["K"]),
        "joints_from": str(motion.joints_from),
        "time_from": str(episode.time_provenance),
        "robot_pixels": None if robot is None else float((robot > 0).mean()),
        "robot_residual_m": lifted.robot_residual,
        "ee_residual_m": None if position is None else float(position[clip.steps].max()),
        "ee_residual_rad": None if rotation is None else float(rotation[clip.steps].max()),
        "joints_flagged": int(motion.flagged[clip.steps].sum()),
        **timing.columns(),
        **choice.columns(),
        "file": episode.origin.file,
        "record": episode.origin.record,
        "record_sha256": episode.origin.sha256,
        "licence": episode.licence,
        "idle_share": clip.idle_share,
        "trimmed_start": clip.moving[0],
        "trimmed_end": len(episode) - 1 - clip.moving[1],
    }


def sample_meta(
    episode: Episode,
    camera: str,
    clip: ClipPlan,
    timing: Timing,
    choice: CameraChoice,
    robot: RobotModel,
    lifted: Lifted,
    row: dict[str, Any],
    origin: PlannedSource,
    lineage: Lineage,
) -> dict[str, Any]:
    """``meta.json`` of a sample, but for what encoding adds."""
    base = base_motion(episode)
    quality = (
        *("robot_pixels", "robot_residual_m", "ee_residual_m", "ee_residual_rad"),
        "joints_flagged",
    )
    return {
        "id": episode.id,
        "key": row["key"],
        "source": episode.source,
        "split": episode.split,
        "camera": camera,
        "twin": episode.twin,
        "outcome": episode.outcome,
        "instructions": list(episode.instructions),
        "fields": lifted.describe(),
        "clip": {"moving": list(clip.moving), "episode_steps": len(episode)},
        "robot": {
            "name": robot.name,
            "description": robot.source,
            "joint_names": list(robot.joint_names),
            "link_names": list(robot.link_names),
            "base": robot.base,
        },
        "actions": {name: list(columns) for name, columns in episode.action_columns.items()},
        "quality": {name: row[name] for name in quality} | timing.columns(),
        **({"depth_anchoring": lifted.anchoring} if lifted.anchoring else {}),
        "timing": timing.offset.describe(),
        "camera_solution": choice.describe(),
        "base": None if base is None else base.describe(),
        "licence": episode.licence,
        "citation": episode.citation,
        "origin": {
            "dataset": origin.dataset,
            "layout": origin.layout,
            "file": episode.origin.file,
            "record": episode.origin.record,
            "sha256": episode.origin.sha256,
        },
        "lineage": lineage.of_record(episode.origin.sha256),
        "aliases": list(episode.aliases),
        "groups": asdict(episode.groups),
        "notes": list(episode.notes),
    }

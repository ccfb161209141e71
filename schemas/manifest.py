"""Rows of the tables beside the shards: what was built, set aside, and found twice."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.reasons import Reason


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestRow(_Row):
    """One sample. ``*_from`` columns hold a provenance; ``absent`` is an answer, not a gap."""

    key: str
    episode_id: str
    source: str
    split: str
    camera: str
    shard: str
    offset: int
    bytes: int
    frames: int
    height: int
    width: int
    fps: float
    clip_start: int
    clip_end: int
    episode_steps: int
    robot: str
    outcome: str
    instruction: str
    scene: str  # see schemas.plan.Groups; empty where the source says nothing
    lab: str
    task: str
    twin: bool
    depth_from: str
    camera_from: str
    camera_verdict: str  # exact, good, usable, reject, unsolved or shipped
    joints_from: str
    time_from: str
    robot_pixels: float | None  # share of the image that the robot covers, amodal
    ee_residual_m: float | None  # forward kinematics against the logged pose, largest
    ee_residual_rad: float | None
    silhouette_iou: float | None  # of a solved camera, on steps that it was not solved from
    flow_score: float | None  # likewise
    robot_residual_m: float | None  # robot surface against metric scene depth; None without one
    joints_flagged: int  # steps whose solved joints miss the logged pose
    time_offset_s: float | None  # images late by this against the log; see meta["timing"]
    time_offset_sure: bool
    time_corrected: bool  # joints, gripper and poses are taken from that much earlier
    file: str
    record: int
    record_sha256: str
    licence: str
    idle_share: float  # of the episode's steps, over all of it
    trimmed_start: int  # steps of the episode before and behind the part that the clip covers
    trimmed_end: int
    duplicate_of: str | None = None  # see duplicates.parquet; found when shards are merged


class QuarantineRecord(_Row):
    """One episode that was set aside."""

    episode_id: str
    source: str
    shard: str
    file: str
    record: int
    stage: str
    reason: Reason
    message: str


class EpisodeSketch(_Row):
    """What tells an episode from others, kept in its shard's index; see `pipeline.sketch`.

    Attributes:
        content: hash of its states and first frames; equal for exact copies alone.
        path: 16 points of the ee's path.
        frames: {camera: hash of its first frame}; a flat frame has none.
    """

    episode_id: str
    split: str
    content: str
    path: str
    frames: dict[str, str]


class DuplicatePair(_Row):
    """An episode and an earlier one that it repeats; see `pipeline.duplicates`."""

    kind: Literal["exact", "near"]
    episode_id: str
    duplicate_of: str
    split: str
    split_of_first: str
    path_mm: float  # root mean square over 16 points
    frame_bits: int  # of 64, where their cameras agree best

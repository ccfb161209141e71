"""Rows of the two tables beside the shards: what was built and what was set aside."""

from __future__ import annotations

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
    joints_from: str
    time_from: str
    robot_pixels: float | None  # share of the image that the robot covers, amodal
    ee_residual_m: float | None  # forward kinematics against the logged pose, largest
    ee_residual_rad: float | None
    joints_flagged: int  # steps whose solved joints miss the logged pose
    time_offset_s: float | None  # images late by this against the log; see meta["timing"]
    time_offset_sure: bool
    time_corrected: bool  # joints, gripper and poses are taken from that much earlier
    file: str
    record: int
    record_sha256: str
    licence: str


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

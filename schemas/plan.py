"""The plan of a build: made before anything runs, the same on every engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from robo4d.geometry import check_array
from robo4d.sample import to_json
from schemas.config import BuildConfig
from schemas.reasons import Reason


@dataclass(frozen=True)
class ClipPlan:
    """Which steps of an episode make the clip: increasing, in native order, never repeated.

    One plan drives RGB, depth, masks, state and actions alike.

    Attributes:
        steps: (n,) step indices.
        fps: true rate of the clip in Hz, from the steps' own times.
        moving: (first, last) step of the part in which the robot moves.
        idle_share: share of the whole episode's steps in which it does not.
    """

    steps: NDArray[np.int64]
    fps: float
    moving: tuple[int, int]
    idle_share: float

    def __post_init__(self) -> None:
        check_array("ClipPlan.steps", self.steps, ["n"], "i")
        if len(self.steps) == 0 or (np.diff(self.steps) <= 0).any() or self.steps[0] < 0:
            raise ValueError(f"ClipPlan.steps must increase from 0 or more; got {self.steps}")
        if not self.fps > 0:
            raise ValueError(f"ClipPlan.fps is {self.fps}; expected a positive rate")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Groups(_Frozen):
    """What an episode shares with others, as its source names it; empty where it says nothing.

    Attributes:
        scene: the place and its camera setup; where the source names no scene, the next coarser
            thing that it does name, so that episodes of one scene always share this.
        lab: who collected it.
        task: what was to be done.
    """

    scene: str = ""
    lab: str = ""
    task: str = ""


class EpisodeRef(_Frozen):
    """Where one record lies. ``defect`` marks what the file's framing already shows to be bad.

    Attributes:
        file: path relative to the data set.
        record: number within the file, from 0.
        offset, length: the record's payload, in bytes.
        crc: the masked CRC32C stored with the payload; it stands for the content in fingerprints.
        groups: as far as they can be told without reading the episode.
    """

    file: str
    record: int
    offset: int = 0
    length: int = 0
    crc: int = 0
    groups: Groups = Groups()
    defect: Reason | None = None
    message: str = ""

    @property
    def fallback_id(self) -> str:
        """Names the record where its episode's own identity cannot be read."""
        return f"{self.file}#{self.record}"


class PlannedSource(_Frozen):
    """One input of a build.

    Attributes:
        data: folder or URL of the data set.
        dataset: name and version as published, for the manifest.
        twin: simulated, not published.
        joined: sha256 of files joined to every record; empty without any.
        notes: what a user should know about this copy (a split whose files are not there, ...).
    """

    source: str
    layout: str
    data: str
    dataset: str
    twin: bool
    joined: str = ""
    notes: tuple[str, ...] = ()


class ShardTask(_Frozen):
    """The unit of work: the records of one shard, all of one source."""

    name: str
    source: str
    split: str
    refs: tuple[EpisodeRef, ...]
    fingerprint: str


class BuildPlan(_Frozen):
    """Every shard of a build, over one source or several.

    Attributes:
        models: stage -> identity of the network that it runs.
    """

    sources: tuple[PlannedSource, ...]
    config: BuildConfig
    code: str
    models: dict[str, str] = {}
    shards: tuple[ShardTask, ...]

    def source_of(self, task: ShardTask) -> PlannedSource:
        """The input that a shard's records come from."""
        return next(source for source in self.sources if source.source == task.source)

    @property
    def episodes(self) -> int:
        """Number of records planned."""
        return sum(len(task.refs) for task in self.shards)


def fingerprint(*parts: BaseModel | str) -> str:
    """sha256 over canonical json of the parts; equal inputs give equal fingerprints anywhere."""
    values = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(to_json({"parts": values})).hexdigest()

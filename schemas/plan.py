"""The plan of a build: made before anything runs, the same on every engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

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


# A plan holds a ref for every episode, 200,000 and more: plain dataclasses with slots take a fifth
# of the memory of models, and are validated once, where a file is read (`BuildPlan.from_json`).
_STRICT = ConfigDict(extra="forbid")


def _within(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} leads out of the data set; refused")
    return name


# A plan may come from a stranger, and these become file names.
Within = Annotated[str, AfterValidator(_within)]
PlainName = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z_.-]{0,199}$")]


@dataclass(frozen=True, slots=True)
class Groups:
    """What an episode shares with others, as its source names it; empty where it says nothing.

    Attributes:
        scene: the place and its camera setup; where the source names no scene, the next coarser
            thing that it does name, so that episodes of one scene always share this.
        lab: who collected it.
        task: what was to be done.
    """

    __pydantic_config__ = _STRICT

    scene: str = ""
    lab: str = ""
    task: str = ""


_NO_GROUPS = Groups()


@dataclass(frozen=True, slots=True)
class EpisodeRef:
    """Where one record lies. ``defect`` marks what the file's framing already shows to be bad.

    Attributes:
        file: path relative to the data set.
        record: number within the file, from 0.
        offset, length: the record's payload, in bytes.
        crc: the masked CRC32C stored with the payload; it stands for the content in fingerprints.
        groups: as far as they can be told without reading the episode.
    """

    __pydantic_config__ = _STRICT

    file: Within
    record: int
    offset: int = 0
    length: int = 0
    crc: int = 0
    groups: Groups = _NO_GROUPS
    defect: Reason | None = None
    message: str = ""

    @property
    def fallback_id(self) -> str:
        """Names the record where its episode's own identity cannot be read."""
        return f"{self.file}#{self.record}"

    def to_tree(self) -> dict[str, Any]:
        """As json holds it; what is as by default is left out."""
        tree: dict[str, Any] = _REF.dump_python(self, mode="json", exclude_defaults=True)
        return tree

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> EpisodeRef:
        """Validate what a file says. Raises ValueError if it is no ref."""
        return _REF.validate_python(tree)


class PlannedSource(BaseModel):
    """One input of a build.

    Attributes:
        data: folder or URL of the data set.
        dataset: name and version as published, for the manifest.
        twin: simulated, not published.
        joined: sha256 of files joined to every record; empty without any.
        notes: what a user should know about this copy (a split whose files are not there, ...).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    layout: str
    data: str
    dataset: str
    twin: bool
    joined: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The unit of work: the records of one shard, all of one source."""

    __pydantic_config__ = _STRICT

    name: PlainName
    source: str
    split: PlainName
    refs: tuple[EpisodeRef, ...]
    fingerprint: str

    @property
    def source_bytes(self) -> int:
        """Bytes of its records."""
        return sum(ref.length for ref in self.refs)

    def to_json(self) -> str:
        """As it travels to a worker."""
        return _TASK.dump_json(self, exclude_defaults=True).decode()

    @classmethod
    def from_json(cls, text: str) -> ShardTask:
        """Read and validate it. Raises ValueError if it is no task."""
        return _TASK.validate_json(text)


@dataclass(frozen=True)
class BuildPlan:
    """Every shard of a build, over one source or several.

    Attributes:
        models: stage -> identity of the network that it runs.
    """

    __pydantic_config__ = _STRICT

    sources: tuple[PlannedSource, ...]
    config: BuildConfig
    code: str
    shards: tuple[ShardTask, ...]
    models: dict[str, str] = field(default_factory=dict)

    def source_of(self, task: ShardTask) -> PlannedSource:
        """The input that a shard's records come from."""
        return next(source for source in self.sources if source.source == task.source)

    @property
    def episodes(self) -> int:
        """Number of records planned."""
        return sum(len(task.refs) for task in self.shards)

    def to_json(self) -> bytes:
        """Bytes of ``plan.json``. Of a record, what is as by default is left out.

        Raises:
            ValueError: a name that is not Unicode.
        """
        head = _PLAN.dump_json(self, exclude={"shards"})
        shards = _SHARDS.dump_json(self.shards, exclude_defaults=True)
        return head.removesuffix(b"}") + b',"shards":' + shards + b"}\n"

    @classmethod
    def from_json(cls, data: bytes) -> BuildPlan:
        """Read and validate ``plan.json``.

        Raises:
            ValueError: not a plan.
        """
        return _PLAN.validate_json(data)


_REF = TypeAdapter(EpisodeRef)
_TASK = TypeAdapter(ShardTask)
_SHARDS = TypeAdapter(tuple[ShardTask, ...])
_PLAN = TypeAdapter(BuildPlan)
_values_of_ref = attrgetter(*(f.name for f in fields(EpisodeRef) if f.name != "groups"))
_values_of_groups = attrgetter(*(f.name for f in fields(Groups)))


def fingerprint(common: str, name: str, split: str, refs: Sequence[EpisodeRef]) -> str:
    """sha256 over canonical json; equal inputs give equal fingerprints anywhere.

    Args:
        common: what all shards of a source share: its identity, configuration and code.
    """
    rows = [(*_values_of_ref(ref), *_values_of_groups(ref.groups)) for ref in refs]
    return hashlib.sha256(to_json({"parts": [common, name, split, rows]})).hexdigest()

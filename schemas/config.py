"""`BuildConfig`: one tree that says how a data set is built; YAML, then ``--set a.b=c``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.settings import check_settings, load_settings

# A split's name becomes part of file names.
SplitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,32}$")]
Share = Annotated[float, Field(gt=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _add_up(shares: dict[str, float]) -> dict[str, float]:
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares sum to {sum(shares.values()):g}; expected 1")
    return shares


class DroidConfig(_Part):
    """What is read beside DROID's own files."""

    annotations: str | None = Field(
        None, description="folder of KarlP/droid's JSONs; default: beside the raw labs, if there"
    )
    trust_order: bool = Field(
        False, description="pair frames with steps by order where no timestamp tells"
    )


class LiberoConfig(_Part):
    """How LIBERO's stored states are rendered."""

    assets: str | None = Field(
        None,
        description="site-packages folder with LIBERO's and robosuite 1.4's assets; default: "
        "LIBERO_SITE, else .venv-libero of `make libero-env`",
    )
    height: int = Field(256, ge=16, le=2048, multiple_of=2, description="pixels")
    width: int = Field(256, ge=16, le=2048, multiple_of=2, description="pixels")


class SourceConfig(_Part):
    """Which published data is read."""

    fps: float | None = Field(
        None, gt=0, description="step rate in Hz; default: what the source states"
    )
    splits: tuple[str, ...] | None = Field(
        None, description="splits to read; default: all there are"
    )
    max_episodes: int | None = Field(None, gt=0, description="stop after so many, in file order")
    mix: dict[str, Share] | None = Field(
        None, description="source -> share of the episodes; names every source that is built"
    )
    seed: int = Field(0, description="which episodes ``mix`` keeps of a source that has too many")
    droid: DroidConfig = DroidConfig()
    libero: LiberoConfig = LiberoConfig()

    @field_validator("mix")
    @classmethod
    def _whole(cls, mix: dict[str, float] | None) -> dict[str, float] | None:
        return mix if mix is None else _add_up(mix)


class SplitConfig(_Part):
    """What training and validation share nothing of."""

    by: Literal["source", "scene", "lab", "task"] = Field(
        "source", description="source: the published splits; else whole groups go to one split"
    )
    shares: dict[SplitName, Share] = Field(
        {"train": 0.9, "val": 0.1}, description="split -> share of the groups; unused by source"
    )
    seed: int = Field(0, description="another seed, another assignment")

    @field_validator("shares")
    @classmethod
    def _whole(cls, shares: dict[str, float]) -> dict[str, float]:
        return _add_up(shares)


class ClipConfig(_Part):
    """Which steps make a clip."""

    frames: int = Field(49, ge=1, description="most frames a clip has; 49 is Kinema4D's")
    min_frames: int = Field(2, ge=1, description="shorter episodes are set aside as too_short")
    # Below these speeds the arm counts as idle: encoder noise of a resting Panda in DROID stays
    # under 0.01 rad/s, a slow deliberate motion is several times these.
    idle_joint_speed: float = Field(0.02, ge=0, description="rad/s")
    idle_ee_speed: float = Field(0.005, ge=0, description="m/s")
    idle_gripper_speed: float = Field(0.05, ge=0, description="opening fraction per s")


class DepthConfig(_Part):
    """Where scene depth comes from."""

    backend: Literal["auto", "simulator", "pointmap", "transformers", "none"] = Field(
        "auto",
        description="auto: exact depth of twins and of LIBERO, absent for real frames; pointmap: "
        "our network; transformers: a published one (both: extra robo4d[depth]), made metric by "
        "the robot",
    )
    model: str | None = Field(
        None,
        description="pointmap: a .safetensors of ours, null the one that comes along; "
        "transformers: a checkpoint's folder, or hub:owner/name, which is downloaded",
    )
    batch: int = Field(
        8,
        ge=1,
        description="most frames that a network sees at once; on a GPU a clip's are fastest, "
        "on a CPU ours sees at most 2",
    )
    compiled: bool = Field(False, description="by torch.compile; pays off over many clips")

    @model_validator(mode="after")
    def _of_a_network(self) -> Self:
        if self.model is not None and self.backend not in ("pointmap", "transformers"):
            raise ValueError(f"backend {self.backend} takes no model; leave it out")
        if self.model is None and self.backend == "transformers":
            raise ValueError("backend transformers needs model: a folder, or hub:owner/name")
        return self


class ChecksConfig(_Part):
    """What an episode must satisfy."""

    joint_limit_margin: float = Field(0.05, ge=0, description="rad past a limit that is tolerated")
    ee_position: float = Field(0.005, gt=0, description="m between logged and computed ee pose")
    ee_rotation: float = Field(0.02, gt=0, description="rad, likewise")


class TimingConfig(_Part):
    """How far images may lag behind the log, and what is done about it."""

    enabled: bool = Field(True, description="estimate the offset; it is recorded either way")
    window: int = Field(64, ge=16, description="most steps whose frames are compared")
    max_offset_steps: int = Field(4, ge=1, description="largest offset that is looked for")
    correct: bool = Field(
        True, description="take the robot's state from where the log agrees, where that is sure"
    )


class MasksConfig(_Part):
    """A network that shows where the robot is: evidence for cameras beside what images show."""

    backend: Literal["robot", "sam", "none"] = Field(
        "robot",
        description="robot: our small network, for the robots that it knows (DROID's); sam: a "
        "promptable network by transformers (extra robo4d[masks])",
    )
    model: str | None = Field(
        None, description="folder of sam's checkpoint, or hub:owner/name, which is downloaded"
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.backend == "sam") != (self.model is not None):
            raise ValueError("backend sam and model go together; set both, or neither")
        return self


class CameraConfig(_Part):
    """Where a real camera's pose and focal length come from."""

    solve: Literal["auto", "never"] = Field(
        "auto",
        description="auto: solved from the robot wherever no simulator knows them, some 15 s a "
        "view (30 on the wrist); never: absent, or as shipped, untested",
    )
    focal: float | None = Field(
        None,
        gt=0,
        description="focal length over image width, of cameras that stand still; null: what the "
        "source's camera has",
    )
    focal_spread: float = Field(
        0.05, ge=0, le=0.5, description="relative deviation of ``focal``; 0: it is exact"
    )
    masks: MasksConfig = MasksConfig()
    seed: int = Field(0, description="of the search")


class ShardConfig(_Part):
    """How samples are packed."""

    episodes: int = Field(
        64, ge=1, description="episodes a shard, on average; each gets as much expected work"
    )
    rgb_crf: int = Field(18, ge=0, le=51, description="H.264 quality; 18 is visually lossless")


class QuarantineConfig(_Part):
    """How much bad data a build tolerates."""

    max_share: float = Field(0.1, ge=0, le=1, description="above this share the build exits 3")
    stop_after: int | None = Field(
        200, ge=1, description="above it once so many episodes are done, a build stops; null: never"
    )


class CostConfig(_Part):
    """What plans are balanced and priced by."""

    rates: str | None = Field(None, description="YAML as `benchmarks.rates` writes; default: ours")
    prices: str | None = Field(None, description="YAML like configs/prices.yaml; default: that one")


class StagingConfig(_Part):
    """Where reconstructed arrays are kept, so that they are never made twice. No byte of a shard
    depends on it.
    """

    path: str | None = Field(
        None, description="folder or URL, which builds may share; null: nothing is kept"
    )


class LocalConfig(_Part):
    """How a build runs in processes of this machine."""

    serve_network: bool = Field(
        False,
        description="one process more runs the depth network for all workers, on their GPU; "
        "ignored with one worker or one shard left, on other engines, and without a network",
    )


class BeamConfig(_Part):
    """How a build runs on Apache Beam."""

    options: tuple[str, ...] = Field(
        (), description="Beam's own, as --runner=DataflowRunner; none: processes of this machine"
    )


class RayConfig(_Part):
    """How a build runs on Ray. What a shard needs is held by an actor, which builds one at once."""

    address: str | None = Field(
        None, description="of a running cluster, or auto; null: RAY_ADDRESS, else one made here"
    )
    max_workers: int | None = Field(
        None, ge=1, description="the pool of actors grows up to so many; null: as many as workers"
    )
    cpus: float = Field(0.5, ge=0, description="of an actor; with stages, reading has its own")
    gpus: float = Field(0, ge=0, description="of an actor; 0.25 lets four share one")
    stages: bool = Field(
        False, description="read and encode in tasks of their own, beside the actors that lift"
    )
    ahead: int = Field(2, ge=0, description="episodes read, and encoded, beside the one lifted")
    read_cpus: float = Field(1, gt=0, description="of a task that reads, checks and solves joints")
    encode_cpus: float = Field(1, gt=0, description="of a task that encodes")


class RunConfig(_Part):
    """Where and how a build runs. No byte of it depends on any of this."""

    engine: Literal["local", "beam", "ray"] = Field(
        "local", description="local: processes of this machine; or Apache Beam, or Ray"
    )
    workers: int = Field(1, ge=1, description="shards that are built at once")
    retries: int = Field(3, ge=0, description="times in a row that lost workers are replaced")
    log: Literal["auto", "stderr", "none"] = Field(
        "auto", description="JSON lines; auto: files under OUT/.run where OUT is a folder"
    )
    local: LocalConfig = LocalConfig()
    beam: BeamConfig = BeamConfig()
    ray: RayConfig = RayConfig()


class BuildConfig(_Part):
    """Everything that a build's bytes depend on, besides its input and the code; and ``run``,
    ``staging``, ``cost``, ``quarantine``.
    """

    source: SourceConfig = SourceConfig()
    split: SplitConfig = SplitConfig()
    clip: ClipConfig = ClipConfig()
    depth: DepthConfig = DepthConfig()
    checks: ChecksConfig = ChecksConfig()
    timing: TimingConfig = TimingConfig()
    camera: CameraConfig = CameraConfig()
    shard: ShardConfig = ShardConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    cost: CostConfig = CostConfig()
    staging: StagingConfig = StagingConfig()
    run: RunConfig = RunConfig()


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> BuildConfig:
    """Of a YAML file (or the defaults) and ``a.b=c`` overrides; errors as of `load_settings`."""
    return load_settings(BuildConfig, path, overrides)


def override(config: BuildConfig, overrides: Sequence[str]) -> BuildConfig:
    """A configuration with ``a.b=c`` overrides; errors as of `load_settings`."""
    return check_settings(BuildConfig, config.model_dump(mode="json"), overrides)

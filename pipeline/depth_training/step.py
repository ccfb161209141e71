"""One step of the training: a batch, its loss, and the weights after it."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor

from pipeline.depth_training.batches import Batch, PairCutter
from pipeline.depth_training.crew import ALONE, Crew
from reconstruction.depth.pointmap.losses import pointmap_loss
from reconstruction.depth.pointmap.network import PointmapNetwork, Prediction
from schemas.training import LoopPart


class Step:
    """What a training's steps change: the network, the average of its weights, the optimiser.

    Args:
        network: on the device that it is trained on.
        crew: whose others learn from their shares of each batch.
    """

    def __init__(self, network: PointmapNetwork, loop: LoopPart, crew: Crew = ALONE) -> None:
        self.network = network
        self.average = deepcopy(network).requires_grad_(False)
        encoder = list(network.encoder.body.parameters())
        taken = {id(p) for p in encoder}
        rest = [p for p in network.parameters() if id(p) not in taken]
        self.optimizer = torch.optim.AdamW(
            [{"params": rest, "share": 1.0}, {"params": encoder, "share": loop.encoder_rate}],
            lr=loop.rate,
            weight_decay=loop.decay,
            fused=rest[0].is_cuda,
        )
        self._loop, self._crew = loop, crew
        # The function, not the module, whose weights would be saved under other names. Each of the
        # sizes that batches are cut to is compiled on its own.
        self._loss = torch.compile(_loss, dynamic=False) if loop.compiled else _loss

    def __call__(self, number: int, cutter: PairCutter) -> dict[str, Tensor]:
        """Learn from a batch: a function of the seed and of the step's number, whenever the
        training was broken off. The host waits for nothing.

        Returns:
            The parts of the loss, on the device.
        """
        loop, crew = self._loop, self._crew
        rate = rate_of(loop, number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        seed = (loop.seed * 1_000_003 + number) * crew.size + crew.rank
        batch = cutter.cut(loop.batch // crew.size, torch.Generator().manual_seed(seed))
        loss, parts = self._loss(self.network, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learned = [p.grad for p in self.network.parameters() if p.grad is not None]
        crew.average([*learned, *self.network.buffers()])
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self._follow(min(loop.average, (number + 1) / (number + 10)))
        return {name: value.detach() for name, value in parts.items()}

    @torch.no_grad()
    def _follow(self, share: float) -> None:
        average, network = self.average, self.network
        old, new = list(average.parameters()), [p.detach() for p in network.parameters()]
        torch._foreach_lerp_(old, new, 1 - share)
        torch._foreach_copy_(list(average.buffers()), list(network.buffers()))


def rate_of(loop: LoopPart, step: int) -> float:
    """Learning rate: up over the warm-up, then down a cosine."""
    if step < loop.warmup:
        return loop.rate * (step + 1) / loop.warmup
    share = (step - loop.warmup) / max(1, loop.steps - loop.warmup)
    return loop.rate * 0.5 * (1 + math.cos(math.pi * share))


def look(network: PointmapNetwork, batch: Batch) -> Prediction:
    """What a network says of a batch; in bfloat16 on a GPU."""
    kind = batch.pictures.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        pictures = batch.pictures.contiguous(memory_format=torch.channels_last)
        return network.forward_pairs(pictures, batch.K, batch.truth.known, batch.hints)


def _loss(network: PointmapNetwork, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    return pointmap_loss(look(network, batch), batch.truth)

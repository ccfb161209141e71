"""Several processes that train one network: each on its own GPU and its own share of the takes.

A step's batch is parted among them, and what each share says of the weights is averaged, so that
all keep the same weights.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

# Every so many steps all are asked whether to stop: the answer is waited for.
_ASKED_EVERY = 8


@dataclass(frozen=True)
class Crew:
    """One process' place among ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """It writes, tells and judges for all."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each process' tensors by their means over all; those of integers stay."""
        if self.size == 1:
            return
        able = [tensor for tensor in tensors if tensor.is_floating_point()]
        # In one message: hundreds of small ones would each wait for the slowest.
        flat = torch.cat([tensor.flatten() for tensor in able])
        distributed.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in able])
        means = [part.view_as(tensor) for part, tensor in zip(parts, able, strict=True)]
        torch._foreach_copy_(able, means)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()

    def agree(self, stop: bool, step: int, device: torch.device) -> bool:
        """Whether any asks to stop, so that all stop at the same step; of several, at some only."""
        if self.size == 1:
            return stop
        if step % _ASKED_EVERY:
            return False
        asked = torch.tensor(float(stop), device=device)
        distributed.all_reduce(asked, distributed.ReduceOp.MAX)
        return bool(asked > 0)


ALONE = Crew()


def run_crew(size: int, device: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Call ``work(crew, device, *arguments)`` in ``size`` processes of this machine.

    Args:
        device: "cuda": each has the GPU of its rank; or "cpu".
        work, arguments: can be pickled.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one raised; the others are ended.
    """
    from torch.multiprocessing import spawn

    with tempfile.TemporaryDirectory() as folder:
        met = Path(folder) / "met"
        spawn(_member, args=(size, device, met, work, arguments), nprocs=size)


def _member(
    rank: int,
    size: int,
    device: str,
    met: Path,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    # They are of one machine, whose other interfaces are not for them.
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")
    where = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(where)
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{met}",
        rank=rank,
        world_size=size,
    )
    try:
        work(Crew(rank, size), where, *arguments)
    finally:
        distributed.destroy_process_group()

"""Random numbers of a batch, and how they reach the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the CPU on a device, which is not waited for."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Draw:
    """Random numbers made on the CPU, so that they do not depend on the device, but for noise."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """On the device, evenly between ``low`` and ``high``."""
        values = torch.rand(shape, generator=self.generator)
        return sent(low + (high - low) * values, self.device)

    def number(self, low: float, high: float) -> float:
        """One that the host needs to know."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """On the device, of mean 0 and standard deviation 1."""
        return sent(torch.randn(shape, generator=self.generator), self.device)

    def on_device(self) -> torch.Generator:
        """A generator there, for as many numbers as pictures have."""
        seed = int(torch.randint(2**31, (1,), generator=self.generator))
        return torch.Generator(self.device).manual_seed(seed)

"""Pairs of frames cut out of takes and made to look like any camera's, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.depth_training.takes import TakeSet
from reconstruction.depth.pointmap.losses import Truth
from reconstruction.depth.pointmap.network import rays

# (height, width) that a batch is cut to: LIBERO's and Bridge's, DROID's and RT-1's aspects.
SIZES = ((256, 256), (192, 320), (224, 288))
_LEAST_CUT = 0.62
_KNOWN = 0.8  # share of pairs of which the network is told K
_SAME = 0.12  # share of pairs of a frame with itself


@dataclass(frozen=True)
class Batch:
    """Pairs: pictures (B, 3, H, W) in 0..1, K (B, 3, 3) of both, and the truth of the frames."""

    frames: Tensor
    references: Tensor
    K: Tensor
    truth: Truth


class PairCutter:
    """Cuts batches out of a set that is held on a device.

    Args:
        rows: of the set that may be used.
        device: where the set is held, if ``resident``, and where batches are made.
    """

    def __init__(self, takes: TakeSet, rows: Tensor, device: torch.device, resident: bool) -> None:
        self._device = device
        where = device if resident else torch.device("cpu")
        self._rgb = torch.from_numpy(takes.rgb[rows.numpy()]).to(where)
        self._depth = torch.from_numpy(takes.depth[rows.numpy()]).to(where)
        self._K = torch.from_numpy(takes.K[rows.numpy()]).to(where)
        self._pose = torch.from_numpy(takes.world_from_camera[rows.numpy()]).to(where)

    def cut(self, count: int, generator: torch.Generator, *, plain: bool = False) -> Batch:
        """A batch of ``count`` pairs, drawn by ``generator`` (of the CPU).

        Args:
            plain: as filmed, K known: for judging.
        """
        draw = _Draw(generator, self._device)
        where = self._rgb.device
        take = torch.randint(len(self._rgb), (count,), generator=generator).to(where)
        first = torch.randint(4, (count,), generator=generator)
        other = (first + torch.randint(1, 4, (count,), generator=generator)) % 4
        same = torch.rand(count, generator=generator) < _SAME
        other = torch.where(same, first, other)
        i, j = first.to(where), other.to(where)
        size = SIZES[0] if plain else SIZES[int(torch.randint(3, (1,), generator=generator))]
        box = _boxes(draw, count, self._rgb.shape[2:4], size, plain)
        rgb = torch.cat([self._rgb[take, i], self._rgb[take, j]]).to(self._device)
        pictures = _cut(rgb.permute(0, 3, 1, 2).float() / 255, box.repeat(2, 1), size, "bilinear")
        depth = self._depth[take, i].to(self._device).float()
        depth = _cut(depth[:, None], box, size, "nearest")[:, 0]
        K = _cut_lens(self._K[take, i].to(self._device), box, size)
        pose = torch.linalg.solve(self._pose[take, j].double(), self._pose[take, i].double())
        pose = pose.to(self._device).float()
        if not plain:
            pictures = _spoil(pictures, draw)
        frames, references = pictures.chunk(2)
        own = rays(K, depth.shape[1:])
        # Over depth: R ray + t / z - ray.
        turned = torch.einsum("bij,bjhw->bihw", pose[:, :3, :3], own)
        shift = turned + pose[:, :3, 3, None, None] / depth.clamp_min(0.05)[:, None] - own
        known = torch.ones(count, dtype=torch.bool, device=self._device)
        if not plain:
            known = draw.uniform(count) < _KNOWN
        truth = Truth(depth, shift, (K[:, 0, 0] / size[1]).log(), known)
        return Batch(frames, references, K, truth)


@dataclass(frozen=True)
class _Draw:
    """Random numbers made on the CPU, so that they do not depend on the device, but for noise."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        values = torch.rand(shape, generator=self.generator).to(self.device)
        return low + (high - low) * values

    def on_device(self) -> torch.Generator:
        seed = int(torch.randint(2**31, (1,), generator=self.generator))
        return torch.Generator(self.device).manual_seed(seed)


def _boxes(draw: _Draw, count: int, full: torch.Size, size: tuple[int, int], plain: bool) -> Tensor:
    """(B, 4) x0, y0, width, height in pixels of the full picture, of ``size``'s aspect."""
    height, width = full
    most = min(height / size[0], width / size[1])
    scale = most * (1.0 if plain else draw.uniform(count, low=_LEAST_CUT))
    scale = scale * torch.ones(count, device=draw.device)
    w, h = size[1] * scale, size[0] * scale
    at = 0.5 * torch.ones(count, 2, device=draw.device) if plain else draw.uniform(count, 2)
    return torch.stack([(width - w) * at[:, 0], (height - h) * at[:, 1], w, h], 1)


def _cut(pictures: Tensor, box: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    height, width = pictures.shape[2:]
    x0, y0, w, h = box.T
    theta = pictures.new_zeros(len(box), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = w / width, h / height
    theta[:, 0, 2] = (2 * x0 + w) / width - 1
    theta[:, 1, 2] = (2 * y0 + h) / height - 1
    grid = F.affine_grid(theta, [len(box), 1, *size], align_corners=False)
    return F.grid_sample(pictures, grid, mode, "border", align_corners=False)


def _cut_lens(K: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    K = K.clone()
    K[:, 0, 2] -= box[:, 0]
    K[:, 1, 2] -= box[:, 1]
    K[:, 0] *= (size[1] / box[:, 2])[:, None]
    K[:, 1] *= (size[0] / box[:, 3])[:, None]
    return K


def _spoil(pictures: Tensor, draw: _Draw) -> Tensor:
    """Exposure, colour, contrast, blur and noise; both pictures of a pair share most of it."""
    count = len(pictures) // 2

    def shared(*shape: int, spread: float) -> Tensor:
        pair = draw.uniform(count, *shape, low=-spread, high=spread).repeat(2, *[1] * len(shape))
        own = draw.uniform(2 * count, *shape, low=-spread, high=spread)
        return pair + 0.15 * own

    gain = 1 + shared(1, 1, 1, spread=0.35) + shared(3, 1, 1, spread=0.15)
    x = pictures * gain + shared(1, 1, 1, spread=0.12)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + shared(1, 1, 1, spread=0.6)).clamp_min(0)
    x = x.clamp(1e-4, 1) ** (1 + shared(1, 1, 1, spread=0.35)).clamp_min(0.4)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = draw.uniform(count, 1, 1, 1, low=-1.2, high=1.0).clamp_min(0).repeat(2, 1, 1, 1)
    x = x + share * (blurred - x)
    noise = torch.randn(x.shape, device=x.device, generator=draw.on_device())
    return (x + noise * draw.uniform(2 * count, 1, 1, 1, high=0.03)).clamp(0, 1)

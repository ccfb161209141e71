"""Attention among a frame's tokens and to those of its reference, and the way back to pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Weight of what bilinear upsampling does not look at: none could not be learned from.
_NONE = 0.01


class Attention(nn.Module):
    """Multi-head attention of tokens (B, N, D) to ``memory`` (B, M, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, width)
        self.answer = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """(B, N, D)."""
        q = self._split(self.ask(tokens))
        k, v = (self._split(part) for part in self.answer(memory).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.out(mixed.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention to itself, to the reference (if ``crossed``), and a layer for each token."""

    def __init__(self, width: int, heads: int, crossed: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if crossed else 2))
        self.own = Attention(width, heads)
        self.cross = Attention(width, heads) if crossed else None
        self.layer = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """(B, N, D); ``memory`` (B, M, D) is normalised."""
        x = self.norms[0](tokens)
        tokens = tokens + self.own(x, x)
        if self.cross is not None and memory is not None:
            tokens = tokens + self.cross(self.norms[2](tokens), memory)
        return cast(Tensor, tokens + self.layer(self.norms[1](tokens)))


class Refine(nn.Module):
    """A coarse map, doubled, and a finer one to a map of the finer one's size."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(coarse, fine, 1)
        self.first = nn.Conv2d(fine, fine, 3, padding=1)
        self.second = nn.Conv2d(fine, fine, 3, padding=1)
        self.norm = nn.GroupNorm(8, fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, fine, H, W)."""
        x = self.enter(coarse)
        x = F.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=False) + fine
        return cast(Tensor, x + self.second(F.gelu(self.first(self.norm(x)))))


class Sharpen(nn.Module):
    """A map to twice its size: each pixel a mean of the nine coarse ones about it, whose weights
    are told from features and from the picture (convex upsampling; Teed and Deng, RAFT, 2020).

    Bilinear until trained. Unlike that it can leave a step between two surfaces where it is.
    """

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + 12, hidden, 3, padding=1)
        self.weights = nn.Conv2d(hidden, 36, 1)
        nn.init.zeros_(self.weights.weight)
        share = torch.tensor([[0.25, 0.75, _NONE], [_NONE, 0.75, 0.25]])  # of pixel 0, and 1
        plane = share[:, None, :, None] * share[None, :, None, :]  # (2, 2, 3, 3)
        with torch.no_grad():
            self.weights.bias.copy_(plane.flatten(2).permute(2, 0, 1).flatten().log())

    def forward(self, maps: Tensor, features: Tensor, picture: Tensor) -> Tensor:
        """(B, 2h, 2w) of maps (B, h, w), features (B, C, h, w) and picture (B, 3, 2h, 2w)."""
        seen = torch.cat([features, F.pixel_unshuffle(picture, 2).to(features.dtype)], 1)
        weights = self.weights(F.gelu(self.first(seen))).unflatten(1, (9, 4)).float().softmax(1)
        around = F.unfold(F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), 3)
        around = around.unflatten(2, maps.shape[1:])[:, :, None]
        return F.pixel_shuffle((weights * around).sum(1), 2)[:, 0]


class RayPosition(nn.Module):
    """Where a token looks, as its position: sines of x / z and y / z (Tancik et al. 2020)."""

    def __init__(self, width: int, octaves: int = 6) -> None:
        super().__init__()
        self.octaves = octaves
        self.linear = nn.Linear(2 + 4 * octaves, width)

    def forward(self, K: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        """(B, h w, D) for K (B, 3, 3) in pixels of ``size`` = (H, W) pictures."""
        height, width = size
        y = (torch.arange(height // stride, device=K.device) + 0.5) * stride
        x = (torch.arange(width // stride, device=K.device) + 0.5) * stride
        v, u = torch.meshgrid(y, x, indexing="ij")
        rays = torch.stack(
            [
                (u - K[:, None, None, 0, 2]) / K[:, None, None, 0, 0],
                (v - K[:, None, None, 1, 2]) / K[:, None, None, 1, 1],
            ],
            -1,
        ).flatten(1, 2)
        turns = 2.0 ** torch.arange(self.octaves, device=K.device) * torch.pi / 2
        angles = (rays[..., None] * turns).flatten(-2)
        return cast(Tensor, self.linear(torch.cat([rays, angles.sin(), angles.cos()], -1)))


class HintPyramid(nn.Module):
    """Maps of half the pictures' size to what is added at each level, halved each time.

    Args:
        channels: of the maps.
        widths: of the levels, the finest first.
    """

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, widths[0], 3, padding=1),
        )
        self.coarser = nn.ModuleList(
            nn.Sequential(nn.GELU(), nn.Conv2d(a, b, 3, stride=2, padding=1))
            for a, b in pairwise(widths)
        )

    def forward(self, maps: Tensor) -> list[Tensor]:
        """One (B, width, h, w) a level."""
        levels = [self.first(maps)]
        for layer in self.coarser:
            levels.append(layer(levels[-1]))
        return levels

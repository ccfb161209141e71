"""A pointmap network in the manner of DUSt3R (Wang et al. 2024) on a timm encoder.

It takes a frame and a reference frame of the same clip, lets the one's tokens attend to the
other's, and gives for each pixel its depth, its 3D point in the reference camera's frame, how much
either is to be trusted, and for each picture the focal length. As in MUSt3R and Fast3R the frame's
own pointmap is given beside that in the reference's frame: the two together say where the camera
went. Where K is known, its rays are what positions are told by; where the camera is solved, so is
what the robot says (`hints`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reconstruction.depth.pointmap.blocks import (
    Block,
    HintPyramid,
    RayPosition,
    Refine,
    Sharpen,
)
from reconstruction.depth.pointmap.encoder import MEAN, STD, Encoder
from reconstruction.depth.pointmap.hints import CHANNELS

# Weight of log confidence in the loss, as in DUSt3R: at its least, confidence = ALPHA / error.
ALPHA = 0.2
# m; what is nearer or farther is not told apart.
_NEAREST, _FARTHEST = 0.02, 50.0
# Focal length over width that rays are drawn with while it is unknown: what DROID, Bridge, RT-1
# and LIBERO have is between 0.4 and 1.2.
_USUAL_FOCAL = 0.8
_REFINED = (128, 96, 48)
_LONGEST = 4096  # pixels of a picture's side as it is seen


@dataclass(frozen=True)
class NetworkConfig:
    """What a checkpoint's shapes follow from.

    Attributes:
        encoder: a timm model: convolutional with levels of stride 4 to 32, or a vision transformer.
        width: channels of the tokens; heads divide it.
        blocks: of the decoder.
        two_frames: whether a reference frame is looked at; else each frame is on its own.
        confidence: whether confidence is learned; else it is the same everywhere.
        robot: whether it can be told of the robot, see `hints`.
        area: pixels of a picture as it is seen, roughly.
        sharp: whether depth's outlines are found at the picture's own pixels; else its map of half
            the size is made larger bilinearly.
    """

    encoder: str = "tf_efficientnet_lite0"
    width: int = 256
    blocks: int = 6
    heads: int = 8
    two_frames: bool = True
    confidence: bool = True
    robot: bool = True
    area: int = 98304
    sharp: bool = True

    def to_tree(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What the network says of a batch.

    Attributes:
        log_depth: (B, H, W) natural logarithm of z-depth in m.
        confidence: (B, H, W) at least 1; the relative error to be expected is ALPHA over it.
        shift: (B, 3, H, W) from a pixel's point in its own camera's frame to that in the
            reference camera's, over the pixel's depth.
        shift_confidence: (B, H, W) of it.
        log_focal: (B,) natural logarithm of focal length over width.
    """

    log_depth: Tensor
    confidence: Tensor
    shift: Tensor
    shift_confidence: Tensor
    log_focal: Tensor

    def points(self, K: Tensor) -> tuple[Tensor, Tensor]:
        """Pointmaps (B, 3, H, W) in m: in the frame's own camera, and in the reference's."""
        depth = self.log_depth.exp()[:, None]
        own = rays(K, self.log_depth.shape[1:]) * depth
        return own, own + self.shift * depth


class PointmapNetwork(nn.Module):
    """See the module; pictures' sides must be multiples of ``multiple``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.encoder = Encoder(config.encoder, width, _REFINED[:2])
        self.multiple = self.encoder.multiple
        self.position = RayPosition(width)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.before = nn.ModuleList(
            Block(width, heads, crossed=False) for _ in range(2 if config.two_frames else 0)
        )
        self.memory = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, heads, crossed=config.two_frames) for _ in range(config.blocks)
        )
        self.after = nn.LayerNorm(width)
        # The encoder's finest level is of stride 4: edges need a finer one, straight from pixels.
        self.stem = nn.Sequential(
            nn.Conv2d(3, _REFINED[2], 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(_REFINED[2], _REFINED[2], 3, padding=1),
        )
        levels = (*_REFINED[::-1], width)
        self.hints = HintPyramid(CHANNELS, levels) if config.robot else None
        coarse = (width, *_REFINED[:2])
        self.refine = nn.ModuleList(Refine(a, b) for a, b in zip(coarse, _REFINED, strict=True))
        self.out = nn.Conv2d(_REFINED[2], 6, 3, padding=1)
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.out.weight, std=1e-3)
        self.sharpen = Sharpen(_REFINED[2]) if config.sharp else None
        self.focal = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def size_for(self, full: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in which a picture of size ``full`` is seen: near ``area`` pixels and
        its aspect, of multiples.
        """
        height, width = full
        multiple, most = self.multiple, _LONGEST // self.multiple
        best, least = (multiple, multiple), inf
        for h in range(multiple, most * multiple + 1, multiple):
            w = min(max(1, round(h * width / height / multiple)), most) * multiple
            aspect = abs(log(w / h * height / width))
            area = abs(log(h * w / self.config.area))
            # A picture that is stretched is worse than one of another size.
            if 4 * aspect + area < least:
                best, least = (h, w), 4 * aspect + area
        return best

    def forward(
        self,
        frames: Tensor,
        references: Tensor | None,
        K: Tensor,
        known: Tensor,
        hints: Tensor | None = None,
        reference_hints: Tensor | None = None,
    ) -> Prediction:
        """Look at frames beside their references.

        Args:
            frames, references: (B, 3, H, W) in 0..1; None: each is its own reference.
            K: (B, 3, 3) pixels, of both; anything where it is not known.
            known: (B,) bool.
            hints, reference_hints: of `hints.robot_hints`; None: nothing is known of the robot.
        """
        seen = self.see(frames, K, known, hints)
        memory = None
        if self.config.two_frames:
            if references is None:
                memory = self.remember(seen[0])
            else:
                memory = self.remember(self.see(references, K, known, reference_hints)[0])
        return self.tell(seen, memory)

    def forward_pairs(
        self, pictures: Tensor, K: Tensor, known: Tensor, hints: Tensor | None = None
    ) -> Prediction:
        """Look at both pictures of pairs, each beside the other: half the encoding of `forward`.

        Args:
            pictures: (2B, 3, H, W) in 0..1; the reference of row k is row (k + B) % 2B.
            K, known, hints: of all 2B, as of `forward`.
        """
        seen = self.see(pictures, K, known, hints)
        memory = None
        if self.config.two_frames:
            memory = self.remember(seen[0]).roll(len(pictures) // 2, 0)
        return self.tell(seen, memory)

    def see(
        self, frames: Tensor, K: Tensor, known: Tensor, hints: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Tokens (B, N, D) of frames, finer maps, and the pictures as they are seen; arguments as
        of `forward`.
        """
        size = (int(frames.shape[2]), int(frames.shape[3]))
        guess = _usual(size, K)
        K = torch.where(known[:, None, None], K, guess)
        picture = (frames - self.mean) / self.std
        tokens, half, quarter = self.encoder(picture)
        stem = self.stem(picture)
        if self.hints is not None:
            if hints is None:
                hints = picture.new_zeros(len(picture), CHANNELS, size[0] // 2, size[1] // 2)
            told = self.hints(hints)
            stem, quarter, half, tokens = (
                level + _fitted(hint, level)
                for level, hint in zip((stem, quarter, half, tokens), told, strict=True)
            )
        flat = tokens.flatten(2).transpose(1, 2)
        flat = flat + self.position(K, size, self.encoder.stride).to(flat.dtype)
        flat = flat + torch.where(known[:, None, None], 0.0, self.unknown).to(flat.dtype)
        return flat, half, quarter, stem, picture

    def remember(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) of a reference, as others attend to them."""
        for block in self.before:
            tokens = block(tokens)
        return self.memory(tokens)

    def tell(self, seen: tuple[Tensor, ...], memory: Tensor | None) -> Prediction:
        """What is to be said of frames, with the memory of their references."""
        tokens, half, quarter, stem, picture = seen
        size = picture.shape[2:]
        for block in self.blocks:
            tokens = block(tokens, memory)
        tokens = self.after(tokens)
        log_focal = self.focal(tokens.mean(1))[:, 0].float() + log(_USUAL_FOCAL)
        stride = self.encoder.stride
        grid = tokens.transpose(1, 2).unflatten(2, (size[0] // stride, size[1] // stride))
        for refine, fine in zip(self.refine, (half, quarter, stem), strict=True):
            grid = refine(grid, fine)
        coarse = self.out(grid).float()
        out = F.interpolate(coarse, tuple(size), mode="bilinear", align_corners=False)
        log_depth = out[:, 0]
        if self.sharpen is not None:
            log_depth = self.sharpen(coarse[:, 0], grid, picture)
        log_depth = log_depth.clamp(log(_NEAREST), log(_FARTHEST))
        # Between 1 and 1,000: without a ceiling a few perfect pixels outweigh a batch.
        trust = 1 + out[:, [1, 5]].clamp(-10, 6.9).exp()
        if not self.config.confidence:
            trust = torch.ones_like(trust)
        return Prediction(log_depth, trust[:, 0], out[:, 2:5], trust[:, 1], log_focal)


def _fitted(values: Tensor, like: Tensor) -> Tensor:
    """Of patches whose side is no power of two."""
    if values.shape[2:] == like.shape[2:]:
        return values
    return F.interpolate(values, like.shape[2:], mode="bilinear", align_corners=False)


def rays(K: Tensor, size: torch.Size) -> Tensor:
    """(B, 3, H, W) of depth 1 through pixel centres, for K (B, 3, 3)."""
    height, width = size
    v, u = torch.meshgrid(
        torch.arange(height, device=K.device) + 0.5,
        torch.arange(width, device=K.device) + 0.5,
        indexing="ij",
    )
    x = (u - K[:, None, None, 0, 2]) / K[:, None, None, 0, 0]
    y = (v - K[:, None, None, 1, 2]) / K[:, None, None, 1, 1]
    return torch.stack([x, y, torch.ones_like(x)], 1)


def _usual(size: tuple[int, int], K: Tensor) -> Tensor:
    height, width = size
    focal = _USUAL_FOCAL * width
    guess = torch.eye(3, dtype=K.dtype, device=K.device)
    # Filled there: a copy from the host would be waited for.
    guess[0, 0], guess[1, 1], guess[0, 2], guess[1, 2] = focal, focal, width / 2, height / 2
    return guess

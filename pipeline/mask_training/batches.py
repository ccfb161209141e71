"""Batches of a set of frames: cut out, mixed, told a silhouette that is off, and spoilt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.depth_training.batches import spoil, taken
from pipeline.depth_training.draws import Draw, sent
from pipeline.mask_training.frames import FrameSet
from pipeline.mask_training.network import SIZE
from simulation.depth_scenes.take import HEIGHT, WIDTH

_LEAST_CUT = 0.6  # of a picture's width
_ROLL = 0.06  # rad, standard deviation
_MIXED = 0.5  # share of pictures with a box of another's
_BOX = (0.1, 0.5)  # its sides, over the picture's
_TOLD = 0.7  # share of pictures of which a silhouette is told
# Standard deviations of the affine map, in halves of the picture, by which it is off at most: what
# errors of a pose and of a focal length do.
_OFF = ((0.06, 0.06, 0.05), (0.06, 0.06, 0.07))
_HIGH = SIZE[0] * WIDTH / SIZE[1] / HEIGHT  # of a frame, what a cut of all its width holds
_ASPECT = HEIGHT / WIDTH


@dataclass(frozen=True)
class Batch:
    """What the network is given (N, 5, H, W), and what it should say (N, H, W), in 0..1."""

    given: Tensor
    visible: Tensor


class FrameCutter:
    """Cuts batches out of rows of a set.

    Args:
        device: where the set is held, if ``resident``, and where batches are made.
    """

    def __init__(
        self, frames: FrameSet, rows: NDArray[np.int_], device: torch.device, resident: bool
    ) -> None:
        where = device if resident else torch.device("cpu")
        chosen = torch.from_numpy(rows)
        self._device = device
        self._rgb = taken(frames.rgb, chosen, where)
        self._visible = taken(frames.visible, chosen, where)
        self._whole = taken(frames.whole, chosen, where)

    def __len__(self) -> int:
        return len(self._rgb)

    def cut(self, count: int, generator: torch.Generator) -> Batch:
        """A batch of an even ``count``, drawn by ``generator`` (of the CPU)."""
        draw = Draw(generator, self._device)
        rows = torch.randint(len(self), (count,), generator=generator)
        theta = _cuts(draw, count)
        rgb, visible, whole = self._sampled(rows, theta)
        other = sent(torch.randperm(count, generator=generator), self._device)
        box = _boxes(draw, count)
        rgb = torch.where(box[:, None], rgb[other], rgb)
        visible = torch.where(box, visible[other], visible)
        told = warped(whole, theta @ _errors(draw, count))
        there = (draw.uniform(count, 1, 1, 1) < _TOLD).float()
        return Batch(_given(spoil(rgb, draw), told, there), visible)

    def plain(self, rows: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The middle of frames, of all their width; a silhouette is told where there is a
        ``generator`` to draw its errors.
        """
        theta = torch.eye(3, device=self._device).repeat(len(rows), 1, 1)
        theta[:, 1, 1] = _HIGH
        rgb, visible, whole = self._sampled(rows, theta)
        there = rgb.new_full((len(rows), 1, 1, 1), float(generator is not None))
        told = whole.new_zeros(len(rows), 1, *SIZE)
        if generator is not None:
            told = warped(whole, theta @ _errors(Draw(generator, self._device), len(rows)))
        return Batch(_given(rgb, told, there), visible)

    def _sampled(self, rows: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, 3, H, W) and visible (N, H, W) as cut; whole (N, 1, ...) as filmed."""
        rows = sent(rows, self._rgb.device)
        rgb = self._rgb[rows].to(self._device).permute(0, 3, 1, 2) / 255
        visible, whole = (
            held[rows].to(self._device)[:, None] / 255 for held in (self._visible, self._whole)
        )
        return warped(rgb, theta), warped(visible, theta)[:, 0], whole


def warped(pictures: Tensor, theta: Tensor) -> Tensor:
    """(N, C, H, W) of `SIZE`; ``theta`` (N, 3, 3) leads to where each is sampled, both in -1..1."""
    grid = F.affine_grid(theta[:, :2], [len(pictures), 1, *SIZE], align_corners=False)
    return F.grid_sample(pictures, grid, "bilinear", "zeros", align_corners=False)


def _given(rgb: Tensor, told: Tensor, there: Tensor) -> Tensor:
    return torch.cat([rgb, told * there, there.expand_as(told)], 1)


def _cuts(draw: Draw, count: int) -> Tensor:
    """(N, 3, 3): smaller, somewhere in the frame, rolled, and half of them turned over."""
    scale = draw.uniform(count, low=_LEAST_CUT)
    x = draw.uniform(count, low=-1.0) * (1 - scale)
    y = draw.uniform(count, low=-1.0) * (1 - scale * _HIGH)
    flip = torch.where(draw.uniform(count) < 0.5, -1.0, 1.0)
    roll = draw.normal(count) * _ROLL
    theta = torch.eye(3, device=draw.device).repeat(count, 1, 1)
    theta[:, 0, 0] = scale * flip * roll.cos()
    theta[:, 0, 1] = -scale * _HIGH * _ASPECT * roll.sin()
    theta[:, 1, 0] = scale * flip / _ASPECT * roll.sin()
    theta[:, 1, 1] = scale * _HIGH * roll.cos()
    theta[:, 0, 2], theta[:, 1, 2] = x, y
    return theta


def _boxes(draw: Draw, count: int) -> Tensor:
    """(N, H, W) bool: a box of half of them."""
    at, share = draw.uniform(count, 2, 1, 1), draw.uniform(count, 2, 1, 1)
    half = (_BOX[0] + (_BOX[1] - _BOX[0]) * share) / 2
    y = torch.arange(SIZE[0], device=draw.device)[None, :, None] / SIZE[0]
    x = torch.arange(SIZE[1], device=draw.device)[None, None, :] / SIZE[1]
    inside = ((y - at[:, 0]).abs() < half[:, 0]) & ((x - at[:, 1]).abs() < half[:, 1])
    return inside & (draw.uniform(count, 1, 1) < _MIXED)


def _errors(draw: Draw, count: int) -> Tensor:
    """(N, 3, 3) near the identity; most are small."""
    some = draw.uniform(count, 1, 1) ** 1.5
    off = draw.normal(count, 2, 3) * some * torch.tensor(_OFF, device=draw.device)
    return torch.eye(3, device=draw.device) + F.pad(off, (0, 0, 0, 1))

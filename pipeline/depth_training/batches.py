"""Pairs of frames cut out of takes and made to look like any camera's, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.depth_training.draws import Draw, sent
from pipeline.depth_training.takes import TakeSet
from reconstruction.depth.pointmap.hints import STRIDE, robot_hints
from reconstruction.depth.pointmap.losses import Truth
from reconstruction.depth.pointmap.network import rays

# Aspects (height, width) that a batch is cut to: LIBERO's and Bridge's, DROID's and RT-1's.
ASPECTS = ((1, 1), (9, 16), (4, 5))
_LEAST_CUT = 0.62
_KNOWN = 0.8  # share of pairs of which the network is told K
_SAME = 0.06  # share of pairs of a frame with itself
_RESTS = 0.5  # of pairs of a camera that does not move, or rides on the hand
# Share of pairs, of those of known K, of which the network is told where the base is, and of these,
# the robot's depth.
_POSED, _ROBOT = 0.8, 0.9
# How far off a solved camera is: rad, m, and share of depth that the robot comes out off by.
_TURN, _MOVE, _OFF = 0.008, 0.006, 0.01
_CHUNK = 64  # takes
_SLIP = 1.2  # pixels of the robot's maps by which its outline is off


@dataclass(frozen=True)
class Batch:
    """B pairs, whose pictures are each the other's reference: of row k of 2B, row (k + B) % 2B.

    Attributes:
        pictures: (2B, 3, H, W) in 0..1.
        K: (2B, 3, 3) pixels.
        hints: (2B, 5, H / 2, W / 2), what is told of the robot (`robot_hints`).
        truth: of all 2B.
    """

    pictures: Tensor
    K: Tensor
    hints: Tensor
    truth: Truth


class PairCutter:
    """Cuts batches out of a set that is held on a device.

    Args:
        rows: of the set that may be used.
        sizes: (height, width) in pixels of pictures, one of which a batch has; of the first, those
            to judge by.
        device: where the set is held, if ``resident``, and where batches are made.
    """

    def __init__(
        self,
        takes: TakeSet,
        rows: Tensor,
        sizes: Sequence[tuple[int, int]],
        device: torch.device,
        resident: bool,
    ) -> None:
        self._device, self._sizes = device, sizes
        where = device if resident else torch.device("cpu")
        self._rgb = taken(takes.rgb, rows, where)
        self._depth = taken(takes.depth, rows, where)
        self._robot = taken(takes.robot, rows, where)
        self._K = taken(takes.K, rows, where)
        self._pose = taken(takes.base_from_camera, rows, where)

    def cut(self, count: int, generator: torch.Generator, *, plain: bool = False) -> Batch:
        """A batch of ``count`` pairs, drawn by ``generator`` (of the CPU).

        Args:
            plain: as filmed, K known: for judging.
        """
        draw = Draw(generator, self._device)
        take = torch.randint(len(self._rgb), (count,), generator=generator)
        first = torch.randint(4, (count,), generator=generator)
        other = (first + torch.randint(1, 4, (count,), generator=generator)) % 4
        # Most clips are of cameras at rest, as the first two frames are.
        rests = torch.rand(count, generator=generator) < _RESTS
        first = torch.where(rests, first % 2, first)
        other = torch.where(rests, 1 - first % 2, other)
        same = torch.rand(count, generator=generator) < _SAME
        other = torch.where(same, first, other)
        chosen = int(torch.randint(len(self._sizes), (1,), generator=generator))
        size = self._sizes[0 if plain else chosen]
        rows = sent(take.repeat(2), self._rgb.device)
        frames = sent(torch.cat([first, other]), self._rgb.device)

        def of_both(held: Tensor) -> Tensor:
            return held[rows, frames].to(self._device)

        box = _boxes(draw, count, self._rgb.shape[2:4], size, plain)
        grid = _grid(box.repeat(2, 1), self._rgb.shape[2:4], size)
        pictures = _sampled(of_both(self._rgb).permute(0, 3, 1, 2) / 255, grid, "bilinear")
        depth = _sampled(of_both(self._depth).float()[:, None], grid, "nearest")[:, 0]
        K = _cut_lens(of_both(self._K), box.repeat(2, 1), size)
        pose = of_both(self._pose)
        if not plain:
            pictures = spoil(pictures, draw)
        known = torch.ones(count, dtype=torch.bool, device=self._device)
        if not plain:
            known = draw.uniform(count) < _KNOWN
        robot = of_both(self._robot).float()
        hints = _hints(robot, pose, K, known, box, size, draw, plain)
        shift = _shift(pose, depth, K)
        truth = Truth(depth, shift, (K[:, 0, 0] / size[1]).log(), known.repeat(2))
        return Batch(pictures, K, hints, truth)


def taken(array: NDArray, rows: Tensor, where: torch.device) -> Tensor:
    """Rows of an array, on a device; by chunks in threads, since a set has tens of GB."""
    kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
    out = torch.empty((len(rows), *array.shape[1:]), dtype=kind, device=where)

    def copy(start: int) -> None:
        part = rows[start : start + _CHUNK]
        out[start : start + _CHUNK] = torch.from_numpy(array[part.numpy()]).to(where)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, range(0, len(rows), _CHUNK)))
    return out


def _boxes(draw: Draw, count: int, full: torch.Size, size: tuple[int, int], plain: bool) -> Tensor:
    """(B, 4) x0, y0, width, height in pixels of the full picture, of ``size``'s aspect."""
    height, width = full
    most = min(height / size[0], width / size[1])
    scale = most * (1.0 if plain else draw.uniform(count, low=_LEAST_CUT))
    scale = scale * torch.ones(count, device=draw.device)
    w, h = size[1] * scale, size[0] * scale
    at = 0.5 * torch.ones(count, 2, device=draw.device) if plain else draw.uniform(count, 2)
    return torch.stack([(width - w) * at[:, 0], (height - h) * at[:, 1], w, h], 1)


def _grid(box: Tensor, full: torch.Size, size: tuple[int, int]) -> Tensor:
    """(B, H, W, 2): where boxes (B, 4) of pictures of size ``full`` are sampled."""
    height, width = full
    x0, y0, w, h = box.T
    theta = box.new_zeros(len(box), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = w / width, h / height
    theta[:, 0, 2] = (2 * x0 + w) / width - 1
    theta[:, 1, 2] = (2 * y0 + h) / height - 1
    return F.affine_grid(theta, [len(box), 1, *size], align_corners=False)


def _sampled(pictures: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(pictures, grid, mode, "border", align_corners=False)


def _shift(pose: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    """(2B, 3, H, W) of `Prediction`: R ray + t / z - ray, from each camera to its pair's other."""
    own = pose.double()
    other = own.roll(len(own) // 2, 0)
    back = other[:, :3, :3].mT  # their inverse, which takes no solver that the host waits for
    turn = back @ own[:, :3, :3] - torch.eye(3, device=own.device)
    move = back @ (own[:, :3, 3:] - other[:, :3, 3:])
    turned = torch.einsum("bij,bjhw->bihw", turn.float(), rays(K, depth.shape[1:]))
    return turned.addcdiv_(move.float()[..., None], depth.clamp_min(0.05)[:, None])


def _cut_lens(K: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    K = K.clone()
    K[:, 0, 2] -= box[:, 0]
    K[:, 1, 2] -= box[:, 1]
    K[:, 0] *= (size[1] / box[:, 2])[:, None]
    K[:, 1] *= (size[0] / box[:, 3])[:, None]
    return K


def _hints(
    robot: Tensor,
    pose: Tensor,
    K: Tensor,
    known: Tensor,
    box: Tensor,
    size: tuple[int, int],
    draw: Draw,
    plain: bool,
) -> Tensor:
    """`robot_hints` of both pictures: as a solver finds the camera, or not at all.

    As in use, half of the robot's blocks are not told. Both pictures of a pair share the errors.
    """
    count = len(box)
    half = (size[0] // STRIDE, size[1] // STRIDE)
    posed = known
    within = box / STRIDE
    if not plain:
        posed = known & (draw.uniform(count) < _POSED)
        some = (draw.uniform(count) - 0.4).clamp_min(0) / 0.6
        turn = some[:, None] * draw.normal(count, 3) * _TURN
        move = some[:, None] * draw.normal(count, 3) * _MOVE
        pose = pose @ _nudges(turn, move).repeat(2, 1, 1)
        within = within + some[:, None] * _SLIP * torch.cat(
            [draw.normal(count, 2), torch.zeros(count, 2, device=box.device)], 1
        )
        robot = robot * (1 + some * draw.normal(count) * _OFF).repeat(2)[:, None, None]
        robot = robot * (posed & (draw.uniform(count) < _ROBOT)).repeat(2)[:, None, None]
    grid = _grid(within.repeat(2, 1), robot.shape[1:], half)
    depth = _sampled(robot[:, None], grid, "nearest")[:, 0]
    depth = depth * _told_blocks(draw, count, half).repeat(2, 1, 1)
    return robot_hints(depth, pose, K, posed.repeat(2), size)


def _nudges(turn: Tensor, move: Tensor) -> Tensor:
    """(B, 4, 4) of small rotations (B, 3) rad and translations (B, 3) m."""
    out = torch.eye(4, device=turn.device).repeat(len(turn), 1, 1)
    x, y, z = turn.T
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).unflatten(1, (3, 3))
    out[:, :3, :3] += skew + skew @ skew / 2  # to 1e-6 of what is drawn here
    out[:, :3, 3] = move
    return out


def _told_blocks(draw: Draw, count: int, half: tuple[int, int]) -> Tensor:
    """(B, h, w) bool: of most, every second block of a checkerboard; of some, all."""
    side = draw.uniform(count, 1, 1, low=4.0, high=14.0)
    start = draw.uniform(count, 2, 1, 1, high=28.0)
    row = torch.arange(half[0], device=side.device)[None, :, None]
    column = torch.arange(half[1], device=side.device)[None, None, :]
    odd = ((row + start[:, 0]) // side + (column + start[:, 1]) // side) % 2 == 1
    return odd | (draw.uniform(count, 1, 1) < 0.2)


def spoil(pictures: Tensor, draw: Draw) -> Tensor:
    """Exposure, colour, contrast, glare, blur, fewer pixels, noise: (2B, 3, H, W) in 0..1.

    Rows k and k + B, both pictures of a pair, share most of it.
    """
    count = len(pictures) // 2

    def shared(*shape: int, spread: float) -> Tensor:
        pair = draw.uniform(count, *shape, low=-spread, high=spread).repeat(2, *[1] * len(shape))
        own = draw.uniform(2 * count, *shape, low=-spread, high=spread)
        return pair + 0.15 * own

    # One pass each: these are the largest tensors of a step, in single precision.
    gain = 1 + shared(1, 1, 1, spread=0.35) + shared(3, 1, 1, spread=0.15)
    x = torch.addcmul(shared(1, 1, 1, spread=0.12), pictures, gain)
    colour = (1 + shared(1, 1, 1, spread=0.6)).clamp_min(0)
    x = torch.lerp(x.mean(1, keepdim=True), x, colour)
    light = 1 + _ramps(x.shape, shared(2, 1, 1, spread=0.3))
    x = torch.addcmul(_glare(x.shape, draw, count), x, light)
    x = x.clamp_(1e-4, 1).pow_((1 + shared(1, 1, 1, spread=0.35)).clamp_min(0.4))
    # What a small or compressed picture shows, at this one's size.
    fewer = draw.number(0.3, 0.9)
    coarse = F.interpolate(x, scale_factor=fewer, mode="bilinear", antialias=False)
    coarse = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
    x = torch.where(draw.uniform(count, 1, 1, 1).repeat(2, 1, 1, 1) < 0.3, coarse, x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = draw.uniform(count, 1, 1, 1, low=-1.2, high=1.0).clamp_min(0).repeat(2, 1, 1, 1)
    x = torch.lerp(x, blurred, share)
    generator = draw.on_device()
    noise = torch.randn(x.shape, device=x.device, generator=generator)
    x.addcmul_(noise, draw.uniform(2 * count, 1, 1, 1, high=0.03))
    # Sensors' noise of colour comes out of demosaicing and compression in blotches.
    few = (x.shape[2] // 4, x.shape[3] // 4)
    blotches = torch.randn(2 * count, 3, *few, device=x.device, generator=generator)
    blotches = F.interpolate(blotches, x.shape[2:], mode="bilinear", align_corners=False)
    return x.addcmul_(blotches, draw.uniform(2 * count, 1, 1, 1, high=0.03)).clamp_(0, 1)


def _ramps(shape: torch.Size, slope: Tensor) -> Tensor:
    """(B, 1, H, W): light that falls off across the picture, by slopes (B, 2, 1, 1)."""
    y = torch.linspace(-1, 1, shape[2], device=slope.device)[None, None, :, None]
    x = torch.linspace(-1, 1, shape[3], device=slope.device)[None, None, None, :]
    return slope[:, :1] * x + slope[:, 1:] * y


def _glare(shape: torch.Size, draw: Draw, count: int) -> Tensor:
    """(B, 1, H, W): of half of the pairs, a soft bright or dark spot."""
    y = torch.linspace(-1, 1, shape[2], device=draw.device)[None, :, None]
    x = torch.linspace(-1, 1, shape[3], device=draw.device)[None, None, :]
    at = draw.uniform(count, 2, 1, 1, low=-1)
    wide = draw.uniform(count, 2, 1, 1, low=0.05, high=0.5)
    off = ((x - at[:, 0]) / wide[:, 0]) ** 2 + ((y - at[:, 1]) / wide[:, 1]) ** 2
    strength = draw.uniform(count, 1, 1, low=-0.4, high=0.6)
    strength = strength * (draw.uniform(count, 1, 1) < 0.5)
    return (strength * torch.exp(-off))[:, None].repeat(2, 1, 1, 1)

"""The pointmap network as a `DepthEstimator`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reconstruction.anchor import TRUSTED, held_back_blocks
from reconstruction.checkpoint import device
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.depth.batches import in_batches
from reconstruction.depth.pointmap.checkpoint import load_checkpoint
from reconstruction.depth.pointmap.hints import STRIDE, robot_hints
from reconstruction.depth.pointmap.network import ALPHA, NetworkConfig, PointmapNetwork
from robo4d.geometry import check_array
from schemas.episode import Provenance

# Frames at once on a CPU: more fall out of its cache (one core, 256x256: 4.0 frames/s, 3.2 by 8).
_ON_CPU = 2


@dataclass(frozen=True)
class PointmapDepth:
    """A `DepthEstimator`: every frame beside the clip's first one.

    Depth is in metres as the network takes things to be large: of kind scaled. Confidence is
    255 exp(-e / 0.05) for the relative error e that the network expects; 255 of one without.
    Of the robot it is told all but the blocks that anchoring holds back, so that these still judge.

    Attributes:
        network: in evaluation mode, on its device.
        batch: most frames at once.
    """

    network: PointmapNetwork
    batch: int = 8

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """See `DepthEstimator`.

        Raises:
            ShapeError: ``rgb`` is no clip.
            UsageError: not even one frame fits into the GPU's memory.
        """
        check_array("rgb", rgb, ["T", "H", "W", 3], "u")
        where = next(self.network.parameters()).device
        full = (int(rgb.shape[1]), int(rgb.shape[2]))
        size = self.network.size_for(full)
        lens = _lens(K, full, size, where)
        known = torch.tensor([K is not None], device=where)
        told: tuple[NDArray, ...] = ()
        if robot is not None and K is not None and self.network.config.robot:
            told = (_half(robot.depth, size), robot.base_from_camera)

        def see(frames: NDArray[np.uint8], *told: NDArray) -> tuple[Tensor, ...]:
            count = len(frames)
            lenses, hints = lens.expand(count, 3, 3), None
            if told:
                depth, pose = (torch.from_numpy(array).float().to(where) for array in told)
                hints = robot_hints(depth, pose, lenses, known.expand(count), size)
            return self.network.see(
                self._pictures(frames, size), lenses, known.expand(count), hints
            )

        with _computing(where):
            memory = None
            if self.network.config.two_frames:
                memory = self.network.remember(see(rgb[:1], *(part[:1] for part in told))[0])

        def run(frames: NDArray[np.uint8], *told: NDArray) -> tuple[NDArray, ...]:
            count = len(frames)
            with _computing(where):
                seen = see(frames, *told)
                shared = None if memory is None else memory.expand(count, -1, -1)
                said = self.network.tell(seen, shared)
                log_depth = _resized(said.log_depth, full)
                sure = torch.exp(-ALPHA / _resized(said.confidence, full) / TRUSTED)
                if not self.network.config.confidence:
                    sure = torch.ones_like(sure)
                return _on_host(log_depth.exp(), (255 * sure).round().byte())

        most = self.batch if where.type == "cuda" else min(self.batch, _ON_CPU)
        depth, confidence = in_batches(rgb, run, most, *told)
        return DepthEstimate(
            depth.astype(np.float32, copy=False),
            confidence,
            "scaled",
            Provenance.ESTIMATED,
            told=bool(told) and bool(told[0].any()),
        )

    def _pictures(self, frames: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
        where = next(self.network.parameters()).device
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(where)
        x = x.permute(0, 3, 1, 2).float() / 255
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        return x.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def open_pointmap(path: Path, *, batch: int = 8, compiled: bool = False) -> PointmapDepth:
    """The network of a checkpoint, on the first GPU where torch sees one; kept for the process.

    Args:
        compiled: by `torch.compile`, anew for each size of frames; pays off over many clips.

    Raises:
        UsageError: see `load_checkpoint`.
    """
    network = load_checkpoint(path).to(device(), memory_format=torch.channels_last)
    if compiled:
        for part in ("see", "remember", "tell"):
            setattr(network, part, torch.compile(getattr(network, part)))
    return PointmapDepth(network, batch)


def untrained_pointmap(config: NetworkConfig, *, batch: int = 8) -> PointmapDepth:
    """A network with random weights, encoder and all, drawn from seed 0; on the device as above."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PointmapNetwork(config).eval()
    return PointmapDepth(network.to(device(), memory_format=torch.channels_last), batch)


@contextmanager
def _computing(where: torch.device) -> Iterator[None]:
    # bfloat16 has the range of single precision, and its rounding is far below the error.
    half = torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda")
    with torch.inference_mode(), half:
        yield


def _on_host(*values: Tensor) -> tuple[NDArray, ...]:
    if values[0].device.type != "cuda":
        return tuple(value.numpy() for value in values)
    # Into pinned memory, which torch keeps and uses again, not into fresh pages.
    # While this waits its core is free (an event that blocks; the rest of CUDA spins).
    out = [torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for value in values]
    for there, value in zip(out, values, strict=True):
        there.copy_(value, non_blocking=True)
    done = torch.cuda.Event(blocking=True)
    done.record()
    done.synchronize()
    return tuple(there.numpy() for there in out)


def _half(robot: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """(T, h / 2, w / 2) of the robot's depth (T, H, W) for pictures of ``size``, as it is told."""
    half = (size[0] // STRIDE, size[1] // STRIDE)

    def picked(maps: NDArray) -> Tensor:
        return _resized(torch.from_numpy(maps.astype(np.float32, copy=False)), half)

    held_back = picked(held_back_blocks(robot.shape[1:])[None])
    return (picked(robot) * (1 - held_back)).numpy()


def _lens(
    K: NDArray[np.floating] | None,
    full: tuple[int, int],
    size: tuple[int, int],
    where: torch.device,
) -> Tensor:
    lens = np.eye(3) if K is None else np.array(K, float)
    lens[0] *= size[1] / full[1]
    lens[1] *= size[0] / full[0]
    return torch.from_numpy(lens).float().to(where)[None]


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest: between two surfaces there is none."""
    if values.shape[1:] == size:
        return values
    return F.interpolate(values[:, None], size, mode="nearest-exact")[:, 0]

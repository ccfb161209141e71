"""Masks by a small network of our own, which is told where a robot was rendered nearby.

Learned from rendered scenes alone (`jobs.train_masks`); OpenCV runs it, so that solving a camera
needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.learned_masks import Prompts
from schemas.reasons import UsageError

# Robots that it learned: DROID's arm and gripper. Of LIBERO's a seventh of the scenes; not judged.
KNOWN_ROBOTS = frozenset({"panda_robotiq"})
# It takes sides of multiples of this many pixels, and learned from pictures of (height, width).
_MULTIPLE, SIZE = 32, (192, 320)
# Pixels around a prompt's box that are looked at: some twice what a pose from colours is off.
_ROOM = 24
_EMBEDDED = Path(__file__).with_suffix(".onnx")
_MOST_BYTES = 64 << 20  # of a file; ours has 6.5 MB


@dataclass(frozen=True, eq=False)
class RobotMasks:
    """A `MaskBackend`: the visible robot, near the one that is rendered.

    Attributes:
        network: (1, 5, H, W), of colours and the rendered silhouette in 0..1, and ones, to logits
            (1, 1, H, W). It has a state: one caller at a time.
    """

    network: cv2.dnn.Net

    def __call__(self, frames: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.float32]:
        """See `MaskBackend`."""
        height, width = prompts.robot.shape[1:]
        scale = min(1.0, SIZE[0] / height, SIZE[1] / width)
        seen = (round(height * scale), round(width * scale))
        low, high = scale * prompts.boxes[:, 1::-1], scale * prompts.boxes[:, :1:-1]
        # One size for all, as OpenCV lays out the network anew for another.
        sides = np.minimum((high - low).max(0) + 2 * _ROOM, seen)
        sides = _MULTIPLE * np.ceil(sides / _MULTIPLE).astype(int)
        shares = np.zeros((len(frames), *seen), np.float32)
        for i, corner in enumerate(np.round((low + high - sides) / 2).astype(int)):
            maps = np.dstack([frames[i] / np.float32(255), prompts.robot[i].astype(np.float32)])
            if scale < 1:
                maps = cv2.resize(maps, seen[::-1], interpolation=cv2.INTER_AREA)
            # Within the picture, or about it where it is the smaller one.
            first = np.where(
                sides < seen, corner.clip(0, np.maximum(seen - sides, 0)), (seen - sides) // 2
            )
            self._look(maps, first, sides, shares[i])
        if scale < 1:
            whole = [cv2.resize(s, (width, height), interpolation=cv2.INTER_LINEAR) for s in shares]
            return np.stack(whole)
        return shares

    def _look(
        self,
        maps: NDArray[np.float32],
        first: NDArray[np.integer],
        sides: NDArray[np.integer],
        shares: NDArray[np.float32],
    ) -> None:
        """Write shares (h, w) where the window that begins at ``first`` shows maps (h, w, 4)."""
        size = np.array(shares.shape)
        start, stop = first.clip(0), np.minimum(first + sides, size)
        there = slice(start[0], stop[0]), slice(start[1], stop[1])
        around = [
            (int(a), int(b)) for a, b in zip(start - first, first + sides - stop, strict=True)
        ]
        window = np.pad(maps[there], [*around, (0, 0)], mode="edge")
        given = np.dstack([window, np.ones(window.shape[:2], np.float32)])
        self.network.setInput(np.ascontiguousarray(given.transpose(2, 0, 1)[None]))
        (top, _), (left, _) = around
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # builds have a process a core
        try:
            logits = self.network.forward()[0, 0, top:, left:]
        finally:
            cv2.setNumThreads(threads)
        logits = logits[: stop[0] - start[0], : stop[1] - start[1]]
        shares[there] = 1 / (1 + np.exp(-logits.clip(-30, 30)))


def masks_for(robot: str) -> RobotMasks | None:
    """The network that comes with the product, where it knows a robot."""
    return embedded_masks() if robot in KNOWN_ROBOTS else None


@cache
def embedded_masks() -> RobotMasks:
    """The one that comes with the product."""
    return load_masks(_EMBEDDED)


def load_masks(path: Path) -> RobotMasks:
    """A network of `jobs.train_masks`.

    Raises:
        UsageError: the file is no such network.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise UsageError(f"{path} has {size} bytes; a mask network has at most {_MOST_BYTES}")
        data = path.read_bytes()
        network = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        network.setInput(np.zeros((1, 5, *SIZE), np.float32))
        shape = network.forward().shape
    except (OSError, cv2.error) as error:
        raise UsageError(f"{path} is no network that OpenCV reads: {error}") from error
    if shape != (1, 1, *SIZE):
        raise UsageError(
            f"{path} gives {shape} for a picture; a mask network gives {(1, 1, *SIZE)}"
        )
    return RobotMasks(network)

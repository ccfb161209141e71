"""Strips of images along short lines across rendered contours: what an outline is told from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.backdrop import Backdrop
from reconstruction.camera.contours import Lines, covered, profiles

Floats = NDArray[np.floating]
# Pixels of a strip's samples: along the normal, and along the contour.
ALONG = np.arange(-6, 6.01, 0.75)
ASIDE = np.array([-3.0, -1.5, 0.0, 1.5, 3.0])
_RELIEF = 10.0  # pixels by which a surface may lie before or behind its contour, at most
_LEAST = 8.0  # grey levels by which a strip is taken to vary at least


@dataclass(frozen=True)
class Strips:
    """Of N lines, what lies K samples along by A aside, and what rendering says of it.

    Attributes:
        image: (N, A, K, 3) uint8.
        backdrop: (N, A, K, 3) uint8, without the robot.
        known: (N, A, K) bool, whether that is known.
        own, robot: (N, A, K) uint8, share of the contour's part and of the robot, 255 for one.
        relief: (N, K) float16, pixels by which the surface in the line lies behind the contour.
        facing: (N, 4): the normal in the image, its height in the base's frame, whether another
            part lies behind.
    """

    image: NDArray[np.uint8]
    backdrop: NDArray[np.uint8]
    known: NDArray[np.bool_]
    own: NDArray[np.uint8]
    robot: NDArray[np.uint8]
    relief: NDArray[np.float16]
    facing: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.image)

    def part(self, rows: slice | NDArray[np.integer]) -> Strips:
        """Some of the lines."""
        return Strips(**{name: value[rows] for name, value in vars(self).items()})


def take_strips(
    images: NDArray[np.float32],
    lines: Lines,
    depth: NDArray[np.float32],
    part: NDArray[np.uint8],
    focal: float,
    pose: Floats,
    backdrop: Backdrop | None,
) -> Strips:
    """Strips across ``lines``.

    Args:
        depth, part: (n, H, W) the lines were taken from.
        focal: pixels.
        pose: base_from_camera (4, 4).
    """
    tangent = np.stack([-lines.normal[:, 1], lines.normal[:, 0]], 1)
    count, shape = len(lines), (len(lines), len(ASIDE), len(ALONG))
    image, behind = np.empty((*shape, 3), np.uint8), np.zeros((*shape, 3), np.uint8)
    known, own, robot = np.zeros(shape, bool), np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    for a, aside in enumerate(ASIDE):
        beside = replace(lines, point=lines.point + aside * tangent)
        image[:, a] = (profiles(images, beside, ALONG) + 0.5).clip(0, 255)
        if backdrop is not None:
            colours, known[:, a] = backdrop.along(beside, ALONG)
            behind[:, a] = (colours + 0.5).clip(0, 255) * known[:, a, :, None]
        shares, whole, deep = covered(depth, part, beside, ALONG)
        own[:, a], robot[:, a] = 255 * shares + 0.5, 255 * whole + 0.5
        if aside == 0:
            relief = (deep - lines.depth[:, None]) * focal / lines.depth[:, None]
    up = lines.normal @ pose[2, :2]
    facing = np.column_stack([lines.normal, up, lines.inner]).astype(np.float32)
    return Strips(
        image, behind, known, own, robot,
        relief.clip(-_RELIEF, _RELIEF).astype(np.float16).reshape(count, -1), facing,
    )  # fmt: skip


def features(strips: Strips) -> NDArray[np.float32]:
    """(N, D) as the network takes them: colours about the strip's own mean, by its own contrast."""
    count = len(strips)
    image = strips.image.astype(np.float32)
    mean = image.mean((1, 2), keepdims=True)
    size = np.sqrt(image.var((1, 2)).sum(1) + _LEAST**2)[:, None, None, None]
    known = strips.known[..., None]
    behind = np.where(known, (strips.backdrop - mean) / size, 0).clip(-4, 4)
    parts = [
        (image - mean) / size,
        behind,
        known,
        strips.own / np.float32(255),
        strips.robot / np.float32(255),
        strips.relief.astype(np.float32) / 4,
        strips.facing,
        mean / 128 - 1,
        np.log(size / 30),
    ]
    return np.concatenate([part.reshape(count, -1) for part in parts], 1, dtype=np.float32)

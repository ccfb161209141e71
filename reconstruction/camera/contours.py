"""The robot's rendered outline as short lines across it, along which images are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
_MARGIN = 2  # pixels at the image's border where an outline is only where the picture ends


@dataclass(frozen=True)
class Lines:
    """Lines across the outline, N in all frames together.

    Attributes:
        frame: (N,) index of the frame.
        point: (N, 2) pixels, on the outline.
        normal: (N, 2) unit, out of the robot.
        depth: (N,) m, of the surface at the outline.
        link: (N,) index into the robot's ``link_names``.
    """

    frame: NDArray[np.int64]
    point: Floats
    normal: Floats
    depth: Floats
    link: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frame)


def contour_lines(
    depth: NDArray[np.float32], part: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> Lines:
    """At most ``count`` lines a frame across the outlines of rendered robots.

    Args:
        depth, part: (n, H, W) as `RobotView` gives them.
    """
    frames = [
        _of_frame(d, p, i, count, rng) for i, (d, p) in enumerate(zip(depth, part, strict=True))
    ]
    lines = Lines(*(np.concatenate(column) for column in zip(*frames, strict=True)))
    return replace(lines, point=lines.point + lines.normal * _beyond(part, lines)[:, None])


def profiles(images: NDArray, lines: Lines, offsets: Floats) -> NDArray[np.float32]:
    """(N, K, ...) values of images (n, H, W, ...) at offsets (K,) pixels along the normals."""
    out: NDArray[np.float32] | None = None
    for frame in np.unique(lines.frame):
        own = lines.frame == frame
        where = lines.point[own, None] + offsets[:, None] * lines.normal[own, None] - 0.5
        x, y = np.moveaxis(where.astype(np.float32), -1, 0)
        values = cv2.remap(images[frame], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if out is None:
            out = np.empty((len(lines), *values.shape[1:]), np.float32)
        out[own] = values
    assert out is not None  # the caller has lines
    return out


def _of_frame(
    depth: NDArray[np.float32],
    part: NDArray[np.uint8],
    frame: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray, ...]:
    mask = (part > 0).astype(np.uint8)
    height, width = mask.shape
    found = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
    at = np.concatenate([c[:, 0] for c in found]) if found else np.zeros((0, 2), np.int32)
    x, y = at.T
    # OpenCV draws a hole's outline on the pixels around it, which are robot as well.
    inside = (x > _MARGIN) & (x < width - 1 - _MARGIN) & (y > _MARGIN) & (y < height - 1 - _MARGIN)
    at = at[inside & (mask[y, x] > 0)]
    at = at[np.sort(rng.permutation(len(at))[:count])]
    x, y = at.T
    smooth = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    slope = [cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx, ksize=3)[y, x] for dx in (1, 0)]
    normal = -np.stack(slope, 1)
    size = np.linalg.norm(normal, axis=1)
    clear = size > 0.01
    at, normal = at[clear], normal[clear] / size[clear, None]
    x, y = at.T
    return (
        np.full(len(at), frame, np.int64),
        at + 0.5,
        normal.astype(np.float64),
        depth[y, x].astype(np.float64),
        part[y, x].astype(np.int64) - 1,
    )


def _beyond(part: NDArray[np.uint8], lines: Lines) -> Floats:
    """(N,) pixels along the normal from an outline pixel's middle to the outline.

    A mask sampled at pixel centres crosses one half, on average, where the true outline is.
    """
    if len(lines) == 0:
        return np.zeros(0)
    step = 0.25
    offsets = np.arange(-0.5, 2.0 + step, step)
    covered = profiles((part > 0).astype(np.float32), lines, offsets)
    outside = covered < 0.5
    first = np.where(outside.any(1), outside.argmax(1), len(offsets) - 1).clip(1)
    rows = np.arange(len(lines))
    before, after = covered[rows, first - 1], covered[rows, first]
    share = ((before - 0.5) / np.maximum(before - after, 1e-6)).clip(0, 1)
    return np.asarray(offsets[first - 1] + share * step)

"""The robot's rendered contours as short lines across them, along which images are read."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# m that the surface lies before what is next to it where one part hides another.
_JUMP = 0.03
# m before a contour up to which something is the same part and not one in front of it.
_BEFORE = 0.15
_FAR = 100.0  # m, for "no robot"
_PLACE = 3.0  # pixels within which lines of one link that look one way are at one place
# Pixels around a contour pixel that tell its direction, and of what deviation; none nearer to the
# image's border, where a contour is only where the picture ends.
_HALF, _SMOOTH = 4, 1.5
_PLUS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True)
class Lines:
    """Lines across contours, N in all frames together.

    Attributes:
        frame: (N,) index of the frame.
        point: (N, 2) pixels, on the contour.
        normal: (N, 2) unit, out of the part whose contour it is.
        depth: (N,) m, of that part's surface at the contour.
        link: (N,) index into the robot's ``link_names``.
        inner: (N,) bool, another part of the robot lies behind, and not the background.
    """

    frame: NDArray[np.int64]
    point: Floats
    normal: Floats
    depth: Floats
    link: NDArray[np.int64]
    inner: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frame)


def contour_lines(
    depth: NDArray[np.float32],
    part: NDArray[np.uint8],
    count: int,
    rng: np.random.Generator,
    inner: bool = False,
) -> Lines:
    """At most ``count`` lines a frame across the contours of rendered robots.

    Args:
        depth, part: (n, H, W) as `RobotRasterizer` gives them.
        inner: take those inside the outline too, where one part hides another.
    """
    frames = [
        _of_frame(d, p, i, count, rng, inner)
        for i, (d, p) in enumerate(zip(depth, part, strict=True))
    ]
    return Lines(*(np.concatenate(column) for column in zip(*frames, strict=True)))


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


def at_one_place(lines: Lines) -> NDArray[np.int64]:
    """(N,) how many lines of all frames lie across the same piece of the image's contours."""
    way = np.arctan2(lines.normal[:, 1], lines.normal[:, 0])
    octant = np.round(way / (np.pi / 4)).astype(np.int64) % 8
    cell = (lines.point // _PLACE).astype(np.int64)
    place = np.column_stack([lines.link, octant, cell])
    _, which, count = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[which.ravel()])


def covered(
    depth: NDArray[np.float32], part: NDArray[np.uint8], lines: Lines, offsets: Floats
) -> tuple[Floats, Floats, Floats]:
    """What is rendered at offsets (K,) pixels along lines: three of (N, K).

    Shares of the line's own part and of the robot, and depth (m): of what the nearest pixel shows,
    the line's own where that is no robot.
    """
    height, width = part.shape[1:]
    where = lines.point[:, None] + offsets[:, None] * lines.normal[:, None] - 0.5
    corner = np.floor(where)
    within = where - corner
    left, top = np.moveaxis(corner.astype(np.int64), -1, 0)
    frame, own = lines.frame[:, None], lines.depth[:, None]
    shares, whole = np.zeros(left.shape), np.zeros(left.shape)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (left + dx).clip(0, width - 1), (top + dy).clip(0, height - 1)
            weight = np.abs(1 - dx - within[..., 0]) * np.abs(1 - dy - within[..., 1])
            there = part[frame, y, x] > 0
            shares += weight * (there & _same(depth[frame, y, x], own))
            whole += weight * there
    x, y = (np.round(where).astype(np.int64).clip(0, (width - 1, height - 1))).transpose(2, 0, 1)
    deep = np.where(part[frame, y, x] > 0, depth[frame, y, x], own)
    return shares, whole, deep


def _of_frame(
    depth: NDArray[np.float32],
    part: NDArray[np.uint8],
    frame: int,
    count: int,
    rng: np.random.Generator,
    inner: bool,
) -> tuple[NDArray, ...]:
    depth = np.where(part > 0, depth, np.float32(_FAR))
    behind = cv2.dilate(depth, _PLUS)
    contour = (part > 0) & (behind > (depth + _JUMP if inner else _FAR / 2))
    contour[:_HALF] = contour[-_HALF:] = False
    contour[:, :_HALF] = contour[:, -_HALF:] = False
    y, x = np.nonzero(contour)
    drawn = np.sort(rng.permutation(len(x))[:count])
    y, x = y[drawn], x[drawn]
    normal, clear = _normals(depth, x, y)
    x, y, normal = x[clear], y[clear], normal[clear]
    beyond = _beyond(depth, x, y, normal)
    return (
        np.full(len(x), frame, np.int64),
        np.stack([x, y], 1) + 0.5 + normal * beyond[:, None],
        normal,
        depth[y, x].astype(np.float64),
        part[y, x].astype(np.int64) - 1,
        behind[y, x] < _FAR / 2,
    )


def _normals(
    depth: NDArray[np.float32], x: NDArray[np.int64], y: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.bool_]]:
    """(N, 2) out of the part at pixels, and (N,) whether there is a direction."""
    across = np.arange(-_HALF, _HALF + 1)
    around = depth[(y[:, None] + across)[:, :, None], (x[:, None] + across)[:, None, :]]
    own = _same(around, depth[y, x][:, None, None])
    bell = np.exp(-0.5 * (across / _SMOOTH) ** 2)
    slope = -across * bell
    normal = np.stack(
        [np.einsum("nyx,y,x->n", own, bell, slope), np.einsum("nyx,y,x->n", own, slope, bell)], 1
    )
    size = np.linalg.norm(normal, axis=1)
    return normal / np.maximum(size, 1e-6)[:, None], size > 0.3


def _beyond(
    depth: NDArray[np.float32], x: NDArray[np.int64], y: NDArray[np.int64], normal: Floats
) -> Floats:
    """(N,) pixels along the normal from a contour pixel's middle to the contour.

    A mask sampled at pixel centres crosses one half, on average, where the true contour is.
    """
    step = 0.25
    offsets = np.arange(-0.5, 2.0 + step, step)
    at_x, at_y = x[:, None] + offsets * normal[:, :1], y[:, None] + offsets * normal[:, 1:]
    left, top = np.floor(at_x).astype(np.int64), np.floor(at_y).astype(np.int64)
    covered = np.zeros(at_x.shape)
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - (at_x - left)) * np.abs(1 - dy - (at_y - top))
            covered += share * _same(depth[top + dy, left + dx], depth[y, x][:, None])
    outside = covered < 0.5
    first = np.where(outside.any(1), outside.argmax(1), len(offsets) - 1).clip(1)
    rows = np.arange(len(x))
    before, after = covered[rows, first - 1], covered[rows, first]
    share = ((before - 0.5) / np.maximum(before - after, 1e-6)).clip(0, 1)
    return np.asarray(offsets[first - 1] + share * step)


def _same(depth: Floats, own: Floats) -> NDArray[np.bool_]:
    """What belongs to the part at depth ``own``: neither behind it nor in front of it."""
    return np.asarray((depth < own + _JUMP / 2) & (depth > own - _BEFORE))

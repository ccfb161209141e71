"""Texture on the robot's own links, found again in other frames: evidence free of its outline.

Shading and blur shift an outline; paint, screws and labels they leave where they are. A patch seen
in one frame is carried by its link into the others and aligned there, so that nothing drifts from
frame to frame, and turns and changes of size are known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.estimate import Estimate, zoomed
from reconstruction.camera.frames import FrameSet
from robo4d.geometry import invert, transform

Floats = NDArray[np.floating]
Whole = NDArray[np.integer]
# Patches: pixels to each side, new ones a frame, pixels between them, and the least clear corner
# against the clearest of its frame.
_HALF, _NEW, _APART, _CLEAR = 5, 20, 4, 0.01
_BLUR = 0.7  # pixels, before gradients are taken
# Pixels around a patch's middle that are of one link: background must not mix in.
_INSIDE = 4
# A patch is looked for where its link's surface shows within so many m of it, not too much aslant
# (cosine), with so much of its window on the link.
_SAME_SURFACE, _LEAST_COSINE, _LEAST_SEEN = 0.01, 0.3, 0.75
# What counts as found again: pixels from where it was due, correlation, and gain of contrast.
_FARTHEST, _ALIKE, _GAINS = 2.0, 0.8, (0.5, 2.0)
_ROUNDS, _SETTLED = 8, 0.005  # of alignment, and pixels


@dataclass(frozen=True)
class LinkTracks:
    """Observations of points that ride on links, sorted by track.

    Attributes:
        track: (N,) of each observation, 0 to M - 1, none missing.
        frame: (N,) of each.
        pixel: (N, 2) at the working size.
        link: (M,) of each track, index into the robot's ``link_names``.
        point: (M, 3) m, on the model's surface in that link's frame, as the pose has it by which
            patches were chosen.
        normal: (M, 3) of the surface there, a unit vector.
    """

    track: Whole
    frame: Whole
    pixel: Floats
    link: Whole
    point: Floats
    normal: Floats

    def __len__(self) -> int:
        return len(self.link)


@dataclass(frozen=True)
class _Patches:
    """M windows of G pixels: where they were seen, and the surface that they showed."""

    frame: Whole
    pixel: Floats
    link: Whole
    point: Floats
    normal: Floats
    surface: Floats  # (M, G, 3) in the link's frame
    inside: NDArray[np.bool_]  # (M, G) of that link
    grey: NDArray[np.float32]  # (M, G)


class _View:
    """All frames in grey, with the robot as a pose has it."""

    def __init__(self, frames: FrameSet, K: Floats, estimate: Estimate) -> None:
        frames.set_late(estimate.late)
        self.K = zoomed(K, estimate.log_zoom)
        self.depth, self.part = frames.rendered(np.arange(len(frames)), self.K, estimate.pose)
        self.camera_from_link = invert(estimate.pose) @ frames.links
        grey = [cv2.cvtColor(i.clip(0, 255) / 255, cv2.COLOR_RGB2GRAY) for i in frames.images]
        self.grey = [cv2.GaussianBlur(255 * image, (0, 0), _BLUR) for image in grey]

    def pixels(self, points: Floats) -> Floats:
        """(..., 2) of points (..., 3) in the camera's frame; far outside where behind it."""
        z = np.where(points[..., 2:] > 0.02, points[..., 2:], np.nan)
        flat = points[..., :2] / z * [self.K[0, 0], self.K[1, 1]] + self.K[:2, 2]
        return np.nan_to_num(flat, nan=-1e3)

    def shows(self, frame: int, link: Whole, pixel: Floats, depth: Floats) -> NDArray[np.bool_]:
        """Whether a frame shows that link's surface at pixels (..., 2), at about that depth."""
        height, width = self.part.shape[1:]
        column, row = np.moveaxis(np.floor(pixel).astype(np.int64), -1, 0)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column, row = column.clip(0, width - 1), row.clip(0, height - 1)
        there = self.depth[frame, row, column]
        own = self.part[frame, row, column] == link + 1
        return np.asarray(inside & own & (np.abs(there - depth) < _SAME_SURFACE))


def follow_links(frames: FrameSet, K: Floats, estimate: Estimate) -> LinkTracks | None:
    """Patches on the robot, each where it was chosen and where other frames show it again.

    Args:
        K: (3, 3) the guess at the working size, as in `refine`.
        estimate: right to a pixel or two.

    Returns:
        None where no patch was found again.
    """
    view = _View(frames, K, estimate)
    chosen = [made for f in range(len(frames)) if (made := _patches(view, f)) is not None]
    if not chosen:
        return None
    names = _Patches.__dataclass_fields__
    patches = _Patches(*(np.concatenate([getattr(c, name) for c in chosen]) for name in names))
    found = [_again(view, patches, f) for f in range(len(frames))]
    index, frame, pixel = (np.concatenate(v) for v in zip(*found, strict=True))
    own = np.unique(index)
    if not len(own):
        return None
    index = np.concatenate([index, own])
    frame = np.concatenate([frame, patches.frame[own]])
    pixel = np.concatenate([pixel, patches.pixel[own]])
    order = np.lexsort((frame, index))
    return LinkTracks(
        track=np.searchsorted(own, index[order]),
        frame=frame[order],
        pixel=pixel[order],
        link=patches.link[own],
        point=patches.point[own],
        normal=patches.normal[own],
    )


def _window() -> tuple[Whole, Whole, NDArray[np.float32]]:
    """Columns and rows (G,) about a patch's middle, and weights."""
    rows, columns = (axis.ravel() for axis in np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1])
    bell = np.exp(-(rows**2 + columns**2) / (2 * (0.6 * _HALF) ** 2))
    return columns, rows, bell.astype(np.float32)


def _patches(view: _View, frame: int) -> _Patches | None:
    """Corners well inside the links of one frame; None without any."""
    part, grey = view.part[frame], view.grey[frame]
    square = np.ones((2 * _INSIDE + 1,) * 2, np.uint8)
    inside = (cv2.dilate(part, square) == cv2.erode(part, square)) & (part > 0)
    border = _HALF + 1
    inside[:border] = inside[-border:] = False
    inside[:, :border] = inside[:, -border:] = False
    corners = cv2.goodFeaturesToTrack(
        grey, _NEW, _CLEAR, _APART, mask=inside.astype(np.uint8), blockSize=2 * _HALF - 1
    )
    if corners is None:
        return None
    x, y = np.round(corners.reshape(-1, 2)).astype(np.int64).T
    columns, rows, _ = _window()
    at = y[:, None] + rows, x[:, None] + columns
    link = part[y, x].astype(np.int64) - 1
    rays = np.stack([at[1], at[0], np.ones_like(at[0])], -1) + [0.5, 0.5, 0.0]
    surface = rays @ np.linalg.inv(view.K).T * view.depth[frame][at][..., None]
    surface = transform(invert(view.camera_from_link[frame, link]), surface)
    grid = surface.reshape(len(x), 2 * _HALF + 1, 2 * _HALF + 1, 3)
    normal = np.cross(
        grid[:, _HALF, _HALF + 2] - grid[:, _HALF, _HALF - 2],
        grid[:, _HALF + 2, _HALF] - grid[:, _HALF - 2, _HALF],
    )
    return _Patches(
        frame=np.full(len(x), frame),
        pixel=np.stack([x, y], 1) + 0.5,
        link=link,
        point=grid[:, _HALF, _HALF],
        normal=normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12),
        surface=surface,
        inside=part[at] == link[:, None] + 1,
        grey=grey[at],
    )


def _again(view: _View, patches: _Patches, frame: int) -> tuple[Whole, Whole, Floats]:
    """Which patches a frame shows again (K,), the frame (K,), and where (K, 2)."""
    pose = view.camera_from_link[frame, patches.link]
    middle = (pose[:, :3, :3] @ patches.point[..., None])[..., 0] + pose[:, :3, 3]
    facing = (pose[:, :3, :3] @ patches.normal[..., None])[..., 0]
    cosine = np.abs((facing * middle).sum(1)) / np.linalg.norm(middle, axis=1)
    due = view.pixels(middle)
    seen = view.shows(frame, patches.link, due, middle[:, 2]) & (cosine > _LEAST_COSINE)
    which = np.flatnonzero(seen & (patches.frame != frame))
    pose, link = pose[which], patches.link[which]
    surface = patches.surface[which] @ np.swapaxes(pose[:, :3, :3], 1, 2) + pose[:, None, :3, 3]
    pixel = view.pixels(surface)
    own = view.shows(frame, link[:, None], pixel, surface[..., 2]) & patches.inside[which]
    bell = _window()[2]
    weight = bell * own
    enough = weight.sum(1) > _LEAST_SEEN * bell.sum()
    which, pixel, weight = which[enough], pixel[enough], weight[enough]
    if not len(which):
        return which, which, np.empty((0, 2))
    shift, well = _aligned(view.grey[frame], patches.grey[which], pixel, weight)
    which = which[well]
    return which, np.full(len(which), frame), due[which] + shift[well]


def _aligned(
    image: NDArray[np.float32],
    patch: NDArray[np.float32],
    pixel: Floats,
    weight: NDArray[np.float32],
) -> tuple[Floats, NDArray[np.bool_]]:
    """Shifts (M, 2) at which an image shows patches (M, G) best, up to gain and offset of grey.

    Lucas and Kanade's; and which (M,) are alike there.
    """
    place = (pixel - 0.5).astype(np.float32)
    slopes = [cv2.Scharr(image, -1, *way) / 32 for way in ((1, 0), (0, 1))]
    shift = np.zeros((len(patch), 2), np.float32)
    one = np.ones_like(patch)
    for _ in range(_ROUNDS):
        x, y = np.moveaxis(place + shift[:, None], -1, 0)
        there = _read(image, x, y)
        columns = np.stack([-_read(slopes[0], x, y), -_read(slopes[1], x, y), patch, one], -1)
        columns = columns.astype(np.float64)  # in which what damps an edge is not rounded away
        weighted = np.swapaxes(columns * weight[..., None], 1, 2)
        square = weighted @ columns + 1e-3 * np.eye(4)
        change = np.linalg.solve(square, weighted @ there[..., None])[..., 0]
        step = change[:, :2].clip(-1, 1).astype(np.float32)
        shift += step
        if np.abs(step).max() < _SETTLED:
            break
    x, y = np.moveaxis(place + shift[:, None], -1, 0)
    total = weight.sum(1, keepdims=True)
    a, b = (v - (weight * v).sum(1, keepdims=True) / total for v in (patch, _read(image, x, y)))
    scatter = (weight * a * a).sum(1) * (weight * b * b).sum(1)
    alike = (weight * a * b).sum(1) / np.sqrt(np.maximum(scatter, 1e-6))
    gain = change[:, 2]
    well = (np.linalg.norm(shift, axis=1) < _FARTHEST) & (alike > _ALIKE)
    return shift.astype(np.float64), well & (gain > _GAINS[0]) & (gain < _GAINS[1])


def _read(image: NDArray[np.float32], x: NDArray, y: NDArray) -> NDArray[np.float32]:
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

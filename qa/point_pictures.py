"""Depth of a clip without truth to look at: picture, depth, normals, and the points in the base."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from qa.depth_clips import DepthClip
from qa.depth_pictures import normal_colours
from qa.picture import depth_colours
from robo4d.geometry import transform, unproject

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

# A tile's width; three stand beside each other.
_TILE = 500
# Width in m of what a picture of points shows, the robot's middle in its centre: a table.
_SHOWN_M = 3.0
# Pixels to either side of which normals are made: fewer than a judge takes, to show more.
_REACH = 2
_RED, _WHITE, _INK, _PAPER = (255, 40, 40), (255, 255, 255), (240, 240, 240), 24
# Axes of the base that point right and up, and the one that looks out of the picture.
_VIEWS = {"from above": ((1, -1.0), (0, 1.0), (2, 1.0)), "from -y": ((0, 1.0), (2, 1.0), (1, -1.0))}
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def point_sheet(clip: DepthClip, depth: Floats, title: str, frames: int = 2) -> Image:
    """For each of some frames two rows of three tiles; (h, 1500, 3) uint8.

    Above: the frame, its depth and the robot's own by its joints in the same colours (near warm),
    the robot's outline in white. Below: normals as `depth_pictures.normal_colours`, and the points
    in the base's frame as they look from above (x up, y left) and from the side (x right, z up, a
    line at z = 0), the robot's own in red.

    Args:
        depth: (T, H, W) m, 0 unknown.
        title: a line at the top.
        frames: spread evenly over the clip.
    """
    times = np.unique(np.linspace(0, len(clip.rgb) - 1, frames).round().astype(int))
    rgb, ours = clip.rgb[times], depth[times].astype(np.float32)
    robot = np.zeros_like(ours)
    if clip.robot_depth is not None:
        robot = clip.robot_depth[times].astype(np.float32)
    coloured = depth_colours(np.concatenate([ours, robot]))
    normals = normal_colours(ours, clip.K, _REACH)
    rows = []
    for n, t in enumerate(times):
        drawn = {
            f"frame {t}": rgb[n],
            "depth": coloured[n],
            "robot's own": coloured[len(times) + n],
            "normals": normals[n],
        }
        tiles = [_tile(name, _outlined(image, robot[n] > 0)) for name, image in drawn.items()]
        pose = clip.base_from_camera[t]
        points, colours = _points(ours[n], clip.K, pose), rgb[n][ours[n] > 0]
        own = _points(robot[n], clip.K, pose)
        size = tiles[0].shape[:2]
        tiles += [_tile(name, scatter(points, colours, own, name, size)) for name in _VIEWS]
        rows += [np.concatenate(tiles[:3], axis=1), np.concatenate(tiles[3:], axis=1)]
    head = np.full((24, rows[0].shape[1], 3), _PAPER, np.uint8)
    cv2.putText(head, title, (5, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return np.concatenate([head, *rows])


def scatter(
    points: Floats, colours: Image, robot: Floats, view: str, size: tuple[int, int]
) -> Image:
    """Points (N, 3) in the base's frame, seen along an axis from without; (h, w, 3) uint8.

    Args:
        colours: (N, 3).
        robot: (M, 3), drawn over them in red.
        view: from above or from -y.
        size: height and width in pixels.
    """
    height, width = size
    (right, right_sign), (up, up_sign), (out, out_sign) = _VIEWS[view]
    centre = np.median(robot if len(robot) else points, axis=0) if len(points) else np.zeros(3)
    unit = width / _SHOWN_M
    image = np.full((height, width, 3), _PAPER, np.uint8)
    if view != "from above":
        level = round(height / 2 + centre[2] * unit)
        if 0 <= level < height:
            image[level] = 110
    for some, ink in ((points, colours), (robot, np.full((len(robot), 3), _RED, np.uint8))):
        # Painted from the back, so that the nearest of a pixel stays.
        order = np.argsort(out_sign * some[:, out], kind="stable")
        away = some[order] - centre
        column = np.floor(width / 2 + right_sign * unit * away[:, right]).astype(int)
        row = np.floor(height / 2 - up_sign * unit * away[:, up]).astype(int)
        inside = (row >= 0) & (column >= 0) & (row < height - 1) & (column < width - 1)
        row, column, ink = row[inside], column[inside], ink[order][inside]
        thick = 2 if some is points else 1
        for i in range(thick):
            for j in range(thick):
                image[row + i, column + j] = ink
    return image


def _points(depth: Floats, K: Floats, pose: Floats) -> Floats:
    """(N, 3) in the base's frame, of known pixels by row."""
    return transform(pose, unproject(depth, K)[depth > 0].astype(float))


def _outlined(image: Image, robot: NDArray[np.bool_]) -> Image:
    mask = robot.astype(np.uint8)
    out = image.copy()
    out[cv2.erode(mask, _CROSS) < mask] = _WHITE
    return out


def _tile(name: str, image: Image) -> Image:
    if image.shape[1] != _TILE:
        high = round(_TILE * image.shape[0] / image.shape[1])
        image = cv2.resize(image, (_TILE, high), interpolation=cv2.INTER_LINEAR)
    for colour, width in (((0, 0, 0), 3), (_INK, 1)):
        place = (5, 16)
        cv2.putText(image, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return image

"""The robot drawn over the frames of a sample, as its camera says it stands there.

A camera that is right lays the outline on the robot in every frame. One that is wrong shows at a
glance, and beside it what the source itself shipped, where the sample keeps that.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robo4d import FieldAbsentError, Sample
from robo4d.geometry import check_array

Image = NDArray[np.uint8]

SHEET_FRAMES = 10
_COLUMNS = 5
# Smaller frames are enlarged by a whole factor, so that the outline stays thin and text fits.
_SHEET_TILE, _FILM_TILE = 320, 640
# Part colours: strong enough to tell links apart, weak enough to see the robot's own edges.
_SHOWN, _HIDDEN = 0.35, 0.15
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
# A line of text, in pixels on a tile of the widths above, and a letter that is a wide one.
_LINE, _LETTER = 16, 6.5
_INK, _PAPER = (230, 230, 230), 32


@dataclass(frozen=True)
class RobotRow:
    """The robot as one camera shows it.

    Attributes:
        label: before or after (robot, where there is no before), and where the camera came from.
        part: (T, H, W) uint8, link index + 1, 0 none.
        visible: (T, H, W) bool, robot pixels not hidden; None where nobody knows.
    """

    label: str
    part: NDArray[np.uint8]
    visible: NDArray[np.bool_] | None = None


def overlay(rgb: Image, part: NDArray[np.uint8], visible: NDArray[np.bool_] | None = None) -> Image:
    """Part colours and outline over the image (T, H, W, 3): faint where the robot is hidden.

    The outline is white on the robot's last pixels and black on the first beyond them, to be seen
    on any ground. The image's own border is no outline.
    """
    palette = cv2.applyColorMap(
        (np.arange(256) * 47 % 256).astype(np.uint8)[:, None], cv2.COLORMAP_HSV
    )[:, 0, ::-1]
    out = rgb.copy()
    for t, (image, ids) in enumerate(zip(out, part, strict=True)):
        robot = ids > 0
        shown = robot if visible is None else visible[t]
        weight = np.where(shown, _SHOWN, np.where(robot, _HIDDEN, 0.0))[..., None]
        image[:] = (image * (1 - weight) + palette[ids] * weight).astype(np.uint8)
        mask = robot.astype(np.uint8)
        image[cv2.dilate(mask, _CROSS) > mask] = 0
        image[cv2.erode(mask, _CROSS) < mask] = 255
    return out


def camera_facts(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the sample says of its camera, with the view's ``name``."""
    return {"name": meta.get("camera", ""), **meta.get("camera_solution", {})}


def robot_rows(sample: Sample) -> list[RobotRow]:
    """The robot by the camera that the source shipped, if the sample keeps it, then by its own.

    Raises:
        FieldAbsentError: the sample has neither camera; the message says why.
        UsageError: the shipped camera needs rendering, and the robot's description is not here.
        ShapeError: the shipped camera is no K and pose.
    """
    said = sample.meta.get("fields", {})
    rows = []
    if shipped := camera_facts(sample.meta).get("shipped"):
        rows.append(RobotRow(f"before ({shipped['provenance']})", _rendered(sample, shipped)))
    if "robot_part" in sample:
        visible = sample.robot_visible if "robot_visible" in sample else None
        origin = said.get("K", {}).get("provenance", "of unknown origin")
        name = "after" if rows else "robot"
        rows.append(RobotRow(f"{name} ({origin})", sample.robot_part, visible))
    if not rows:
        reason = said.get("robot_part", {}).get("reason", "the sample does not say why")
        raise FieldAbsentError(f"no camera: {reason}")
    return rows


def _rendered(sample: Sample, shipped: Mapping[str, Any]) -> NDArray[np.uint8]:
    # MuJoCo and Warp take a moment to load, and most pictures do without.
    from robots.models import get_robot
    from robots.rasterizer import RobotRasterizer

    frames, (height, width) = sample.meta["frames"], sample.meta["size"]
    K = check_array("shipped K", np.asarray(shipped["K"], float), [3, 3])
    pose = check_array("shipped pose", np.asarray(shipped["base_from_camera"], float), [4, 4])
    draw = RobotRasterizer(get_robot(sample.meta["robot"]["name"]), height, width)
    lenses, poses = np.repeat(K[None], frames, axis=0), np.repeat(pose[None], frames, axis=0)
    return draw(sample.joints, sample.gripper, lenses, poses)[1]


def caption(sample: Sample) -> list[str]:
    """Lines on whose camera this is, what was found of it, and by which figures."""
    meta, said = sample.meta, camera_facts(sample.meta)
    lines = [f"{sample.key}  {said.get('name', '')}  {meta.get('id', '')}"]
    if "verdict" in said:
        lines.append(f"camera: {said['verdict']}" + (f": {said['why']}" if said.get("why") else ""))
    if figures := {k: v for k, v in said.get("quality", {}).items() if v is not None}:
        lines.append("  ".join(f"{name} {_short(value)}" for name, value in figures.items()))
    if "robot_part" not in sample:
        reason = meta.get("fields", {}).get("robot_part", {}).get("reason", "")
        lines.append(f"after: absent: {reason}")
    return lines


def contact_sheet(sample: Sample, rows: list[RobotRow], frames: int = SHEET_FRAMES) -> Image:
    """``frames`` of the clip, spread evenly (all of a shorter one), below each other by row.

    Returns (h, w, 3) uint8; the tiles stand at the bottom, each under its label.
    """
    count = len(sample.rgb)
    times = np.unique(np.linspace(0, count - 1, min(frames, count)).round().astype(int))
    bands = []
    for start in range(0, len(times), _COLUMNS):
        some = times[start : start + _COLUMNS]
        for row in rows:
            tiles = list(_tiles(sample, row, some, _SHEET_TILE))
            blank = np.full_like(tiles[0], _PAPER)
            tiles += [blank] * (min(_COLUMNS, len(times)) - len(tiles))
            bands.append(np.concatenate(tiles, axis=1))
    body = np.concatenate(bands)
    unit = bands[0].shape[1] / min(_COLUMNS, len(times)) / _SHEET_TILE
    return np.concatenate([_written(caption(sample), body.shape[1], unit), body])


def film(sample: Sample, rows: list[RobotRow]) -> Image:
    """Every frame of the clip, rows beside each other, as (T, h, w, 3) uint8 of even sides."""
    every = np.arange(len(sample.rgb))
    body = np.concatenate([_tiles(sample, row, every, _FILM_TILE) for row in rows], axis=2)
    unit = body.shape[2] / len(rows) / _FILM_TILE
    head = _written(caption(sample), body.shape[2], unit)
    whole = np.concatenate([np.broadcast_to(head, (len(body), *head.shape)), body], axis=1)
    # Players take 4:2:0, which has no odd sides.
    _, height, width, _ = whole.shape
    odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    return np.pad(whole, odd, constant_values=_PAPER)


def _tiles(sample: Sample, row: RobotRow, times: NDArray[np.integer], least: int) -> Image:
    """Frames at ``times`` with the robot, each under a line that names it: (n, h, w, 3)."""
    width = sample.rgb.shape[2]
    factor = -(-least // width)
    visible = None if row.visible is None else _enlarged(row.visible[times], factor)
    rgb, part = _enlarged(sample.rgb[times], factor), _enlarged(row.part[times], factor)
    drawn = overlay(rgb, part, visible)
    fps, wide = sample.meta["fps"], width * factor
    names = [f"{row.label}  frame {t}, {t / fps:.2f} s" for t in times]
    heads = [_written([name], wide, wide / least) for name in names]
    return np.concatenate([np.stack(heads), drawn], axis=1)


def _enlarged(images: NDArray, factor: int) -> NDArray:
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def _written(lines: list[str], width: int, unit: float) -> Image:
    """Text on a ground of its own, (h, width, 3); long lines are wrapped, ``unit`` is its size."""
    high = round(_LINE * unit)
    letters = int(width / (_LETTER * unit))
    # OpenCV's letters are ASCII.
    plain = [line.encode("ascii", "replace").decode() for line in lines]
    wrapped = [part for line in plain for part in textwrap.wrap(line, letters)]
    out = np.full((high * max(1, len(wrapped)), width, 3), _PAPER, np.uint8)
    for n, line in enumerate(wrapped):
        place = (high // 4, high * n + high * 3 // 4)
        cv2.putText(out, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * unit, _INK, 1, cv2.LINE_AA)
    return out


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

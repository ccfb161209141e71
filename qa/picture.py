"""One picture of a sample: RGB, depth and the robot drawn over the image, at a few times."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qa.overlay import overlay
from robo4d import Sample
from schemas.reasons import UsageError

Image = NDArray[np.uint8]
_ABSENT = (64, 64, 64)


def save_picture(sample: Sample, path: Path, columns: int = 4) -> None:
    """Write `picture` as PNG.

    Raises:
        UsageError: the file cannot be written.
    """
    image = picture(sample, columns)
    if not path.parent.is_dir() or not cv2.imwrite(str(path), image[..., ::-1]):
        raise UsageError(f"cannot write {path}; is its folder there, and does it end in .png?")


def picture(sample: Sample, columns: int = 4) -> Image:
    """Rows RGB, depth, robot overlay; ``columns`` frames over the clip. (h, w, 3) uint8."""
    times = np.linspace(0, sample.meta["frames"] - 1, columns).round().astype(int)
    rgb = sample.rgb[times]
    rows = [rgb]
    rows.append(depth_colours(sample.depth[times]) if "depth" in sample else _blank(rgb, "depth"))
    if "robot_part" in sample:
        visible = sample.robot_visible[times] if "robot_visible" in sample else None
        rows.append(overlay(rgb, sample.robot_part[times], visible))
    else:
        rows.append(_blank(rgb, "robot"))
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def depth_colours(depth: NDArray[np.float32]) -> Image:
    """Depth (T, H, W) in m to colours, near warm and far cold, black where unknown."""
    known = depth[depth > 0]
    if known.size == 0:
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = np.percentile(known, [1, 99])
    high = max(high, low + 1e-3)  # of what is flat
    inverse = (1 / np.clip(depth, low, high) - 1 / high) / (1 / low - 1 / high)
    levels = np.clip(inverse * 255, 0, 255).astype(np.uint8)
    colours = np.stack([cv2.applyColorMap(frame, cv2.COLORMAP_TURBO) for frame in levels])
    return np.where(depth[..., None] > 0, colours[..., ::-1], 0).astype(np.uint8)


def _blank(rgb: Image, what: str) -> Image:
    out = np.full_like(rgb, _ABSENT[0])
    scale = rgb.shape[2] / 320
    for frame in out:
        place = (int(8 * scale), rgb.shape[1] // 2)
        cv2.putText(
            frame, f"{what}: absent", place, cv2.FONT_HERSHEY_SIMPLEX, scale, (220, 220, 220), 1
        )
    return out

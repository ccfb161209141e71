"""Depth to look at: the frames, estimated and true depth in one scale, the error, the normals."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from qa.depth_clips import DepthClip
from qa.depth_metrics import surface_normals
from qa.picture import depth_colours

Image = NDArray[np.uint8]

# Relative error that is drawn in the brightest colour.
_WORST = 0.2
_INK, _GROUND = (255, 255, 255), (0, 0, 0)


def depth_sheet(clip: DepthClip, depth: NDArray[np.floating], columns: int = 4) -> Image:
    """Rows: frames, estimate, truth, error, normals of both; (h, w, 3) uint8.

    Depth is near warm and far cold, in one scale for both; unknown is black. Error is dark at 0
    and bright from 20 % on. Normals are (x, -y, -z) as red, green, blue: what faces the camera is
    blue. Of clips without truth: frames, estimate and its normals.

    Args:
        depth: (T, H, W) m, aligned, 0 unknown.
        columns: frames, spread evenly over the clip.
    """
    times = np.unique(np.linspace(0, len(clip.rgb) - 1, columns).round().astype(int))
    ours = depth[times].astype(np.float32)
    rows = {"frames": clip.rgb[times]}
    if clip.depth is None:
        rows["estimated"] = depth_colours(ours)
    else:
        true = clip.depth[times].astype(np.float32)
        coloured = depth_colours(np.concatenate([ours, true]))
        rows["estimated"], rows["true"] = coloured[: len(times)], coloured[len(times) :]
        rows[f"error, 0 to {_WORST:.0%}"] = _error_colours(ours, true)
        rows["true normals"] = normal_colours(true, clip.K)
    rows["estimated normals"] = normal_colours(ours, clip.K)
    return np.concatenate([_labelled(name, tiles) for name, tiles in rows.items()])


def _error_colours(depth: NDArray, truth: NDArray) -> Image:
    known = (depth > 0) & (truth > 0)
    error = np.abs(depth - truth) / np.where(known, truth, 1)
    levels = (np.clip(error / _WORST, 0, 1) * 255).astype(np.uint8)
    drawn = np.stack([cv2.applyColorMap(frame, cv2.COLORMAP_INFERNO) for frame in levels])
    return np.where(known[..., None], drawn[..., ::-1], 0).astype(np.uint8)


def normal_colours(depth: NDArray, K: NDArray[np.floating], reach: int | None = None) -> Image:
    """Normals (x, -y, -z) of depth (T, H, W) as (T, H, W, 3) red, green, blue; black unknown.

    Args:
        reach: of `surface_normals`.
    """
    normals = surface_normals(depth, K, reach) * np.array([1, -1, -1], np.float32)
    return np.nan_to_num((normals + 1) * 127.5, nan=0).astype(np.uint8)


def _labelled(name: str, tiles: Image) -> Image:
    row = np.concatenate(list(tiles), axis=1)
    for colour, width in ((_GROUND, 3), (_INK, 1)):
        cv2.putText(row, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
    return row

"""How well a camera fits frames that it was not solved from, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.appearance import matte_offsets
from reconstruction.camera.backdrop import learn_backdrop
from reconstruction.camera.contours import contour_lines
from reconstruction.camera.evidence import flow_pairs, foreground, scoring_pairs
from reconstruction.camera.flow_score import FlowScorer
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.learned_masks import MaskBackend, ask_masks, mask_iou
from reconstruction.camera.problem import CameraProblem, diverse_steps
from robo4d.geometry import invert, project, transform
from robots.rasterizer import RobotRasterizer
from robots.surface import surface_points

Floats = NDArray[np.floating]
_FRAMES, _PAIRS, _LINES = 10, 8, 200
_CLEAR = 0.3  # matting weight from which an edge counts as one
_NEAR = 1.5  # pixels within which it confirms the outline
_MARGIN = 1  # pixels around the robot that count as neither robot nor background
_RING = 20  # pixels around the robot in which foreground counts
# Points of a link's surface, percentile of how far they move, frames that must show them.
_POINTS, _FASTEST, _SHOWN = 60, 90, 3


@dataclass(frozen=True)
class Fit:
    """Measures of a pose; None where the frames cannot tell.

    Attributes:
        silhouette_iou: of the rendered robot and what differs from the background behind it.
        edge_px: median distance of clear image edges from the outline, at the working size.
        edge_share: of the outline that has a clear edge within 1.5 pixels.
        flow_score: 0..1, see `flow_score`.
        robot_share: of the image that the robot covers.
        mask_iou: of the rendered robot and a learned mask's, median over frames; the mask was
            prompted by this same pose, so a high one alone proves nothing.
        swept_px: how far the robot moves in the picture, at the working size: root mean square
            about the mean place, over diverse steps, of what moves most: nine tenths move less.
    """

    silhouette_iou: float | None
    edge_px: float | None
    edge_share: float
    flow_score: float | None
    robot_share: float
    mask_iou: float | None = None
    swept_px: float | None = None


def measure_fit(
    problems: Sequence[CameraProblem],
    K: Floats,
    pose: Floats,
    late: float,
    renderer: RobotRasterizer,
    masks: MaskBackend | None = None,
) -> Fit:
    """Score a camera on the steps held back.

    Args:
        K, pose: (3, 3) at the working size, and base_from_camera (4, 4).
        late: s by which images lag behind the joints.
    """
    share = -(-_FRAMES // len(problems))
    held = [diverse_steps(p, p.held_back(), share) for p in problems]
    others = [diverse_steps(p, p.solving(), 2 * share) for p in problems]
    frames = FrameSet(
        problems, [np.concatenate(pair) for pair in zip(held, others, strict=True)], renderer
    )
    scored = np.concatenate(
        [np.arange(len(h) + len(o)) < len(h) for h, o in zip(held, others, strict=True)]
    )
    frames.set_late(late)
    depth, part = frames.rendered(np.arange(len(frames)), K, pose)
    edge_px, edge_share = outline_fit(frames.images[scored], depth[scored], part[scored])
    return Fit(
        silhouette_iou=_silhouette_iou(frames.images, part > 0, scored),
        edge_px=edge_px,
        edge_share=edge_share,
        flow_score=_flow_score(problems, K, pose),
        robot_share=float((part[scored] > 0).mean()),
        mask_iou=None
        if masks is None
        else mask_iou(ask_masks(masks, frames.images[scored], part[scored]), part[scored]),
        swept_px=_swept(frames, K, pose),
    )


def outline_fit(
    images: NDArray[np.float32], depth: NDArray[np.float32], part: NDArray[np.uint8]
) -> tuple[float | None, float]:
    """Median distance of clear edges from the outline, and the share of it that has one near."""
    lines = contour_lines(depth, part, _LINES, np.random.default_rng(0))
    if len(lines) == 0:
        return None, 0.0
    offset, weight = matte_offsets(images, lines)
    clear = weight > _CLEAR
    if not clear.any():
        return None, 0.0
    return float(np.median(np.abs(offset[clear]))), float((clear & (np.abs(offset) < _NEAR)).mean())


def _swept(frames: FrameSet, K: Floats, pose: Floats) -> float | None:
    """As `Fit.swept_px`; None where no three frames have the same surface in the picture."""
    placed = surface_points(frames.robot.name, _POINTS).placed(frames.links)
    pixels = project(transform(invert(pose), placed.reshape(-1, 3)), K)[0]
    pixels = pixels.reshape(*placed.shape[:2], 2)
    with np.errstate(invalid="ignore"):
        inside = (pixels >= 0) & (pixels < frames.images.shape[2:0:-1])
    seen = np.asarray(inside.all(-1))
    shown = seen.sum(0) >= _SHOWN
    if not shown.any():
        return None
    spread = np.nanvar(np.where(seen[..., None], pixels, np.nan)[:, shown], axis=0).sum(-1)
    return float(np.percentile(np.sqrt(spread), _FASTEST))


def _flow_score(problems: Sequence[CameraProblem], K: Floats, pose: Floats) -> float | None:
    share = -(-_PAIRS // len(problems))
    firsts = [scoring_pairs(problem, share) for problem in problems]
    if not sum(map(len, firsts)):
        return None
    pairs = flow_pairs(problems, firsts)
    lens = np.array([[K[0, 0], K[1, 1], K[0, 2], K[1, 2]]])
    return float(FlowScorer(pairs, 4).parts(pose[None], lens)[0, 0])


def _silhouette_iou(
    images: NDArray[np.float32], mask: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> float | None:
    """Intersection over union on pixels whose background is known, every second one each way."""
    images, mask = images[:, ::2, ::2], mask[:, ::2, ::2]
    backdrop = learn_backdrop(images, mask, _MARGIN)
    known = backdrop.known > 0
    both = either = 0
    for image, covered in zip(images[scored], mask[scored], strict=True):
        away = cv2.distanceTransform(1 - covered.astype(np.uint8), cv2.DIST_L2, 3)
        counts = known & (away < _RING / 2)
        front = foreground(image[None], backdrop.colour)[0] > 0.5
        both += int((front & covered & counts).sum())
        either += int(((front | covered) & counts).sum())
    return both / either if either else None

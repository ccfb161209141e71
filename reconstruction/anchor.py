"""The robot as ruler: relative depth to metres, by what forward kinematics knows of the robot.

A relative depth r is x = scale r + shift, where x is depth or inverse depth, by what the estimator
gives (Ranftl et al. 2020, MiDaS, for the latter); scale and shift are unknown and drift from frame
to frame. At robot pixels x is known. Before a fixed camera the background does not move, which
shows the drift by itself (`reconstruction/ties.py`), so that one scale and one shift are left for
the whole clip, and frames with little robot in them lack nothing. Before a moving camera each frame
is fitted on its own, and follows the others in what its own robot pixels leave open.

Half of the robot's pixels takes no part in the fit and judges it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.frame_lines import BLOCK, FEWEST, FrameLines, fit_frames
from reconstruction.mask import around
from reconstruction.ties import Ties, steady, tie_frames
from robo4d.geometry import check_array

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
Numbers = Literal["depth", "inverse"]

# Pixels to keep off the robot's outline and off its own steps in depth: networks blur edges by 2
# to 3 pixels, and a calibration good to a few pixels shifts them.
_MARGIN = 3
# A step in the robot's own depth, as a share of it.
_STEP = 0.03
# Held-back pixels within this share of their depth count as right, and half of them must.
RIGHT, MOST_RIGHT = 0.05, 0.5
# Logarithm of depth beyond which what is told of the robot and what is seen are two things.
OCCLUDER = np.log(1.25)
# Predicted relative error at which confidence falls to 1/e; at 0.31 it rounds to 0: unknown.
TRUSTED = 0.05


@dataclass(frozen=True)
class HeldBack:
    """How the pixels that took no part in the fit came out.

    Attributes:
        count: pixels.
        median_m, p90_m: of |anchored - forward kinematics|, occluded pixels included.
        right: share within 5 % of their depth (or a centimetre, see `anchor_scale`).
    """

    count: int
    median_m: float
    p90_m: float
    right: float


@dataclass(frozen=True)
class Anchored:
    """A clip's metric depth, or why there is none.

    Attributes:
        depth: (T, H, W) float32 z-depth in m; 0 where unknown.
        confidence: (T, H, W) uint8, 255 exp(-e / 0.05) for the relative error e that the fit
            predicts: of noise, and of reaching beyond the robot's depths.
        scale, shift: (T,) depth in m, or inverse depth in 1/m, is scale x relative + shift, but
            where resting pixels were drawn to the background.
        noise: standard deviation of relative errors at the robot.
        held_back: None where nothing could be fitted.
        reason: why the result is not metric; empty if it is.
        told: whether the estimator knew the robot, whose held-back pixels then say little.
        points, points_right: tracks of still points that took no part, where the camera's motion
            was the ruler (`reconstruction.parallax`), and the share of them within 10 %.
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.uint8]
    scale: Floats
    shift: Floats
    noise: float
    held_back: HeldBack | None
    reason: str = ""
    told: bool = False
    points: int = 0
    points_right: float | None = None

    @property
    def metric(self) -> bool:
        """Whether ``depth`` is in metres; if not, it is all 0."""
        return not self.reason

    def describe(self) -> dict[str, Any]:
        """Quality, for a sample's metadata."""
        held = self.held_back
        return {
            "noise": round(self.noise, 5),
            "reason": self.reason,
            "held_back_pixels": held.count if held else 0,
            "held_back_median_m": round(held.median_m, 5) if held else None,
            "held_back_p90_m": round(held.p90_m, 5) if held else None,
            "held_back_right": round(held.right, 4) if held else None,
            "told": self.told,
        } | (
            {"points": self.points, "points_right": round(self.points_right, 4)}
            if self.points_right is not None
            else {}
        )


def anchor_depth(
    relative: NDArray[np.floating],
    kind: Numbers,
    robot_depth: NDArray[np.floating],
    rgb: NDArray[np.uint8],
    *,
    camera_rests: bool,
) -> Anchored:
    """Fit scale and shift of a clip's relative depth to the robot's.

    Args:
        relative: (T, H, W) depth or inverse depth up to scale > 0 and shift; 0 where unknown.
        kind: which of the two.
        robot_depth: (T, H, W) m, of the robot alone, 0 none. What hides the robot, and edges that
            are off, are found out by not fitting.
        rgb: (T, H, W, 3).
        camera_rests: whether the camera stands still.

    Raises:
        ShapeError: arrays do not fit together.
    """
    relative = check_array("relative", relative, ["T", "H", "W"])
    robot_depth = check_array("robot_depth", robot_depth, relative.shape)
    check_array("rgb", rgb, [*relative.shape, 3], "u")
    known = relative != 0
    if not known.any():
        return nothing_known(relative.shape, "the relative depth is unknown everywhere")
    # In units of its own spread, so that nothing below depends on what scale and shift it came in.
    middle = float(np.median(relative[known]))
    spread = float(np.median(np.abs(relative[known] - middle))) or 1.0
    unit = np.where(known, (relative - middle) / spread, np.nan).astype(np.float32)
    ruler = solid_robot(robot_depth) & known
    judge = ruler & held_back_blocks(relative.shape[1:])
    fitted = ruler & ~judge
    if fitted.sum() < FEWEST:
        why = f"{fitted.sum()} robot pixels off its edges to fit to; {FEWEST} are needed"
        return nothing_known(relative.shape, why)
    x = np.zeros_like(robot_depth, float)
    x[ruler] = robot_depth[ruler] if kind == "depth" else 1 / robot_depth[ruler]

    ties = tie_frames(unit, rgb, robot_depth > 0) if camera_rests else None
    fit = fit_frames(unit, x, fitted, ties)
    if isinstance(fit, str):
        return nothing_known(relative.shape, fit)
    depth, error = _apply(fit, unit, kind)
    held = judge_held_back(depth, robot_depth, judge)
    if held.right < MOST_RIGHT:
        why = f"{held.right:.0%} of held-back robot pixels come out within {RIGHT:.0%}"
        return nothing_known(relative.shape, f"{why}; {MOST_RIGHT:.0%} must", held)
    if ties is not None and np.isfinite(ties.gain).any():
        background, _ = _apply(_common(fit, ties), ties.background[None], kind)
        level = np.log(depth)
        steady(level, np.log(background[0]), ties.resting)
        depth = np.exp(level)
    confidence = np.where(np.isfinite(depth), 255 * np.exp(-error / TRUSTED), 0)
    confidence = np.rint(np.nan_to_num(confidence)).astype(np.uint8)
    if np.median(confidence[known]) == 0:
        why = "the robot's depths are too much alike to say how deep the scene is"
        return nothing_known(relative.shape, why, held)
    scale = 1 / (fit.slope * spread)
    return Anchored(
        depth=np.where(confidence > 0, depth, 0).astype(np.float32),
        confidence=confidence,
        scale=scale,
        shift=-middle * scale - fit.offset / fit.slope,
        noise=fit.sigma,
        held_back=held,
    )


def held_back_pixels(robot_depth: NDArray[np.floating]) -> Mask:
    """(T, H, W) robot pixels that `anchor_depth` fits nothing to, so that they can judge it.

    Args:
        robot_depth: (T, H, W) m, of the robot alone, 0 none.
    """
    robot_depth = check_array("robot_depth", robot_depth, ["T", "H", "W"])
    return solid_robot(robot_depth) & held_back_blocks(robot_depth.shape[1:])


def _common(fit: FrameLines, ties: Ties) -> FrameLines:
    """The fit of the background, as of one frame of gain 1 and offset 0."""
    tied = np.flatnonzero(np.isfinite(ties.gain))[:1]
    gain, level = ties.gain[tied], ties.offset[tied]
    return replace(
        fit,
        slope=fit.slope[tied] / gain,
        offset=(fit.offset[tied] - level) / gain,
        leverage=fit.leverage[tied],
        borrowed=fit.borrowed[tied],
    )


def _apply(fit: FrameLines, unit: Floats, kind: Numbers) -> tuple[Floats, Floats]:
    """Depth (T, H, W) in m, NaN where there is none, and its predicted relative error."""
    x = (unit - fit.offset[:, None, None]) / fit.slope[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(x > 0, x, np.nan)
        depth = x if kind == "depth" else 1 / x
        ((a, b), (_, c)) = np.moveaxis(fit.leverage, 0, -1)[..., None, None]
        variance = 1 + a + 2 * b / x + c / x**2
    return depth, np.hypot(fit.sigma * np.sqrt(variance), fit.borrowed[:, None, None])


def solid_robot(robot_depth: Floats) -> Mask:
    """Where the robot's surface is smooth and its outline far."""
    kernel = np.ones((2 * _MARGIN + 1,) * 2, np.uint8)
    solid = np.zeros(robot_depth.shape, bool)
    for out, whole in zip(solid, robot_depth.astype(np.float32, copy=False), strict=True):
        part = around(whole > 0, _MARGIN)
        frame = whole[part]
        if frame.any():
            nearest, farthest = cv2.erode(frame, kernel), cv2.dilate(frame, kernel)
            out[part] = (nearest > 0) & (farthest < (1 + _STEP) * nearest)
    return solid


def held_back_blocks(size: tuple[int, int]) -> Mask:
    """(H, W) every second block of a checkerboard: neighbours would judge each other too kindly.

    Networks look at large pictures smaller than they are, so blocks grow with them.
    """
    row, column = np.indices(size) // max(BLOCK, round(min(size) / BLOCK))
    return (row + column) % 2 == 1


def judge_held_back(
    depth: Floats, robot_depth: Floats, judge: Mask, close: float = 0.0
) -> HeldBack:
    """How pixels come out that took no part; within ``close`` m they count as right too."""
    true = robot_depth[judge]
    if not len(true):
        return HeldBack(0, 0.0, 0.0, 0.0)
    # Where the fit gives no depth at all it is as wrong as can be.
    error = np.nan_to_num(np.abs(depth[judge] - true), nan=np.inf)
    median, p90 = np.percentile(error, [50, 90], method="lower")
    right = float((error <= np.maximum(RIGHT * true, close)).mean())
    return HeldBack(len(true), float(median), float(p90), right)


def nothing_known(
    shape: tuple[int, ...],
    reason: str,
    held: HeldBack | None = None,
    *,
    told: bool = False,
    points: int = 0,
    points_right: float | None = None,
) -> Anchored:
    unknown = np.full(shape[0], np.nan)
    return Anchored(
        depth=np.zeros(shape, np.float32),
        confidence=np.zeros(shape, np.uint8),
        scale=unknown,
        shift=unknown,
        noise=0.0,
        held_back=held,
        reason=reason,
        told=told,
        points=points,
        points_right=points_right,
    )

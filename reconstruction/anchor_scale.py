"""The robot as ruler of depth that has its shape right and its size nearly: one scale, no shift.

A network that was trained in metres errs mostly by a factor: of the lens, and of how large things
are that it never saw. A line through the robot's depths, as `reconstruction.anchor` fits, would
find a shift in whatever else is wrong; where the robot shows nearly one depth, as in a wrist
camera, any slope at all. So here depth = scale x estimate: one scale for a clip before a fixed
camera, whose background shows how the estimate's own scale drifts; before a moving camera one for
a few frames.

An estimator that was told the robot's depth has its scale from there. Of such depth only the drift
is taken out. The judge is the half of the robot that it was not told: it finds a camera that is off
and a network that is broken, but what lies between told blocks can be filled in by who knows
nothing of the scene. `Anchored.told` says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruction.anchor import (
    MOST_RIGHT,
    OCCLUDER,
    RIGHT,
    TRUSTED,
    Anchored,
    anchor_depth,
    held_back_pixels,
    judge_held_back,
    nothing_known,
    solid_robot,
)
from reconstruction.anchor_motion import anchor_by_motion
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.frame_lines import FEWEST
from reconstruction.ties import resting_pixels, steady
from robo4d.geometry import check_array

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Frames to either side that share a moving camera's scale.
_NEIGHBOURS = 2
# Logarithm of depth from the robot's at which the error is taken to be 1.4 times that at the robot.
# An assumption: an estimator with confidence of its own mostly says more than that.
_REACH = 0.5
# m: cameras are solved no better. For a hand before its own camera it is more than 5 % of depth.
_CLOSE = 0.01
# Resting pixels that tell a frame's drift.
_FEWEST_RESTING = 500


def anchor_estimate(
    estimate: DepthEstimate, rgb: NDArray[np.uint8], K: Floats, robot: RobotView
) -> Anchored:
    """An estimate that is not metric, made so: by the camera's motion, or by the robot.

    Args:
        rgb: (T, H, W, 3).
        K: (3, 3) pixels.

    Raises:
        ShapeError: arrays do not fit together.
    """
    rests = robot.camera_rests
    if estimate.kind == "inverse":
        return anchor_depth(estimate.depth, "inverse", robot.depth, rgb, camera_rests=rests)
    if not rests:
        return anchor_by_motion(estimate, rgb, K, robot)
    return anchor_scale(
        estimate.depth,
        estimate.confidence,
        robot.depth,
        rgb,
        camera_rests=rests,
        told=estimate.told,
    )


def anchor_scale(
    depth: Floats,
    confidence: NDArray[np.uint8],
    robot_depth: Floats,
    rgb: NDArray[np.uint8],
    *,
    camera_rests: bool,
    told: bool = False,
) -> Anchored:
    """Fit a scale to the robot; see the module.

    Args:
        depth: (T, H, W) up to a scale that drifts; 0 where unknown.
        confidence: (T, H, W) of it, 255 exp(-e / 0.05) for a relative error of e.
        robot_depth: (T, H, W) m, of the robot alone, 0 none.
        rgb: (T, H, W, 3).
        camera_rests: whether the camera stands still.
        told: see `DepthEstimate`.

    Raises:
        ShapeError: arrays do not fit together.
    """
    depth = check_array("depth", depth, ["T", "H", "W"])
    robot_depth = check_array("robot_depth", robot_depth, depth.shape)
    check_array("confidence", confidence, depth.shape, "u")
    check_array("rgb", rgb, [*depth.shape, 3], "u")
    known = depth > 0
    ruler = solid_robot(robot_depth) & known
    judge = held_back_pixels(robot_depth) & ruler
    fitted = ruler & ~judge
    counts = [np.count_nonzero(frame) for frame in fitted]
    if sum(counts) < FEWEST:
        why = f"{sum(counts)} robot pixels off its edges to fit to; {FEWEST} are needed"
        return nothing_known(depth.shape, why, told=told)
    with np.errstate(divide="ignore"):
        level = np.where(known, np.log(depth), np.nan)
    drift: Floats = np.zeros(len(depth))
    background, resting = None, None
    ruled = robot_depth[fitted]
    ratio = np.log(ruled)
    if camera_rests:
        resting = resting_pixels(rgb, robot_depth > 0) & known
        drift, background = _drift(level, resting)
        if told:  # of the clip, not of the frame that the background began with
            middle = np.median(drift)
            drift, background = drift - middle, background + middle
        ratio = ratio - (level[fitted] - np.repeat(drift, counts))
    else:
        ratio = ratio - level[fitted]
    frames = np.split(ratio.astype(float), np.cumsum(counts)[:-1])
    size, unsure = _sizes(frames, camera_rests)
    if told:
        size, unsure = np.zeros(len(depth)), 0.0
    # Frame by frame here and below: what stays in the processor's cache costs less.
    metric = np.empty(depth.shape)
    for t, frame in enumerate(level):
        metric[t] = np.exp((frame - drift[t] if camera_rests else frame) + size[t])
    held = judge_held_back(metric, robot_depth, judge, _CLOSE if told else 0.0)
    if held.right < MOST_RIGHT:
        close = f" or {1000 * _CLOSE:.0f} mm" if told else ""
        why = f"{held.right:.0%} of held-back robot pixels come out within {RIGHT:.0%}{close}"
        why = f"{why}; {MOST_RIGHT:.0%} must"
        return nothing_known(depth.shape, why, held, told=told)
    if background is not None and resting is not None:
        steady(metric, np.exp(background + size[0]), resting)
    spread = np.abs(np.concatenate(frames) - np.repeat(size, counts))
    noise = float(1.4826 * np.median(spread[spread < OCCLUDER]))
    sure = np.empty(depth.shape, np.uint8)
    final = np.empty(depth.shape, np.float32)
    middle = np.median(ruled)
    for t, frame in enumerate(metric):
        error = np.hypot(_expected(frame, middle, confidence[t], noise), unsure)
        sure[t] = np.where(known[t], np.rint(255 * np.exp(-error / TRUSTED)), 0)
        final[t] = np.where(sure[t] > 0, frame, 0)
    return Anchored(
        depth=final,
        confidence=sure,
        scale=np.exp(size - drift),
        shift=np.zeros(len(depth)),
        noise=noise,
        held_back=held,
        told=told,
    )


def _expected(
    depth: Floats, middle: np.floating, confidence: NDArray[np.uint8], noise: float
) -> Floats:
    """Relative error (H, W): what the estimator says, but no less than it has at the robot, and
    more the farther a pixel is from the robot's ``middle`` depth.
    """
    with np.errstate(divide="ignore"):
        own = (-TRUSTED * np.log(np.arange(256, dtype=np.uint8) / 255))[confidence]
        away = np.log(depth) - np.log(middle)
    return np.fmax(own, noise * np.hypot(1, away / _REACH))


def _drift(level: Floats, resting: Mask) -> tuple[Floats, Floats]:
    """(T,) by how much each frame's logarithm of depth lies over the background's (H, W)."""
    start = int(np.argmax([np.count_nonzero(frame) for frame in resting]))
    background = np.where(resting[start], level[start], np.nan)
    drift = np.zeros(len(level))
    enough = np.zeros(len(level), bool)
    for _ in range(2):
        for t, rests in enumerate(resting):
            apart = level[t][rests] - background[rests]
            apart = apart[np.isfinite(apart)]
            enough[t] = len(apart) >= _FEWEST_RESTING
            if enough[t]:
                drift[t] = np.median(apart)
        if not enough.all() and enough.any():
            there = np.flatnonzero(enough)
            drift = np.interp(np.arange(len(level)), there, drift[there])
        rows = zip(level.swapaxes(0, 1), resting.swapaxes(0, 1), strict=True)
        background = np.stack([_lower_middle(row - drift[:, None], rests) for row, rests in rows])
    return drift, background


def _lower_middle(values: Floats, used: Mask) -> Floats:
    """(W,) the lower median over time of what is used of values (T, W); NaN where nothing is."""
    ordered = np.sort(np.where(used, values, np.nan), axis=0)  # NaN last
    count = np.count_nonzero(used, axis=0)
    middle = np.maximum(count - 1, 0)[None] // 2
    return np.take_along_axis(ordered, middle, axis=0)[0]


def _sizes(ratios: list[Floats], camera_rests: bool) -> tuple[Floats, float]:
    """(T,) logarithm of each frame's scale, by its pixels' (N,), and how unsure it is."""
    count = len(ratios)
    usual = np.median(np.concatenate(ratios))
    per_frame = [frame[np.abs(frame - usual) < 2 * OCCLUDER] for frame in ratios]
    medians = np.array([np.median(f) if len(f) >= 50 else np.nan for f in per_frame])
    there = np.isfinite(medians)
    centre = float(np.nanmedian(np.concatenate(per_frame)))
    unsure = 0.0
    if there.sum() > 1:
        scatter = 1.4826 * np.median(np.abs(medians[there] - np.median(medians[there])))
        unsure = float(scatter / np.sqrt(there.sum()))
    if camera_rests or not there.any():
        return np.full(count, centre), unsure
    sizes = np.full(count, np.nan)
    for t in range(count):
        near = np.concatenate(per_frame[max(0, t - _NEIGHBOURS) : t + _NEIGHBOURS + 1])
        if len(near) >= FEWEST // 2:
            sizes[t] = np.median(near)
    found = np.flatnonzero(np.isfinite(sizes))
    if not len(found):
        return np.full(count, centre), unsure
    return np.interp(np.arange(count), found, sizes[found]), unsure

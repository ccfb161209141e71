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
    held_back_blocks,
    judge_held_back,
    nothing_known,
    solid_robot,
)
from reconstruction.anchor_motion import anchor_by_motion
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.frame_lines import FEWEST
from reconstruction.ties import FEWEST_SPARSE, resting_pixels, sparse, spread_out, steady
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
    blocks = held_back_blocks(depth.shape[1:])
    judge, fitted = ruler & blocks, ruler & ~blocks
    counts = [np.count_nonzero(frame) for frame in fitted]
    if sum(counts) < FEWEST:
        why = f"{sum(counts)} robot pixels off its edges to fit to; {FEWEST} are needed"
        return nothing_known(depth.shape, why, told=told)
    level = np.empty(depth.shape, np.float32)
    for out, frame, there in zip(level, depth, known, strict=True):
        np.log(np.where(there, frame, 1), out=out)  # 0 where unknown, which is dropped at the end
    drift: Floats = np.zeros(len(depth))
    background, resting = None, None
    if camera_rests:
        resting = resting_pixels(rgb, robot_depth > 0) & known
        drift, background = _drift(level, resting)
        if told:  # of the clip, not of the frame that the background began with
            middle = float(np.median(drift))
            drift, background = drift - middle, background + middle
        level -= drift[:, None, None]
    ruled = robot_depth[fitted]
    ratio = np.log(ruled) - level[fitted]
    size: Floats = np.zeros(len(depth))
    unsure = 0.0
    if not told:
        size, unsure = _sizes(np.split(ratio, np.cumsum(counts)[:-1]), camera_rests)
        level += size[:, None, None]
    if background is not None and resting is not None:
        steady(level, background + float(size[0]), resting)
    metric = np.exp(level)
    held = judge_held_back(metric, robot_depth, judge, _CLOSE if told else 0.0)
    if held.right < MOST_RIGHT:
        close = f" or {1000 * _CLOSE:.0f} mm" if told else ""
        why = f"{held.right:.0%} of held-back robot pixels come out within {RIGHT:.0%}{close}"
        why = f"{why}; {MOST_RIGHT:.0%} must"
        return nothing_known(depth.shape, why, held, told=told)
    spread = np.abs(ratio - np.repeat(size, counts))
    near = spread[spread < OCCLUDER]
    if len(near) == 0:
        most = np.exp(OCCLUDER)
        why = f"no robot pixel that is fitted to comes out within a factor of {most:.2f}"
        return nothing_known(depth.shape, why, held, told=told)
    noise = float(1.4826 * np.median(near))
    sure = _sureness(level, float(np.log(np.median(ruled))), noise, confidence, unsure)
    sure *= known
    metric *= sure > 0
    return Anchored(
        depth=metric,
        confidence=sure,
        scale=np.exp(size - drift),
        shift=np.zeros(len(depth)),
        noise=noise,
        held_back=held,
        told=told,
    )


def _sureness(
    level: Floats, middle: float, noise: float, confidence: NDArray[np.uint8], unsure: float
) -> NDArray[np.uint8]:
    """Confidence (T, H, W): the estimator's, but no more than at the robot, and less the farther a
    pixel's logarithm of depth is from the robot's ``middle``.
    """
    with np.errstate(divide="ignore"):
        own = -TRUSTED * np.log(np.arange(256) / 255)
    at_most = np.rint(255 * np.exp(-np.hypot(own, unsure) / TRUSTED)).astype(np.uint8)
    # exp(-error / TRUSTED) for an error of hypot(noise hypot(1, away / _REACH), unsure).
    least, slope = (noise**2 + unsure**2) / TRUSTED**2, (noise / _REACH / TRUSTED) ** 2
    sure = np.empty_like(confidence)
    for out, frame, said in zip(sure, level, confidence, strict=True):  # stays in the cache
        error = np.square(frame - middle)
        error *= slope
        error += least
        most = 255 * np.exp(-np.sqrt(error, out=error))
        np.minimum(np.rint(most).astype(np.uint8), at_most.take(said), out=out)
    return sure


def _drift(level: Floats, resting: Mask) -> tuple[Floats, Floats]:
    """(T,) by how much each frame's logarithm of depth lies over the background's (H, W)."""
    few = (slice(None), *sparse(level.shape[1:]))
    some, rests = level[few], resting[few]
    fewest = max(FEWEST_SPARSE, _FEWEST_RESTING * some[0].size / level[0].size)
    start = int(np.count_nonzero(rests, axis=(1, 2)).argmax())
    background = np.where(rests[start], some[start], np.nan)
    drift = np.zeros(len(level))
    enough = np.zeros(len(level), bool)
    for _ in range(2):
        for t, frame in enumerate(some):
            apart = frame[rests[t]] - background[rests[t]]
            apart = apart[np.isfinite(apart)]
            enough[t] = len(apart) >= fewest
            if enough[t]:
                drift[t] = np.median(apart)
        if not enough.all() and enough.any():
            there = np.flatnonzero(enough)
            drift = np.interp(np.arange(len(level)), there, drift[there])
        background = _lower_middle(some, drift, rests)
    return drift, _lower_middle(level, drift, resting)


def _lower_middle(level: Floats, drift: Floats, used: Mask) -> Floats:
    """(H, W) the lower median over some frames of what is used of levels (T, H, W), less their
    drift (T,); NaN where nothing is.
    """
    few = spread_out(len(level))
    level, used, drift = level[few], used[few], drift[few, None].astype(np.float32)
    place = np.maximum(used.sum(0, dtype=np.min_scalar_type(len(used))), 1) - 1
    column = np.arange(level.shape[2])
    middle = np.empty(level.shape[1:], np.float32)
    for y, out in enumerate(middle):  # by row, which stays in the processor's cache
        ordered = np.sort(np.where(used[:, y], level[:, y] - drift, np.nan), axis=0)  # NaN last
        out[:] = ordered[place[y] // 2, column]
    return middle


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

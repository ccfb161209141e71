"""Real episodes as depth is judged on them: views at the same steps, and depth in three ways."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qa.cross_view import PosedDepth, common_steps
from qa.depth_clips import DepthClip, read_clip
from qa.depth_metrics import temporal_error
from qa.triangulated import Pictures, SparseDepth, triangulate
from reconstruction.anchor import held_back_pixels, judge_held_back, solid_robot
from reconstruction.anchor_scale import anchor_estimate
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.ties import resting_pixels
from robo4d import Sample

Depths = NDArray[np.floating]

AS_SAID, ROBOT_SCALE, ANCHORED = "as it says", "robot's scale", "anchored"


@dataclass(frozen=True)
class View:
    """One camera of an episode.

    Attributes:
        camera: its name.
        clip: at the steps that all of the episode's views have.
        robot_depth: (T, H, W) m, the clip's own, here for sure.
        points: triangulated from all steps of the episode, those of the clip's.
    """

    camera: str
    clip: DepthClip
    robot_depth: Depths
    points: SparseDepth

    @property
    def kind(self) -> str:
        """Wrist or exterior, by the camera's name."""
        return "wrist" if "wrist" in self.camera else "exterior"

    def posed(self, depth: Depths) -> PosedDepth:
        """The view with some depth (T, H, W) of it."""
        return PosedDepth(depth, self.clip.K, self.clip.base_from_camera, self.robot_depth > 0)


@dataclass(frozen=True)
class Way:
    """A view's depth in metres.

    Attributes:
        name: how it came to metres.
        depth: (T, H, W), 0 unknown; None where the robot refused it.
        reason: why there is none.
    """

    name: str
    depth: Depths | None
    reason: str = ""


def read_episodes(samples: list[Sample], frames: int | None) -> Iterator[tuple[str, list[View]]]:
    """Each episode's name and its solved views, decoded, at the same steps.

    Args:
        frames: so many neighbouring steps, from the middle; None: all.
    """
    episodes: dict[str, list[Sample]] = {}
    for sample in samples:
        episodes.setdefault(f"{sample.meta['source']}:{sample.meta['id']}", []).append(sample)
    for name, views in episodes.items():
        whole = [read_clip(view) for view in views]
        robots = [view.robot_depth for view in views]
        points = triangulate(
            [
                Pictures(clip.rgb, clip.K, clip.base_from_camera, robot > 0)
                for clip, robot in zip(whole, robots, strict=True)
            ]
        )
        steps = common_steps([view.step for view in views], frames)
        if not len(steps):
            print(f"{name}: its views share no step; left out", file=sys.stderr)
            continue
        yield (
            name,
            [_cut(*parts, steps) for parts in zip(views, whole, robots, points, strict=True)],
        )


def _cut(
    sample: Sample,
    clip: DepthClip,
    robot: Depths,
    points: SparseDepth,
    steps: NDArray[np.integer],
) -> View:
    chosen = np.flatnonzero(np.isin(sample.step, steps))
    cut = replace(
        clip,
        rgb=clip.rgb[chosen],
        depth=None if clip.depth is None else clip.depth[chosen],
        robot_depth=robot[chosen],
        robot_visible=None if clip.robot_visible is None else clip.robot_visible[chosen],
        base_from_camera=clip.base_from_camera[chosen],
    )
    return View(sample.meta["camera"], cut, robot[chosen], points.of_frames(chosen))


def ways_to_metres(estimate: DepthEstimate, view: View) -> list[Way]:
    """The estimate as it says, times one scale by all of the robot's pixels, and anchored.

    Metric estimates as they say alone; inverse ones have no scale, and are anchored alone.
    """
    ways = []
    if estimate.kind != "inverse":
        ways.append(Way(AS_SAID, estimate.depth))
    if estimate.kind == "scaled":
        ways.append(_scaled(estimate, view))
    if estimate.kind != "metric":
        clip = view.clip
        robot = RobotView(view.robot_depth.astype(np.float32), clip.base_from_camera)
        got = anchor_estimate(estimate, clip.rgb, clip.K, robot)
        ways.append(Way(ANCHORED, got.depth if got.metric else None, got.reason))
    return ways


def _scaled(estimate: DepthEstimate, view: View) -> Way:
    ruler = solid_robot(view.robot_depth) & (estimate.depth > 0)
    if not ruler.any():
        return Way(ROBOT_SCALE, None, "no robot pixel off its edges with depth")
    scale = np.median(view.robot_depth[ruler] / estimate.depth[ruler])
    return Way(ROBOT_SCALE, estimate.depth * np.float32(scale))


def robot_figures(depth: Depths, view: View) -> dict[str, float | None]:
    """How held-back robot pixels come out, and what changes where nothing moves.

    Returns:
        median_m, p90_m: of |depth - the robot's by its joints|, occluded pixels included; a pixel
            without depth is as wrong as can be; None: endless.
        right: share within 5 %.
        known: share of all pixels with depth.
        flicker: mean relative change from frame to frame of resting pixels; None before a moving
            camera.
    """
    held = judge_held_back(
        np.where(depth > 0, depth, np.nan), view.robot_depth, held_back_pixels(view.robot_depth)
    )
    flicker = None
    if view.clip.camera_rests and len(depth) > 1:
        rests = resting_pixels(view.clip.rgb, view.robot_depth > 0)
        flicker = temporal_error(depth, rests[:-1] & rests[1:])
    return {
        "pixels": held.count,
        "median_m": held.median_m if held.count and np.isfinite(held.median_m) else None,
        "p90_m": held.p90_m if held.count and np.isfinite(held.p90_m) else None,
        "right": held.right if held.count else None,
        "known": float((depth > 0).mean()),
        "flicker": flicker,
    }

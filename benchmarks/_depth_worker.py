"""A worker process of `benchmarks.depth_stage`: the stage of a build, clip after clip, timed."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import reconstruction.lift as lift
from benchmarks._depth_clips import StageClip
from reconstruction.checkpoint import device
from reconstruction.depth import DepthEstimate, DepthEstimator, RobotView
from reconstruction.depth.served.client import ServedDepth
from robo4d.sample import encode_sample
from robots.models import get_robot
from robots.rasterizer import RobotRasterizer
from schemas.episode import Provenance

if TYPE_CHECKING:  # torch and timm: workers of a server do without
    from reconstruction.depth.pointmap.estimator import PointmapDepth

# Of a batch's forward pass, after three unmeasured ones.
_RUNS = 20
# What `reconstruction.lift` calls by these names, and the parts that they are told as.
_PARTS = {"anchor_estimate": "anchor", "visible_robot": "mask", "surface_residual": "residual"}
P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class StandIn:
    """A `DepthEstimator` that runs its network, and says what a good one would have said.

    So anchoring and encoding have as much to do after a network with random weights.
    """

    network: DepthEstimator
    said: tuple[NDArray[np.float32], NDArray[np.uint8]]

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """See `DepthEstimator`."""
        self.network(rgb, K, robot)
        return DepthEstimate(*self.said, "scaled", Provenance.ESTIMATED, told=robot is not None)


class Stage:
    """The stage from a camera's video to a sample's bytes, as `pipeline.samples` runs it.

    Args:
        pretend: whether what is anchored is what a good network would have said.

    Attributes:
        wall, cpu: seconds by part; cpu is of all of the process' threads.
        clips, anchored: how many are done, and have metric depth.
        bytes: of all samples so far.
    """

    def __init__(self, clips: Sequence[StageClip], network: DepthEstimator, pretend: bool) -> None:
        self.wall: Counter[str] = Counter()
        self.cpu: Counter[str] = Counter()
        self.clips = self.anchored = self.bytes = 0
        self._inputs = clips
        self._network = network
        self._said = [clip.load_said() if pretend else None for clip in clips]
        height, width = clips[0].video.size()
        self._renderer = RobotRasterizer(get_robot(clips[0].robot), height, width, thinned=False)

    def close(self) -> None:
        """Give the GPU's memory back."""
        if isinstance(self._network, ServedDepth):
            self._network.close()
            return
        del self._network
        import torch

        from reconstruction.depth.pointmap.estimator import open_pointmap

        open_pointmap.cache_clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def one(self, number: int) -> None:
        """Lift and encode one clip, and throw its bytes away."""
        k = number % len(self._inputs)
        clip, said = self._inputs[k], self._said[k]
        rgb = self._timed("decode", clip.video.decode)(clip.plan.steps)
        network: DepthEstimator = self._timed("network", self._network)  # type: ignore[assignment]
        lifted = lift.lift_clip(
            rgb,
            clip.plan,
            clip.motion,
            clip.calibration,
            network if said is None else StandIn(network, said),
            self._timed("render", self._renderer),  # type: ignore[arg-type]
        )
        motion, steps = clip.motion, clip.plan.steps
        fields: dict[str, Any] = {"rgb": rgb, **lifted.fields, "step": steps}
        fields["time"] = steps / clip.plan.fps
        for name in ("joints", "gripper", "ee", "link_poses"):
            fields[name] = getattr(motion, name)[steps]
        meta = {"depth_anchoring": lifted.anchoring, "fields": lifted.describe()}
        members = self._timed("encode", encode_sample)(fields, meta, clip.plan.fps)
        self.clips += 1
        self.anchored += "depth" in lifted.fields
        self.bytes += sum(map(len, members.values()))

    def run(self, first: int, begin: float, seconds: float) -> dict[str, Any]:
        """Clips done from ``begin`` (time.monotonic()) on for ``seconds``, and what they took.

        The clip at the end counts by the share of its own time that fell within. One is done in
        any case, so that there is something to tell of.
        """
        time.sleep(max(0.0, begin - time.monotonic()))
        self.wall.clear()
        self.cpu.clear()
        self.clips = self.anchored = self.bytes = 0
        end, done, number = begin + seconds, 0.0, first
        kept = {name: getattr(lift, name) for name in _PARTS}
        for name, part in _PARTS.items():
            setattr(lift, name, self._timed(part, kept[name]))
        try:
            while (began := time.monotonic()) < end or not self.clips:
                self._timed("all", self.one)(number)
                took = time.monotonic() - began
                done += min(1.0, max(0.0, end - began) / took)
                number += 1
        finally:
            for name, function in kept.items():
                setattr(lift, name, function)
        return {
            "clips": done,
            "whole": self.clips,
            "anchored": self.anchored,
            "bytes": self.bytes,
            "wall": dict(self.wall),
            "cpu": dict(self.cpu),
        }

    def _timed(self, part: str, work: Callable[P, R]) -> Callable[P, R]:
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            wall, cpu = time.monotonic(), time.process_time()
            result = work(*args, **kwargs)
            self.wall[part] += time.monotonic() - wall
            self.cpu[part] += time.process_time() - cpu
            return result

        return run


def bare(
    model: Path | str, batch: int, size: tuple[int, int], batches: Sequence[int]
) -> dict[str, Any]:
    """Frames a second of a network's bare forward pass, by frames at once."""
    import torch

    from benchmarks.depth_speed import forward_seconds

    network, where = open_network(model, batch).network, torch.device(device())
    seen = network.size_for(size)
    rates: dict[str, float] = {}
    for count in batches:
        try:
            seconds = forward_seconds(network, seen, count, _RUNS, where)
        except torch.OutOfMemoryError:
            break
        rates[str(count)] = count / seconds
    return {
        "device": torch.cuda.get_device_name() if where.type == "cuda" else "cpu",
        "network_size": list(seen),
        "million_parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "bare": rates,
    }


def open_network(model: Path | str, batch: int) -> PointmapDepth:
    """The network of a checkpoint, or one with random weights on an encoder of timm.

    The latter's weights are drawn where they are used: a GPU draws a ViT-L's at once, a core takes
    seconds, and gigabytes.
    """
    import torch

    from reconstruction.depth.pointmap.estimator import open_pointmap, untrained_pointmap
    from reconstruction.depth.pointmap.network import NetworkConfig

    if isinstance(model, Path):
        return open_pointmap(model, batch=batch)
    with torch.device(device()):
        return untrained_pointmap(NetworkConfig(encoder=model), batch=batch)


def _opened(
    clips: Sequence[StageClip], model: Path | str, batch: int, server: str | None
) -> tuple[Stage, dict[str, float]]:
    """A stage that has lifted one clip, and seconds by part.

    Args:
        server: address of the process that runs the network; None: this one.
    """
    laps = [time.monotonic()]
    network = open_network(model, batch) if server is None else ServedDepth(server)
    laps.append(time.monotonic())
    stage = Stage(clips, network, not isinstance(model, Path))
    laps.append(time.monotonic())
    stage.one(0)
    laps.append(time.monotonic())
    torch = sys.modules.get("torch")
    if server is not None and torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("this process has a CUDA context beside the server's")
    parts = ("network", "renderer", "first_clip")
    return stage, dict(zip(parts, np.diff(laps).tolist(), strict=True))


def serve(orders: Connection) -> None:
    """Say that it is there, then do what is asked for over ``orders`` until it says None.

    An order is (name, arguments): ``bare``, ``open`` (of `_opened`), or one of the methods of a
    `Stage`. The answer is (True, result) or (False, traceback); of ``open`` it is seconds by part.
    """
    orders.send((True, None))
    stage: Stage | None = None
    # As a shard is built (`pipeline.build`).
    with threadpool_limits(limits=1):
        while (order := orders.recv()) is not None:
            name, arguments = order
            try:
                if name == "bare":
                    answer: Any = bare(*arguments)
                elif name == "open":
                    if stage is not None:
                        stage.close()
                        stage = None
                    stage, answer = _opened(*arguments)
                else:
                    answer = getattr(stage, name)(*arguments)
                orders.send((True, answer))
            except Exception:  # noqa: BLE001  told to whoever asked
                orders.send((False, traceback.format_exc()))
    if stage is not None:
        stage.close()

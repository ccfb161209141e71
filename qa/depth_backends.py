"""What enters the accuracy board by name: networks, variants of them, baselines, the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qa.depth_clips import DepthClip
from reconstruction.depth import DepthEstimate, DepthEstimator, RobotView
from reconstruction.depth.backends import NETWORKS, open_network
from reconstruction.depth.baselines import BasePlane, ConstantDepth, PlaneDepth, fit_plane
from schemas.config import load_config
from schemas.episode import Provenance
from schemas.reasons import UsageError, did_you_mean

Backend = Callable[[DepthClip], DepthEstimator | None]
"""Opens the estimator for a clip; most are the same for all. None: it cannot enter there."""


@dataclass(frozen=True)
class Oracle:
    """An estimator that was told."""

    depth: NDArray[np.floating]
    provenance: Provenance

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """What it was told, as metric depth."""
        sure = np.where(self.depth > 0, 255, 0).astype(np.uint8)
        depth = self.depth.astype(np.float32)
        return DepthEstimate(depth, sure, "metric", self.provenance)


def _simulator(clip: DepthClip) -> Oracle | None:
    return None if clip.depth is None else Oracle(clip.depth, Provenance.SIMULATED)


def _plane_fit(clip: DepthClip) -> Oracle | None:
    if clip.depth is None:
        return None
    return Oracle(fit_plane(clip.depth, clip.K), Provenance.ESTIMATED)


# What the board brings along: the truth itself, and what a network has to beat.
_OWN: dict[str, Backend] = {
    "simulator": _simulator,
    "constant": lambda clip: ConstantDepth(),
    "plane": lambda clip: PlaneDepth(),
    "base_plane": lambda clip: BasePlane(),
    "plane_fit": _plane_fit,
}


def _alone(network: DepthEstimator) -> DepthEstimator:
    return lambda rgb, K, robot=None: network(rgb, K)


def _single(network: DepthEstimator) -> DepthEstimator:
    """Each frame as a clip of its own, of which it is the first."""

    def estimate(
        rgb: NDArray[np.uint8], K: NDArray[np.floating] | None, robot: RobotView | None = None
    ) -> DepthEstimate:
        each = []
        for t in range(len(rgb)):
            one = slice(t, t + 1)
            view = robot and RobotView(robot.depth[one], robot.base_from_camera[one])
            each.append(network(rgb[one], K, view))
        return replace(
            each[0],
            depth=np.concatenate([one.depth for one in each]),
            confidence=np.concatenate([one.confidence for one in each]),
            told=any(one.told for one in each),
        )

    return estimate


def _untrained(network: DepthEstimator) -> DepthEstimator:
    from reconstruction.depth.pointmap.estimator import PointmapDepth, untrained_pointmap

    assert isinstance(network, PointmapDepth)
    return untrained_pointmap(network.network.config, batch=network.batch)


# Made of the network in front of the underscore.
_VARIANTS: dict[str, Callable[[DepthEstimator], DepthEstimator]] = {
    **{f"{network}_alone": _alone for network in NETWORKS},
    "pointmap_single": _single,
    "pointmap_untrained": _untrained,
}
DEFAULT_BACKENDS = ("constant", "plane", "plane_fit")


def open_backends(names: Sequence[str], model: str | None = None) -> dict[str, Backend]:
    """The depth backends of these names, each opened once for all clips.

    Args:
        model: checkpoint for the networks among them.

    Raises:
        UsageError: there is no such backend, or none that takes the model.
    """
    if model is not None and all(name in _OWN for name in names):
        raise UsageError(f"none of {', '.join(names)} takes a model; leave --model out")
    return {name: _open(name, model) for name in names}


def _open(name: str, model: str | None) -> Backend:
    if name in _OWN:
        return _OWN[name]
    if name not in (*NETWORKS, *_VARIANTS):
        raise UsageError(did_you_mean("depth backend", name, (*_OWN, *NETWORKS, *_VARIANTS)))
    network_name = name.partition("_")[0]
    settings = [f"depth.backend={network_name}", *([f"depth.model={model}"] if model else [])]
    network = open_network(load_config(None, settings).depth)
    if name in _VARIANTS:
        network = _VARIANTS[name](network)
    return lambda clip: network

"""What the network is trained by: depth up to scale and in metres, edges, points, confidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reconstruction.depth.pointmap.network import ALPHA, Prediction

_METRIC, _POINTS, _EDGES, _FOCAL = 1.0, 0.5, 1.0, 0.1
_SCALES = 4
# Errors beyond these say that a pixel is of another surface; how far is no matter.
_MOST_ERROR = 1.0


@dataclass(frozen=True)
class Truth:
    """What a simulator knows of a batch.

    Attributes:
        depth: (B, H, W) m, 0 where unknown.
        shift: (B, 3, H, W) as in `Prediction`.
        log_focal: (B,) as in `Prediction`.
        known: (B,) bool, whether the network was told K.
    """

    depth: Tensor
    shift: Tensor
    log_focal: Tensor
    known: Tensor


def pointmap_loss(said: Prediction, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its parts.

    Up to scale: e = |log z error - its median|. In metres: |log z error|. Edges: gradients of the
    error at four scales (Li and Snavely 2018). Points: the error of the shift to the reference
    camera's frame. Confidence C as in DUSt3R by C e - alpha log C, but of e as it is: where C also
    weighs the error, what is hard is learned least, and the shape came out a tenth worse.
    """
    seen = truth.depth > 0
    error = said.log_depth - truth.depth.clamp_min(1e-3).log()
    middle = _median(error, seen)
    relative = (error - middle[:, None, None]).abs().clamp_max(_MOST_ERROR)
    parts = {
        "relative": _mean(relative, seen),
        "trust": _trust(said.confidence, relative, seen),
        "metric": _mean(error.abs().clamp_max(_MOST_ERROR), seen),
        "edges": _edges(error, seen),
    }
    off = (said.shift - truth.shift).norm(dim=1).clamp_max(_MOST_ERROR)
    parts["points"] = _mean(off, seen)
    parts["trust"] = parts["trust"] + _POINTS * _trust(said.shift_confidence, off, seen)
    unknown = (~truth.known).float()
    focal = (said.log_focal - truth.log_focal).abs()
    parts["focal"] = (focal * unknown).sum() / unknown.sum().clamp_min(1)
    total = (
        parts["relative"]
        + _METRIC * parts["metric"]
        + _EDGES * parts["edges"]
        + _POINTS * parts["points"]
        + parts["trust"]
        + _FOCAL * parts["focal"]
    )
    return total, parts


def _trust(confidence: Tensor, error: Tensor, seen: Tensor) -> Tensor:
    return _mean(confidence * error.detach() - ALPHA * confidence.log(), seen)


def _mean(values: Tensor, seen: Tensor) -> Tensor:
    return (values * seen).sum() / seen.sum().clamp_min(1)


def _median(error: Tensor, seen: Tensor) -> Tensor:
    """(B,) over the pixels that are seen, of every third: it is a median of thousands."""
    thinned, kept = error.detach().flatten(1)[:, ::3], seen.flatten(1)[:, ::3]
    thinned = torch.where(kept, thinned, torch.nan)
    return thinned.nanmedian(1).values.nan_to_num()


def _edges(error: Tensor, seen: Tensor) -> Tensor:
    total = error.new_zeros(())
    for k in range(_SCALES):
        e, m = error[:, :: 2**k, :: 2**k], seen[:, :: 2**k, :: 2**k]
        for axis in (1, 2):
            change = e.diff(dim=axis).abs().clamp_max(_MOST_ERROR)
            n = e.shape[axis] - 1
            both = m.narrow(axis, 0, n) & m.narrow(axis, 1, n)
            total = total + _mean(change, both)
    return total / (2 * _SCALES)

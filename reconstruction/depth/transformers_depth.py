"""Depth by a published network, with `transformers`: Depth Anything, Depth Pro, ZoeDepth.

Imported where configured only: torch and transformers are an extra, ``robo4d[depth]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconstruction.checkpoint import Checkpoint
from reconstruction.depth import DepthEstimate, Kind, RobotView
from reconstruction.depth.batches import in_batches
from schemas.episode import Provenance
from schemas.reasons import UsageError

# Not measured: where it is too many, `in_batches` halves.
_BATCH = 8
_FAMILY = "a depth network (Depth Anything, Depth Pro, ZoeDepth)"


@dataclass(frozen=True)
class TransformersDepth:
    """A `DepthEstimator`: frame by frame, at the size that the network's own processor chooses.

    Such networks say nothing of how sure they are: confidence is 255 wherever there is a value,
    that is, where it is finite and positive; elsewhere both are 0.

    Attributes:
        network, processor: of `transformers`, the network in evaluation mode on its device. On a
            GPU it computes in half precision where torch's autocast deems that safe.
        kind: of its numbers.
        batch: most frames at once.
    """

    network: Any
    processor: Any
    kind: Kind
    batch: int = _BATCH

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """See `DepthEstimator`. Only Depth Pro makes use of K: its focal length, for its own guess.

        Raises:
            UsageError: not even one frame fits into the GPU's memory.
        """
        focal = None if K is None else float(K[0, 0])
        (depth,) = in_batches(rgb, lambda frames: (self._depth(frames, focal),), self.batch)
        known = np.isfinite(depth) & (depth > 0)
        return DepthEstimate(
            np.where(known, depth, 0).astype(np.float32),
            np.where(known, 255, 0).astype(np.uint8),
            self.kind,
            Provenance.ESTIMATED,
        )

    def _depth(self, frames: NDArray[np.uint8], focal: float | None) -> NDArray[np.float32]:
        import torch

        count, height, width, _ = frames.shape
        device = self.network.device
        inputs = self.processor(
            images=list(frames),
            input_data_format="channels_last",  # three rows must not be taken for colours
            return_tensors="pt",
            device=device,
        )
        half = torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")
        with torch.inference_mode(), half:
            outputs = self.network(**inputs.to(device))
        outputs.predicted_depth = outputs.predicted_depth.float()
        if "field_of_view" in outputs:
            outputs.field_of_view = outputs.field_of_view.float()
        if focal is not None and self.network.config.model_type == "depth_pro":
            # Depth Pro's depth goes by width over focal length (Bochkovskii et al. 2024); its
            # processor takes that as the field of view across, in degrees.
            across = np.degrees(2 * np.arctan(width / (2 * focal)))
            outputs.field_of_view = torch.full((count,), across, device=device)
        # By place, since ZoeDepth's names the sizes otherwise: as transformers' own pipeline does.
        found = self.processor.post_process_depth_estimation(outputs, [(height, width)] * count)
        depth = torch.stack([one["predicted_depth"] for one in found])
        return depth.reshape(count, height, width).cpu().numpy()


@lru_cache(maxsize=1)
def open_depth(model: str, *, batch: int = _BATCH, compiled: bool = False) -> TransformersDepth:
    """The network in a folder, or of ``hub:owner/name``; kept for the process' lifetime.

    Args:
        batch: most frames at once.
        compiled: by `torch.compile`, anew for each size of frames; pays off over many clips.

    Raises:
        UsageError: see `Checkpoint.load`; or it does not say what its numbers mean.
    """
    network, processor = _checkpoint(model).load(
        "AutoModelForDepthEstimation", "AutoImageProcessor"
    )
    kind = _kind(model, network.config)
    if compiled:
        network.compile()  # in place, by torch.compile
    return TransformersDepth(network, processor, kind, batch)


def identity(model: str) -> str:
    """What depth depends on, for fingerprints; see `Checkpoint.identity`."""
    return _checkpoint(model).identity()


def _checkpoint(model: str) -> Checkpoint:
    return Checkpoint(model, "depth.model", "robo4d[depth]", _FAMILY)


def _kind(model: str, config: Any) -> Kind:
    """What the numbers are, by the checkpoint's own configuration.

    Raises:
        UsageError: it does not say. So it is with DPT: of its checkpoints some give inverse depth
            (MiDaS), some metres (NYU), and their configurations do not tell.
    """
    if config.model_type in ("depth_pro", "zoedepth"):
        return "scaled"  # metres, by the look of things
    if config.model_type == "depth_anything":
        return "inverse" if config.depth_estimation_type == "relative" else "scaled"
    raise UsageError(
        f"depth.model is {model!r}, a network of type {config.model_type!r}, which does not say "
        f"whether it gives depth or its inverse; name {_FAMILY}"
    )

"""Masks by a promptable network of the SAM family (Kirillov et al. 2023), by `transformers`.

Imported where configured only: torch and transformers are an extra, ``robo4d[masks]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.learned_masks import Prompts
from reconstruction.checkpoint import Checkpoint

# Frames at once. At SAM's 1,024 pixels the largest encoder (ViT-H) takes some 3 GB for each.
_BATCH = 4


@dataclass(frozen=True)
class SamMasks:
    """A `MaskBackend`: one mask a frame, from its box and points together.

    Attributes:
        model, processor: of `transformers`, the model in evaluation mode on its device.
    """

    model: Any
    processor: Any

    def __call__(self, frames: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.float32]:
        """See `MaskBackend`."""
        out = np.empty(frames.shape[:3], np.float32)
        for first in range(0, len(frames), _BATCH):
            part = slice(first, first + _BATCH)
            one = Prompts(*(getattr(prompts, name)[part] for name in Prompts.__dataclass_fields__))
            out[part] = self._shares(frames[part], one)
        return out

    def _shares(self, frames: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.float32]:
        import torch

        # The family counts pixels from their centres.
        inputs = self.processor(
            images=list(frames),
            input_boxes=(prompts.boxes[:, None] - 0.5).tolist(),
            input_points=(prompts.points[:, None] - 0.5).tolist(),
            input_labels=prompts.labels[:, None].tolist(),
            return_tensors="pt",
        )
        sizes = [inputs.pop("original_sizes")]
        if "reshaped_input_sizes" in inputs:  # of the first SAM, which pads
            sizes.append(inputs.pop("reshaped_input_sizes"))
        with torch.inference_mode():
            # A box and several points leave no doubt which of part and whole is meant.
            outputs = self.model(**inputs.to(self.model.device), multimask_output=False)
        logits = self.processor.post_process_masks(
            outputs.pred_masks.float().cpu(), *sizes, binarize=False
        )
        return np.stack([torch.sigmoid(frame[0, 0]).numpy() for frame in logits])


@lru_cache(maxsize=1)
def open_sam(model: str) -> SamMasks:
    """The network in a folder, or of ``hub:owner/name``; kept for the process' lifetime.

    Raises:
        UsageError: see `Checkpoint.load`.
    """
    return SamMasks(*_checkpoint(model).load("AutoModelForMaskGeneration", "AutoProcessor"))


def identity(model: str) -> str:
    """What masks depend on, for fingerprints; see `Checkpoint.identity`."""
    return _checkpoint(model).identity()


def _checkpoint(model: str) -> Checkpoint:
    return Checkpoint(model, "camera.masks.model", "robo4d[masks]", "a SAM-family model")

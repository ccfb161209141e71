"""Masks by a promptable network of the SAM family (Kirillov et al. 2023), by `transformers`.

Imported where configured only: torch and transformers are an extra, ``robo4d[masks]``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.learned_masks import Prompts
from schemas.reasons import UsageError

_SETTING = "camera.masks.model"
_LIBRARIES = ("torch", "torchvision", "transformers", "pillow")
# Frames at once. At SAM's 1,024 pixels the largest encoder (ViT-H) takes some 3 GB for each.
_BATCH = 4
# A folder that is not there must not become a download under a stranger's name.
_HUB = "hub:"
_HUB_ID = re.compile(r"hub:[\w-][\w.-]*/[\w.-]+")


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
            one = Prompts(prompts.boxes[part], prompts.points[part], prompts.labels[part])
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

    On the first GPU where torch sees one.

    Raises:
        UsageError: torch or transformers, the checkpoint, or some of its weights are missing.
    """
    local = is_local(model)
    _versions()
    # Imported here: they take seconds to load, and most builds do without.
    from safetensors import SafetensorError
    from transformers import AutoModelForMaskGeneration, AutoProcessor

    where = model.removeprefix(_HUB)
    # A checkpoint's own code is never run, and nobody is asked whether it may be.
    how = {"local_files_only": local, "trust_remote_code": False}
    try:
        network, loaded = AutoModelForMaskGeneration.from_pretrained(
            where, output_loading_info=True, use_safetensors=True, **how
        )
        processor = AutoProcessor.from_pretrained(where, **how)
    # What transformers raises for missing, odd or broken files, and weights of another shape.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"{_SETTING} is {model!r}: {error}; name a folder with config.json, "
            "preprocessor_config.json and model.safetensors of a SAM-family model"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise UsageError(
            f"{_SETTING} is {model!r}: {len(missing)} weights are not there, {missing[0]} first; "
            "name a checkpoint that is whole"
        )
    return SamMasks(network.eval().to(_device()), processor)


def is_local(model: str) -> bool:
    """Whether this names a folder, from which alone it is read then; else it is a hub id.

    Raises:
        UsageError: neither.
    """
    if _HUB_ID.fullmatch(model):
        return False
    if Path(model).is_dir():
        return True
    raise UsageError(
        f"{_SETTING} is {model!r}: no such folder; give the folder of a checkpoint, "
        "or hub:owner/name to download one"
    )


def identity(model: str) -> str:
    """What masks depend on, for fingerprints: the folder's files, the libraries' versions, and
    whether a GPU computes them.

    Of a hub id only its name is known: what it names may change.

    Raises:
        UsageError: there is no such folder, or torch or transformers are not installed.
    """
    digest = hashlib.sha256(f"{_versions()} {_device()}".encode())
    if not is_local(model):
        return f"{model}@{digest.hexdigest()}"
    for path in sorted(Path(model).iterdir()):
        if path.suffix in (".json", ".safetensors"):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _versions() -> str:
    try:
        return " ".join(f"{name}=={version(name)}" for name in _LIBRARIES)
    except PackageNotFoundError as error:
        raise UsageError(
            f"camera.masks.backend=sam wants {error.name}, which is not installed: "
            "pip install 'robo4d[masks]'"
        ) from error

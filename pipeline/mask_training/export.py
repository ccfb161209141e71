"""A trained network as ONNX: weights in half precision, which OpenCV runs in single."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline.mask_training.network import SIZE, TOLD, MaskNetwork
from schemas.reasons import UsageError

_OPSET = 17
_LARGE = 256  # numbers; of smaller tensors half precision would save nothing
_MOST_OFF = 0.1  # of a logit, by rounding of weights


def check_exporter() -> None:
    """Refuse before hours of training.

    Raises:
        UsageError: the package is not here.
    """
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("writing ONNX needs onnx: pip install 'robo4d[train]'") from error


def export_network(network: MaskNetwork, path: Path) -> float:
    """Write a network that takes ``x`` (1, 5, 192, 320) and gives ``y`` (1, 1, 192, 320).

    Returns:
        By how much OpenCV's logits of some noise differ from torch's, at most.

    Raises:
        UsageError: the package onnx is not here.
        RuntimeError: they differ by more than rounding does.
    """
    check_exporter()
    network = network.eval()
    noise = torch.rand(1, 3 + TOLD, *SIZE, generator=torch.Generator().manual_seed(0))
    temporary = path.with_name(f".{path.name}.writing")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        torch.onnx.export(
            network,
            (noise,),
            str(whole),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["x"],
            output_names=["y"],
        )
        _halve(whole, temporary)
    with torch.inference_mode():
        expected = network(noise).numpy()
    off = float(np.abs(run_onnx(temporary, noise.numpy()) - expected).max())
    if not off < _MOST_OFF:
        raise RuntimeError(
            f"logits by {temporary} are off by {off:g}, at most {_MOST_OFF} expected"
        )
    temporary.rename(path)
    return off


def run_onnx(path: Path, given: np.ndarray) -> np.ndarray:
    """Logits (1, 1, H, W) by OpenCV, of (1, 5, H, W) float32."""
    network = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
    network.setInput(given)
    return np.array(network.forward())


def _halve(whole: Path, path: Path) -> None:
    """Weights as float16, each with a node that casts it: OpenCV reads no other halves."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(whole)
    graph = model.graph
    kept, casts = [], []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size > _LARGE:
            name = f"{tensor.name}_half"
            kept.append(numpy_helper.from_array(array.astype(np.float16), name))
            casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        else:
            kept.append(tensor)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.save(model, path)

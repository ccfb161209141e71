"""A small network that tells, from a strip across a predicted contour, where the true one lies.

Learned from filmed twins (`jobs.train_outline`); here it is products of matrices in NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from reconstruction.camera.strips import Strips, features
from schemas.reasons import UsageError

Floats = NDArray[np.floating]
_LAYERS = 3
# Pixels that it errs by, beside what it says of a line: on twins that it learned from 0.1, on real
# pictures more: of 0, 0.4 and 0.8 beside it the second was chosen, for an
# earlier network.
_DEVIATION = float(np.hypot(0.1, 0.4))
_CHUNK = 2048  # lines at once: features of a call's 7,200 would be 23 MB


@dataclass(frozen=True)
class OutlineNet:
    """Layers of (in, out) weights and (out,) biases; the last gives three numbers a line."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def __call__(self, strips: Strips) -> tuple[Floats, Floats, Floats]:
        """Offsets outwards and their deviations (N,) in pixels, and the chance that they hold."""
        parts = [
            self._run(features(strips.part(slice(first, first + _CHUNK))))
            for first in range(0, len(strips), _CHUNK)
        ]
        out = np.concatenate(parts).astype(np.float64)
        return out[:, 0], np.sqrt(2) * np.exp(out[:, 1]), 1 / (1 + np.exp(out[:, 2]))

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0)
        return x @ self.weights[-1] + self.biases[-1]


def learned_offsets(strips: Strips) -> tuple[Floats, Floats]:
    """Offset (N,) of the image's outline in pixels, and its weight in 1/px²."""
    offset, deviation, holds = embedded_net()(strips)
    return offset, holds / (deviation**2 + _DEVIATION**2)


@cache
def embedded_net() -> OutlineNet:
    """The one that comes with the product."""
    return load_net(Path(str(files("reconstruction.camera") / "outline_net.safetensors")))


def load_net(path: Path) -> OutlineNet:
    """A network from a file.

    Raises:
        UsageError: the file is no such network.
    """
    try:
        found = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UsageError(f"{path} is no readable safetensors file: {error}") from error
    names = [f"{kind}{i}" for i in range(_LAYERS) for kind in ("weight", "bias")]
    if sorted(found) != sorted(names):
        raise UsageError(f"{path} holds {sorted(found)}; an outline network holds {sorted(names)}")
    weights = tuple(found[f"weight{i}"].astype(np.float32) for i in range(_LAYERS))
    biases = tuple(found[f"bias{i}"].astype(np.float32) for i in range(_LAYERS))
    shapes = [w.shape for w in weights]
    fits = all(w.ndim == 2 and b.shape == w.shape[1:] for w, b in zip(weights, biases, strict=True))
    fits = fits and all(a[1] == b[0] for a, b in pairwise(shapes))
    if not fits or shapes[-1][1] != 3:
        raise UsageError(f"{path}: layers of {shapes} do not follow on each other to three numbers")
    if not all(np.isfinite(value).all() for value in (*weights, *biases)):
        raise UsageError(f"{path} holds weights that are not finite: train it again")
    return OutlineNet(weights, biases)

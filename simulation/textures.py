"""Surface patterns drawn by numpy, so that a scene needs no image files."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = 256


def draw_pattern(rng: np.random.Generator, colour: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A square RGB pattern (256, 256, 3) around ``colour`` (3,) in 0..1.

    Noise over octaves, stretched along one axis for wood grain, or mixed with stripes or tiles:
    plain surfaces would leave a depth network and a stereo matcher nothing to hold on to.
    """
    stretch = float(rng.choice([1.0, 1.0, 6.0]))
    height = np.zeros((_SIZE, _SIZE), np.float32)
    for octave in range(2, 8):
        cells = 2**octave
        rows = max(2, int(cells / stretch))
        coarse = rng.standard_normal((rows, cells)).astype(np.float32)
        smooth = cv2.resize(coarse, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)
        height += smooth * 0.7**octave
    height /= np.abs(height).max()
    y, x = np.mgrid[:_SIZE, :_SIZE] / _SIZE
    period = int(rng.integers(2, 9))
    kind = rng.integers(4)
    if kind == 1:
        height += 0.5 * np.sign(np.sin(2 * np.pi * period * x)).astype(np.float32)
    elif kind == 2:  # tiles with joints
        joint = (np.abs(np.mod(x * period, 1)) < 0.04) | (np.abs(np.mod(y * period, 1)) < 0.04)
        height -= 0.8 * joint
    contrast = rng.uniform(0.12, 0.3)
    second = np.clip(colour + rng.uniform(-0.4, 0.4) + rng.uniform(-0.1, 0.1, 3), 0, 1)
    mix = 0.5 * (height[..., None] + 1)
    shade = colour + contrast * height[..., None] + 0.35 * mix * (second - colour)
    return (np.clip(shade, 0, 1) * 255).round().astype(np.uint8)

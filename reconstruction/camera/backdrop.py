"""What is behind the robot: the picture that the frames without it show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.contours import Lines, profiles

Floats = NDArray[np.floating]
_UNCOVERED = 3  # frames that show a pixel without the robot, for its background to be known


@dataclass(frozen=True)
class Backdrop:
    """What a camera that stands still sees behind the robot.

    Attributes:
        colour: (h, w, 3) median of the frames that show a pixel without the robot.
        known: (h, w) 1 where there are enough of those, 0 elsewhere.
    """

    colour: NDArray[np.float32]
    known: NDArray[np.float32]

    def along(self, lines: Lines, offsets: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Colours (N, K, 3) at offsets (K,) pixels along the lines, and whether known (N, K)."""
        flat = replace(lines, frame=np.zeros(len(lines), np.int64))
        colours = profiles(self.colour[None], flat, offsets).astype(np.float64)
        return colours, profiles(self.known[None], flat, offsets) > 0.99

    def behind(self, lines: Lines, offsets: Floats) -> Floats:
        """(N, K, 3) likewise; NaN where a line leaves the known or runs inside the robot."""
        colours, known = self.along(lines, offsets)
        colours[lines.inner | ~known[:, offsets > -1].all(1)] = np.nan
        return colours


def learn_backdrop(images: NDArray[np.float32], robot: NDArray[np.bool_], margin: int) -> Backdrop:
    """The backdrop of frames (n, h, w, 3) in which the robot covers (n, h, w).

    Args:
        margin: pixels around the robot that count as neither robot nor background.
    """
    square = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    grown = np.stack([cv2.dilate(r.astype(np.uint8), square) for r in robot]) > 0
    uncovered = (~grown).sum(0)
    # The median of the uncovered frames alone: the covered ones are sorted behind them.
    ranked = np.sort(np.where(grown[..., None], np.float32(1e4), images), axis=0)
    middle = np.maximum(uncovered - 1, 0) // 2
    colour = np.take_along_axis(ranked, middle[None, ..., None], 0)[0]
    return Backdrop(colour, (uncovered >= _UNCOVERED).astype(np.float32))

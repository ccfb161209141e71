"""Whether the robot's silhouette lies where colours say, or fits as well some pixels elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.appearance import colour_evidence
from reconstruction.camera.backdrop import Backdrop
from reconstruction.camera.contours import Lines

Floats = NDArray[np.floating]
_STEP = 0.5
# Pixels by which pieces of outline are shifted, each in eight directions.
_SHIFTS = (2.0, 3.0, 4.0, 6.0)
# By how much a shift must be worse, in log odds a line: of 0, 0.2 and 0.4 this tells right poses of
# twins (seeds 3 to 9) from wrong ones most widely.
_MARGIN = 0.4
_FEWEST, _MOST = 8, 40  # lines of a piece: below, it is left out; above, it weighs no more


def peak_share(
    images: NDArray[np.float32],
    lines: Lines,
    shares: NDArray[np.float32],
    backdrop: Backdrop | None = None,
) -> float:
    """Share 0..1 of the outline, by pieces, that fits clearly worse wherever it is shifted.

    A piece is what one frame shows of one link's outline. Shifted, its lines are cut elsewhere
    between the link's colours and the background's; all pieces of a wrong pose rarely have their
    best cut just where they are.

    Args:
        shares, backdrop: as `region_offsets` takes them, best of other frames than ``images``.
    """
    offsets = np.arange(-_SHIFTS[-1], _SHIFTS[-1] + _STEP, _STEP)
    if len(lines) == 0:
        return 0.0
    evidence = colour_evidence(images, lines, offsets, shares, backdrop)[1]
    # Of an outline at each offset: link inside of it, background outside; less that where it is.
    inner = np.cumsum(evidence, 1) - evidence / 2
    fits = 2 * inner - evidence.sum(1, keepdims=True)
    fits -= fits[:, [len(offsets) // 2]]
    _, piece = np.unique(lines.frame * 256 + lines.link, return_inverse=True)
    size = np.bincount(piece)
    betters = np.zeros(len(size), bool)
    angle = np.arange(8) * (np.pi / 4)
    for shift in _SHIFTS:
        for way in np.stack([np.cos(angle), np.sin(angle)], 1):
            gain = _at(fits, (shift * (lines.normal @ way) + _SHIFTS[-1]) / _STEP)
            betters |= np.bincount(piece, gain) > -_MARGIN * size
    counts = np.where(size >= _FEWEST, np.minimum(size, _MOST), 0)
    return float((counts * ~betters).sum() / max(counts.sum(), 1))


def _at(values: Floats, place: Floats) -> Floats:
    """(N,) rows of values (N, K), linear between columns."""
    below = np.floor(place).astype(np.int64).clip(0, values.shape[1] - 2)
    rows, part = np.arange(len(values)), place - below
    return (1 - part) * values[rows, below] + part * values[rows, below + 1]

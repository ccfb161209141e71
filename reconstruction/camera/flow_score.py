"""How well a camera pose explains optical flow: thousands of poses in one call.

A pose predicts where each point of the robot's surface moves in the image between two steps; the
nearest point in each cell of a coarse grid says what is seen there. The score is the harmonic mean
of the share of observed motion that is explained and of predicted motion that is confirmed.

NVIDIA Warp compiles the kernel once for this machine's CPU and keeps it in its cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import warp as wp
from numpy.typing import NDArray

from reconstruction.camera._flow_kernels import FAR, score_kernel
from robo4d.geometry import invert

Floats = NDArray[np.floating]
# Pixels at the working size: less is noise of the flow, more is clipped so that no fast hand or
# passer-by outweighs the rest.
FLOOR, CEILING = 1.0, 8.0
EDGE_CELL = 2  # pixels
_EDGE_BLUR = 2.0  # pixels over which an edge is felt
_EDGE_HALF = 40.0  # grey levels (Sobel over 8 pixels' weights) at which an edge counts half
_FEW_RIM = 10  # points a frame
# Of flow, overlap and edges in the sum. Shadows and late images shift what differs from the median.
_WEIGHTS = np.array([1.0, 0.5, 1.5])
# A point covers a square of its share of the surface: this share of the square's side to each side,
# which forgives late images; from afar less, as hidden and slanted surface counts too, and what is
# drawn too large is found too far off.
_REACH, _REACH_AFAR = 0.6, 0.3
_BLOCK = 0.15  # m
_OFTEN = 0.4  # share of frames that cover a cell of which no background is known

wp.config.log_level = wp.LOG_ERROR  # a machine without a GPU is nothing to warn of


def edge_tensor(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, h, w, 3) of images (n, H, W, 3): strength and direction of edges, a structure tensor.

    xx, xy and yy of the gradient's unit vector times a strength 0..1, blurred, so that an edge is
    felt from some pixels away; every ``EDGE_CELL``-th pixel.
    """
    out = []
    for image in images:
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 0.7)
        gx, gy = (cv2.Sobel(grey, cv2.CV_32F, d, 1 - d, ksize=3) for d in (1, 0))
        size = np.hypot(gx, gy)
        share = 1 / ((size + _EDGE_HALF) * np.maximum(size, 1e-3))
        tensor = np.stack([gx * gx * share, gx * gy * share, gy * gy * share], -1)
        out.append(cv2.GaussianBlur(tensor, (0, 0), _EDGE_BLUR)[::EDGE_CELL, ::EDGE_CELL])
    return np.stack(out)


@dataclass(frozen=True)
class FlowPairs:
    """Surface points and observed flow of step pairs.

    Attributes:
        now, then, normal: (P, N, 3) m in the base frame, at the first and second step of each
            pair; normals at the first.
        flow: (P, h, w, 2) pixels, from the first frame to the second.
        foreground: (P, h, w) 0..1, how surely the first frame differs from the clip's median.
        edges: (P, h, w, 3) xx, xy and yy of the first frame's edges, see `edge_tensor`, on a grid
            of ``EDGE_CELL`` pixels.
        area: m^2 of the robot's surface.
    """

    now: Floats
    then: Floats
    normal: Floats
    flow: NDArray[np.float32]
    foreground: NDArray[np.float32]
    edges: NDArray[np.float32]
    area: float

    def thinned(self, pairs: NDArray[np.integer], points: int) -> FlowPairs:
        """Some of the pairs, and the first ``points`` points (they are in random order)."""
        return FlowPairs(
            self.now[pairs, :points],
            self.then[pairs, :points],
            self.normal[pairs, :points],
            self.flow[pairs],
            self.foreground[pairs],
            self.edges[pairs],
            self.area,
        )


def dense_flow(now: NDArray[np.uint8], then: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(P, h, w, 2) pixels, of frames (P, h, w, 3); OpenCV's DIS (Kroeger et al. 2016).

    On one thread: DIS cuts the image into a strip a thread, and strips do not see each other.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        grey = [[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in part] for part in (now, then)]
        flows = [search.calc(a, b, None) for a, b in zip(*grey, strict=True)]
    finally:
        cv2.setNumThreads(threads)
    return np.stack(flows)


class FlowScorer:
    """Scores poses against one set of pairs, on a grid of cells.

    Args:
        pairs: of one camera.
        cell: side in pixels.
        afar: for poses tens of pixels off: the robot's rim would only mislead, and is left out.
    """

    def __init__(self, pairs: FlowPairs, cell: int, afar: bool = False) -> None:
        observed = _by_cell(pairs.flow, cell)
        size = np.linalg.norm(observed, axis=-1, keepdims=True)
        observed *= np.minimum(1, CEILING / np.maximum(size, 1e-6))
        self._seen = float(np.minimum(size[size > FLOOR], CEILING).sum())
        foreground = _by_cell(pairs.foreground, cell)
        self._count, *grid = foreground.shape
        cells = grid[0] * grid[1]
        # Neighbours one after another: the processor then guesses most branches right.
        order = np.lexsort([*(pairs.normal[0].T > 0), *(pairs.now[0].T // _BLOCK)])
        self._inputs = [
            *(_put(v[:, order], wp.vec3) for v in (pairs.now, pairs.then, pairs.normal)),
            (_REACH_AFAR if afar else _REACH) * float(np.sqrt(pairs.area / pairs.now.shape[1])),
            _put(observed.reshape(self._count, cells, 2), wp.vec2),
            _put(foreground.reshape(self._count, cells), float),
            _put(foreground.sum(0).ravel(), float),
            _put(pairs.edges, wp.vec3),
            *(float(EDGE_CELL), not afar, float(cell), *grid, FLOOR, CEILING, _OFTEN),
            wp.full(cells, float(FAR), dtype=float, device="cpu"),
            wp.empty(cells, dtype=wp.vec2, device="cpu"),
            wp.zeros(cells, dtype=wp.vec2, device="cpu"),
        ]

    def __call__(self, base_from_camera: Floats, lens: Floats) -> Floats:
        """(B,) sums of the three `parts`, by their weights."""
        return np.asarray(self.parts(base_from_camera, lens) @ _WEIGHTS)

    def parts(self, base_from_camera: Floats, lens: Floats) -> Floats:
        """(B, 3) scores, each 0..1, of poses (B, 4, 4) with lenses (B, 4) in pixels.

        Flow; overlap, the soft intersection over union of the predicted robot and the foreground;
        and how much of the robot's rim lies on image edges that run along it (0 from ``afar``).
        """
        sums = np.empty((len(base_from_camera), 7), np.float32)
        inputs = [
            _put(invert(base_from_camera), wp.mat44),
            _put(base_from_camera[:, :3, 3], wp.vec3),
            _put(lens, wp.vec4),
            *self._inputs,
            wp.array(sums, dtype=float, device="cpu", copy=False),
        ]
        wp.launch(score_kernel, 1, inputs, device="cpu")
        explained, confirmed, said, both, either, on_edge, rim = sums.T
        recall = explained / max(self._seen, 1e-6)
        precision = confirmed / np.maximum(said, 1e-6)
        flow = 2 * recall * precision / np.maximum(recall + precision, 1e-6)
        # A rim of a few points, the rest out of view, says little.
        edge = on_edge / (rim + _FEW_RIM * self._count)
        return np.stack([flow, both / np.maximum(either, 1e-6), edge], 1)


def _by_cell(values: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """(P, rows, columns, ...) means over whole cells of (P, h, w, ...)."""
    count, height, width, *rest = values.shape
    rows, columns = height // cell, width // cell
    cut = values[:, : rows * cell, : columns * cell]
    return cut.reshape(count, rows, cell, columns, cell, *rest).mean((2, 4))


def _put(values: Floats, kind: Any) -> Any:
    return wp.array(np.ascontiguousarray(values, np.float32), dtype=kind, device="cpu")

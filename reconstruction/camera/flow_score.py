"""How well a camera pose explains optical flow: thousands of poses in one call.

A pose predicts where each point of the robot's surface moves in the image between two steps; the
nearest point in each cell of a coarse grid says what is seen there. The score is the harmonic mean
of the share of observed motion that is explained and of predicted motion that is confirmed.

NVIDIA Warp compiles the kernel once for this machine's CPU (or GPU) and keeps it in its cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import warp as wp
from numpy.typing import NDArray

from reconstruction.camera._flow_kernels import overlap_kernel, score_kernel
from robo4d.geometry import invert

Floats = NDArray[np.floating]
_BATCH = 64  # poses a launch: bounds the z-buffers' memory
# Pixels at the working size: less is noise of the flow, more is clipped so that no fast hand or
# passer-by outweighs the rest.
FLOOR, CEILING = 1.0, 8.0
EDGE_CELL = 2  # pixels
_EDGE_BLUR = 2.0  # pixels over which an edge is felt
_EDGE_HALF = 40.0  # grey levels (Sobel over 8 pixels' weights) at which an edge counts half
_FEW_RIM = 10  # points a frame
_WEIGHTS = np.array([1.0, 1.0, 1.5])  # of flow, overlap and edges in the sum
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

    def motion_seen(self) -> Floats:
        """(P,) sum of flow, clipped as the score does; what a pair has to tell."""
        return np.linalg.norm(self.flow, axis=-1).clip(0, CEILING).sum((1, 2))


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
        device: Warp's name of it, such as "cpu" or "cuda:0".
    """

    def __init__(self, pairs: FlowPairs, cell: int, device: str = "cpu") -> None:
        count, height, width = pairs.flow.shape[:3]
        self._grid = (height // cell, width // cell)
        rows, columns = self._grid
        cut = pairs.flow[:, : rows * cell, : columns * cell]
        observed = cut.reshape(count, rows, cell, columns, cell, 2).mean((2, 4))
        front = pairs.foreground[:, : rows * cell, : columns * cell]
        front = front.reshape(count, rows, cell, columns, cell).mean((2, 4))
        self._device, self._cell, self._pairs = device, cell, count
        self._foreground = self._put(front, float)
        self._edges = self._put(pairs.edges, wp.vec3)
        self._overlap = wp.empty((_BATCH, 2), dtype=float, device=device)
        self._now, self._then = self._put(pairs.now, wp.vec3), self._put(pairs.then, wp.vec3)
        self._normal = self._put(pairs.normal, wp.vec3)
        self._observed = self._put(observed, wp.vec2)
        # A point covers a square of its share of the surface.
        self._radius = 0.6 * float(np.sqrt(pairs.area / pairs.now.shape[1]))
        shape = (_BATCH * count, rows, columns)
        self._nearest = wp.empty(shape, dtype=float, device=device)
        self._predicted = wp.empty(shape, dtype=wp.vec2, device=device)
        self._out = wp.empty((_BATCH, count, 6), dtype=float, device=device)

    def __call__(self, base_from_camera: Floats, lens: Floats) -> Floats:
        """(B,) sums of the three `parts`, by their weights."""
        return np.asarray(self.parts(base_from_camera, lens) @ _WEIGHTS)

    def parts(self, base_from_camera: Floats, lens: Floats) -> Floats:
        """(B, 3) scores, each 0..1, of poses (B, 4, 4) with lenses (B, 4) in pixels.

        Flow; overlap, the soft intersection over union of the predicted robot and the foreground;
        and how much of the robot's rim lies on image edges that run along it.
        """
        sums, overlaps = [], []
        for first in range(0, len(base_from_camera), _BATCH):
            poses = base_from_camera[first : first + _BATCH]
            inputs = [
                self._put(invert(poses), wp.mat44),
                self._put(poses[:, :3, 3], wp.vec3),
                self._put(lens[first : first + _BATCH], wp.vec4),
                *(self._now, self._then, self._normal, self._radius, self._observed),
                *(self._edges, float(EDGE_CELL), float(self._cell), *self._grid, FLOOR, CEILING),
                *(self._nearest, self._predicted, self._out),
            ]
            wp.launch(score_kernel, (len(poses), self._pairs), inputs, device=self._device)
            sums.append(self._out.numpy()[: len(poses)].sum(1))
            inputs = [
                self._nearest,
                self._foreground,
                *self._grid,
                self._pairs,
                _OFTEN,
                self._overlap,
            ]
            wp.launch(overlap_kernel, len(poses), inputs, device=self._device)
            overlaps.append(self._overlap.numpy()[: len(poses)].copy())
        explained, seen, confirmed, said, on_edge, rim = np.concatenate(sums).T
        recall = explained / np.maximum(seen, 1e-6)
        precision = confirmed / np.maximum(said, 1e-6)
        flow = 2 * recall * precision / np.maximum(recall + precision, 1e-6)
        both, either = np.concatenate(overlaps).T
        # A rim of a few points, the rest out of view, says little.
        edge = on_edge / (rim + _FEW_RIM * self._pairs)
        return np.stack([flow, both / np.maximum(either, 1e-6), edge], 1)

    def _put(self, values: Floats, kind: Any) -> Any:
        return wp.array(np.ascontiguousarray(values, np.float32), dtype=kind, device=self._device)

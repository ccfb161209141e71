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

from robo4d.geometry import invert

Floats = NDArray[np.floating]
_BATCH = 64  # poses a launch: bounds the z-buffers' memory
# Pixels at the working size: less is noise of the flow, more is clipped so that no fast hand or
# passer-by outweighs the rest.
FLOOR, CEILING = 1.0, 8.0
_OFTEN = 0.4  # share of frames that cover a cell of which no background is known

wp.config.quiet = True
# Warp's modules hold annotations that its compiler reads, hence no type checks on the kernel.


@wp.kernel
def _score(  # type: ignore[no-untyped-def]
    camera_from_base: wp.array(dtype=wp.mat44),  # type: ignore[valid-type]
    centre: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    lens: wp.array(dtype=wp.vec4),  # type: ignore[valid-type]
    now: wp.array2d(dtype=wp.vec3),  # type: ignore[valid-type]
    then: wp.array2d(dtype=wp.vec3),  # type: ignore[valid-type]
    normal: wp.array2d(dtype=wp.vec3),  # type: ignore[valid-type]
    radius: float,
    observed: wp.array3d(dtype=wp.vec2),  # type: ignore[valid-type]
    cell: float,
    rows: int,
    columns: int,
    floor: float,
    ceiling: float,
    nearest: wp.array3d(dtype=float),  # type: ignore[valid-type]
    predicted: wp.array3d(dtype=wp.vec2),  # type: ignore[valid-type]
    out: wp.array3d(dtype=float),  # type: ignore[valid-type]
):
    b, p = wp.tid()
    slot = b * now.shape[0] + p
    for r in range(rows):
        for c in range(columns):
            nearest[slot, r, c] = 1.0e9
    T = camera_from_base[b]
    eye = centre[b]
    fx = lens[b][0]
    fy = lens[b][1]
    cx = lens[b][2]
    cy = lens[b][3]
    for n in range(now.shape[1]):
        x = now[p, n]
        if wp.dot(normal[p, n], eye - x) > 0.0:
            a = wp.transform_point(T, x)
            if a[2] > 0.08:
                u = fx * a[0] / a[2] + cx
                v = fy * a[1] / a[2] + cy
                reach_u = fx * radius / a[2]
                reach_v = fy * radius / a[2]
                c0 = int(wp.floor((u - reach_u) / cell))
                c1 = int(wp.floor((u + reach_u) / cell))
                r0 = int(wp.floor((v - reach_v) / cell))
                r1 = int(wp.floor((v + reach_v) / cell))
                if c1 >= 0 and r1 >= 0 and c0 < columns and r0 < rows:
                    y = wp.transform_point(T, then[p, n])
                    if y[2] > 0.08:
                        d = wp.vec2(fx * y[0] / y[2] + cx - u, fy * y[1] / y[2] + cy - v)
                        for r in range(wp.max(r0, 0), wp.min(r1, rows - 1) + 1):
                            for c in range(wp.max(c0, 0), wp.min(c1, columns - 1) + 1):
                                if a[2] < nearest[slot, r, c]:
                                    nearest[slot, r, c] = a[2]
                                    predicted[slot, r, c] = d
    explained = float(0.0)
    seen = float(0.0)
    confirmed = float(0.0)
    said = float(0.0)
    for r in range(rows):
        for c in range(columns):
            o = observed[p, r, c]
            o_size = wp.length(o)
            d = wp.vec2(0.0, 0.0)
            d_size = float(0.0)
            if nearest[slot, r, c] < 1.0e8:
                d = predicted[slot, r, c]
                d_size = wp.length(d)
            if o_size > floor or d_size > floor:
                if o_size > ceiling:
                    o = o * (ceiling / o_size)
                if d_size > ceiling:
                    d = d * (ceiling / d_size)
                o_clipped = wp.min(o_size, ceiling)
                d_clipped = wp.min(d_size, ceiling)
                agree = float(0.0)
                if d_size > 0.0:
                    gap = wp.length(d - o) / (0.5 * (o_clipped + d_clipped) + 0.5)
                    agree = wp.max(0.0, 1.0 - gap)
                if o_size > floor:
                    seen += o_clipped
                    explained += agree * o_clipped
                if d_size > floor:
                    said += d_clipped
                    confirmed += agree * d_clipped
    out[b, p, 0] = explained
    out[b, p, 1] = seen
    out[b, p, 2] = confirmed
    out[b, p, 3] = said


@wp.kernel
def _overlap(  # type: ignore[no-untyped-def]
    nearest: wp.array3d(dtype=float),  # type: ignore[valid-type]
    foreground: wp.array3d(dtype=float),  # type: ignore[valid-type]
    rows: int,
    columns: int,
    pairs: int,
    often: float,
    out: wp.array2d(dtype=float),  # type: ignore[valid-type]
):
    b = wp.tid()
    both = float(0.0)
    either = float(0.0)
    for r in range(rows):
        for c in range(columns):
            covered = float(0.0)
            for p in range(pairs):
                if nearest[b * pairs + p, r, c] < 1.0e8:
                    covered += 1.0
            # Where the robot nearly always is, the median image shows the robot itself.
            if covered < often * float(pairs):
                for p in range(pairs):
                    f = foreground[p, r, c]
                    if nearest[b * pairs + p, r, c] < 1.0e8:
                        both += f
                        either += 1.0
                    else:
                        either += f
    out[b, 0] = both
    out[b, 1] = either


@dataclass(frozen=True)
class FlowPairs:
    """Surface points and observed flow of step pairs.

    Attributes:
        now, then, normal: (P, N, 3) m in the base frame, at the first and second step of each
            pair; normals at the first.
        flow: (P, h, w, 2) pixels, from the first frame to the second.
        foreground: (P, h, w) 0..1, how surely the first frame differs from the clip's median.
        area: m^2 of the robot's surface.
    """

    now: Floats
    then: Floats
    normal: Floats
    flow: NDArray[np.float32]
    foreground: NDArray[np.float32]
    area: float

    def thinned(self, pairs: NDArray[np.integer], points: int) -> FlowPairs:
        """Some of the pairs, and the first ``points`` points (they are in random order)."""
        return FlowPairs(
            self.now[pairs, :points],
            self.then[pairs, :points],
            self.normal[pairs, :points],
            self.flow[pairs],
            self.foreground[pairs],
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
        flows = [
            search.calc(*(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pair), None)
            for pair in zip(now, then, strict=True)
        ]
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
        self._overlap = wp.empty((_BATCH, 2), dtype=float, device=device)
        self._now, self._then = self._put(pairs.now, wp.vec3), self._put(pairs.then, wp.vec3)
        self._normal = self._put(pairs.normal, wp.vec3)
        self._observed = self._put(observed, wp.vec2)
        # A point covers a square of its share of the surface.
        self._radius = 0.6 * float(np.sqrt(pairs.area / pairs.now.shape[1]))
        shape = (_BATCH * count, rows, columns)
        self._nearest = wp.empty(shape, dtype=float, device=device)
        self._predicted = wp.empty(shape, dtype=wp.vec2, device=device)
        self._out = wp.empty((_BATCH, count, 4), dtype=float, device=device)

    def __call__(self, base_from_camera: Floats, lens: Floats) -> Floats:
        """(B,) sums of flow score and overlap, 0..2; see `parts`."""
        return self.parts(base_from_camera, lens).sum(1)

    def parts(self, base_from_camera: Floats, lens: Floats) -> Floats:
        """(B, 2) flow score and overlap, each 0..1, of poses (B, 4, 4) with lenses (B, 4) in pixels.

        Overlap is the soft intersection over union of the predicted robot and the foreground.
        """
        sums, overlaps = [], []
        for first in range(0, len(base_from_camera), _BATCH):
            poses = base_from_camera[first : first + _BATCH]
            inputs = [
                self._put(invert(poses), wp.mat44),
                self._put(poses[:, :3, 3], wp.vec3),
                self._put(lens[first : first + _BATCH], wp.vec4),
                *(self._now, self._then, self._normal, self._radius, self._observed),
                *(float(self._cell), *self._grid, FLOOR, CEILING),
                *(self._nearest, self._predicted, self._out),
            ]
            wp.launch(_score, (len(poses), self._pairs), inputs, device=self._device)
            sums.append(self._out.numpy()[: len(poses)].sum(1))
            inputs = [self._nearest, self._foreground, *self._grid, self._pairs, _OFTEN, self._overlap]
            wp.launch(_overlap, len(poses), inputs, device=self._device)
            overlaps.append(self._overlap.numpy()[: len(poses)].copy())
        explained, seen, confirmed, said = np.concatenate(sums).T
        recall = explained / np.maximum(seen, 1e-6)
        precision = confirmed / np.maximum(said, 1e-6)
        flow = 2 * recall * precision / np.maximum(recall + precision, 1e-6)
        both, either = np.concatenate(overlaps).T
        return np.stack([flow, both / np.maximum(either, 1e-6)], 1)

    def _put(self, values: Floats, kind: Any) -> Any:
        return wp.array(np.ascontiguousarray(values, np.float32), dtype=kind, device=self._device)

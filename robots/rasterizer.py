"""The robot alone, from its joints, drawn without OpenGL: many frames in one call.

NVIDIA Warp compiles the kernels once for this machine's CPU (or GPU) and keeps them in its cache.
On a CPU everything runs in the calling thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import warp as wp
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import check_array, check_poses, invert
from robots._raster_kernels import draw_kernel, mat34, place_kernel, read_kernel
from robots.kinematics import link_poses
from robots.models import RobotModel
from robots.triangles import robot_triangles
from schemas.reasons import UsageError

_NEAR = 0.01  # m, as `RobotRenderer`; triangles that cross it are cut there
# Frames a launch, and pixels of all of them, of which each takes 17 bytes for as long as it lives.
_BATCH, _PIXELS = 8, 8 * 320 * 240
_GPU_THREADS = 8192  # a frame

Seen = TypeVar("Seen", np.uint8, np.int32)
wp.config.log_level = wp.LOG_ERROR  # a machine without a GPU is nothing to warn of


class RobotRasterizer:
    """Draws one robot at one image size; called like `RobotRenderer`, without closing.

    A pixel shows what lies behind its centre. Faces are seen from outside only, as MuJoCo does it.
    For one thread at a time: what a call draws into is kept for the next.

    Args:
        device: Warp's name of it, such as "cpu" or "cuda:0".
        thinned: `robot_triangles`' surface of fewer triangles, 0.3 mm from the meshes at most but
            for single corners; else the meshes themselves.

    Raises:
        UsageError: here or when first called, Warp's cache cannot be written.

    Attributes:
        robot: what is drawn.
        size: (H, W) pixels.
        link: (F,) of each triangle, index into the robot's ``link_names``.
        normal: (F, 3) of each triangle, unit, outward, in its link's frame.
    """

    def __init__(
        self,
        robot: RobotModel,
        height: int,
        width: int,
        device: str = "cpu",
        thinned: bool = True,
    ) -> None:
        self.robot, self.size = robot, (height, width)
        made = robot_triangles(robot.name, thinned)
        self.link, self.normal = made.link, made.normal
        self._device = device
        self._batch = min(_BATCH, max(1, _PIXELS // (height * width)))
        with _cached():
            wp.init()
        self._vertex = self._put(made.vertex, wp.vec3)
        self._vertex_link = self._put(made.vertex_link, int)
        self._corner = self._put(made.corner, wp.vec3i)
        self._link = self._put(made.link, int)
        offset = (made.normal * made.vertex[made.corner[:, 0]]).sum(1)
        self._plane = self._put(np.column_stack([made.normal, offset]), wp.vec4)
        # Kept between calls: fresh memory would cost a quarter of a frame's time.
        corners, pixels = (self._batch, len(made.vertex)), (self._batch, height * width)
        self._placed, self._cells = self._empty(corners, wp.vec3), self._empty(corners, int)
        self._nearest = self._empty(pixels, wp.uint64)
        self._out = [self._empty(pixels, kind) for kind in (float, int, wp.uint8)]

    def __call__(
        self, joints: ArrayLike, gripper: ArrayLike, K: ArrayLike, base_from_camera: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Amodal robot depth (T, H, W) in m, 0 where there is no robot, and part ids (T, H, W).

        Part ids are the index into ``robot.link_names`` plus 1.

        Args:
            joints, gripper: (T, J) rad and (T,) opening, or (T, F) that of each gripper joint.
            K, base_from_camera: (T, 3, 3) pixels and (T, 4, 4).
        """
        return self._drawn(joints, gripper, K, base_from_camera, self._out[2], np.uint8)

    def triangles(
        self, joints: ArrayLike, gripper: ArrayLike, K: ArrayLike, base_from_camera: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Depth as in a call, and the triangle seen (T, H, W): index into ``link``, -1 for none."""
        return self._drawn(joints, gripper, K, base_from_camera, self._out[1], np.int32)

    def _drawn(
        self,
        joints: ArrayLike,
        gripper: ArrayLike,
        K: ArrayLike,
        base_from_camera: ArrayLike,
        seen: Any,
        kind: type[Seen],
    ) -> tuple[NDArray[np.float32], NDArray[Seen]]:
        """Depth, and another of ``_out``, of that kind."""
        base_from_link = link_poses(self.robot, joints, gripper)
        count = len(base_from_link)
        K = check_array("K", K, [count, 3, 3])
        poses = check_poses("base_from_camera", base_from_camera, [count])
        camera_from_link = invert(poses)[:, None] @ base_from_link
        image_from_link = K[:, None] @ camera_from_link[..., :3, :]
        eye = invert(camera_from_link)[..., :3, 3]
        shape = (count, *self.size)
        depth, out = np.empty(shape, np.float32), np.empty(shape, kind)
        for first in range(0, count, self._batch):
            now = slice(first, first + self._batch)
            with _cached():
                self._launch(image_from_link[now], eye[now])
            frames = len(eye[now])
            for all_frames, drawn in ((depth, self._out[0]), (out, seen)):
                all_frames[now] = drawn.numpy()[:frames].reshape(frames, *self.size)
        return depth, out

    def _launch(self, image_from_link: NDArray, eye: NDArray) -> None:
        """Draw some frames into the first of ``_out``."""
        frames = len(eye)
        threads = 1 if self._device == "cpu" else _GPU_THREADS
        self._nearest.zero_()
        poses, eyes = self._put(image_from_link, mat34), self._put(eye, wp.vec3)
        corners = (self._placed, self._cells)
        triangles = (self._corner, self._link, self._plane, eyes)
        how = (_NEAR, *self.size, threads)
        for kernel, inputs in (
            (place_kernel, [poses, self._vertex, self._vertex_link, *how, *corners]),
            (draw_kernel, [*corners, *triangles, *how, self._nearest.flatten()]),
            (read_kernel, [self._nearest, self._link, threads, *self._out]),
        ):
            wp.launch(kernel, (frames, threads), inputs, device=self._device)

    def _empty(self, shape: tuple[int, ...], kind: Any) -> Any:
        return wp.empty(shape, dtype=kind, device=self._device)

    def _put(self, values: NDArray, kind: Any) -> Any:
        scalar = np.int32 if kind in (int, wp.vec3i) else np.float32
        return wp.array(np.ascontiguousarray(values, scalar), dtype=kind, device=self._device)


@contextmanager
def _cached() -> Iterator[None]:
    """Says what to do where Warp cannot keep its kernels."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"Warp cannot keep the kernels that draw robots ({error}); "
            "set WARP_CACHE_PATH to a folder that can be written"
        ) from error

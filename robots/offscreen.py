"""A MuJoCo scene seen by a camera with any K, off screen: RGB, or z-depth and geom ids in one pass.

OpenGL belongs to one thread: make, use and close an `OffscreenRenderer` in the same one, and
start processes by spawn, never by fork, once one was made.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robots._gl import APT_LINE, load_triton
from schemas.reasons import UsageError


class RenderingUnavailable(UsageError):
    """This machine has no usable OpenGL; the message says what to install."""


class OffscreenRenderer:
    """Renders one model at one size.

    Args:
        model: its ``offsamples`` must be 0 for depth and ids (anti-aliasing would blend them).
        height, width: in pixels.
        groups: geom groups to show; None shows MuJoCo's default ones.
        sites: show sites too, those of MuJoCo's default groups.

    Raises:
        RenderingUnavailable: no OpenGL here.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        height: int,
        width: int,
        groups: tuple[int, ...] | None = None,
        *,
        sites: bool = False,
    ) -> None:
        self._model, self._height, self._width = model, height, width
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        self._gl = _gl_context(height, width)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        # Reversed z: the precision of a float depth buffer goes where the scene is.
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        self._option = mujoco.MjvOption()
        if groups is not None:
            self.show(groups)
        if not sites:
            self._option.sitegroup[:] = 0
        self._rect = mujoco.MjrRect(0, 0, width, height)

    def __enter__(self) -> OffscreenRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL objects; must come before another renderer is made on some drivers."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def rgb(
        self, data: mujoco.MjData, K: ArrayLike, world_from_camera: ArrayLike
    ) -> NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        self._update(data, K, world_from_camera)
        out = np.empty((self._height, self._width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(out, None, self._rect, self._context)
        return np.flipud(out)

    def show(self, groups: tuple[int, ...]) -> None:
        """From now on, only these geom groups."""
        self._option.geomgroup[:] = 0
        self._option.geomgroup[list(groups)] = 1

    def depth_and_geoms(
        self, data: mujoco.MjData, K: ArrayLike, world_from_camera: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Z-depth (H, W) float32 in m, 0 for nothing, and geom ids (H, W) int32, -1 for none."""
        self._update(data, K, world_from_camera)
        flags = self._scene.flags
        saved = flags.copy()
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        colour = np.empty((self._height, self._width, 3), np.uint8)
        buffer = np.empty((self._height, self._width), np.float32)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(colour, buffer, self._rect, self._context)
        flags[:] = saved
        ids = colour[::-1, :, 0]
        if self._scene.ngeom > 255:  # lowest byte first
            _, green, blue = colour[::-1].astype(np.int32).transpose(2, 0, 1)
            ids = ids | green << 8 | blue << 16
        geom_of_id = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geom_of_id[geom.segid + 1] = geom.objid
        near = self._scene.camera[0].frustum_near
        far = self._scene.camera[0].frustum_far
        there = ids > 0
        depth = np.zeros(there.shape, np.float32)
        geoms = np.full(there.shape, -1, np.int32)
        # Reversed-z perspective: buffer = near (far - z) / (z (far - near)).
        z = buffer[::-1][there].astype(np.float64)
        depth[there] = near * far / (near + (far - near) * z)
        geoms[there] = geom_of_id[ids[there]]
        return depth, geoms

    def _update(self, data: mujoco.MjData, K: ArrayLike, world_from_camera: ArrayLike) -> None:
        self._gl.make_current()
        free = mujoco.MjvCamera()
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            None,
            free,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        K, pose = np.asarray(K, float), np.asarray(world_from_camera, float)
        near = self._model.vis.map.znear * self._model.stat.extent
        # Image rows go down and OpenGL's frustum up, hence top from cy and bottom from H - cy.
        top, bottom = K[1, 2] / K[1, 1], -(self._height - K[1, 2]) / K[1, 1]
        left, right = -K[0, 2] / K[0, 0], (self._width - K[0, 2]) / K[0, 0]
        for camera in self._scene.camera:  # left and right eye; mono rendering averages them
            camera.pos[:] = pose[:3, 3]
            camera.forward[:] = pose[:3, 2]
            camera.up[:] = -pose[:3, 1]
            camera.frustum_near = near
            camera.frustum_far = self._model.vis.map.zfar * self._model.stat.extent
            camera.frustum_top, camera.frustum_bottom = top * near, bottom * near
            camera.frustum_center = (left + right) / 2 * near
            camera.frustum_width = (right - left) / 2 * near
            camera.orthographic = 0
        for light in self._scene.lights[: self._scene.nlight]:
            if light.headlight:  # MuJoCo put it at the free camera
                light.pos[:], light.dir[:] = pose[:3, 3], pose[:3, 2]


def _gl_context(height: int, width: int) -> mujoco.GLContext:
    install = (
        f"no OpenGL for rendering without a display (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): "
        f"run `{APT_LINE}` (Debian, Ubuntu), or `make setup`, which does so as root"
    )
    if getattr(mujoco, "GLContext", None) is None:
        raise RenderingUnavailable(install)
    if sys.platform == "linux" and mujoco.GLContext.__module__.startswith("mujoco.glfw"):
        raise RenderingUnavailable(
            "mujoco was imported before the package robots and chose GLFW, which needs a display: "
            "import robots first, or set MUJOCO_GL=egl"
        )
    load_triton()
    try:
        return mujoco.GLContext(width, height)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise RenderingUnavailable(f"{install} ({error})") from error

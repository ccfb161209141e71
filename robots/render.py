"""The robot alone, from its joints, drawn by OpenGL: z-depth and part ids for a whole clip.

What `robots.rasterizer` is judged by; builds draw by that one.
"""

from __future__ import annotations

from types import TracebackType

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import check_array, check_poses, make_pose
from robots.models import RobotModel
from robots.offscreen import OffscreenRenderer


class RobotRenderer:
    """Renders one robot at one image size; see `OffscreenRenderer` on threads.

    What `RobotRasterizer` is judged by; builds draw by `RobotRasterizer`, without OpenGL.
    """

    def __init__(self, robot: RobotModel, height: int, width: int) -> None:
        self.robot, self._size = robot, (height, width)
        self._model = robot.compile()
        self._data = mujoco.MjData(self._model)
        self._model.vis.quality.offsamples = 0
        # Clip planes are shares of the model's extent; state them in metres instead.
        self._model.vis.map.znear = 0.01 / self._model.stat.extent
        self._model.vis.map.zfar = 20.0 / self._model.stat.extent
        self._offscreen = OffscreenRenderer(self._model, height, width, (robot.visual_group,))
        # geom -> link index + 1, with a last entry that geom -1 (none) finds.
        self._part_of_geom = np.append(self._model.geom_bodyid, 0).astype(np.uint8)
        self._base = self._model.body(robot.base).id

    def __enter__(self) -> RobotRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL objects."""
        self._offscreen.close()

    def __call__(
        self, joints: ArrayLike, gripper: ArrayLike, K: ArrayLike, base_from_camera: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Amodal robot depth (T, H, W) in m, 0 where there is no robot, and part ids (T, H, W).

        Part ids are the index into ``robot.link_names`` plus 1, which is MuJoCo's body id.

        Args:
            joints, gripper: (T, J) rad and (T,) opening, or (T, F) that of each gripper joint.
            K, base_from_camera: (T, 3, 3) pixels and (T, 4, 4).
        """
        qpos = self.robot.qpos(joints, gripper)
        K = check_array("K", K, [len(qpos), 3, 3])
        poses = check_poses("base_from_camera", base_from_camera, [len(qpos)])
        size = (len(qpos), *self._size)
        depths, parts = np.empty(size, np.float32), np.empty(size, np.uint8)
        for t in range(len(qpos)):
            self._data.qpos[:] = qpos[t]
            mujoco.mj_kinematics(self._model, self._data)
            base = self._base
            world_from_base = make_pose(self._data.xmat[base].reshape(3, 3), self._data.xpos[base])
            depths[t], geoms = self._offscreen.depth_and_geoms(
                self._data, K[t], world_from_base @ poses[t]
            )
            parts[t] = self._part_of_geom.take(geoms)
        return depths, parts

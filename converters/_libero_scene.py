"""The simulator that a LIBERO demo was recorded in, set to its stored states: where things are,
and what its cameras see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from converters._libero_model import compile_model
from robo4d.geometry import Floats, intrinsics, invert, make_pose
from robots.offscreen import OffscreenRenderer
from schemas.episode import Calibration, Provenance
from schemas.reasons import EpisodeError, Reason

# robosuite shows these geom groups: group 0 holds what only collides.
_SHOWN = (1, 2)
# LIBERO shows a stove's red burner, a site, from this angle of its knob on: default_turnon_ranges
# of its objects/articulated_objects.py. All other sites are hidden.
_BURNER, _KNOB, _STOVE_ON = "_burner", "_button", 0.5
# MuJoCo's camera looks along -z with y up, OpenCV's along z with y down.
_FLIP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Scene:
    """A model and the joint positions of every step.

    Only the last model used is kept compiled, and OpenGL is held only while frames are drawn.

    Attributes:
        xml: from `converters._libero_model.safe_model`.
        qpos: (T, nq).
    """

    xml: str
    qpos: Floats

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model."""
        return _compiled(self.xml)[0]

    @property
    def samples(self) -> int:
        """Samples a pixel that the model asks for, as LIBERO renders it."""
        return _compiled(self.xml)[1]

    def joint(self, name: str) -> Floats:
        """(T,) rad or m of a hinge or slide.

        Raises:
            EpisodeError: `MISSING_FEATURE`: there is no such joint.
        """
        return self.qpos[:, self.model.jnt_qposadr[self._id(mujoco.mjtObj.mjOBJ_JOINT, name)]]

    def bodies(self, *names: str) -> Floats:
        """world_from_body (T, len(names), 4, 4)."""
        ids = [self._id(mujoco.mjtObj.mjOBJ_BODY, name) for name in names]
        return np.stack(
            [make_pose(d.xmat[ids].reshape(-1, 3, 3), d.xpos[ids]) for d in self._states()]
        )

    def camera(
        self, name: str, height: int, width: int, world_from_base: Floats
    ) -> tuple[SceneCamera, Calibration]:
        """One of the model's cameras at an image size, and its calibration.

        Args:
            world_from_base: (T, 4, 4) of the robot's base link.
        """
        number = self._id(mujoco.mjtObj.mjOBJ_CAMERA, name)
        focal = height / 2 / np.tan(np.radians(self.model.cam_fovy[number]) / 2)
        K = intrinsics(focal, focal, width / 2, height / 2)
        poses = np.stack(
            [
                make_pose(d.cam_xmat[number].reshape(3, 3) @ _FLIP, d.cam_xpos[number])
                for d in self._states()
            ]
        )
        relative = invert(world_from_base) @ poses
        still = np.ptp(relative, axis=0).max() < 1e-9
        return (
            SceneCamera(self, K, poses, height, width),
            Calibration(K, relative[0] if still else relative, Provenance.SIMULATED),
        )

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        number = mujoco.mj_name2id(self.model, kind, name)
        if number < 0:
            what = kind.name.removeprefix("mjOBJ_").lower()
            raise EpisodeError(Reason.MISSING_FEATURE, f"model_file has no {what} {name!r}")
        return number

    def _states(self, steps: Sequence[int] | NDArray | None = None) -> Iterator[mujoco.MjData]:
        """The simulator at each of the steps (all of them without): positions, nothing moves."""
        model = self.model
        data = mujoco.MjData(model)
        for qpos in self.qpos if steps is None else self.qpos[np.asarray(steps)]:
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)  # what cameras and lights that track are placed by
            mujoco.mj_camlight(model, data)
            yield data


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """What one camera sees of a scene: a `FrameSource` and a `DepthSource`.

    Attributes:
        K: (3, 3) pixels. world_from_camera: (T, 4, 4).
    """

    scene: Scene
    K: Floats
    world_from_camera: Floats
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.scene.qpos)

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def decode(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """(n, H, W, 3) uint8 RGB, upright, with the shadows and samples that LIBERO renders."""
        model = self.scene.model
        burners = _burners(model)
        model.site_rgba[:, 3] = 0
        frames = []
        with self._renderer(self.scene.samples, sites=bool(burners)) as renderer:
            for step, data in zip(steps, self.scene._states(steps), strict=True):
                for site, knob in burners:
                    model.site_rgba[site, 3] = float(data.qpos[knob] >= _STOVE_ON)
                frames.append(renderer.rgb(data, self.K, self.world_from_camera[step]))
        return np.stack(frames)

    def depth(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Z-depth (n, H, W) in m, 0 where there is no surface."""
        return self.depth_and_geoms(steps)[0]

    def depth_and_geoms(
        self, steps: Sequence[int] | NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The same, with the model's geom at each pixel (n, H, W), -1 for none."""
        with self._renderer(0) as renderer:
            seen = [
                renderer.depth_and_geoms(data, self.K, self.world_from_camera[step])
                for step, data in zip(steps, self.scene._states(steps), strict=True)
            ]
        return np.stack([depth for depth, _ in seen]), np.stack([geoms for _, geoms in seen])

    def _renderer(self, samples: int, *, sites: bool = False) -> OffscreenRenderer:
        model = self.scene.model
        model.vis.quality.offsamples = samples
        # The model may ask for any size; what is needed is this.
        model.vis.global_.offheight, model.vis.global_.offwidth = self.height, self.width
        return OffscreenRenderer(model, self.height, self.width, _SHOWN, sites=sites)


@lru_cache(maxsize=1)
def _compiled(xml: str) -> tuple[mujoco.MjModel, int]:
    model = compile_model(xml)
    return model, int(model.vis.quality.offsamples)


def _burners(model: mujoco.MjModel) -> list[tuple[int, int]]:
    """A stove's burner (site) and where its knob's angle stands in qpos."""
    found = []
    for site in range(model.nsite):
        name = model.site(site).name
        if not name.endswith(_BURNER):
            continue
        knob = name.removesuffix(_BURNER) + _KNOB
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, knob)
        if joint >= 0:
            found.append((site, int(model.jnt_qposadr[joint])))
    return found

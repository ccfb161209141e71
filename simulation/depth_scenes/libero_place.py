"""Where a scene of LIBERO's has its table, its own room and its cameras."""

from __future__ import annotations

import mujoco
import numpy as np

from robo4d.geometry import intrinsics, invert, make_pose
from simulation.depth_scenes.surroundings import Ground
from simulation.depth_scenes.take import Workplace, held_lens
from simulation.film import body_pose

# robosuite shows this geom group, and sites in 2: group 0 holds what only collides.
_SHOWN = (1, 2)
_FLIP = np.diag([1.0, -1.0, -1.0])
_CAMERAS = ("agentview", "frontview", "sideview")


def workplace(model: mujoco.MjModel, walls: np.ndarray) -> Workplace:
    """Where cameras look, in LIBERO's world; ``walls`` as of `Workplace`."""
    centre, top = table(model)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    own = []
    for name in _CAMERAS:
        if has(model, mujoco.mjtObj.mjOBJ_CAMERA, name):
            camera = model.camera(name).id
            pose = make_pose(data.cam_xmat[camera].reshape(3, 3) @ _FLIP, data.cam_xpos[camera])
            own.append((pose, _square_lens(model, camera)))
    wrist = model.camera("robot0_eye_in_hand").id
    pose = make_pose(data.cam_xmat[wrist].reshape(3, 3) @ _FLIP, data.cam_xpos[wrist])
    mount = invert(body_pose(data, "robot0_right_hand")) @ pose
    wide = np.array([1.3, 1.4, 1.9 - top])
    middle = np.array([*centre, top])
    base = model.body("robot0_link0").id
    return Workplace(
        world_from_base=make_pose(data.xmat[base].reshape(3, 3), data.xpos[base]),
        groups=_SHOWN,
        low=middle - [0.3, 0.35, 0.0],
        high=middle + [0.3, 0.35, 0.3],
        room=(middle - [0.9, 1.4, -0.05], middle + np.maximum(wide, 0.9)),
        own=tuple(own[:1] * 3 + own[1:]),  # LIBERO films from the first
        own_hand=((mount, _square_lens(model, wrist)),),
        walls=walls,
    )


def _square_lens(model: mujoco.MjModel, camera: int) -> np.ndarray:
    """LIBERO's pictures are square."""
    focal = 0.5 / np.tan(np.radians(model.cam_fovy[camera]) / 2)
    return held_lens(intrinsics(focal, focal, 0.5, 0.5), (1, 1))


def ground(model: mujoco.MjModel) -> Ground:
    """Where surroundings stand."""
    centre, top = table(model)
    names = [model.body(body).name for body in model.geom_bodyid]
    shown = model.geom_group == 1
    cameras = [k for k in range(model.ncam) if model.camera(k).name in _CAMERAS]
    base = model.body("robot0_base").pos
    return Ground(
        centre=centre,
        table=top,
        floor=0.0,
        own=np.flatnonzero(shown & np.isin(names, ["world", "floor"])),
        own_table=np.flatnonzero(shown & ["table" in name for name in names]),
        inside=np.concatenate([base[None, :2], model.cam_pos[cameras, :2]]),
    )


def table(model: mujoco.MjModel) -> tuple[np.ndarray, float]:
    """Centre (2,) and z of the surface that the robot works on."""
    for name in ("table_visual", "table_collision"):
        if has(model, mujoco.mjtObj.mjOBJ_GEOM, name):
            geom = model.geom(name).id
            body = model.geom_bodyid[geom]
            middle = model.body_pos[body] + model.geom_pos[geom]
            return middle[:2], float(middle[2] + model.geom_size[geom, 2])
    base = model.body("robot0_base").pos
    return base[:2] + [0.6, 0.0], float(base[2])


def has(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> bool:
    """Whether a model has something of that name."""
    return mujoco.mj_name2id(model, kind, name) >= 0

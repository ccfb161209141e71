"""A drawn `Layout` as a MuJoCo model: the robot, its surroundings, lights and things."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from robo4d.geometry import quaternion_from_matrix
from robots.models import RobotModel
from simulation._geoms import SCENE_GROUP, named_material
from simulation.furniture import furnish
from simulation.layout import COLOURS, Layout, Thing

_GEOM = mujoco.mjtGeom
_SHAPES = {
    "box": _GEOM.mjGEOM_BOX,
    "cylinder": _GEOM.mjGEOM_CYLINDER,
    "sphere": _GEOM.mjGEOM_SPHERE,
    "capsule": _GEOM.mjGEOM_CAPSULE,
}


def build_scene(
    layout: Layout, robot: RobotModel, add: Callable[[mujoco.MjSpec], None] | None = None
) -> mujoco.MjModel:
    """The compiled scene; the robot's joints come first and are the only ones.

    The things are mocap bodies ``thing0``, ``thing1``, ...: whoever plays the scene sets their
    poses, and no physics runs.

    Args:
        add: adds what else is to be there.
    """
    spec = robot.build()
    # The base frame is the world: Menagerie's Google robot stands on its wheels, 62 mm above it.
    spec.body(robot.base).pos = [0.0, 0.0, 0.0]
    for light in list(spec.lights):  # Menagerie's own would follow the gripper
        spec.delete(light)
    rng = np.random.default_rng(layout.look)
    furnish(spec, layout, rng)
    for i, thing in enumerate(layout.things):
        _add_thing(spec, f"thing{i}", thing, rng)
    _add_lights(spec, layout, rng)
    if add is not None:
        add(spec)
    model = spec.compile()
    # Clip planes are shares of the model's extent; state them in metres instead.
    model.vis.map.znear = 0.01 / model.stat.extent
    model.vis.map.zfar = 20.0 / model.stat.extent
    return model


def _add_thing(spec: mujoco.MjSpec, name: str, thing: Thing, rng: np.random.Generator) -> None:
    body = spec.worldbody.add_body(
        name=name,
        pos=thing.world_from_thing[:3, 3],
        quat=quaternion_from_matrix(thing.world_from_thing[:3, :3]),
        mocap=True,
    )
    size, quat = list(thing.half), [1.0, 0, 0, 0]
    if thing.shape == "cylinder":
        size = [thing.half[0], thing.half[2], 0]
    elif thing.shape == "capsule":  # MuJoCo's stand along z; ours lie along x
        size = [thing.half[1], thing.half[0] - thing.half[1], 0]
        quat = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    colour = np.clip(np.array(COLOURS[thing.colour]) + rng.normal(0, 0.04, 3), 0, 1)
    kinds = mujoco.mjtBuiltin
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_CUBE,
        builtin=[kinds.mjBUILTIN_CHECKER, kinds.mjBUILTIN_GRADIENT, kinds.mjBUILTIN_FLAT][
            int(rng.integers(3))
        ],
        mark=mujoco.mjtMark.mjMARK_RANDOM,
        random=0.02,
        markrgb=rng.uniform(0, 1, 3),
        rgb1=colour,
        rgb2=np.clip(colour + rng.uniform(-0.3, 0.3, 3), 0, 1),
        width=64,
        height=384,
    )
    body.add_geom(
        name=name,
        type=_SHAPES[thing.shape],
        size=size,
        quat=quat,
        material=named_material(spec, name, repeat=1.0, specular=rng.uniform(0.1, 0.6)),
        group=SCENE_GROUP,
    )


def _add_lights(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    spec.visual.headlight.ambient = [rng.uniform(0.3, 0.42)] * 3
    spec.visual.headlight.diffuse = [rng.uniform(0.1, 0.25)] * 3
    spec.visual.headlight.specular = [0.05] * 3
    # Shadows are more than half of a frame's cost with software OpenGL, and grow with their map's
    # size. So the map is small and spent where the table is: a narrow lamp, of which the inner
    # half casts shadows (about 4 mm a texel). A plain lamp lights the room.
    spec.visual.quality.shadowsize = 512
    spec.visual.map.shadowscale = 0.45
    raised = [0.0, 0.0, layout.focus[2] - 0.1]
    position = rng.uniform([-0.6, -1.0, 1.6], [1.2, 1.0, 2.2]) + raised
    spec.worldbody.add_light(
        name="lamp",
        pos=position,
        dir=np.array(layout.focus) - position,
        diffuse=rng.uniform(0.35, 0.5) * rng.uniform(0.85, 1.0, 3),
        specular=[0.25] * 3,
        cutoff=55,
        exponent=2,
        castshadow=True,
    )
    spec.worldbody.add_light(
        name="ceiling",
        pos=rng.uniform([-0.5, -0.8, 2.0], [1.0, 0.8, 2.6]) + raised,
        dir=[0, 0, -1],
        diffuse=[rng.uniform(0.2, 0.35)] * 3,
        specular=[0.05] * 3,
        cutoff=90,
        castshadow=False,
    )

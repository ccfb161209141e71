"""A drawn `Layout` as a MuJoCo model: the robot on its pedestal, table, room, lights, things."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import quaternion_from_matrix
from robots.models import RobotModel
from simulation.layout import COLOURS, PLATE_RADIUS, PLATE_THICKNESS, Layout, Thing, rotation_z
from simulation.textures import draw_pattern

# Group 1 holds the robot's visual meshes and 0 its collision shapes, which must not be seen.
SCENE_GROUP = 2
_FLOOR = -0.72
_GEOM = mujoco.mjtGeom
_SHAPES = {
    "box": _GEOM.mjGEOM_BOX,
    "cylinder": _GEOM.mjGEOM_CYLINDER,
    "sphere": _GEOM.mjGEOM_SPHERE,
    "capsule": _GEOM.mjGEOM_CAPSULE,
}


def build_scene(layout: Layout, robot: RobotModel) -> mujoco.MjModel:
    """The compiled scene; the robot's joints come first and are the only ones.

    The things are mocap bodies ``thing0``, ``thing1``, ...: whoever plays the scene sets their
    poses, and no physics runs.
    """
    spec = robot.build()
    rng = np.random.default_rng(layout.look)
    _furnish(spec, layout, rng)
    for i, thing in enumerate(layout.things):
        _add_thing(spec, f"thing{i}", thing, rng)
    _add_lights(spec, rng)
    model = spec.compile()
    # Clip planes are shares of the model's extent; state them in metres instead.
    model.vis.map.znear = 0.01 / model.stat.extent
    model.vis.map.zfar = 20.0 / model.stat.extent
    return model


def _furnish(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    table = layout.table
    near, far, half_width = rng.uniform(0.2, 0.24), rng.uniform(0.85, 1.05), rng.uniform(0.42, 0.6)
    thick = 0.02
    wood = _material(spec, "table", rng, _paint(rng, 0.3, 0.85), repeat=1.5)
    middle = (near + far) / 2
    _box(spec, "table", [middle, 0, table - thick], [(far - near) / 2, half_width, thick], wood)
    leg = (table - 2 * thick - _FLOOR) / 2
    for x in (near + 0.05, far - 0.05):
        for y in (half_width - 0.05, 0.05 - half_width):
            _box(spec, f"leg_{x:.2f}_{y:.2f}", [x, y, _FLOOR + leg], [0.025, 0.025, leg], wood)
    metal = _material(spec, "pedestal", rng, _paint(rng, 0.15, 0.5), repeat=1.0)
    _box(spec, "pedestal", [-0.03, 0, _FLOOR / 2], [0.17, 0.16, -_FLOOR / 2], metal)
    ground = _material(spec, "floor", rng, _paint(rng, 0.2, 0.7), repeat=5.0)
    _box(spec, "floor", [0, 0, _FLOOR - 0.05], [5, 5, 0.05], ground)
    # Each wall lies flat before it is turned, since flat textures run along a box's own xy.
    for name, yaw, distance in (
        ("front", 0.0, rng.uniform(1.5, 2.6)),
        ("left", np.pi / 2, rng.uniform(1.5, 2.4)),
        ("back", np.pi, rng.uniform(1.2, 2.0)),
        ("right", -np.pi / 2, rng.uniform(1.5, 2.4)),
    ):
        paint = _material(spec, f"wall_{name}", rng, _paint(rng, 0.4, 0.9), repeat=3.0)
        upright = rotation_z(yaw) @ [[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]
        centre = rotation_z(yaw) @ [distance, 0, 0.8]
        _box(spec, f"wall_{name}", centre, [2.0, 5.0, 0.02], paint, upright)
        # A cupboard or a picture before each wall, so that the room has depth.
        for k in range(2):
            size = rng.uniform([0.15, 0.15, 0.02], [0.6, 0.5, 0.3])
            offset = [distance - size[2], rng.uniform(-1.3, 1.3), rng.uniform(-0.4, 0.8)]
            colour = _material(spec, f"{name}_{k}", rng, _paint(rng, 0.1, 0.9, 0.5), repeat=1.0)
            _box(spec, f"{name}_{k}", rotation_z(yaw) @ offset, size, colour, upright)
    spec.worldbody.add_geom(
        name="plate",
        type=_GEOM.mjGEOM_CYLINDER,
        pos=layout.plate - [0, 0, PLATE_THICKNESS / 2],
        size=[PLATE_RADIUS, PLATE_THICKNESS / 2, 0],
        rgba=[*COLOURS[layout.plate_colour], 1],
        group=SCENE_GROUP,
    )


def _paint(
    rng: np.random.Generator, darkest: float, lightest: float, saturation: float = 0.12
) -> NDArray[np.floating]:
    """A room's colours are muted: a grey with a tint."""
    return rng.uniform(darkest, lightest) + saturation * rng.uniform(-0.5, 0.5, 3)


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
        material=_named_material(spec, name, repeat=1.0, specular=rng.uniform(0.1, 0.6)),
        group=SCENE_GROUP,
    )


def _add_lights(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    spec.visual.headlight.ambient = [rng.uniform(0.3, 0.42)] * 3
    spec.visual.headlight.diffuse = [rng.uniform(0.1, 0.25)] * 3
    spec.visual.headlight.specular = [0.05] * 3
    # Shadows are more than half of a frame's cost with software OpenGL, and grow with their map's
    # size. So the map is small and spent where the table is: a narrow lamp, of which the inner
    # half casts shadows (about 4 mm a texel). A plain lamp lights the room.
    spec.visual.quality.shadowsize = 512
    spec.visual.map.shadowscale = 0.45
    position = rng.uniform([-0.6, -1.0, 1.6], [1.2, 1.0, 2.2])
    spec.worldbody.add_light(
        name="lamp",
        pos=position,
        dir=np.array([0.4, 0.0, 0.1]) - position,
        diffuse=rng.uniform(0.35, 0.5) * rng.uniform(0.85, 1.0, 3),
        specular=[0.25] * 3,
        cutoff=55,
        exponent=2,
        castshadow=True,
    )
    spec.worldbody.add_light(
        name="ceiling",
        pos=rng.uniform([-0.5, -0.8, 2.0], [1.0, 0.8, 2.6]),
        dir=[0, 0, -1],
        diffuse=[rng.uniform(0.2, 0.35)] * 3,
        specular=[0.05] * 3,
        cutoff=90,
        castshadow=False,
    )


def _box(
    spec: mujoco.MjSpec,
    name: str,
    centre: ArrayLike,
    half: ArrayLike,
    material: str,
    rotation: ArrayLike | None = None,
) -> None:
    turn = np.eye(3) if rotation is None else np.asarray(rotation)
    spec.worldbody.add_geom(
        name=name,
        type=_GEOM.mjGEOM_BOX,
        pos=centre,
        size=half,
        quat=quaternion_from_matrix(turn),
        material=material,
        group=SCENE_GROUP,
    )


def _material(
    spec: mujoco.MjSpec,
    name: str,
    rng: np.random.Generator,
    colour: NDArray[np.floating],
    repeat: float,
) -> str:
    pattern = draw_pattern(rng, colour)
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=pattern.shape[1],
        height=pattern.shape[0],
        nchannel=3,
        data=pattern.ravel(),
    )
    return _named_material(spec, name, repeat, specular=rng.uniform(0.0, 0.2))


def _named_material(spec: mujoco.MjSpec, name: str, repeat: float, specular: float) -> str:
    material = spec.add_material(
        name=name, specular=specular, shininess=0.4, texrepeat=[repeat, repeat]
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return name

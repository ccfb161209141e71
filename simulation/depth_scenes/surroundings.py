"""What stands around the place where a robot works: clutter, furniture, other walls and floors.

Added once to a scene; each look gives it sizes, colours and places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from simulation._geoms import SCENE_GROUP, named_material
from simulation.textures import draw_pattern

Floats = NDArray[np.floating]
# native: the scene's own room. other: its table, in another room. bare: neither table nor room.
Kind = Literal["native", "other", "bare"]

_GEOM = mujoco.mjtGeom
_SHAPES = (_GEOM.mjGEOM_BOX, _GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_CAPSULE, _GEOM.mjGEOM_BOX)
_STANDING, _LYING = 8, 6  # on the floor around, and on the table beside what is worked on
_WALLS = ("wall0", "wall1", "wall2", "wall3")
_GROUND = "ground"
_AWAY = np.array([0.0, 0.0, -60.0, 1.0, 0.0, 0.0, 0.0])
_PREFIX = "around_"


@dataclass(frozen=True)
class Ground:
    """Where things stand, in the scene's world.

    Attributes:
        centre: (2,) m, of what is worked on.
        table, floor: z in m.
        own: geoms of the scene's own room, which `other` leaves out.
        own_table: geoms of its table, which `bare` leaves out too.
    """

    centre: Floats
    table: float
    floor: float
    own: NDArray[np.int_]
    own_table: NDArray[np.int_]


def add_surroundings(spec: mujoco.MjSpec) -> None:
    """Mocap bodies for all that may be there; far below until `draw_surroundings` places them."""
    names = [f"standing{k}" for k in range(_STANDING)] + [f"lying{k}" for k in range(_LYING)]
    for k, name in enumerate(names):
        _add(spec, name, _SHAPES[k % len(_SHAPES)])
    for name in (_GROUND, *_WALLS):
        _add(spec, name, _GEOM.mjGEOM_BOX)


def draw_surroundings(
    model: mujoco.MjModel, rng: np.random.Generator, ground: Ground, kind: Kind
) -> dict[str, Floats]:
    """Pose (7,) of each body that `add_surroundings` added; sizes and colours are the model's."""
    poses = {body.name: _AWAY for body in _bodies(model)}
    if kind != "native":
        model.geom_group[ground.own] = 0
        if kind == "bare":
            model.geom_group[ground.own_table] = 0
        level = ground.table if kind == "bare" else ground.floor
        poses |= _room(model, rng, ground.centre, level)
    level = ground.table if kind == "bare" else ground.floor
    for k in range(int(rng.integers(0, _STANDING + 1))):
        name = f"{_PREFIX}standing{k}"
        tall = rng.uniform() < 0.3
        half = rng.uniform([0.06, 0.06, 0.08], [0.4, 0.4, 0.5])
        if tall:
            half = rng.uniform([0.08, 0.08, 0.5], [0.25, 0.25, 0.9])
        away, azimuth = rng.uniform(0.75, 2.3) + half[:2].max(), rng.uniform(-np.pi, np.pi)
        at = ground.centre + away * np.array([np.cos(azimuth), np.sin(azimuth)])
        raised = rng.uniform(0, 1.0) if rng.uniform() < 0.4 else 0.0  # on a shelf, say
        _shape(model, rng, name, half)
        poses[name] = _pose([*at, level + half[2] + raised], rng)
    for k in range(int(rng.integers(0, _LYING + 1))):
        name = f"{_PREFIX}lying{k}"
        half = rng.uniform([0.02, 0.02, 0.01], [0.14, 0.14, 0.2])
        away, azimuth = rng.uniform(0.22, 0.6) + half[:2].max(), rng.uniform(-np.pi, np.pi)
        at = ground.centre + away * np.array([np.cos(azimuth), np.sin(azimuth)])
        _shape(model, rng, name, half)
        poses[name] = _pose([*at, ground.table + half[2]], rng)
    return poses


def cover(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Texels (H, W, 3) of one colour, or with a pattern."""
    colour = rng.uniform(0.05, 0.95, 3)
    if rng.uniform() < 0.5:  # most of what people make is grey, white or brown
        colour = rng.uniform(0.05, 0.95) + rng.uniform(-0.08, 0.08, 3)
    colour = colour.clip(0.02, 0.98)
    if rng.uniform() < 0.3:
        return np.broadcast_to((255 * colour).astype(np.uint8), (height, width, 3))
    repeats = -(-height // width)
    pattern = draw_pattern(rng, colour)
    square = cv2.resize(pattern, (width, min(width, height)), interpolation=cv2.INTER_LINEAR)
    return np.tile(square, (repeats, 1, 1))[:height]


def set_size(model: mujoco.MjModel, geom: int, size: Floats) -> None:
    """Of a box, or of a shape whose half extents (3,) MuJoCo takes as such."""
    model.geom_size[geom] = size
    model.geom_rbound[geom] = np.linalg.norm(size)
    model.geom_aabb[geom] = [0, 0, 0, *size]


def _add(spec: mujoco.MjSpec, name: str, shape: mujoco.mjtGeom) -> None:
    name = _PREFIX + name
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_CUBE,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[0.5, 0.5, 0.5],
        width=128,
        height=768,
    )
    material = named_material(spec, name, repeat=1.0, specular=0.2)
    body = spec.worldbody.add_body(name=name, pos=_AWAY[:3], mocap=True)
    body.add_geom(
        name=name,
        type=shape,
        size=[0.1, 0.1, 0.1],
        material=material,
        group=SCENE_GROUP,
        contype=0,
        conaffinity=0,
    )


def _bodies(model: mujoco.MjModel) -> list:
    bodies = [model.body(k) for k in range(model.nbody)]
    return [body for body in bodies if body.name.startswith(_PREFIX)]


def _room(
    model: mujoco.MjModel, rng: np.random.Generator, centre: Floats, level: float
) -> dict[str, Floats]:
    """A floor, and most of four walls, turned anyhow."""
    poses = {_PREFIX + _GROUND: np.array([*centre, level - 0.05, 1, 0, 0, 0])}
    _shape(model, rng, _PREFIX + _GROUND, np.array([6.0, 6.0, 0.05]))
    yaw = rng.uniform(-np.pi, np.pi) if rng.uniform() < 0.5 else rng.normal(0, 0.05)
    for k, name in enumerate(_WALLS):
        if rng.uniform() < 0.15:
            continue
        turn, away = yaw + k * np.pi / 2, rng.uniform(1.1, 3.2)
        _shape(model, rng, _PREFIX + name, np.array([0.02, 6.0, 2.0]))
        at = centre + away * np.array([np.cos(turn), np.sin(turn)])
        poses[_PREFIX + name] = np.array(
            [*at, level + 1.9, np.cos(turn / 2), 0, 0, np.sin(turn / 2)]
        )
    return poses


def _shape(model: mujoco.MjModel, rng: np.random.Generator, name: str, half: Floats) -> None:
    """Half extents (3,) and a cover; round ones are as wide as the first says."""
    geom = model.geom(name).id
    size = half
    if model.geom_type[geom] == _GEOM.mjGEOM_CYLINDER:
        size = np.array([half[0], half[2], half[0]])
    elif model.geom_type[geom] == _GEOM.mjGEOM_CAPSULE:
        size = np.array([half[0], max(half[2] - half[0], 0.01), half[0]])
    set_size(model, geom, size)
    texture = model.texture(name).id
    height, width = model.tex_height[texture], model.tex_width[texture]
    first = model.tex_adr[texture]
    texels = model.tex_data[first : first + 3 * height * width].reshape(height, width, 3)
    texels[:] = cover(rng, height, width)


def _pose(at: list[float], rng: np.random.Generator) -> Floats:
    yaw = rng.uniform(-np.pi, np.pi)
    return np.array([*at, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])

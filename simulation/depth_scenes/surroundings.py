"""What stands around the place where a robot works: clutter, furniture, other walls and floors.

Added once to a scene; each look gives it sizes, colours and places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from simulation._geoms import SCENE_GROUP, named_material
from simulation.depth_scenes.assemblies import BOXES, draw_assembly
from simulation.textures import draw_pattern

Floats = NDArray[np.floating]
# Texels (H, W, 3), drawn for a height and a width.
Cover = Callable[[np.random.Generator, int, int], NDArray[np.uint8]]
# native: the scene's own room. other: its table, in another room. bare: neither table nor room.
Kind = Literal["native", "other", "bare"]

_GEOM = mujoco.mjtGeom
_SHAPES = (_GEOM.mjGEOM_BOX, _GEOM.mjGEOM_CYLINDER, _GEOM.mjGEOM_CAPSULE, _GEOM.mjGEOM_BOX)
_STANDING, _LYING = 8, 6  # on the floor around, and on the table beside what is worked on
_HUNG = 6  # on the walls
_BUILT = 3  # of either, of boxes
_EMPTY = 0.35  # share of looks in which nothing stands before the walls
_BELOW = 0.001  # m, of a bare floor under the table's surface, where a sink's bottom may lie
_WALLS = ("wall0", "wall1", "wall2", "wall3")
# m from the centre, and from what must be inside: near ones are behind a counter.
_NEAREST, _FARTHEST, _MARGIN = 0.6, 3.5, 0.25
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
        inside: (N, 2) m, what no wall of another room may stand before: cameras and the robot.
    """

    centre: Floats
    table: float
    floor: float
    own: NDArray[np.int_]
    own_table: NDArray[np.int_]
    inside: Floats


def add_surroundings(spec: mujoco.MjSpec) -> None:
    """Mocap bodies for all that may be there; far below until `draw_surroundings` places them."""
    names = [f"standing{k}" for k in range(_STANDING)] + [f"lying{k}" for k in range(_LYING)]
    for k, name in enumerate(names):
        _add(spec, name, _SHAPES[k % len(_SHAPES)])
    for k in range(_HUNG):
        _add(spec, f"hung{k}", _GEOM.mjGEOM_BOX)
    for place in ("standing", "lying"):
        for k in range(_BUILT):
            _add(spec, f"{place}_built{k}", _GEOM.mjGEOM_BOX, count=BOXES)
    for name in (_GROUND, *_WALLS):
        _add(spec, name, _GEOM.mjGEOM_BOX, flat=True)


def draw_surroundings(
    model: mujoco.MjModel,
    rng: np.random.Generator,
    ground: Ground,
    kind: Kind,
    covers: Cover | None = None,
) -> dict[str, Floats]:
    """Pose (7,) of each body that `add_surroundings` added; sizes and colours are the model's.

    Args:
        covers: draws what each thing, wall and floor is covered with; None: `cover`.
    """
    covers = covers or cover
    poses = {body.name: _AWAY for body in _bodies(model)}
    if kind != "native":
        model.geom_group[ground.own] = 0
        if kind == "bare":
            model.geom_group[ground.own_table] = 0
        level = ground.table - _BELOW if kind == "bare" else ground.floor
        poses |= _room(model, rng, ground, level, covers)
    level = ground.table if kind == "bare" else ground.floor
    standing = [f"standing{k}" for k in range(int(rng.integers(0, _STANDING + 1)))]
    standing += [f"standing_built{k}" for k in range(int(rng.integers(0, _BUILT + 1)))]
    if rng.uniform() < _EMPTY:
        standing = []
    for name in standing:
        tall = rng.uniform() < 0.3
        half = rng.uniform([0.06, 0.06, 0.08], [0.4, 0.4, 0.5])
        if tall:
            half = rng.uniform([0.08, 0.08, 0.5], [0.25, 0.25, 0.9])
        at = _beside(rng, ground.centre, rng.uniform(0.75, 2.3) + half[:2].max())
        raised = rng.uniform(0, 1.0) if rng.uniform() < 0.4 else 0.0  # on a shelf, say
        shape_body(model, rng, _PREFIX + name, half, covers)
        poses[_PREFIX + name] = _pose([*at, level + half[2] + raised], rng)
    lying = [f"lying{k}" for k in range(int(rng.integers(0, _LYING + 1)))]
    lying += [f"lying_built{k}" for k in range(int(rng.integers(0, _BUILT + 1)))]
    for name in lying:
        half = rng.uniform([0.02, 0.02, 0.01], [0.14, 0.14, 0.2])
        # Some lean on something, or are tipped over.
        tilt = rng.normal(0, 0.6) if rng.uniform() < 0.3 else 0.0
        reach = half[:2].max() if tilt == 0.0 else float(np.linalg.norm(half))
        at = _beside(rng, ground.centre, rng.uniform(0.22, 0.6) + reach)
        shape_body(model, rng, _PREFIX + name, half, covers)
        height = abs(np.cos(tilt)) * half[2] + abs(np.sin(tilt)) * half[0]
        poses[_PREFIX + name] = _pose([*at, ground.table + height], rng, tilt)
    return poses


def find_walls(model: mujoco.MjModel, ground: Ground, poses: dict[str, Floats]) -> Floats:
    """Of each wall that is shown, a twin's own or of ``poses``, n_x, n_y, d (3,) in m: inside,
    n . (x, y) < d.
    """
    walls = []
    for geom in np.flatnonzero(model.geom_group == SCENE_GROUP):
        name = model.geom(geom).name
        if not name.startswith(("wall_", _PREFIX + "wall")):
            continue
        pose = poses.get(name, np.concatenate([model.geom_pos[geom], model.geom_quat[geom]]))
        if np.array_equal(pose, _AWAY):
            continue
        turn = np.empty(9)
        mujoco.mju_quat2Mat(turn, pose[3:])
        normal = turn.reshape(3, 3)[:2, 2]
        normal = normal * np.sign(normal @ (pose[:2] - ground.centre))
        walls.append([*normal, normal @ pose[:2] - model.geom_size[geom, 2]])
    return np.array(walls).reshape(-1, 3)


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


def shape_body(
    model: mujoco.MjModel,
    rng: np.random.Generator,
    name: str,
    half: Floats,
    covers: Cover = cover,
) -> None:
    """Give one of `add_surroundings`' bodies half extents (3,) in m and a cover; round ones are as
    wide as the first says.
    """
    body = model.body(name)
    geoms = list(range(body.geomadr[0], body.geomadr[0] + body.geomnum[0]))
    if len(geoms) > 1:
        for geom, centre, size in zip(geoms, *draw_assembly(rng, half), strict=True):
            set_size(model, geom, size)
            model.geom_pos[geom] = centre
            # Else kinematics takes the place that was compiled.
            model.geom_sameframe[geom] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    else:
        size = half
        if model.geom_type[geoms[0]] == _GEOM.mjGEOM_CYLINDER:
            size = np.array([half[0], half[2], half[0]])
        elif model.geom_type[geoms[0]] == _GEOM.mjGEOM_CAPSULE:
            size = np.array([half[0], max(half[2] - half[0], 0.01), half[0]])
        set_size(model, geoms[0], size)
    texels = texels_of(model, model.texture(name).id)
    texels[:] = covers(rng, *texels.shape[:2])


def texels_of(model: mujoco.MjModel, texture: int) -> NDArray[np.uint8]:
    """(H, W, 3) of a texture of three channels, to be written to."""
    height, width = model.tex_height[texture], model.tex_width[texture]
    first = model.tex_adr[texture]
    texels: NDArray[np.uint8] = model.tex_data[first : first + 3 * height * width]
    return texels.reshape(height, width, 3)


def _add(
    spec: mujoco.MjSpec, name: str, shape: mujoco.mjtGeom, *, count: int = 1, flat: bool = False
) -> None:
    """A body of ``count`` geoms; ``flat``: its texture repeats along its x and y."""
    name = _PREFIX + name
    kinds = mujoco.mjtTexture
    spec.add_texture(
        name=name,
        type=kinds.mjTEXTURE_2D if flat else kinds.mjTEXTURE_CUBE,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[0.5, 0.5, 0.5],
        width=256 if flat else 128,
        height=256 if flat else 768,
    )
    material = named_material(spec, name, repeat=1.0, specular=0.2)
    body = spec.worldbody.add_body(name=name, pos=_AWAY[:3], mocap=True)
    for k in range(count):
        body.add_geom(
            name=name if count == 1 else f"{name}_{k}",
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
    model: mujoco.MjModel, rng: np.random.Generator, ground: Ground, level: float, covers: Cover
) -> dict[str, Floats]:
    """A floor, and most of four walls, turned anyhow, with cupboards and pictures on them."""
    centre = ground.centre
    yaw = rng.uniform(-np.pi, np.pi) if rng.uniform() < 0.5 else rng.normal(0, 0.05)
    poses = {_PREFIX + _GROUND: _pose([*centre, level - 0.05], rng, yaw=yaw)}
    _pave(model, rng, _PREFIX + _GROUND, np.array([6.0, 6.0, 0.05]), covers)
    walls = []
    for k, name in enumerate(_WALLS):
        if rng.uniform() < 0.15:
            continue
        turn = yaw + k * np.pi / 2
        outward = np.array([np.cos(turn), np.sin(turn)])
        least = max(_NEAREST, ((ground.inside - centre) @ outward).max() + _MARGIN)
        away = float(np.exp(rng.uniform(*np.log([least, max(_FARTHEST, 1.2 * least)]))))
        _pave(model, rng, _PREFIX + name, np.array([2.0, 6.0, 0.02]), covers)
        at = centre + away * outward
        # Flat textures run along a box's own x and y: a wall is a floor that was tipped up.
        poses[_PREFIX + name] = _pose([*at, level + 1.9], rng, np.pi / 2, turn)
        walls.append((turn, away))
    for k in range(int(rng.integers(0, _HUNG + 1)) if walls else 0):
        turn, away = walls[int(rng.integers(len(walls)))]
        name = f"{_PREFIX}hung{k}"
        half = rng.uniform([0.01, 0.15, 0.15], [0.3, 0.6, 0.5])
        shape_body(model, rng, name, half, covers)
        outward = np.array([np.cos(turn), np.sin(turn)])
        along = rng.uniform(-1.4, 1.4) * np.array([-outward[1], outward[0]])
        at = centre + (away - half[0]) * outward + along
        poses[name] = _pose([*at, level + half[2] + rng.uniform(0, 1.7)], rng, yaw=turn)
    return poses


def _pave(
    model: mujoco.MjModel, rng: np.random.Generator, name: str, half: Floats, covers: Cover
) -> None:
    """Half extents (3,), and a cover that repeats, perhaps with the joints of boards or tiles."""
    geom = model.geom(name).id
    set_size(model, geom, half)
    texels = texels_of(model, model.texture(name).id)
    texels[:] = covers(rng, *texels.shape[:2])
    if rng.uniform() < 0.5:
        _draw_joints(texels, rng)
    metres = np.exp(rng.uniform(*np.log([0.4, 4.0])))
    model.mat_texrepeat[model.geom_matid[geom]] = 2 * half[:2] / metres


def _draw_joints(texels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Lines between boards or tiles, of one shade, every second row shifted by some."""
    side = len(texels)
    rows, columns = rng.choice([1, 2, 4, 8], 2)
    shade = np.clip(texels.mean((0, 1)) + rng.choice([-1, 1]) * rng.uniform(20, 120), 0, 255)
    wide, shift = int(rng.integers(1, 5)), rng.uniform(0, 1) * (rng.uniform() < 0.7)
    high, long = side // rows, side // columns
    for row in range(rows):
        band = texels[row * high : (row + 1) * high]
        band[:wide] = shade
        for column in range(columns):
            first = int((column + (row % 2) * shift) * long) % side
            band[:, first : first + wide] = shade


def _beside(rng: np.random.Generator, centre: Floats, away: float) -> Floats:
    azimuth = rng.uniform(-np.pi, np.pi)
    return centre + away * np.array([np.cos(azimuth), np.sin(azimuth)])


def _pose(
    at: list[float], rng: np.random.Generator, tilt: float = 0.0, yaw: float | None = None
) -> Floats:
    """(7,) of something turned about the vertical by ``yaw``, or anyhow, after it was tilted about
    its own y.
    """
    yaw = rng.uniform(-np.pi, np.pi) if yaw is None else yaw
    quat = np.empty(4)
    about_z = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
    mujoco.mju_mulQuat(quat, about_z, np.array([np.cos(tilt / 2), 0, np.sin(tilt / 2), 0]))
    return np.array([*at, *quat])

"""What one scene holds and where: drawn at random, before anything is built or moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import invert, make_pose, project, transform

Floats = NDArray[np.floating]
Shape = Literal["box", "cylinder", "sphere", "capsule"]

Furniture = Literal["lab", "arena", "table", "sink", "drawer", "kitchen"]

SHAPES: tuple[Shape, ...] = ("box", "cylinder", "sphere", "capsule")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.75, 0.1, 0.1),
    "green": (0.12, 0.55, 0.18),
    "blue": (0.1, 0.22, 0.7),
    "yellow": (0.85, 0.72, 0.1),
    "orange": (0.9, 0.42, 0.08),
    "purple": (0.42, 0.15, 0.55),
    "white": (0.88, 0.87, 0.84),
    "pink": (0.88, 0.45, 0.58),
}
PLATE_THICKNESS = 0.008


@dataclass(frozen=True)
class Thing:
    """One loose object.

    Attributes:
        half: (3,) half extents in m of its own frame: x along, y across (the grasp), z up.
        world_from_thing: (4, 4) where it stands at the start.
    """

    shape: Shape
    colour: str
    half: Floats
    world_from_thing: Floats


@dataclass(frozen=True)
class Camera:
    """A camera: ``mount`` (4, 4) is world_from_camera, or ee_from_camera where it is on_wrist."""

    K: Floats
    mount: Floats
    on_wrist: bool = False


@dataclass(frozen=True)
class Layout:
    """One scene. The base frame is the world; the robot's base stands at its origin.

    Attributes:
        table: z of the table's top in m.
        things: the first is the one to be moved.
        plate: (3,) centre of the plate's upper face, where it is to go.
        plate_colour: in `COLOURS`.
        plate_radius: m; of a drawer, which takes the plate's place, half its inner width.
        room: (low, high) of x and y in which things stand; a sink's walls are around it.
        focus: (3,) m, what the lamp shines at.
        furniture: what stands around the things.
        size: (height, width) of every view in pixels.
        cameras: by name.
        look: seed of textures, lights and furniture.
    """

    table: float
    things: tuple[Thing, ...]
    plate: Floats
    plate_colour: str
    plate_radius: float
    room: tuple[tuple[float, float], tuple[float, float]]
    focus: tuple[float, float, float]
    furniture: Furniture
    size: tuple[int, int]
    cameras: dict[str, Camera]
    look: int


@dataclass(frozen=True)
class Workspace:
    """Where things may stand before one robot, and how big they may be; m.

    Attributes:
        table: (low, high) of the table's z.
        reach: (low, high) of x and y for the thing that is moved and its goal.
        apart: (least, most) between those two.
        room: (low, high) of x and y for all things.
        clutter: (low, high) count of other things; high is not reached.
        clearance: between the things that the open gripper visits and all others.
        plate_radius: of the goal.
        scale: size of things, relative to those for a gripper that opens to 85 mm.
        focus: (x, y, z over the table at 0), what the lamp shines at.
    """

    table: tuple[float, float]
    reach: tuple[tuple[float, float], tuple[float, float]]
    apart: tuple[float, float]
    room: tuple[tuple[float, float], tuple[float, float]]
    clutter: tuple[int, int]
    clearance: float
    plate_radius: float
    scale: float
    focus: tuple[float, float, float]


def draw_layout(
    rng: np.random.Generator,
    space: Workspace,
    furniture: Furniture,
    size: tuple[int, int],
    draw_cameras: Callable[[np.random.Generator, float], dict[str, Camera]],
) -> Layout:
    """A random scene: a table, things on it, and cameras, drawn by ``draw_cameras(rng, table)``."""
    table = rng.uniform(*space.table)
    start, goal = _apart(rng, space)
    colours = [str(name) for name in rng.permutation(list(COLOURS))]
    things = [_thing(rng, start, table, colours[0], space.scale, graspable=True)]
    # Nothing stands where the thing may be dropped, or half on the plate.
    dropped = start + 0.25 * (goal - start)
    taken = [(start, space.clearance), (dropped, space.clearance)]
    taken.append((goal, space.plate_radius + 2 * space.clearance / 3))
    for colour in colours[2 : 2 + int(rng.integers(*space.clutter))]:
        for _ in range(50):
            spot = rng.uniform(*space.room)
            if all(np.linalg.norm(spot - other) > room for other, room in taken):
                things.append(_thing(rng, spot, table, colour, space.scale, graspable=False))
                taken.append((spot, space.clearance))
                break
    return Layout(
        table=table,
        things=tuple(things),
        plate=np.array([*goal, table + PLATE_THICKNESS]),
        plate_colour=colours[1],
        plate_radius=space.plate_radius,
        room=space.room,
        focus=space.focus,
        furniture=furniture,
        size=size,
        cameras=draw_cameras(rng, table),
        look=int(rng.integers(2**31)),
    )


def look_at(position: ArrayLike, target: ArrayLike, roll: float = 0.0) -> Floats:
    """world_from_camera (4, 4) of an OpenCV camera at ``position`` (3,) facing ``target`` (3,)."""
    position = np.asarray(position, float)
    forward = np.asarray(target, float) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    level = np.stack([right, down, forward], axis=1)
    c, s = np.cos(roll), np.sin(roll)
    return make_pose(level @ [[c, -s, 0], [s, c, 0], [0, 0, 1]], position)


def _apart(rng: np.random.Generator, space: Workspace) -> tuple[Floats, Floats]:
    least, most = space.apart
    while True:
        start, goal = rng.uniform(*space.reach, (2, 2))
        if least < np.linalg.norm(start - goal) < most:
            return start, goal


def _thing(
    rng: np.random.Generator,
    spot: Floats,
    table: float,
    colour: str,
    scale: float,
    graspable: bool,
) -> Thing:
    shape = SHAPES[rng.integers(len(SHAPES))]
    # The 2F-85 opens to 85 mm; what it is to grasp stays under 70.
    across = rng.uniform(0.016, 0.033) if graspable else rng.uniform(0.018, 0.045)
    if shape == "box":
        half = [across * rng.uniform(1.0, 1.6), across, rng.uniform(0.02, 0.055)]
    elif shape == "cylinder":
        half = [across, across, rng.uniform(0.03, 0.06)]
    elif shape == "sphere":
        half = [max(across, 0.022)] * 3
    else:  # a capsule lies on its side
        half = [across + rng.uniform(0.02, 0.045), max(across, 0.02), max(across, 0.02)]
    half = [scale * extent for extent in half]
    yaw = rng.uniform(-0.6, 0.6)
    pose = make_pose(rotation_z(yaw), [*spot, table + half[2]])
    return Thing(shape, colour, np.array(half), pose)


def rotation_z(angle: float) -> Floats:
    """(3, 3) turn about z in rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def covered(
    camera: Camera, points: ArrayLike, size: tuple[int, int], margin: int, nearest: float = 0.25
) -> bool:
    """Whether a fixed camera sees all points (N, 3), ``margin`` pixels within its picture."""
    pixels, depth = project(transform(invert(camera.mount), np.asarray(points)), camera.K)
    height, width = size
    inside = (pixels > margin).all() and (pixels < [width - margin, height - margin]).all()
    return bool(inside and depth.min() >= nearest)

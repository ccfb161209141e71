"""What one scene holds and where: drawn at random, before anything is built or moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import intrinsics, make_pose

Floats = NDArray[np.floating]
Shape = Literal["box", "cylinder", "sphere", "capsule"]

WIDTH, HEIGHT = 320, 180
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
PLATE_RADIUS, PLATE_THICKNESS = 0.075, 0.008
# Room for the open gripper (0.17 m across) between the things it visits and all others, m.
_CLEARANCE = 0.12


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
        cameras: the exterior views, left and right of the robot, and the wrist's.
        look: seed of textures, lights and furniture.
    """

    table: float
    things: tuple[Thing, ...]
    plate: Floats
    plate_colour: str
    cameras: dict[str, Camera]
    look: int


def draw_layout(rng: np.random.Generator) -> Layout:
    """A random scene as DROID's: a table, things on it, two cameras beside it, one on the wrist."""
    table = rng.uniform(-0.04, 0.06)
    start, goal = _apart(rng)
    colours = [str(name) for name in rng.permutation(list(COLOURS))]
    things = [_thing(rng, start, table, colours[0], graspable=True)]
    # Nothing stands where the thing may be dropped, or half on the plate.
    dropped = start + 0.25 * (goal - start)
    taken = [(start, _CLEARANCE), (dropped, _CLEARANCE), (goal, PLATE_RADIUS + 0.08)]
    for colour in colours[2 : 2 + int(rng.integers(3, 6))]:
        for _ in range(50):
            spot = rng.uniform([0.3, -0.36], [0.72, 0.36])
            if all(np.linalg.norm(spot - other) > room for other, room in taken):
                things.append(_thing(rng, spot, table, colour, graspable=False))
                taken.append((spot, _CLEARANCE))
                break
    return Layout(
        table=table,
        things=tuple(things),
        plate=np.array([*goal, table + PLATE_THICKNESS]),
        plate_colour=colours[1],
        cameras={
            "exterior_image_1_left": _exterior(rng, table, side=1.0),
            "exterior_image_2_left": _exterior(rng, table, side=-1.0),
            "wrist_image_left": _wrist(rng),
        },
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


def _apart(rng: np.random.Generator) -> tuple[Floats, Floats]:
    while True:
        start, goal = rng.uniform([0.38, -0.22], [0.62, 0.22], (2, 2))
        if 0.22 < np.linalg.norm(start - goal) < 0.36:
            return start, goal


def _thing(
    rng: np.random.Generator, spot: Floats, table: float, colour: str, graspable: bool
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
    yaw = rng.uniform(-0.6, 0.6)
    pose = make_pose(rotation_z(yaw), [*spot, table + half[2]])
    return Thing(shape, colour, np.array(half), pose)


def rotation_z(angle: float) -> Floats:
    """(3, 3) turn about z in rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _exterior(rng: np.random.Generator, table: float, side: float) -> Camera:
    azimuth = side * np.radians(rng.uniform(55, 125))
    radius = rng.uniform(0.7, 1.0)
    position = [
        0.42 + radius * np.cos(azimuth),
        radius * np.sin(azimuth),
        table + rng.uniform(0.4, 0.75),
    ]
    target = [0.3, 0.0, table + 0.22] + rng.uniform(-0.07, 0.07, 3)
    # ZED 2 at 1280x720 has f of about 525 px; DROID's frames are a quarter of that.
    return Camera(_intrinsics(rng, 131.0), look_at(position, target, rng.normal(0, 0.03)))


def _wrist(rng: np.random.Generator) -> Camera:
    # A ZED Mini's left eye on the flange's +x side, tipped towards the fingertips: those then
    # come into the picture from below, as in DROID's own wrist views.
    tilt = np.radians(WRIST_TILT) + rng.normal(0, 0.02)
    c, s = np.cos(tilt), np.sin(tilt)
    # Columns: image right is the flange's +y, image down its -x, forward its z.
    level = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    tipped = level @ np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]])
    position = np.array(WRIST_POSITION) + rng.normal(0, 0.003, 3)
    return Camera(_intrinsics(rng, 0.57 * WIDTH), make_pose(tipped, position), on_wrist=True)


# m in the flange's frame, and degrees.
WRIST_POSITION = (0.07, -0.02, 0.02)
WRIST_TILT = 17.0


def _intrinsics(rng: np.random.Generator, focal: float) -> Floats:
    f = focal * rng.uniform(0.98, 1.02)
    cx, cy = np.array([WIDTH, HEIGHT]) / 2 + rng.normal(0, 2.5, 2)
    return intrinsics(f, f, cx, cy)

"""What stands around the things of a scene: lab, toy kitchens, counter, LIBERO's arena."""

from __future__ import annotations

import mujoco
import numpy as np

from simulation._geoms import SCENE_GROUP, add_box, add_material, paint
from simulation.layout import COLOURS, PLATE_THICKNESS, Layout, rotation_z

# z of the floor under a robot on a pedestal; under the Google robot it is where its wheels end.
_FLOOR, _WHEELS = -0.72, -0.0643


def furnish(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    """Furniture, the room and the goal, all fixed."""
    if layout.furniture == "lab":
        _lab(spec, layout, rng)
        _room(spec, rng, _FLOOR, ((1.5, 2.6), (1.5, 2.4), (1.2, 2.0), (1.5, 2.4)))
    elif layout.furniture == "arena":  # LIBERO's camera faces the robot from 1.3 m before it
        _lab(spec, layout, rng)
        _room(spec, rng, _FLOOR, ((2.2, 2.9), (1.5, 2.4), (1.2, 2.0), (1.5, 2.4)))
    elif layout.furniture == "kitchen":
        _kitchen(spec, layout, rng)
        _room(spec, rng, _WHEELS, ((1.9, 2.8), (1.6, 2.4), (1.2, 2.0), (1.6, 2.4)), middle=1.4)
    else:
        _desk(spec, layout, rng)
        if layout.furniture == "sink":
            _sink(spec, layout, rng)
        _room(spec, rng, _FLOOR, ((1.0, 2.0), (1.0, 2.0), (0.9, 1.6), (1.0, 2.0)))
    if layout.furniture == "drawer":
        _drawer(spec, layout, rng)
    else:
        spec.worldbody.add_geom(
            name="plate",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=layout.plate - [0, 0, PLATE_THICKNESS / 2],
            size=[layout.plate_radius, PLATE_THICKNESS / 2, 0],
            rgba=[*COLOURS[layout.plate_colour], 1],
            group=SCENE_GROUP,
        )


def _lab(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    table = layout.table
    near, far, half_width = rng.uniform(0.2, 0.24), rng.uniform(0.85, 1.05), rng.uniform(0.42, 0.6)
    thick = 0.02
    wood = add_material(spec, "table", rng, paint(rng, 0.3, 0.85), repeat=1.5)
    middle = (near + far) / 2
    add_box(spec, "table", [middle, 0, table - thick], [(far - near) / 2, half_width, thick], wood)
    leg = (table - 2 * thick - _FLOOR) / 2
    for x in (near + 0.05, far - 0.05):
        for y in (half_width - 0.05, 0.05 - half_width):
            add_box(spec, f"leg_{x:.2f}_{y:.2f}", [x, y, _FLOOR + leg], [0.025, 0.025, leg], wood)
    metal = add_material(spec, "pedestal", rng, paint(rng, 0.15, 0.5), repeat=1.0)
    add_box(spec, "pedestal", [-0.03, 0, _FLOOR / 2], [0.17, 0.16, -_FLOOR / 2], metal)


def _room(
    spec: mujoco.MjSpec,
    rng: np.random.Generator,
    floor: float,
    distances: tuple[tuple[float, float], ...],
    middle: float = 0.8,
) -> None:
    """Floor and four walls, ``distances`` (low, high) m from the robot; ``middle`` is their z."""
    ground = add_material(spec, "floor", rng, paint(rng, 0.2, 0.7), repeat=5.0)
    add_box(spec, "floor", [0, 0, floor - 0.05], [5, 5, 0.05], ground)
    # Each wall lies flat before it is turned, since flat textures run along a box's own xy.
    away = [rng.uniform(low, high) for low, high in distances]
    names, yaws = ("front", "left", "back", "right"), (0.0, np.pi / 2, np.pi, -np.pi / 2)
    for name, yaw, distance in zip(names, yaws, away, strict=True):
        cover = add_material(spec, f"wall_{name}", rng, paint(rng, 0.4, 0.9), repeat=3.0)
        upright = rotation_z(yaw) @ [[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]
        centre = rotation_z(yaw) @ [distance, 0, middle]
        add_box(spec, f"wall_{name}", centre, [2.0, 5.0, 0.02], cover, upright)
        # A cupboard or a picture before each wall, so that the room has depth.
        for k in range(2):
            size = rng.uniform([0.15, 0.15, 0.02], [0.6, 0.5, 0.3])
            offset = [distance - size[2], rng.uniform(-1.3, 1.3), rng.uniform(-0.4, 0.8)]
            colour = add_material(spec, f"{name}_{k}", rng, paint(rng, 0.1, 0.9, 0.5), repeat=1.0)
            add_box(spec, f"{name}_{k}", rotation_z(yaw) @ offset, size, colour, upright)


def _desk(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    """A desk on which the robot stands, on a block where the desk lies lower than its base."""
    thick = 0.02
    # Under a sink's bottom there is room for the sink itself.
    top = layout.table - (0.02 if layout.furniture == "sink" else 0.0)
    wood = add_material(spec, "desk", rng, paint(rng, 0.3, 0.85), repeat=2.0)
    far, half_width = rng.uniform(0.6, 0.8), rng.uniform(0.45, 0.6)
    centre = [(far - 0.35) / 2, 0, top - thick]
    add_box(spec, "desk", centre, [(far + 0.35) / 2, half_width, thick], wood)
    under = (top - 2 * thick - _FLOOR) / 2
    add_box(spec, "stand", [0.1, 0, _FLOOR + under], [0.3, 0.3, under], wood)
    metal = add_material(spec, "block", rng, paint(rng, 0.15, 0.5), repeat=1.0)
    add_box(spec, "block", [-0.03, 0, top / 2], [0.11, 0.085, -top / 2], metal)


def _sink(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    """A toy sink around the things: bottom, four walls with a rim, and a tap behind them."""
    (x0, y0), (x1, y1) = np.add(layout.room, [[-0.03], [0.03]])
    wall, height = 0.01, rng.uniform(0.05, 0.075)
    colour = np.array([0.62, 0.78, 0.86]) + rng.uniform(-0.12, 0.12, 3)
    plastic = add_material(spec, "sink", rng, colour, repeat=1.0)
    x, y, dx, dy = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    add_box(spec, "bottom", [x, y, layout.table - 0.005], [dx, dy, 0.005], plastic)
    middle, half = layout.table + height / 2 - 0.01, height / 2 + 0.01
    for name, centre, size in (
        ("near", [x0 - wall, y, middle], [wall, dy + 2 * wall, half]),
        ("far", [x1 + wall, y, middle], [wall, dy + 2 * wall, half]),
        ("right", [x, y0 - wall, middle], [dx, wall, half]),
        ("left", [x, y1 + wall, middle], [dx, wall, half]),
    ):
        add_box(spec, f"sink_{name}", centre, size, plastic)
        rim = [size[0] + 0.008, size[1] + 0.008, 0.004]
        add_box(spec, f"rim_{name}", [*centre[:2], layout.table + height], rim, plastic)
    steel = add_material(spec, "tap", rng, np.full(3, rng.uniform(0.45, 0.7)), repeat=1.0)
    side = float(rng.choice([-1.0, 1.0]))
    # In a corner, where it hides little of the bottom from any view.
    at = np.array([x1 + 0.035, y + side * (dy - 0.01), layout.table])
    add_box(spec, "tap", at + [0, 0, 0.07], [0.008, 0.008, 0.08], steel)
    add_box(spec, "spout", at + [-0.025, -0.02 * side, 0.145], [0.03, 0.008, 0.007], steel)


def _drawer(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    """An open drawer around the goal, pulled out of a low chest on the side away from the thing.

    Its bottom takes the plate's place.
    """
    half, wall, height = layout.plate_radius, 0.006, rng.uniform(0.03, 0.042)
    x, y, _ = layout.plate
    side = 1.0 if y > layout.things[0].world_from_thing[1, 3] else -1.0
    colour = np.array(COLOURS[layout.plate_colour])
    front = add_material(spec, "drawer", rng, 0.8 * colour + 0.1, repeat=1.0)
    wood = add_material(spec, "chest", rng, paint(rng, 0.35, 0.8, 0.3), repeat=1.0)
    bottom = PLATE_THICKNESS / 2
    add_box(spec, "plate", [x, y, layout.table + bottom], [half, half, bottom], wood)
    middle = layout.table + height / 2
    long, edge = half + wall, half + wall / 2
    add_box(spec, "drawer_a", [x - edge, y, middle], [wall / 2, long, height / 2], wood)
    add_box(spec, "drawer_b", [x + edge, y, middle], [wall / 2, long, height / 2], wood)
    face = [half + 0.012, wall, height / 2 + 0.006]
    add_box(spec, "front", [x, y - side * long, middle + 0.006], face, front)
    add_box(spec, "knob", [x, y - side * (long + 0.014), middle], [0.012, 0.009, 0.006], wood)
    deep, tall = 0.07, height / 2 + 0.02
    centre = [x, y + side * (half + deep + 2 * wall), layout.table + tall]
    add_box(spec, "chest", centre, [half + 0.03, deep, tall], front)


def _kitchen(spec: mujoco.MjSpec, layout: Layout, rng: np.random.Generator) -> None:
    """A counter before the robot, with doors below and a splashback behind."""
    near, far, half_width = rng.uniform(0.33, 0.38), rng.uniform(1.0, 1.15), rng.uniform(0.8, 1.2)
    thick = 0.02
    stone = add_material(spec, "counter", rng, paint(rng, 0.3, 0.9), repeat=2.0)
    middle = (near + far) / 2
    top = layout.table - thick
    add_box(spec, "counter", [middle, 0, top], [(far - near) / 2, half_width, thick], stone)
    wood = add_material(spec, "doors", rng, paint(rng, 0.35, 0.85, 0.3), repeat=1.0)
    half = (top - thick - _WHEELS) / 2
    body = [(far - near) / 2 - 0.015, half_width - 0.01, half]
    add_box(spec, "doors", [middle + 0.015, 0, _WHEELS + half], body, wood)
    tiles = add_material(spec, "tiles", rng, paint(rng, 0.5, 0.95), repeat=4.0)
    upright = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    add_box(
        spec, "splash", [far, 0, layout.table + 0.25], [0.27, half_width, 0.015], tiles, upright
    )
    for k in range(int(rng.integers(1, 3))):  # a tin or a toaster against the wall
        size = rng.uniform([0.05, 0.06, 0.06], [0.09, 0.16, 0.15])
        metal = add_material(spec, f"tin_{k}", rng, paint(rng, 0.15, 0.9, 0.5), repeat=1.0)
        y = (1.0 if k else -1.0) * rng.uniform(0.15, 0.55)
        add_box(spec, f"tin_{k}", [far - 0.03 - size[0], y, layout.table + size[2]], size, metal)

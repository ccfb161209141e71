"""Other looks for filmed twins: robots and lamps unlike those of `simulation`.

A localiser that learns from one robot's colours under one ceiling learns these; real ones differ.
Each look is drawn at random, by ``strength`` 0 to 1; 0 leaves everything as it is.
"""

from __future__ import annotations

from itertools import pairwise

import mujoco
import numpy as np
from numpy.typing import NDArray

from robots.models import RobotModel
from robots.surface import surface_points
from simulation._geoms import SCENE_GROUP

Floats = NDArray[np.floating]
CABLE = "cable"  # what cables' geoms are named after: no part of the robot's outline
_PLAIN = 0.15  # share of views that are left as they are
_TOLERANCE = 0.005, 0.0004  # of a mesh's size, and m of where a link sits, one sigma
_JOINT = 0.0035  # rad by which a joint is off, at most one sigma
_CABLE_RADIUS, _CABLE_GAP = (0.003, 0.009), 0.015  # m


def draw_strength(rng: np.random.Generator) -> float:
    """How far a view departs from what was there."""
    return 0.0 if rng.uniform() < _PLAIN else float(rng.uniform(0.3, 1))


def joint_errors(count: int, strength: float, rng: np.random.Generator) -> Floats:
    """(J,) rad by which a robot's joints are off, all the time."""
    return np.asarray(rng.uniform() * strength * _JOINT * rng.standard_normal(count))


def dress(
    spec: mujoco.MjSpec, robot: RobotModel, strength: float, rng: np.random.Generator
) -> None:
    """New paint, lamps, cables and small errors of shape for a scene before it is compiled."""
    if strength == 0:
        return
    _bend(spec, robot, strength, rng)
    _paint(spec, robot, strength, rng)
    _light(spec, strength, rng)
    if rng.uniform() < 0.5 * strength:
        _lay_cables(spec, robot, rng)


def _bend(
    spec: mujoco.MjSpec, robot: RobotModel, strength: float, rng: np.random.Generator
) -> None:
    size, place = (strength * value for value in _TOLERANCE)
    for mesh in spec.meshes:
        mesh.scale = np.array(mesh.scale) * (1 + size * rng.uniform(-1, 1))
    for name in robot.link_names[1:]:
        body = spec.body(name)
        body.pos = np.array(body.pos) + place * rng.standard_normal(3)


def _paint(
    spec: mujoco.MjSpec, robot: RobotModel, strength: float, rng: np.random.Generator
) -> None:
    """Each of the robot's materials anew; some geoms and links in colours of their own."""
    whole = _tint(rng, strength) * np.exp(strength * rng.uniform(-1.0, 0.15))
    apart = strength * rng.choice([0.0, 0.1, 0.4])  # share of links that look otherwise
    gloss = rng.uniform(size=2)
    made: dict[str, str] = {}
    for link in robot.link_names:
        body = spec.body(link)
        other = rng.uniform() < apart
        for geom in body.geoms:
            if geom.group != robot.visual_group:
                continue
            key = f"{link if other else ''}/{geom.material or np.round(geom.rgba, 3)}"
            if key not in made:
                made[key] = f"look{len(made)}"
                old = spec.material(geom.material) if geom.material else None
                colour = np.array(geom.rgba if old is None else old.rgba)[:3]
                if other:
                    colour = rng.uniform(0.02, 1) * _tint(rng, 1.0)
                elif rng.uniform() < 0.3 * strength:
                    colour = colour * _tint(rng, strength) * np.exp(rng.uniform(-0.7, 0.2))
                colour = np.clip(colour * whole, 0.015, 1)
                shine = np.clip(gloss + 0.3 * rng.uniform(-1, 1, 2), 0, 1)
                material = spec.add_material(
                    name=made[key],
                    rgba=[*colour, 1],
                    specular=strength * shine[0] + (1 - strength) * 0.5,
                    shininess=strength * shine[1] + (1 - strength) * 0.45,
                    emission=rng.choice([0, 0.15 * rng.uniform()]),
                )
                if other or rng.uniform() < 0.12 * strength:
                    _add_stickers(spec, material, rng)
                elif old is not None:
                    for role, name in enumerate(old.textures):
                        material.textures[role] = name
            geom.material = made[key]
            geom.rgba = [0.5, 0.5, 0.5, 1]  # MuJoCo's sign that the material's colour holds


def _add_stickers(
    spec: mujoco.MjSpec, material: mujoco.MjsMaterial, rng: np.random.Generator
) -> None:
    """Bands, checks or flecks in a colour of their own, over the material's."""
    kinds = mujoco.mjtBuiltin
    builtin = (kinds.mjBUILTIN_CHECKER, kinds.mjBUILTIN_GRADIENT, kinds.mjBUILTIN_FLAT)
    mark = rng.choice([0.0, 0.01, 0.05])
    spec.add_texture(
        name=material.name,
        type=mujoco.mjtTexture.mjTEXTURE_CUBE,
        builtin=builtin[int(rng.integers(3))],
        mark=mujoco.mjtMark.mjMARK_RANDOM if mark else mujoco.mjtMark.mjMARK_NONE,
        random=mark,
        markrgb=rng.uniform(0, 1, 3),
        rgb1=[1, 1, 1],
        rgb2=rng.uniform(0.1, 1, 3),
        width=32,
        height=192,
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = material.name


def _light(spec: mujoco.MjSpec, strength: float, rng: np.random.Generator) -> None:
    """Two to five lamps that share the light, from ambient alone to one hard lamp."""
    focus = np.array([0.4, 0.0, 0.1])
    for k in range(int(rng.integers(0, 4))):
        position = focus + rng.uniform([-2, -2, 0.6], [2, 2, 2.5])
        spec.worldbody.add_light(
            name=f"look{k}",
            pos=position,
            dir=focus - position,
            cutoff=rng.uniform(50, 90),
            exponent=rng.choice([0, 2, 8]),
            castshadow=bool(rng.uniform() < 0.3),
        )
    lights, head = list(spec.lights), spec.visual.headlight
    share = rng.dirichlet(np.full(len(lights) + 2, 0.8))
    total = 1.05 * np.exp(0.35 * rng.uniform(-1, 1))
    share = (1 - strength) / len(share) + strength * share
    colour = _tint(rng, 0.6 * strength)
    head.ambient = np.clip(total * (0.12 + share[0]), 0, 1) * colour
    head.diffuse = np.clip(total * share[1], 0, 1) * colour
    head.specular = [rng.uniform(0, 0.2)] * 3
    for light, part in zip(lights, share[2:], strict=True):
        light.diffuse = np.clip(1.3 * total * part, 0, 1) * _tint(rng, 0.6 * strength)
        light.specular = np.clip(2 * part * rng.uniform(0, 0.6), 0, 1) * np.ones(3)
    if rng.uniform() < 0.3 * strength:
        spec.light("lamp").castshadow = False


def _lay_cables(spec: mujoco.MjSpec, robot: RobotModel, rng: np.random.Generator) -> None:
    """Dark tubes along some links, through points near their surface."""
    points = surface_points(robot.name, 300)
    colour = [*(rng.choice([0.06, 0.15, 0.6]) * _tint(rng, 1.0)).clip(0, 1), 1]
    radius = rng.uniform(*_CABLE_RADIUS)
    for link in rng.permutation(np.unique(points.link))[: int(rng.integers(1, 4))]:
        own = np.flatnonzero(points.link == link)
        if len(own) < 4:
            continue
        first = rng.choice(own)
        near = own[np.argsort(np.linalg.norm(points.point[own] - points.point[first], axis=1))]
        way = near[[0, len(near) // 3, len(near) // 2]]
        path = points.point[way] + (radius + rng.uniform(0, _CABLE_GAP)) * points.normal[way]
        for k, (start, end) in enumerate(pairwise(path)):
            spec.body(robot.link_names[link]).add_geom(
                name=f"{CABLE}{link}-{k}",
                type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                fromto=[*start, *end],
                size=[radius, 0, 0],
                rgba=colour,
                group=SCENE_GROUP,
                contype=0,
                conaffinity=0,
            )


def _tint(rng: np.random.Generator, strength: float) -> Floats:
    """(3,) a colour about 1, mostly near grey."""
    size = strength * rng.choice([0.05, 0.15, 0.5], p=[0.5, 0.35, 0.15])
    return np.asarray(1 + size * rng.uniform(-1, 1, 3))

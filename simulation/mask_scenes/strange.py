"""What makes a twin's scene strange: the robot's colours, things at its hand, covers, cables."""

from __future__ import annotations

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import make_pose
from robots.models import RobotModel
from simulation._geoms import SCENE_GROUP
from simulation.depth_scenes.surroundings import Cover, cover, shape_body, texels_of
from simulation.film import parts_of_geoms
from simulation.mask_scenes.photographs import Photographs, draw_texels

Floats = NDArray[np.floating]
_COVERED = 0.5  # share of the surroundings' covers that are photographs
_RECOVERED = 0.3  # share of the scene's own geoms that are given one
_FASTENED = (0.35, 0.4, 0.25)  # shares of scenes with none, one or two things at the hand
_SMALL, _LARGE = 0.008, 0.06  # m, half extents of these
_LENGTH = 220.0  # pixels between the ends of a cable that begins and ends at the robot


def covers_of(photographs: Photographs | None) -> Cover:
    """Photographs for half of what stands around, `surroundings.cover`'s colours for the rest."""
    if photographs is None:
        return cover
    taken = photographs

    def draw(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
        if rng.uniform() < _COVERED:
            return draw_texels(taken, rng, height, width)
        return cover(rng, height, width)

    return draw


def recolour_robot(model: mujoco.MjModel, robot: RobotModel, rng: np.random.Generator) -> None:
    """Lighter or darker, with other shades and gloss; here and there of another colour."""
    its_own = parts_of_geoms(model, robot)[: model.ngeom] > 0
    materials = np.unique(model.geom_matid[its_own])
    gain = np.exp(rng.normal(0, 0.12))
    for material in materials[materials >= 0]:
        colour = model.mat_rgba[material, :3] * gain * np.exp(rng.normal(0, 0.1))
        colour = colour * np.exp(rng.normal(0, 0.04, 3)) + rng.uniform(0, 0.08)
        if rng.uniform() < 0.1:
            colour = colour + (rng.uniform(0, 1, 3) - colour) * rng.uniform(0, 0.7)
        model.mat_rgba[material, :3] = colour.clip(0, 1)
        model.mat_specular[material] = rng.uniform(0, 1)
        model.mat_shininess[material] = rng.uniform(0, 1)


def cover_scene(model: mujoco.MjModel, photographs: Photographs, rng: np.random.Generator) -> None:
    """Photographs on some of the things, tables and walls that the scene shows."""
    for geom in np.flatnonzero(model.geom_group == SCENE_GROUP):
        material = model.geom_matid[geom]
        if material < 0 or rng.uniform() >= _RECOVERED:
            continue
        for texture in model.mat_texid[material]:
            if texture >= 0:
                texels = texels_of(model, texture)
                texels[:] = draw_texels(photographs, rng, *texels.shape[:2])


def fasten_things(
    model: mujoco.MjModel, around: dict[str, Floats], rng: np.random.Generator, covers: Cover
) -> dict[str, Floats]:
    """Up to two things beside the wrist, which are no part of the robot: cameras, mounts, tape.

    Args:
        around: as of `draw_surroundings`; of what it left out, these are taken.

    Returns:
        ee_from_thing (4, 4) by body.
    """
    spare = [
        name
        for name, pose in around.items()
        if "lying" in name and "built" not in name and pose[2] < -50
    ]
    held = {}
    for name in spare[: int(rng.choice(3, p=_FASTENED))]:
        half = np.exp(rng.uniform(np.log(_SMALL), np.log(_LARGE), 3))
        shape_body(model, rng, name, half, covers)
        azimuth, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.09)
        turn = Rotation.from_euler("zyx", [azimuth, *rng.normal(0, 0.3, 2)]).as_matrix()
        at = [away * np.cos(azimuth), away * np.sin(azimuth), rng.uniform(-0.2, -0.05)]
        held[name] = make_pose(turn, np.array(at))
    return held


def draw_cables(
    picture: NDArray[np.uint8], robot: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(H, W, 3) with one to four cables, most of them dark and hanging on the robot.

    Args:
        picture: (H, W, 3), twice as fine as it will be; lengths below are in its pixels.
        robot: (H, W), where it is seen. Cables count as what they hide.
    """
    height, width = picture.shape[:2]
    out = np.array(picture)
    there = np.argwhere(robot)[:, ::-1].astype(float)
    for _ in range(int(rng.integers(1, 5))):
        loose = not len(there) or rng.uniform() < 0.3
        if loose:
            first = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        else:
            first = there[rng.integers(len(there))]
        if rng.uniform() < 0.6 and len(there):
            span = there[rng.integers(len(there))] - first
            last = first + span * min(1.0, _LENGTH / max(float(np.linalg.norm(span)), 1e-9))
        else:
            last = first + rng.normal(0, 160, 2)
        second, third = (first + (last - first) * s + rng.normal(0, 35, 2) for s in (0.33, 0.66))
        curve = _bezier(first, second, third, last)
        wide = int(rng.integers(2, 9))
        colour = _cable_colour(rng)
        _draw_curve(out, curve, colour, wide)
        if rng.uniform() < 0.5 and wide > 3:  # what shines along it
            bright = [min(255.0, value + rng.uniform(10, 60)) for value in colour]
            _draw_curve(out, curve - [0.2 * wide, 0.25 * wide], bright, max(1, wide // 4))
    return out


def _bezier(first: Floats, second: Floats, third: Floats, last: Floats) -> Floats:
    t = np.linspace(0, 1, 40)[:, None]
    return np.asarray(
        (1 - t) ** 3 * first
        + 3 * (1 - t) ** 2 * t * second
        + 3 * (1 - t) * t * t * third
        + t**3 * last
    )


def _cable_colour(rng: np.random.Generator) -> list[float]:
    """Two of three grey ones are dark; a fifth of all have any colour."""
    grey = rng.choice([rng.uniform(5, 50), rng.uniform(5, 50), rng.uniform(60, 230)])
    if rng.uniform() < 0.8:
        return [float(value) for value in (grey + rng.normal(0, 12, 3)).clip(0, 255)]
    return [float(value) for value in rng.uniform(0, 255, 3)]


def _draw_curve(picture: NDArray[np.uint8], curve: Floats, colour: list[float], wide: int) -> None:
    bits = 3  # of a pixel's fractions
    points = np.round(curve * 2**bits).astype(np.int32)
    cv2.polylines(picture, [points], False, colour, wide, cv2.LINE_AA, bits)

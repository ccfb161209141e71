"""Boxes and textured materials for a scene's `mujoco.MjSpec`."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d.geometry import quaternion_from_matrix
from simulation.textures import draw_pattern

# Panda's visual meshes are in group 1 and its collision shapes, which must not be seen, in 0; the
# other robots' visual meshes share this group, and their collision shapes are in 3.
SCENE_GROUP = 2


def paint(
    rng: np.random.Generator, darkest: float, lightest: float, saturation: float = 0.12
) -> NDArray[np.floating]:
    """A colour (3,) as a room has it: a grey with a tint."""
    return rng.uniform(darkest, lightest) + saturation * rng.uniform(-0.5, 0.5, 3)


def add_box(
    spec: mujoco.MjSpec,
    name: str,
    centre: ArrayLike,
    half: ArrayLike,
    material: str,
    rotation: ArrayLike | None = None,
) -> None:
    """A box of half extents ``half`` (3,) m at ``centre`` (3,), turned by ``rotation`` (3, 3)."""
    turn = np.eye(3) if rotation is None else np.asarray(rotation)
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=centre,
        size=half,
        quat=quaternion_from_matrix(turn),
        material=material,
        group=SCENE_GROUP,
    )


def add_material(
    spec: mujoco.MjSpec,
    name: str,
    rng: np.random.Generator,
    colour: NDArray[np.floating],
    repeat: float,
) -> str:
    """A material with a pattern drawn around ``colour``; its name."""
    pattern = draw_pattern(rng, colour)
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=pattern.shape[1],
        height=pattern.shape[0],
        nchannel=3,
        data=pattern.ravel(),
    )
    return named_material(spec, name, repeat, specular=rng.uniform(0.0, 0.2))


def named_material(spec: mujoco.MjSpec, name: str, repeat: float, specular: float) -> str:
    """A material over the texture of the same name; its name."""
    material = spec.add_material(
        name=name, specular=specular, shininess=0.4, texrepeat=[repeat, repeat]
    )
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return name

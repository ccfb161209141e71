"""A hand at work, as the camera on it sees it: it points down at things, and may hold one.

Frames are no film: each draws anew what the hand holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# rad, standard deviations of a Panda's joints; what 2 and 4 turn the hand by, 6 takes back.
_SPREAD = np.array([0.45, 0.3, 0.1, 0.35, 0.1, 0.1, 0.9])
_HOLDS, _UNDER = 0.6, 0.5  # shares: hands that hold something, wide things that are moved under it
OPEN = 0.04  # m that each finger of a Panda's is moved by at most, along the hand's y
_GRIP = 0.103  # m from a Panda's hand to its fingertips
_NARROW, _LONG = 0.045, 0.13  # m, half extents of what fits between fingers
_CORNERS = np.array(list(product((-1, 1), repeat=3)))


def working_joints(rng: np.random.Generator, rest: Floats) -> Floats:
    """Joints (7,) in rad of a Panda whose hand points about as it does in ``rest``."""
    turn = rng.normal(0, _SPREAD)
    turn[5] += turn[1] - turn[3]
    return np.asarray(rest + turn)


@dataclass(frozen=True)
class Held:
    """What a hand holds.

    Attributes:
        name: joint, or body where that is moved freely.
        pose: (7,) in the scene's world.
        opening: m that each finger is moved by: as far as the thing reaches, but for `OPEN`.
    """

    name: str
    pose: Floats
    opening: float


def hold_something(
    data: mujoco.MjData, layout: dict[str, Floats], hand: Floats, rng: np.random.Generator
) -> Held | None:
    """One thing of ``layout`` between the fingers, or nothing.

    Args:
        data: the scene, its kinematics computed.
        layout: poses (7,) by joint, or by body where that is moved freely.
        hand: (4, 4) pose in the scene's world of the body whose z points to the fingertips and
            along whose y the fingers move.
    """
    reaches = {name: _reach(data, name) for name in layout if not name.startswith("around_")}
    things = [name for name, reach in reaches.items() if _fits(reach)]
    if not things or rng.uniform() > _HOLDS:
        return None
    name = str(rng.choice(things))
    pose = layout[name].copy()
    # Most are held by their upper end, and stay as upright as they stood.
    pose[:3] = (hand @ [0.0, 0.0, _GRIP + rng.uniform(-0.01, 0.07), 1.0])[:3]
    turn, tilted = np.empty(4), np.empty(4)
    axis = np.append(rng.normal(0, 0.15, 2), rng.uniform(-np.pi, np.pi))
    angle = float(np.linalg.norm(axis))
    mujoco.mju_axisAngle2Quat(turn, axis / angle, angle)
    mujoco.mju_mulQuat(tilted, turn, pose[3:])
    pose[3:] = tilted
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, tilted)
    across = np.abs(axes.reshape(3, 3).T @ hand[:3, 1])
    return Held(name, pose, min(float(across @ reaches[name]), OPEN))


def move_under(
    around: dict[str, Floats], centre: Floats, spread: Floats, rng: np.random.Generator
) -> dict[str, Floats]:
    """Some of what lies beside the workplace, moved into it: poses (7,) by name.

    Args:
        around: as of `surroundings.draw_surroundings`.
        centre, spread: (2,) m, of where a hand works.
    """
    out = {}
    for name, pose in around.items():
        if name.startswith("around_lying") and pose[2] > -1 and rng.uniform() < _UNDER:
            out[name] = pose.copy()
            out[name][:2] = centre + rng.uniform(-1, 1, 2) * spread
    return out


def _reach(data: mujoco.MjData, name: str) -> Floats:
    """(3,) m from a body's origin along its axes, either way, that what is shown of it reaches.

    Shown are geoms of group 1, of the body and of those that hang on it; nan for nothing.
    """
    model = data.model
    if name.startswith("extra"):
        body = model.body(name).id
    else:
        body = model.jnt_bodyid[model.joint(name).id]
    shown = np.flatnonzero((model.body_rootid[model.geom_bodyid] == body) & (model.geom_group == 1))
    if not len(shown):
        return np.full(3, np.nan)
    centre, half = model.geom_aabb[shown, :3], model.geom_aabb[shown, 3:]
    corners = centre[:, None] + half[:, None] * _CORNERS
    turn = data.geom_xmat[shown].reshape(-1, 3, 3)
    world = np.einsum("gij,gcj->gci", turn, corners) + data.geom_xpos[shown, None]
    own = (world - data.xpos[body]) @ data.xmat[body].reshape(3, 3)
    return np.asarray(np.abs(own).max((0, 1)))


def _fits(reach: Floats) -> bool:
    """Between the fingers; not where ``reach`` (3,) is nan."""
    _, middle, longest = np.sort(reach)
    return bool(middle < _NARROW and longest < _LONG)

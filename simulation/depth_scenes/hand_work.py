"""A hand at work, as the camera on it sees it: it points down at things, and may hold one."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# rad, standard deviations of a Panda's joints; what 2 and 4 turn the hand by, 6 takes back.
_SPREAD = np.array([0.45, 0.3, 0.1, 0.35, 0.1, 0.1, 0.9])
_HOLDS, _UNDER = 0.6, 0.5  # shares: hands that hold something, wide things that are moved under it
_GRIP = 0.103  # m from a Panda's hand to its fingertips
_NARROW, _LONG = 0.045, 0.13  # m, half extents of what fits between fingers


def working_joints(rng: np.random.Generator, rest: Floats) -> Floats:
    """Joints (7,) in rad of a Panda whose hand points about as it does in ``rest``."""
    turn = rng.normal(0, _SPREAD)
    turn[5] += turn[1] - turn[3]
    return np.asarray(rest + turn)


def hold_something(
    model: mujoco.MjModel,
    layout: dict[str, Floats],
    hand: Floats,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """One thing of ``layout`` between the fingers, or nothing: its new pose (7,) by its name.

    Args:
        layout: poses (7,) by joint, or by body where that is moved freely.
        hand: (4, 4) pose in the scene's world of the body whose z points to the fingertips.
    """
    things = [name for name in layout if _fits(model, name)]
    if not things or rng.uniform() > _HOLDS:
        return {}
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
    return {name: pose}


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


def _fits(model: mujoco.MjModel, name: str) -> bool:
    if name.startswith("around_"):
        return False
    if name.startswith("extra"):
        body = model.body(name).id
    else:
        body = model.jnt_bodyid[model.joint(name).id]
    shown = (model.body_rootid[model.geom_bodyid] == body) & (model.geom_group == 1)
    if not shown.any():
        return False
    half = np.sort(model.geom_aabb[shown, 3:], axis=1)
    return bool(half[:, 1].max() < _NARROW and half[:, 2].max() < _LONG)

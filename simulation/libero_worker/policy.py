"""A scripted pick and place: where to grasp, the phases of the motion, and the command of a step.

Positions are of the gripper's grip site in LIBERO's world, metres; z is up. A grasp comes from
above; its `yaw` turns the closing direction, which is the world's y at 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OPEN, CLOSE = -1.0, 1.0
# A command of 1 asks OSC_POSE for 0.05 m or 0.5 rad (robosuite's controllers/config/osc_pose.json).
METRES, RADIANS = 0.05, 0.5
# Panda hand: fingers open to 0.08 m; what is wider than this leaves them no room to come down.
_WIDEST = 0.076
_FINGER = 0.02  # a finger's thickness along the closing direction, with some play
# The grip site's frame at yaw 0: its x, along which the fingers close, is the world's y; z is down.
_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


@dataclass(frozen=True)
class Thing:
    """An object of the scene, as the simulator knows it.

    Attributes:
        position: (3,) origin of its body, or of its site.
        corners: (N,3) corners of its collision boxes; none for a site.
    """

    name: str
    position: Array
    corners: Array

    @property
    def top(self) -> float:
        return float(self.corners[:, 2].max()) if len(self.corners) else float(self.position[2])

    @property
    def bottom(self) -> float:
        return float(self.corners[:, 2].min()) if len(self.corners) else float(self.position[2])

    def span(self, direction: Array) -> tuple[float, float]:
        """Least and greatest coordinate along a horizontal unit vector (2,)."""
        along = self.corners[:, :2] @ direction
        return float(along.min()), float(along.max())


@dataclass(frozen=True)
class Grasp:
    """Where the grip site closes (3,), and the yaw of the closing direction (rad)."""

    position: Array
    yaw: float


@dataclass(frozen=True)
class Phase:
    """One leg: go to `target` (3,) at `yaw` with the gripper commanded; leave when there, or late.

    Attributes:
        steps: fewest and most steps to stay.
        tolerance: distance at which the target counts as reached, m.
    """

    name: str
    target: Array
    yaw: float
    gripper: float
    steps: tuple[int, int]
    tolerance: float = 0.01


def closing_direction(yaw: float) -> Array:
    """Horizontal unit vector (2,) along which the fingers close."""
    return np.array([-np.sin(yaw), np.cos(yaw)])


def grasp_across(thing: Thing, others: list[Thing]) -> Grasp:
    """Grasp of a solid thing: across its narrow side, below its top.

    Raises:
        ValueError: it is wider than the gripper in every direction.
    """
    best: tuple[float, Grasp] | None = None
    z = max(thing.top - min(0.04, 0.5 * (thing.top - thing.bottom)), thing.bottom + 0.012)
    for yaw in np.radians(np.arange(-90, 90, 15)):
        closing = closing_direction(yaw)
        across = np.array([closing[1], -closing[0]])
        low, high = thing.span(closing)
        if high - low > _WIDEST:
            continue
        centre = closing * (low + high) / 2 + across * sum(thing.span(across)) / 2
        grasp = Grasp(np.array([*centre, z]), float(yaw))
        room = min(_room(centre + side * closing * 0.05, z, others) for side in (-1, 1))
        cost = (high - low) + 0.01 * abs(yaw) + 2 * max(0.0, _FINGER - room)
        if best is None or cost < best[0]:
            best = cost, grasp
    if best is None:
        raise ValueError(f"{thing.name} is wider than {_WIDEST} m in every direction")
    return best[1]


def grasp_rim(bowl: Thing, others: list[Thing]) -> Grasp:
    """Grasp of a bowl by its rim: one finger inside, one outside, where there is room."""
    radius = _rim_radius(bowl)
    z = bowl.top - 0.012
    best: tuple[float, Grasp] | None = None
    for angle in np.radians(np.arange(0, 360, 30)):
        outward = np.array([np.cos(angle), np.sin(angle)])
        yaw = angle % np.pi - np.pi / 2  # half a turn closes along the same line
        room = _room(bowl.position[:2] + outward * (radius + 0.045), z, others)
        cost = 0.02 * abs(yaw) + 2 * max(0.0, 2 * _FINGER - room)
        if best is None or cost < best[0]:
            place = np.array([*(bowl.position[:2] + outward * radius), z])
            best = cost, Grasp(place, float(yaw))
    assert best is not None
    return best[1]


def _rim_radius(bowl: Thing) -> float:
    """Middle of the wall near the top: corners of the boxes that make the rim straddle it."""
    rim = bowl.corners[bowl.corners[:, 2] > bowl.top - 0.015]
    return float(np.linalg.norm(rim[:, :2] - bowl.position[:2], axis=1).mean())


def _room(point: Array, z: float, others: list[Thing]) -> float:
    """Horizontal distance from ``point`` (2,) to the nearest other thing that reaches up to z."""
    room = np.inf
    for other in others:
        if other.top > z - 0.02 and len(other.corners):
            low, high = other.corners[:, :2].min(0), other.corners[:, :2].max(0)
            outside = np.maximum(np.maximum(low - point, point - high), 0)
            room = min(room, float(np.linalg.norm(outside)))
    return room


def plan_pick(thing: Thing, grasp: Grasp, lift: float) -> list[Phase]:
    """Approach, descend, grasp and lift by ``lift`` metres."""
    above = grasp.position + [0, 0, max(0.10, thing.top - grasp.position[2] + 0.06)]
    return [
        Phase("approach", above, grasp.yaw, OPEN, (5, 50), 0.02),
        Phase("descend", grasp.position, grasp.yaw, OPEN, (5, 30), 0.006),
        Phase("grasp", grasp.position, grasp.yaw, CLOSE, (14, 14)),
        Phase("lift", grasp.position + [0, 0, lift], grasp.yaw, CLOSE, (5, 30), 0.03),
    ]


def plan_place(grip: Array, yaw: float, held: Array, rest: Array) -> list[Phase]:
    """Carry, lower, release and retreat.

    Args:
        grip: (3,) grip site after the lift.
        yaw: keep this.
        held: (3,) where the held thing's body is then.
        rest: (3,) where it should be when the gripper opens.
    """
    down = rest + (grip - held)
    over = np.array([*down[:2], max(grip[2], down[2] + 0.05)])
    return [
        Phase("carry", over, yaw, CLOSE, (5, 50), 0.012),
        Phase("lower", down, yaw, CLOSE, (5, 35), 0.008),
        Phase("release", down, yaw, OPEN, (8, 8)),
        Phase("retreat", down + [0, 0, 0.12], yaw, OPEN, (5, 15), 0.02),
    ]


def command(phase: Phase, grip: Array, rotation: Array) -> Array:
    """(7,) action towards the phase's target: OSC_POSE deltas in -1..1, then the gripper.

    Args:
        grip: (3,) grip site now.
        rotation: (3,3) of the grip site now, world from site.
    """
    move = (phase.target - grip) / METRES
    move /= max(1.0, float(np.abs(move).max()))  # shorten, but keep the direction
    cos, sin = np.cos(phase.yaw), np.sin(phase.yaw)
    wanted = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ _DOWN
    turn = np.clip(_rotation_vector(wanted @ rotation.T) / RADIANS, -0.6, 0.6)
    return np.array([*move, *turn, phase.gripper])


def reached(phase: Phase, grip: Array, steps: int) -> bool:
    """Whether to go to the next phase after ``steps`` in this one."""
    fewest, most = phase.steps
    near = float(np.linalg.norm(phase.target - grip)) < phase.tolerance
    return steps >= most or (steps >= fewest and near)


def _rotation_vector(rotation: Array) -> Array:
    """(3,) axis times angle of a (3,3) rotation; angles near pi do not occur here."""
    axis = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(axis)) / 2
    if sine < 1e-9:
        return np.zeros(3)
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    return axis / (2 * sine) * angle

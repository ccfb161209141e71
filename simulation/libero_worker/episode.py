"""One episode: the script with its noise, step by step, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .noise import Disturbance, Noise
from .outcome import CRITERION, Outcome
from .policy import (
    Array,
    Grasp,
    Phase,
    Thing,
    command,
    grasp_across,
    grasp_rim,
    plan_pick,
    plan_place,
    reached,
)
from .stage import Look, Stage

POLICY = "scripted pick and place with the simulator's object poses"


@dataclass(frozen=True)
class Recording:
    """One episode of T steps, as the file holds it.

    Attributes:
        states: (T,S) before each action; time, qpos, qvel.
        actions: (T,7).
        robot_states: (T,9) after each action: fingers, position, quaternion (xyzw) of the hand.
        obs: (T,...) each, after each action.
        record: what `robo4d_rollout` says of it.
    """

    states: Array
    actions: Array
    robot_states: Array
    obs: dict[str, NDArray[Any]]
    model_xml: str
    outcome: Outcome
    record: dict[str, Any]


def run_episode(stage: Stage, noise: Noise, start: int) -> Recording:
    """Reset to initial state ``start`` (modulo their number) and run the script with ``noise``."""
    start = stage.reset(start)
    _, name, target = stage.goal()
    work = _Run(stage, Disturbance(noise), name)
    lay = stage.position(name)[2]
    thing, goal = stage.thing(name), stage.thing(target)
    grasp = _choose_grasp(thing, stage.others(name))
    over = max(thing.top, goal.top) + 0.10 - thing.bottom
    shifted = Grasp(grasp.position + work.disturbance.offset("grasp_bias"), grasp.yaw)
    for phase in plan_pick(thing, shifted, over):
        work.follow(phase)
    held, (grip, _) = stage.thing(name), stage.grip()
    rest = _resting_place(stage, held, target) + work.disturbance.offset("place_bias")
    for phase in plan_place(grip, grasp.yaw, held.position, rest):
        work.follow(phase)
    end = stage.position(name)
    gap = float(np.linalg.norm((end - stage.thing(target).position)[:2]))
    outcome = Outcome(stage.success(), gap, float(work.highest - lay))
    record = {
        "policy": POLICY,
        "noise_type": noise.kind,
        "noise_strength": noise.strength,
        "seed": list(noise.stream),
        "initial_state": start,
        "result": outcome.result,
        **asdict(outcome),
        "near_miss": CRITERION,
    }
    looks = work.looks
    return Recording(
        states=np.stack(work.states),
        actions=np.stack(work.actions),
        robot_states=np.stack([look.robot for look in looks]),
        obs={key: np.stack([look.obs[key] for look in looks]) for key in looks[0].obs},
        model_xml=stage.model_xml(),
        outcome=outcome,
        record=record,
    )


class _Run:
    """The steps of an episode so far."""

    def __init__(self, stage: Stage, disturbance: Disturbance, name: str) -> None:
        self.stage, self.disturbance, self._name = stage, disturbance, name
        self.states: list[Array] = []
        self.actions: list[Array] = []
        self.looks: list[Look] = []
        self.highest = -np.inf

    def follow(self, phase: Phase) -> None:
        steps = 0
        grip, rotation = self.stage.grip()
        while not reached(phase, grip, steps):
            action = self.disturbance.disturb(command(phase, grip, rotation), phase, grip)
            self.states.append(self.stage.state())
            self.actions.append(action)
            self.looks.append(self.stage.step(action))
            self.highest = max(self.highest, self.stage.position(self._name)[2])
            grip, rotation = self.stage.grip()
            steps += 1


def _choose_grasp(thing: Thing, others: list[Thing]) -> Grasp:
    return grasp_rim(thing, others) if "bowl" in thing.name else grasp_across(thing, others)


def _resting_place(stage: Stage, held: Thing, target: str) -> Array:
    """(3,) of the held thing's origin when it is let go over the target."""
    goal = stage.thing(target)
    below = held.position[2] - held.bottom  # of the origin over its lowest point
    if "contain_region" in target:  # from above its rim, or the hand strikes it
        rim = stage.thing(target.removesuffix("_contain_region")).top
        return np.array([*goal.position[:2], rim + below - 0.04])
    return np.array([*goal.position[:2], goal.position[2] + below + 0.01])

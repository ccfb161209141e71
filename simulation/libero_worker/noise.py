"""What is done to the script so that it fails, or nearly does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .policy import OPEN, Phase

Array = NDArray[np.float64]

# Strengths from weak to strong.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "jitter": (0.1, 0.45, 0.9),  # standard deviation of each motion command, 1 is 0.05 m
    "grasp_bias": (0.01, 0.03, 0.05),  # m, horizontal
    "place_bias": (0.015, 0.05, 0.11),  # m, horizontal
    "late_gripper": (3, 8, 16),  # steps by which its command lags
    "early_release": (0.02, 0.08, 0.16),  # opens this far (m, horizontal) before the place
    "dropped_commands": (0.2, 0.7, 0.9),  # chance that a step's motion is not commanded
}


@dataclass(frozen=True)
class Noise:
    """One kind of noise at one strength; ``stream`` seeds what it draws."""

    kind: str
    strength: float
    stream: tuple[int, ...]


@dataclass
class Disturbance:
    """A `Noise` at work over one episode; it keeps the commands that lag."""

    noise: Noise
    _random: np.random.Generator = field(init=False)
    _grippers: list[float] = field(default_factory=list, init=False)
    _opened: bool = field(default=False, init=False)
    bias: Array = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.noise.stream)
        angle = self._random.uniform(0, 2 * np.pi)
        self.bias = self.noise.strength * np.array([np.cos(angle), np.sin(angle), 0.0])

    def offset(self, kind: str) -> Array:
        """(3,) error of a target: of ``grasp_bias`` or ``place_bias``."""
        return self.bias if self.noise.kind == kind else np.zeros(3)

    def disturb(self, action: Array, phase: Phase, grip: Array) -> Array:
        """The (7,) action that is sent instead of the script's."""
        action = action.copy()
        kind, strength = self.noise.kind, self.noise.strength
        self._grippers.append(float(action[6]))
        if kind == "jitter":
            action[:3] += self._random.normal(0, strength, 3)
        elif kind == "dropped_commands" and self._random.random() < strength:
            action[:6] = 0
        elif kind == "late_gripper":
            action[6] = self._grippers[max(0, len(self._grippers) - 1 - int(strength))]
        elif kind == "early_release" and phase.name == "carry":
            self._opened |= float(np.linalg.norm((phase.target - grip)[:2])) < strength
        if self._opened:
            action[6] = OPEN
        return np.clip(action, -1, 1)


def draw_noise(seed: int, index: int) -> Noise:
    """The noise of episode ``index`` of the rollout of ``seed``.

    Of four episodes one is clean, one weakly, one middling and one strongly disturbed, each by
    another kind; the seed shuffles the kinds. So a short rollout, too, has successes and failures.
    """
    kinds = np.random.default_rng(seed).permutation(list(STRENGTHS)).tolist()
    level = index % 4
    if level == 0:
        return Noise("none", 0.0, (seed, index))
    kind = str(kinds[(index // 4 * 3 + level) % len(kinds)])
    return Noise(kind, STRENGTHS[kind][level - 1], (seed, index))

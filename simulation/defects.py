"""What goes wrong between a camera and a log, put into a twin where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.reasons import UsageError
from simulation.film import Film


@dataclass(frozen=True)
class Defects:
    """How images depart from the log beside them. The truth goes with the images.

    Attributes:
        latency: (least, most) steps by which all views of an episode lag behind its log; drawn
            from the twin's seed, for each episode anew.
        dropped: share of frames that a view loses; the one before stays in their place.
    """

    latency: tuple[int, int] = (0, 0)
    dropped: float = 0.0

    def __post_init__(self) -> None:
        least, most = self.latency
        if least < 0:
            raise UsageError(f"latency is {least} steps; images cannot come before what they show")
        if most < least:
            raise UsageError(f"latency is from {least} to {most} steps; give the lesser one first")
        if not 0 <= self.dropped < 1:
            raise UsageError(f"dropped is {self.dropped}; expected a share from 0 up to 1")

    def __bool__(self) -> bool:
        return self != Defects()

    def spoil(
        self, films: dict[str, Film], seed: int, index: int
    ) -> tuple[dict[str, Film], dict[str, dict[str, Any]]]:
        """The films of episode ``index`` with these defects, and which they are, by camera.

        Facts: ``latency_steps``, and ``dropped_steps``, those that show the frame before.
        """
        if not self:
            return films, {}
        rng = np.random.default_rng([seed, index, 11])
        late = int(rng.integers(self.latency[0], self.latency[1] + 1))
        spoilt, facts = {}, {}
        for name, film in films.items():
            steps = np.arange(len(film.frames))
            lost = rng.random(len(steps)) < self.dropped
            lost[0] = False  # there is none before
            held = np.maximum.accumulate(np.where(lost, 0, steps))
            spoilt[name] = film.showing(np.maximum(held - late, 0))
            facts[name] = {
                "latency_steps": late,
                "dropped_steps": np.flatnonzero(lost).tolist(),
            }
        return spoilt, facts

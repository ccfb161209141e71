"""Whether a robot's base is driven about, by what it was told, and when it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.episode import Episode

# Columns of actions, whatever the action's name: m and rad from a step to the next, in the base's
# own frame (RT-1's are the only ones so far).
_SHIFTS, _TURN = ("base_dx", "base_dy"), "base_dyaw"
# m and rad in a step up to which a base stands: a millimetre at one metre, or a milliradian, is a
# fifth of a pixel of RT-1's 320, and the images are asked too.
_STANDS = 1e-3


@dataclass(frozen=True)
class BaseMotion:
    """What an episode's base was told.

    Attributes:
        metres, radians: length of its way, and turns whichever way added up.
        driven: (T,) bool: it is told to move from this step to the next.
    """

    metres: float
    radians: float
    driven: NDArray[np.bool_]

    @property
    def moved(self) -> bool:
        """Whether it was told to move at all."""
        return bool(self.driven.any())

    def describe(self) -> dict[str, Any]:
        """For the sample's metadata."""
        return {
            "base_moved": self.moved,
            "metres": self.metres,
            "radians": self.radians,
            "driven_steps": int(self.driven.sum()),
        }

    def standing(self, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """(first, past) spans, parted where the base is driven within them."""
        out = []
        for first, past in spans:
            cuts = first + 1 + np.flatnonzero(self.driven[first : past - 1])
            edges = [first, *cuts.tolist(), past]
            out += list(pairwise(edges))
        return out


def base_motion(episode: Episode) -> BaseMotion | None:
    """How the base was driven; None where the source has no action for it.

    What it was told is all that there is: no source logs where its base stood.
    """
    columns = {
        column: values[:, i]
        for name, values in episode.actions.items()
        for i, column in enumerate(episode.action_columns[name])
    }
    if not {*_SHIFTS, _TURN} <= columns.keys():
        return None
    shift = np.hypot(*(columns[name] for name in _SHIFTS)).astype(np.float64)
    turn = np.abs(columns[_TURN]).astype(np.float64)
    return BaseMotion(float(shift.sum()), float(turn.sum()), (shift > _STANDS) | (turn > _STANDS))

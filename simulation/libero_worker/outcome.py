"""How an episode ended."""

from __future__ import annotations

from dataclasses import dataclass

# A failure is a near miss if the thing was picked up and ended this close to its target: it lies
# half on the plate, leans on the basket, or was let go just beside it. m, horizontal.
NEAR = 0.12
LIFTED = 0.03
CRITERION = f"not a success, lifted more than {LIFTED} m, distance less than {NEAR} m"


@dataclass(frozen=True)
class Outcome:
    """`success` is the environment's own check after the last step.

    Attributes:
        distance: horizontal, of the object's origin to the target's at the end, m.
        lifted: the most that the object rose above where it lay, m.
    """

    success: bool
    distance: float
    lifted: float

    @property
    def result(self) -> str:
        """``success``, ``near_miss`` or ``failure``."""
        if self.success:
            return "success"
        return "near_miss" if self.distance < NEAR and self.lifted > LIFTED else "failure"

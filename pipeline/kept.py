"""Reconstructed parts of a view as arrays and json, and back: what `pipeline.staging` keeps."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.camera import CameraChoice
from reconstruction.lift import Lifted
from schemas.episode import Calibration, Provenance

# Of a lifted clip, what the part ``robot`` holds; the part ``depth`` holds all else.
_OF_ROBOT = ("K", "base_from_camera", "robot_depth", "robot_part")
# What `Lifted` says by field.
_BY_FIELD = ("fields", "provenance", "reasons")


@dataclass(frozen=True)
class Kept:
    """One part of a view as it is kept.

    Attributes:
        arrays: by name; those of three dimensions and more have time first.
        facts: json values.
    """

    arrays: dict[str, NDArray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def keep_choice(choice: CameraChoice) -> Kept:
    """A camera with all that is known of it."""
    kept = Kept()
    for one in fields(choice):
        value = getattr(choice, one.name)
        if isinstance(value, Calibration):
            kept.arrays[f"{one.name}.K"] = value.K
            kept.arrays[f"{one.name}.base_from_camera"] = value.base_from_camera
            kept.facts[one.name] = str(value.provenance)
        elif isinstance(value, np.ndarray):
            kept.arrays[one.name] = value
        else:
            kept.facts[one.name] = value
    return kept


def choice_from(kept: Kept) -> CameraChoice:
    """What `keep_choice` was given."""
    values: dict[str, Any] = {**kept.facts, "sections": tuple(kept.facts["sections"])}
    for name, array in kept.arrays.items():
        whole, _, of = name.partition(".")
        if not of:
            values[name] = array
        elif of == "K":
            pose = kept.arrays[f"{whole}.base_from_camera"]
            values[whole] = Calibration(array, pose, Provenance(kept.facts[whole]))
    return CameraChoice(**values)


def keep_lifted(lifted: Lifted) -> tuple[Kept, Kept]:
    """A lifted clip as its parts ``robot`` and ``depth``."""
    robot, depth = _some(lifted, True), _some(lifted, False)
    others = [one.name for one in fields(lifted) if one.name not in _BY_FIELD]
    depth.facts["others"] = {name: getattr(lifted, name) for name in others}
    return robot, depth


def lifted_from(robot: Kept, depth: Kept) -> Lifted:
    """What `keep_lifted` was given."""
    provenance = {**robot.facts["provenance"], **depth.facts["provenance"]}
    return Lifted(
        fields={**robot.arrays, **depth.arrays},
        provenance={name: Provenance(value) for name, value in provenance.items()},
        reasons={**robot.facts["reasons"], **depth.facts["reasons"]},
        **depth.facts["others"],
    )


def _some(lifted: Lifted, of_robot: bool) -> Kept:
    def chosen(values: dict[str, Any]) -> dict[str, Any]:
        return {name: v for name, v in values.items() if (name in _OF_ROBOT) == of_robot}

    provenance = {name: str(value) for name, value in chosen(lifted.provenance).items()}
    said = {"provenance": provenance, "reasons": chosen(lifted.reasons)}
    return Kept(chosen(lifted.fields), said)

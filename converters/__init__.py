"""Converters: one module per source and layout, each yields `schemas.episode.Episode`.

A converter only reads. Solving joints, checking kinematics and estimating anything is done
later, in `reconstruction` and `pipeline.checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from converters import bridge, droid
from converters.rlds import Record, RldsDataset
from schemas.episode import Episode
from schemas.reasons import UsageError, did_you_mean


@dataclass(frozen=True)
class Source:
    """One source as it is published.

    Attributes:
        layout: name of the layout, recorded in the plan.
        required: features without which a folder is not this source.
        robot: name in `robots.models.ROBOTS`.
        convert: one decoded record to an `Episode`; raises `EpisodeError` for a bad one.
    """

    layout: str
    required: tuple[str, ...]
    robot: str
    convert: Callable[[Record, RldsDataset, float | None], Episode]


SOURCES: dict[str, Source] = {
    "droid": Source("rlds", droid.REQUIRED, droid.ROBOT, droid.convert),
    "bridge": Source("rlds", bridge.REQUIRED, bridge.ROBOT, bridge.convert),
}


def get_source(name: str) -> Source:
    """The source called ``name``.

    Raises:
        UsageError: unknown, with the nearest name.
    """
    if name not in SOURCES:
        raise UsageError(did_you_mean("source", name, SOURCES))
    return SOURCES[name]

"""Converters: one module per source and layout, each yields `schemas.episode.Episode`.

A converter only reads. Solving joints, checking kinematics and estimating anything is done
later, in `reconstruction` and `pipeline.checks`.
"""

from __future__ import annotations

from collections.abc import Callable

from converters import bridge, droid, rt1
from converters.bridge_raw import is_bridge_raw, open_bridge_raw
from converters.droid_raw import is_droid_raw, open_droid_raw
from converters.rlds import holds_rlds, open_rlds
from converters.source import OpenedSource, RldsSource
from schemas.reasons import UsageError, did_you_mean


def _open_droid(data: str) -> OpenedSource:
    if not holds_rlds(data) and is_droid_raw(data):
        return open_droid_raw(data)
    return RldsSource(open_rlds(data, droid.REQUIRED), droid.convert)


def _open_bridge(data: str) -> OpenedSource:
    if not holds_rlds(data) and is_bridge_raw(data):
        return open_bridge_raw(data)
    return RldsSource(open_rlds(data, bridge.REQUIRED), bridge.convert)


def _open_rt1(data: str) -> OpenedSource:
    return RldsSource(open_rlds(data, rt1.REQUIRED), rt1.convert)


SOURCES: dict[str, Callable[[str], OpenedSource]] = {
    "droid": _open_droid,
    "bridge": _open_bridge,
    "rt1": _open_rt1,
}


def check_source(name: str) -> None:
    """Raises `UsageError` for an unknown source, with the nearest name."""
    if name not in SOURCES:
        raise UsageError(did_you_mean("source", name, SOURCES))


def open_source(name: str, data: str) -> OpenedSource:
    """Open the data set at ``data`` (a folder or fsspec URL) as one of ``SOURCES``.

    Raises:
        UsageError: unknown source, or no such data set there.
    """
    check_source(name)
    return SOURCES[name](data)


__all__ = ["SOURCES", "OpenedSource", "check_source", "open_source"]

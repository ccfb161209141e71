"""Converters: one module per source and layout, each yields `schemas.episode.Episode`.

A converter only reads. Solving joints, checking kinematics and estimating anything is done
later, in `reconstruction` and `pipeline.checks`.
"""

from __future__ import annotations

from collections.abc import Callable

from converters import bridge, droid
from converters.rlds import open_rlds
from converters.source import OpenedSource, RldsSource
from schemas.reasons import UsageError, did_you_mean


def _open_droid(data: str) -> OpenedSource:
    return RldsSource(open_rlds(data, droid.REQUIRED), droid.convert)


def _open_bridge(data: str) -> OpenedSource:
    return RldsSource(open_rlds(data, bridge.REQUIRED), bridge.convert)


SOURCES: dict[str, Callable[[str], OpenedSource]] = {"droid": _open_droid, "bridge": _open_bridge}


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

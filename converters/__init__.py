"""Converters: one module per source and layout, each yields `schemas.episode.Episode`.

A converter only reads. Solving joints, checking kinematics and estimating anything is done
later, in `reconstruction` and `pipeline.checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import robots  # noqa: F401  chooses the OpenGL before a converter imports MuJoCo
from converters import bridge, droid, rt1
from converters.bridge_raw import is_bridge_raw, open_bridge_raw
from converters.droid_calibration import read_calibration
from converters.droid_raw import is_droid_raw, open_droid_raw
from converters.rlds import holds_rlds, open_rlds
from converters.source import OpenedSource, RldsSource
from schemas.config import SourceConfig
from schemas.reasons import UsageError, did_you_mean


def _open_droid(data: str, settings: SourceConfig) -> OpenedSource:
    if not holds_rlds(data) and is_droid_raw(data):
        own = settings.droid
        return open_droid_raw(data, own.annotations, trust_order=own.trust_order)
    folder = settings.droid.annotations
    if folder is None:
        return _rlds(data, droid)
    annotations = read_calibration(Path(folder))
    return replace(
        _rlds(data, droid),
        convert=partial(droid.convert, annotations=annotations),
        joined=annotations.sha256,
        join_notes=tuple(annotations.notes),
    )


def _open_bridge(data: str, settings: SourceConfig) -> OpenedSource:
    if not holds_rlds(data) and is_bridge_raw(data):
        return open_bridge_raw(data)
    return _rlds(data, bridge)


def _open_rt1(data: str, settings: SourceConfig) -> OpenedSource:
    return _rlds(data, rt1)


def _rlds(data: str, module: ModuleType) -> RldsSource:
    return RldsSource(
        open_rlds(data, module.REQUIRED),
        module.convert,
        grouped_by=module.GROUPED_BY,
        groups_of=module.groups,
    )


def _open_libero(data: str, settings: SourceConfig) -> OpenedSource:
    from converters import libero_demo, libero_rlds  # they alone need MuJoCo to read

    if holds_rlds(data):
        return _rlds(data, libero_rlds)
    return libero_demo.open_libero_demo(data, settings.libero)


SOURCES: dict[str, Callable[[str, SourceConfig], OpenedSource]] = {
    "droid": _open_droid,
    "bridge": _open_bridge,
    "rt1": _open_rt1,
    "libero": _open_libero,
}


def check_source(name: str) -> None:
    """Raises `UsageError` for an unknown source, with the nearest name."""
    if name not in SOURCES:
        raise UsageError(did_you_mean("source", name, SOURCES))


def open_source(
    name: str, data: str, settings: SourceConfig | None = None, *, grouped: bool = False
) -> OpenedSource:
    """Open the data set at ``data`` (a folder or fsspec URL) as one of ``SOURCES``.

    Args:
        grouped: refs name their scene, lab and task even where only the records tell.

    Raises:
        UsageError: unknown source, or no such data set there.
    """
    check_source(name)
    opened = SOURCES[name](data, settings or SourceConfig())
    return replace(opened, grouped=True) if grouped and isinstance(opened, RldsSource) else opened


__all__ = ["SOURCES", "OpenedSource", "check_source", "open_source"]

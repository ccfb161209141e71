"""What both layouts of LIBERO share: its robot, rate and names."""

from __future__ import annotations

import re

from schemas.reasons import EpisodeError, Reason

ROBOT = "panda_libero"
RATE = 20.0  # Hz; robosuite's default control_freq, which LIBERO keeps
LICENCE = "CC-BY-4.0"
CITATION = (
    "Liu et al., LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning, NeurIPS 2023"
)
ACTION_COLUMNS = {"action": ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")}
SUFFIX = "_demo.hdf5"
_SCENE = re.compile(r"([A-Z_]+_SCENE\d+)_")


def scene_of(stem: str) -> str:
    """The scene that LIBERO-100 puts into its tasks' names; else empty."""
    scene = _SCENE.match(stem)
    return scene.group(1) if scene else ""


def safe_name(value: str) -> str:
    """Part of an identity.

    Raises:
        EpisodeError: `BAD_IDENTITY`, it could not stand in a path.
    """
    if not re.fullmatch(r"[\w.+,() -]{1,200}", value) or set(value) <= {"."}:
        raise EpisodeError(Reason.BAD_IDENTITY, f"{value[:60]!r} cannot name a task or its suite")
    return value

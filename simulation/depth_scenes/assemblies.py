"""Trays, racks, shelves, tables and ladders: hollow, slatted or on legs, of five boxes each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
BOXES = 5


def draw_assembly(rng: np.random.Generator, half: Floats) -> tuple[Floats, Floats]:
    """Boxes that make something of half extents ``half`` (3,) m about its centre.

    Returns:
        Their centres and half extents, each (5, 3) m.
    """
    thick = rng.uniform(0.004, 0.12) * half.min() + 0.002
    made = (_tray, _rack, _shelf, _table, _ladder)[int(rng.integers(5))](rng, half, thick)
    return np.array([centre for centre, _ in made]), np.array([size for _, size in made])


def _sides(half: Floats, thick: float) -> list[tuple[list[float], list[float]]]:
    x, y, z = half
    return [
        ([x - thick, 0, 0], [thick, y, z]),
        ([-x + thick, 0, 0], [thick, y, z]),
    ]


def _tray(rng: np.random.Generator, half: Floats, thick: float) -> list:
    """A bottom and four walls."""
    x, y, z = half
    return [
        *_sides(half, thick),
        ([0, y - thick, 0], [x, thick, z]),
        ([0, -y + thick, 0], [x, thick, z]),
        ([0, 0, -z + thick], [x, y, thick]),
    ]


def _rack(rng: np.random.Generator, half: Floats, thick: float) -> list:
    """Five slats side by side, at the bottom."""
    x, y, z = half
    share = rng.uniform(0.2, 0.9)
    places = (np.arange(BOXES) - (BOXES - 1) / 2) * 2 * x / BOXES
    high = min(z, 2 * thick)
    return [([at, 0, high - z], [share * x / BOXES, y, high]) for at in places]


def _shelf(rng: np.random.Generator, half: Floats, thick: float) -> list:
    """Two sides, a back, a bottom, and a board between."""
    x, y, z = half
    return [
        *_sides(half, thick),
        ([0, -y + thick, 0], [x, thick, z]),
        ([0, 0, -z + thick], [x, y, thick]),
        ([0, 0, rng.uniform(-0.5, 0.9) * z], [x, y, thick]),
    ]


def _table(rng: np.random.Generator, half: Floats, thick: float) -> list:
    """A board on four legs."""
    x, y, z = half
    legs = [(a * (x - thick), b * (y - thick)) for a in (-1, 1) for b in (-1, 1)]
    return [
        *(([u, v, 0], [thick, thick, z]) for u, v in legs),
        ([0, 0, z - thick], [x, y, thick]),
    ]


def _ladder(rng: np.random.Generator, half: Floats, thick: float) -> list:
    """Two posts, and three rungs between them."""
    x, _, z = half
    high = rng.uniform(0.03, 0.25) * z
    rungs = [
        ([0, 0, at * z], [x, thick, high])
        for at in rng.uniform([-0.75, -0.25, 0.25], [-0.25, 0.25, 0.75])
    ]
    return [*(([at, 0, 0], [thick, 2 * thick, z]) for at in (x - thick, thick - x)), *rungs]

"""Line charts as a PNG, drawn with OpenCV, which the build needs anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

_WIDTH, _HEIGHT = 460, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 15, 35, 45
# Okabe and Ito's, told apart by the colour-blind; BGR.
_COLOURS = (
    (178, 114, 0),
    (0, 94, 213),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (60, 60, 60),
)
_FONT, _SMALL, _LARGE = cv2.FONT_HERSHEY_SIMPLEX, 0.38, 0.45


@dataclass(frozen=True)
class Chart:
    """Lines over one axis; y runs from 0 to 1.

    Attributes:
        lines: name -> (x, y) points, in the order in which they are joined.
        even: x values are set out evenly and written as they are, not to scale.
    """

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    even: bool = True


def write_charts(path: Path, charts: Sequence[Chart], columns: int = 2) -> None:
    """All charts in rows of ``columns`` as one PNG."""
    drawn = [_draw(chart) for chart in charts]
    drawn += [np.full_like(drawn[0], 255)] * (-len(drawn) % columns)
    rows = [np.concatenate(drawn[i : i + columns], 1) for i in range(0, len(drawn), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.concatenate(rows)):
        raise OSError(f"OpenCV could not write {path}: its name must end in .png")


def _draw(chart: Chart) -> np.ndarray:
    image = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    values = sorted({x for line in chart.lines.values() for x, _ in line})
    ticks = values if chart.even else [0.0, 0.25, 0.5, 0.75, 1.0]
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[int, int]:
        share = values.index(x) / max(len(values) - 1, 1) if chart.even else x
        return round(_LEFT + share * across), round(_TOP + (1 - y) * down)

    _text(image, chart.title, (_LEFT, 20), _LARGE)
    _text(image, chart.x_label, (_LEFT + across // 3, _HEIGHT - 8), _SMALL)
    for y in (0, 0.25, 0.5, 0.75, 1):
        row = round(_TOP + (1 - y) * down)
        cv2.line(image, (_LEFT, row), (_WIDTH - _RIGHT, row), (225, 225, 225), 1)
        _text(image, f"{y:g}", (10, row + 4), _SMALL)
    # Of many, ten or fewer: each takes some of the width.
    for x in ticks[:: -(-len(ticks) // 10)]:
        _text(image, f"{x:.3g}", (at(x, 0)[0] - 8, _HEIGHT - _BOTTOM + 16), _SMALL)
    for i, (name, line) in enumerate(chart.lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        points = np.array([at(x, y) for x, y in line], np.int32)
        cv2.polylines(image, [points], False, colour, 2, cv2.LINE_AA)
        if chart.even:
            for point in points:
                cv2.circle(image, point.tolist(), 3, colour, -1, cv2.LINE_AA)
        row = _TOP + down - 12 - 16 * (len(chart.lines) - 1 - i)
        cv2.line(image, (_LEFT + 10, row - 4), (_LEFT + 30, row - 4), colour, 2)
        _text(image, name, (_LEFT + 36, row), _SMALL)
    return image


def _text(image: np.ndarray, text: str, where: tuple[int, int], size: float) -> None:
    cv2.putText(image, text, where, _FONT, size, (40, 40, 40), 1, cv2.LINE_AA)

"""The accuracy board on the command line: its table, and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.reasons import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qa.depth_board import Look, Row
    from qa.depth_clips import DepthClip

_WIDTH = 200
# Heading, figure, and how it is written: lengths of clouds in mm, shares in %.
_COLUMNS = (
    ("known %", "known", 100, "{:.0f}"),
    ("AbsRel", "abs_rel", 1, "{:.3f}"),
    ("RMSE m", "rmse", 1, "{:.3f}"),
    ("d<1.25", "delta1", 1, "{:.3f}"),
    ("acc mm", "accuracy", 1000, "{:.1f}"),
    ("compl mm", "completeness", 1000, "{:.1f}"),
    ("CD-L1 mm", "chamfer_l1", 1000, "{:.1f}"),
    ("CD-L2 m2", "chamfer_l2", 1, "{:.2g}"),
    ("F 1cm", "f_score_1cm", 1, "{:.2f}"),
    ("F 2cm", "f_score", 1, "{:.2f}"),
    ("F 5cm", "f_score_5cm", 1, "{:.2f}"),
    ("normal deg", "normal_deg", 1, "{:.1f}"),
    ("edge F1", "edge_f1", 1, "{:.2f}"),
    ("flicker %", "temporal", 100, "{:.2f}"),
    ("robot mm", "robot_residual", 1000, "{:.1f}"),
)


def print_board(rows: list[Row]) -> None:
    """A table for each data; figures that nothing was found for are dashes."""
    # Cut columns would hide figures: what is wider than its terminal wraps whole lines.
    out = Console(highlight=False, width=max(Console().width, _WIDTH))
    for data in dict.fromkeys(row.data for row in rows):
        table = Table(
            "backend", "alignment", "clips", "failed", title=escape(data), box=SIMPLE_HEAD
        )
        for heading, *_ in _COLUMNS:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in (row for row in rows if row.data == data):
            values = [
                "-" if (value := getattr(row.score, name)) is None else form.format(unit * value)
                for _, name, unit, form in _COLUMNS
            ]
            table.add_row(
                row.backend, row.alignment, str(row.clips), str(row.failed or ""), *values
            )
        out.print(table)


def picture_writer(folder: Path, data: str) -> Look:
    """Writes FOLDER/DATA-KEY-BACKEND-ALIGNMENT.png of each clip.

    Raises:
        UsageError: the folder or a file cannot be written.
    """
    import cv2

    from qa.depth_pictures import depth_sheet

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--pictures {folder} cannot be made: {error}") from error
    head = "".join(c if c.isalnum() else "_" for c in data).strip("_")[-40:]

    def write(clip: DepthClip, backend: str, how: str, depth: NDArray) -> None:
        path = folder / f"{head}-{clip.key}-{backend}-{how}.png"
        if not cv2.imwrite(str(path), depth_sheet(clip, depth)[..., ::-1]):
            raise UsageError(f"cannot write {path}; is there room, and may you write there?")

    return write

"""The body of `robo4d overlay`: pictures of samples with the robot drawn over them, as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
from rich.markup import escape

from jobs._show import say
from qa.overlay import camera_facts, contact_sheet, film, robot_rows
from robo4d import Dataset, FieldAbsentError, Robo4dError, Sample
from robo4d._video import encode_rgb
from schemas.reasons import UsageError


def draw_samples(
    data: Dataset, key: str | None, out: Path, limit: int, drawn: Callable[[int], None]
) -> dict[str, Any]:
    """Write a contact sheet and a film of each sample that has a camera.

    Args:
        key: the one sample; None takes them in order until ``limit`` are drawn.
        drawn: called with the number drawn so far.

    Returns what the command prints as JSON: files written, samples skipped with why, and how many
    lie behind the limit.

    Raises:
        UsageError: a sample is damaged, ``out`` cannot be written, or a robot cannot be rendered.
    """
    written: list[dict[str, str]] = []
    skipped: list[dict[str, str]] = []
    samples: Iterator[Sample] = iter(data) if key is None else iter([data[key]])
    for sample in samples:
        try:
            written.append(_draw(sample, out))
        except FieldAbsentError as error:
            skipped.append({"key": sample.key, "reason": str(error)})
        except Robo4dError as error:
            raise UsageError(f"sample {sample.key}: {error}") from error
        drawn(len(written))
        if len(written) == limit:
            break
    asked = len(data) if key is None else 1
    unseen = asked - len(written) - len(skipped)
    return {"written": written, "skipped": skipped, "not_looked_at": unseen}


def print_drawn(done: dict[str, Any]) -> None:
    for item in done["written"]:
        say.print(f"{item['sheet']}  {item['video']}  {escape(item['camera'])}", soft_wrap=True)
    for reason, count in Counter(item["reason"] for item in done["skipped"]).items():
        say.print(f"[yellow]no picture[/] of {count} sample(s): {escape(reason)}", soft_wrap=True)
    if done["not_looked_at"]:
        say.print(f"{done['not_looked_at']} more sample(s) not looked at: raise --limit")


def _draw(sample: Sample, out: Path) -> dict[str, str]:
    rows = robot_rows(sample)
    sheet, video = out / f"{sample.key}.png", out / f"{sample.key}.mp4"
    _, png = cv2.imencode(".png", contact_sheet(sample, rows)[..., ::-1])
    mp4 = encode_rgb(film(sample, rows), sample.meta["fps"])
    try:
        out.mkdir(parents=True, exist_ok=True)
        sheet.write_bytes(png.tobytes())
        video.write_bytes(mp4)
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error}; choose another --out") from error
    facts = camera_facts(sample.meta)
    return {
        "key": sample.key,
        "camera": " ".join(str(facts[k]) for k in ("name", "verdict") if k in facts),
        "sheet": str(sheet),
        "video": str(video),
    }

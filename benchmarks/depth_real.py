"""How good estimated depth is on real clips, where nobody knows the true one.

    python -m benchmarks.depth_real BUILD --frames 8 --pictures out/depth-real --json out/real.json

BUILD is a folder of shards; of it every sample with a solved camera. Four judges:

- the robot: depth at held-back pixels of the robot against its joints, of the estimate as it says,
  times one scale by all of the robot's pixels (those that judge, too), and after
  `anchor_scale.anchor_estimate`. An estimator may use what it is told of the robot (`RobotView`),
  so this is not independent of it;
- the other cameras of the same episode at the same steps (`qa/cross_view.py`, which says how hidden
  points are treated: strict counts all, seen leaves out what is hidden). Robot pixels take no part.
  It is independent, but consistency, not truth: see there for what it cannot see, and compare
  with the base's plane z = 0, which agrees with itself and is wrong about all that stands on it;
- points that pictures from several places show, triangulated by the cameras (`qa/triangulated.py`):
  independent, and nearest to truth, but few, where there is texture. All frames of the episode are
  searched, whatever --frames says; a view with fewer than 20 points is not judged by them;
- rest: how much depth changes from frame to frame where nothing moves.

Baselines in the same run: one depth everywhere (constant) and the base's plane (base_plane).
Cross-view figures need both views' depth; where anchoring refused one there is none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks._common import print_header, print_table, write_json
from benchmarks._real_views import (
    ANCHORED,
    View,
    Way,
    read_episodes,
    robot_figures,
    ways_to_metres,
)
from qa.cross_view import Agreement, compare_views
from qa.depth_backends import open_backends
from qa.depth_clips import choose_samples
from qa.point_pictures import point_sheet
from qa.triangulated import FEWEST, compare_points
from robo4d import Dataset

Rows = list[dict[str, Any]]

_BASELINES = ("constant", "base_plane")


def main() -> None:
    """Judge, print three tables, write pictures and numbers."""
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("build", metavar="BUILD", help="folder or URL of shards")
    parse.add_argument("--backend", default="pointmap", help="depth backend (pointmap)")
    parse.add_argument("--model", help="its checkpoint; default: the one that comes along")
    parse.add_argument("--frames", type=int, help="neighbouring steps of each episode; all")
    parse.add_argument("--pictures", type=Path, metavar="DIR", help="a sheet a sample, as jpg")
    parse.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    args = parse.parse_args()
    if args.frames is not None and args.frames < 1:
        parse.error(f"--frames is {args.frames}; expected 1 or more")
    backends = open_backends(list(dict.fromkeys((args.backend, *_BASELINES))), args.model)
    samples = choose_samples(Dataset(args.build))
    report: dict[str, Any] = {"machine": print_header(f"Depth on real clips of {args.build}")}
    views: Rows = []
    pairs: Rows = []
    for episode, members in read_episodes(samples, args.frames):
        for name, backend in backends.items():
            found: list[tuple[View, list[Way]]] = []
            for view in members:
                estimator = backend(view.clip)
                if estimator is None:
                    continue
                estimate = estimator(view.clip.rgb, view.clip.K, view.clip.robot())
                ways = ways_to_metres(estimate, view)
                found.append((view, ways))
                views += _judge_view(episode, name, view, ways)
                if args.pictures is not None and name == args.backend:
                    _save(args.pictures, episode, view, ways)
            pairs += _judge_pairs(episode, name, found)
    report |= {"views": views, "pairs": pairs}
    _print_views(views)
    _print_points(views)
    _print_pairs(pairs)
    write_json(args.json, report)


def _judge_view(episode: str, backend: str, view: View, ways: list[Way]) -> Rows:
    facts = {
        "episode": episode,
        "key": view.clip.key,
        "camera": view.camera,
        "kind": view.kind,
        "frames": len(view.clip.rgb),
        "points": len(view.points.depth),
        "backend": backend,
    }
    rows: Rows = []
    for way in ways:
        row = facts | {"way": way.name, "reason": way.reason}
        if way.depth is not None:
            row |= robot_figures(way.depth, view)
            row |= _named("point", compare_points(way.depth, view.points))
        rows.append(row)
    return rows


def _judge_pairs(episode: str, backend: str, found: list[tuple[View, list[Way]]]) -> Rows:
    rows: Rows = []
    for (a, ways_a), (b, ways_b) in permutations(found, 2):
        for one, other in zip(ways_a, ways_b, strict=True):
            facts = {
                "episode": episode,
                "from": a.camera,
                "to": b.camera,
                "kind": f"{a.kind} > {b.kind}",
                "backend": backend,
                "way": one.name,
            }
            if one.depth is None or other.depth is None:
                rows.append(facts | {"reason": one.reason or other.reason})
                continue
            got = compare_views(a.posed(one.depth), b.posed(other.depth))
            figures = _named("strict", got.strict) | _named("seen", got.seen)
            shares = {"hidden": got.hidden, "before": got.before}
            rows.append(facts | {"reason": ""} | figures | shares)
    return rows


def _named(what: str, figures: Agreement | None) -> dict[str, float]:
    found = {} if figures is None else asdict(figures)
    return {f"{what}_{name}": value for name, value in found.items()}


def _save(folder: Path, episode: str, view: View, ways: list[Way]) -> None:
    """Of the last way that gave depth: anchored, or what the robot refused, and says so."""
    folder.mkdir(parents=True, exist_ok=True)
    given = [way for way in ways if way.depth is not None]
    if not given:
        return
    way = given[-1]
    refused = next((w.reason for w in ways if w.name == ANCHORED and w.depth is None), "")
    title = f"{view.clip.name}: {way.name}" + (f" (refused: {refused})" if refused else "")
    assert way.depth is not None
    sheet = point_sheet(view.clip, way.depth, title)
    path = folder / f"{view.clip.key}-{view.camera}.jpg"
    if not cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"cannot write {path}; is there room, and may you write there?")


def _print_views(rows: Rows) -> None:
    print("At held-back robot pixels, and where nothing moves; means over the views with depth.\n")
    figures = (
        ("known %", "known", 100),
        ("median mm", "median_m", 1000),
        ("p90 mm", "p90_m", 1000),
        ("within 5 %, %", "right", 100),
        ("flicker %", "flicker", 100),
    )
    _print(rows, "views", figures)


def _print_points(rows: Rows) -> None:
    print("Against triangulated points; means over the views with depth, and 20 points or more.\n")
    _print([row for row in rows if row["points"] >= FEWEST], "views", _columns("point"))


def _print_pairs(rows: Rows) -> None:
    print("Points of one camera against another's depth; means over pairs with depth in both.\n")
    shares = (("hidden %", "hidden", 100), ("before %", "before", 100))
    _print(rows, "pairs", [*_columns("strict"), *_columns("seen"), *shares])


def _columns(what: str) -> list[tuple[str, str, int]]:
    return [
        (f"{what} {heading}", f"{what}_{name}", unit)
        for heading, name, unit in (
            ("pixels", "pixels", 1),
            ("median %", "median", 100),
            ("signed %", "signed", 100),
            ("within 5 %, %", "within_5", 100),
            ("within 10 %, %", "within_10", 100),
        )
    ]


def _print(rows: Rows, what: str, figures: Sequence[tuple[str, str, int]]) -> None:
    by = ("kind", "backend", "way")
    table = []
    for key in sorted(dict.fromkeys(tuple(row[name] for name in by) for row in rows), key=_first):
        some = [row for row in rows if tuple(row[name] for name in by) == key]
        solved = [row for row in some if not row["reason"]]
        values = [_mean(solved, name, unit) for _, name, unit in figures]
        table.append([*key, f"{len(solved)} of {len(some)}", *values])
    print_table((*by, what, *(heading for heading, *_ in figures)), table)


def _first(key: tuple[str, ...]) -> str:
    return key[0]


def _mean(rows: Rows, name: str, unit: int) -> float | str:
    there = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(there) * unit) if there else ""


if __name__ == "__main__":
    main()

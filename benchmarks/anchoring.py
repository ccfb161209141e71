"""How well the robot's depth turns relative depth into metres, where the truth is known.

Clips of the twins of DROID (two fixed cameras and the wrist's), Bridge and RT-1 get relative depth
of unknown scale and shift that drift from frame to frame: exact but for that, with a network's
errors (`benchmarks/_anchor_films.py`), and with these and a board that passes before the robot.
Beside `anchor_depth` stand what one would otherwise write, one scale for the clip and least squares
in each frame, and least squares in each frame to the true scene, which no method can have: what it
leaves is the network's own.

    python -m benchmarks.anchoring --films out/anchor-films --json out/anchoring.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._anchor_films import Spoiling, TrueClip, occluded, relative_depth, true_clips
from benchmarks._common import parser, print_header, print_table, write_json
from reconstruction.anchor import Numbers, anchor_depth
from reconstruction.mask import visible_robot

Depths = NDArray[np.float32]
_KINDS: tuple[Numbers, ...] = ("inverse", "depth")
_DRIFT = Spoiling("inverse")
_NETWORK = replace(_DRIFT, fixed=0.01, fresh=0.004, fine=0.004, blur=1.0)
_CASES = {"drift": (_DRIFT, False), "network": (_NETWORK, False), "board": (_NETWORK, True)}
_WAYS = ("anchored", "least squares a frame", "one scale a clip", "truth's least squares")


def main() -> None:
    parse = parser(__doc__)
    parse.add_argument("--films", type=Path, default=Path("out/anchor-films"))
    parse.add_argument("--seeds", type=int, nargs="+", default=[21])
    parse.add_argument("--episodes", type=int, nargs=3, default=[6, 3, 3], metavar=("D", "B", "R"))
    args = parse.parse_args()
    report: dict[str, Any] = {"machine": print_header("Relative depth anchored to the robot")}
    found: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    for source, count in zip(("droid", "bridge", "rt1"), args.episodes, strict=True):
        for number, (name, clip) in enumerate(true_clips(args.films, source, args.seeds, count)):
            view = source if clip.static else f"{source} wrist"
            for case, (spoiling, board) in _CASES.items():
                shown = occluded(clip, number) if board else clip
                for kind in _KINDS:
                    how = replace(spoiling, kind=kind)
                    facts = {"clip": name, "view": view, "case": case, "kind": kind}
                    relative = relative_depth(shown, how, number)
                    rows, visible = _compare(shown, relative, kind)
                    found += [facts | row for row in rows]
                    masks.append(facts | visible)
    report |= {"depth": found, "masks": masks}
    _print(found, masks)
    write_json(args.json, report)


def _compare(
    clip: TrueClip, relative: Depths, kind: Numbers
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    start = time.perf_counter()
    anchored = anchor_depth(relative, kind, clip.robot_depth, clip.rgb, camera_rests=clip.static)
    seconds = time.perf_counter() - start
    raw = _flicker(clip, _oracle(clip, relative, kind, [slice(None)]))
    frames = [slice(t, t + 1) for t in range(len(relative))]
    ways: dict[str, Depths] = {
        "anchored": anchored.depth,
        "least squares a frame": _per_frame(clip, relative, kind),
        "one scale a clip": _one_scale(clip, relative, kind),
        "truth's least squares": _oracle(clip, relative, kind, frames),
    }
    rows: list[dict[str, Any]] = []
    for way, depth in ways.items():
        if way == "anchored" and not anchored.metric:
            rows.append({"way": way, "seconds": seconds, **anchored.describe()})
            continue
        row = {
            "way": way,
            **_errors(clip, depth),
            "steadier": raw / max(_flicker(clip, depth), 1e-7),
        }
        if way == "anchored":
            trust = anchored.confidence > 127
            row |= {
                "seconds": seconds,
                **anchored.describe(),
                "trusted": float(trust[clip.depth > 0].mean()),
                "trusted_scene": _errors(clip, np.where(trust, depth, 0))["scene"],
            }
        rows.append(row)
    robot = clip.robot_depth > 0
    seen = {
        "amodal": robot,
        "exact depth": visible_robot(clip.robot_depth, clip.depth),
        "margin": visible_robot(clip.robot_depth, anchored.depth),
        "tolerance": visible_robot(clip.robot_depth, anchored.depth, noise=anchored.noise),
        "guided": visible_robot(
            clip.robot_depth, anchored.depth, noise=anchored.noise, rgb=clip.rgb
        ),
    }
    return rows, {way: _iou(mask, clip.robot_visible) for way, mask in seen.items()}


def _x(depth: Depths, kind: Numbers) -> Depths:
    """Depth or its inverse; both ways."""
    with np.errstate(divide="ignore"):
        return depth if kind == "depth" else np.where(depth > 0, 1 / depth, 0)


def _one_scale(clip: TrueClip, relative: Depths, kind: Numbers) -> Depths:
    """The median over robot pixels of true over relative."""
    at = (clip.robot_depth > 0) & (relative > 0)
    return _x(relative * np.median(_x(clip.robot_depth, kind)[at] / relative[at]), kind)


def _per_frame(clip: TrueClip, relative: Depths, kind: Numbers) -> Depths:
    """Scale and shift to all robot pixels of each frame."""
    x = np.zeros_like(relative)
    for out, frame, robot in zip(x, relative, clip.robot_depth, strict=True):
        at = (robot > 0) & (frame > 0)
        if np.count_nonzero(at) > 1:
            # In float64: polyfit takes float32's precision for the rank of what it fits.
            line = np.polyfit(frame[at].astype(float), _x(robot, kind)[at], 1)
            out[:] = np.polyval(line, frame)
    return _x(np.where(relative > 0, x, 0), kind)


def _oracle(clip: TrueClip, relative: Depths, kind: Numbers, parts: Sequence[slice]) -> Depths:
    """Scale and shift of least relative error to the true scene, one for each part of the clip."""
    x, true = np.zeros_like(relative), _x(clip.depth, kind)
    for part in parts:
        at = (clip.depth[part] > 0) & (relative[part] > 0)
        target = true[part][at].astype(float)
        line = np.polyfit(relative[part][at].astype(float), target, 1, w=1 / target)
        x[part] = np.polyval(line, relative[part])
    return _x(np.where(relative > 0, x, 0), kind)


def _errors(clip: TrueClip, depth: Depths) -> dict[str, float]:
    """Mean absolute relative errors; what lies beyond infinity counts as wrong by all of it."""
    known = (clip.depth > 0) & (depth != 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(depth > 0, np.abs(depth / clip.depth - 1), 1)
    scene, robot = known & (clip.robot_depth == 0), known & clip.robot_visible
    return {
        "scene": float(error[scene].mean()),
        "robot": float(error[robot].mean()),
        "robot_median": float(np.median(error[robot])),
        "known": float(known.sum() / (clip.depth > 0).sum()),
    }


def _flicker(clip: TrueClip, depth: Depths) -> float:
    """Mean |change| in m from frame to frame of what does not move; NaN before a moving camera."""
    at = clip.resting & (depth[1:] > 0) & (depth[:-1] > 0)
    return float(np.abs(np.diff(depth, axis=0))[at].mean()) if clip.static else float("nan")


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(int((one | other).sum()), 1))


def _print(found: list[dict[str, Any]], masks: list[dict[str, Any]]) -> None:
    print("Mean absolute relative error; means over clips, the worst clip in brackets.")
    print("Steadier: factor by which what rests changes less from frame to frame\n")
    table = []
    for key, rows in _grouped(found, ("view", "case", "kind", "way")):
        solved = [row for row in rows if not row.get("reason")]
        table.append(
            [
                *key,
                f"{len(solved)} of {len(rows)}",
                *(_mean(solved, field, max) for field in ("scene", "robot", "robot_median")),
                _mean(solved, "steadier", min, digits=1),
                _mean(solved, "trusted_scene", max),
                _mean(solved, "held_back_median_m", max),
                _mean(solved, "seconds", max, digits=1),
            ]
        )
    columns = (
        "scene",
        "robot",
        "robot's median",
        "steadier",
        "confidence > 127",
        "held back m",
        "s",
    )
    print_table(("view", "case", "kind", "way", "clips", *columns), table)
    print("IoU of the visible robot with the truth; means over clips, the worst in brackets\n")
    ways = ("amodal", "exact depth", "margin", "tolerance", "guided")
    table = [
        [*key, len(rows), *(_mean(rows, way, min) for way in ways)]
        for key, rows in _grouped(masks, ("view", "case", "kind"))
    ]
    print_table(("view", "case", "kind", "clips", *ways), table)


def _grouped(
    rows: list[dict[str, Any]], by: Sequence[str]
) -> list[tuple[tuple[str, ...], list[dict[str, Any]]]]:
    keys = dict.fromkeys(tuple(row[name] for name in by) for row in rows)
    return [(key, [r for r in rows if tuple(r[name] for name in by) == key]) for key in keys]


def _mean(
    rows: list[dict[str, Any]], name: str, worst: Callable[..., float], digits: int = 4
) -> str:
    values = [row[name] for row in rows if row.get(name) is not None and row[name] == row[name]]
    if not values:
        return ""
    return f"{np.mean(values):.{digits}f} ({worst(values):.{digits}f})"


if __name__ == "__main__":
    main()

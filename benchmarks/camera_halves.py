"""Cameras of the real DROID sample solved twice, from two halves of the frames: how far apart?

Blocks of steps go to one half and the other by turns, so that each keeps pairs of neighbours: way 6
are blocks of six, 7+3 blocks of seven of which the first begins three steps earlier. One way alone
is a noisy judge of twelve views, so medians are told by way and over all. Nothing is shared but the
guessed focal length; views that a half rejects are told. With --lens both halves take the
focal length that all frames gave, as one lens has only one.

    python -m benchmarks.camera_halves --data ../shared/data/droid_rlds [--lens] [--ways 6 7+3]
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("LP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import parser, print_header, write_json
from converters import open_source
from pipeline.camera import lens_of, masks_of
from reconstruction.camera import CameraProblem, CameraSolution, solve_camera
from robo4d.geometry import rotation_angle
from robots.models import get_robot
from schemas.config import CameraConfig
from schemas.episode import CameraStream, Episode

_WAYS = ("8+3", "13+6", "11+4", "5+2")


def main() -> None:
    parse = parser(__doc__)
    parse.add_argument("--data", required=True, help="the sample's folder")
    parse.add_argument("--lens", action="store_true", help="with the whole view's focal length")
    parse.add_argument("--ways", nargs="+", default=_WAYS, help=f"to halve ({' '.join(_WAYS)})")
    args = parse.parse_args()
    ways = {way: _numbers(way) for way in args.ways}
    machine = print_header("One camera from two halves of its frames")
    source = open_source("droid", args.data)
    rows = []
    for split, refs in source.refs(None).items():
        for episode in (source.read(ref, split, None) for ref in refs):
            for name, stream in episode.cameras.items():
                for way, (block, shift) in ways.items() if "wrist" not in name else ():
                    odd = (np.arange(len(episode)) + shift) // block % 2 == 1
                    compared = _compared(episode, stream, odd, args.lens)
                    rows.append({"episode": episode.id, "camera": name, "way": way, **compared})
                    print(rows[-1], flush=True)
    for way in ways:
        _tell(f"way {way}", [row for row in rows if row["way"] == way])
    _tell("all", rows)
    _tell("both accepted", [row for row in rows if "reject" not in row["verdicts"]])
    write_json(args.json, {"machine": machine, "views": rows})


def _numbers(way: str) -> tuple[int, int]:
    """Steps of a block, and by how many the first begins earlier."""
    block, _, shift = way.partition("+")
    if not (block.isdigit() and int(block) > 1 and (not shift or shift.isdigit())):
        raise SystemExit(f"--ways has {way}; name blocks of two steps or more, as 6 or 7+3")
    return int(block), int(shift or 0)


def _tell(kind: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        mm, deg = (np.median([row[key] for row in rows]) for key in ("mm", "deg"))
        print(f"{kind}: {len(rows)} pairs, medians {mm:.1f} mm, {deg:.2f} deg")


def _compared(
    episode: Episode, stream: CameraStream, odd: NDArray[np.bool_], one_lens: bool
) -> dict[str, Any]:
    steps = np.arange(len(episode))
    K = _solved(episode, stream, steps).K if one_lens else None
    first, second = (_solved(episode, stream, steps[half], K) for half in (~odd, odd))
    a, b = first.base_from_camera, second.base_from_camera
    known = a is not None and b is not None
    return {
        "verdicts": [first.verdict, second.verdict],
        "mm": 1000 * float(np.linalg.norm(a[:3, 3] - b[:3, 3])) if known else np.inf,
        "deg": float(np.degrees(rotation_angle(a[:3, :3], b[:3, :3]))) if known else np.inf,
        "focal": [None if s.K is None else round(float(s.K[0, 0]), 1) for s in (first, second)],
    }


def _solved(
    episode: Episode,
    stream: CameraStream,
    steps: NDArray[np.int64],
    lens: NDArray[np.floating] | None = None,
) -> CameraSolution:
    log = episode.robot
    assert log.joints is not None  # DROID logs them
    problem = CameraProblem(
        get_robot(log.robot),
        lambda chosen: stream.decode(steps[chosen]),
        stream.size(),
        log.joints[steps],
        log.gripper[steps],
        episode.time[steps],
    )
    K, spread = lens_of("droid", stream.size(), None, CameraConfig())
    if lens is not None:
        K, spread = lens, 0.0
    masks = masks_of(CameraConfig(), problem.robot)
    return solve_camera([problem], K, spread=spread, masks=masks)


if __name__ == "__main__":
    main()

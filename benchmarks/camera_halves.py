"""Cameras of the real DROID sample solved twice, from two halves of the frames: how far apart?

Blocks of eight steps go to one half and the other by turns, so that each keeps pairs of
neighbours; other blocks, or the same begun earlier, by --block and --shift. Nothing is shared but
the guessed focal length; views that a half rejects are told. With --lens both halves take the
focal length that all frames gave, as one lens has only one.

    python -m benchmarks.camera_halves --data ../shared/data/droid_rlds [--lens] [--block 5]
"""

from __future__ import annotations

import os

os.environ.setdefault("LP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import parser, print_header, write_json
from converters import open_source
from pipeline.camera import lens_of
from reconstruction.camera import CameraProblem, CameraSolution, solve_camera
from robo4d.geometry import rotation_angle
from robots.models import get_robot
from schemas.config import CameraConfig
from schemas.episode import CameraStream, Episode

_BLOCK = 8


def main() -> None:
    parse = parser(__doc__)
    parse.add_argument("--data", required=True, help="the sample's folder")
    parse.add_argument("--lens", action="store_true", help="with the whole view's focal length")
    parse.add_argument("--block", type=int, default=_BLOCK, help=f"steps in a row ({_BLOCK})")
    parse.add_argument("--shift", type=int, default=0, help="steps by which blocks begin earlier")
    args = parse.parse_args()
    if args.block < 2:
        raise SystemExit(f"--block is {args.block}; neighbours need 2 steps in a row, or more")
    machine = print_header("One camera from two halves of its frames")
    source = open_source("droid", args.data)
    rows = []
    for split, refs in source.refs(None).items():
        for episode in (source.read(ref, split, None) for ref in refs):
            for name, stream in episode.cameras.items():
                if "wrist" not in name:
                    odd = (np.arange(len(episode)) + args.shift) // args.block % 2 == 1
                    compared = _compared(episode, stream, odd, args.lens)
                    rows.append({"episode": episode.id, "camera": name, **compared})
                    print(rows[-1], flush=True)
    for kind, chosen in (
        ("all", rows),
        ("both accepted", [r for r in rows if "reject" not in r["verdicts"]]),
    ):
        mm, deg = (np.median([r[key] for r in chosen]) for key in ("mm", "deg"))
        print(f"{kind}: {len(chosen)} views, medians {mm:.1f} mm, {deg:.2f} deg")
    write_json(args.json, {"machine": machine, "views": rows})


def _compared(
    episode: Episode, stream: CameraStream, odd: NDArray[np.bool_], one_lens: bool
) -> dict[str, object]:
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
    return solve_camera([problem], K, spread=spread)


if __name__ == "__main__":
    main()

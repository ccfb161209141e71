"""How well wrist cameras are solved: on films of twins, whose mount is known, and on real views.

Twins are filmed as a real camera would (`benchmarks._wrist_film`); seeds below 1000 were tuned on.
The focal length is guessed with the error that a seed draws, and left open by as much. Real views
have no truth: what is told is the mount itself, how well it fits frames that were held back, and
how far mounts of different laboratories lie apart.

    python -m benchmarks.camera_wrist --seeds 2000 2001 --data ../shared/data
"""

from __future__ import annotations

import os

os.environ.setdefault("LP_NUM_THREADS", "1")

import time
from typing import Any

import numpy as np

from benchmarks._common import add_data_option, parser, print_header, print_table, write_json
from benchmarks._wrist_film import TWINS, film_wrist
from converters import open_source
from reconstruction.camera import CameraProblem, WristSolution, solve_wrist
from robo4d.geometry import intrinsics, rotation_angle
from robots.models import get_robot
from schemas.episode import Episode

REPORTED = 2000
_SPREAD = 0.02
_REAL = ("droid_rlds", "wrist_image_left", 0.57)  # its lens, over the width


def main() -> None:
    args = _arguments().parse_args()
    machine = print_header("Wrist cameras from robot motion")
    twins = [_twin(source, seed) for source in args.sources for seed in args.seeds]
    real = [] if args.no_real or not (args.data / _REAL[0]).is_dir() else _real(args)
    if twins:
        print_table(
            [
                "twin",
                "seed",
                "deg",
                "mm",
                "focal %",
                "late ms",
                "verdict",
                "tracks",
                "outline",
                "s",
            ],
            [list(row.values())[:10] for row in twins],
        )
        for source in args.sources:
            rows = [row for row in twins if row["source"] == source]
            taken = [row for row in rows if row["verdict"] != "reject"]
            errors = np.array([[row["deg"], row["mm"]] for row in taken]).reshape(-1, 2)
            if len(taken):
                middle, worst = np.median(errors, 0), errors.max(0)
                print(
                    f"{source}: {len(taken)} of {len(rows)} accepted, medians {middle[0]:.2f} deg "
                    f"{middle[1]:.1f} mm, worst {worst[0]:.2f} deg {worst[1]:.1f} mm"
                )
    if real:
        print_table(
            ["real", "x mm", "y mm", "z mm", "f/W", "verdict", "tracks", "outline", "gap", "s"],
            [list(row.values())[:10] for row in real],
        )
        for row in real:
            print(f"{row['episode']}: {row['why']}")
    write_json(args.json, {"machine": machine, "twins": twins, "real": real})


def _arguments() -> Any:
    parse = parser(__doc__)
    add_data_option(parse)
    parse.add_argument("--sources", nargs="*", choices=tuple(TWINS), default=list(TWINS))
    parse.add_argument("--seeds", type=int, nargs="+", default=list(range(REPORTED, REPORTED + 6)))
    parse.add_argument("--no-real", action="store_true", help="twins only")
    return parse


def _twin(source: str, seed: int) -> dict[str, Any]:
    clip = film_wrist(source, seed)
    problem = CameraProblem(
        clip.robot,
        lambda steps: clip.rgb[steps],
        (clip.rgb.shape[1], clip.rgb.shape[2]),
        clip.joints,
        clip.opening,
        clip.time,
    )
    error = np.random.default_rng([seed, 6]).normal(0, _SPREAD)
    K = clip.K.copy()
    K[[0, 1], [0, 1]] *= 1 + error
    begun = time.perf_counter()
    solution = solve_wrist([problem], K, spread=_SPREAD)
    seconds = time.perf_counter() - begun
    pose, found = solution.ee_from_camera, solution.K
    truth = clip.ee_from_camera
    deg = mm = focal = np.inf
    if pose is not None and found is not None:
        deg = round(float(np.degrees(rotation_angle(pose[:3, :3], truth[:3, :3]))), 2)
        mm = round(1000 * float(np.linalg.norm(pose[:3, 3] - truth[:3, 3])), 1)
        focal = round(100 * float(found[0, 0] / clip.K[0, 0] - 1), 2)
    row = {
        "source": source,
        "seed": seed,
        "deg": deg,
        "mm": mm,
        "focal": focal,
        "late": round(1000 * (solution.late - clip.late), 1),
        **_measures(solution, ("track_share", "edge_share")),
        "seconds": round(seconds, 1),
        "why": solution.why,
    }
    print(row, flush=True)
    return row


def _real(args: Any) -> list[dict[str, Any]]:
    source = open_source("droid", str(args.data / _REAL[0]))
    episodes = [
        source.read(ref, split, None) for split, refs in source.refs(None).items() for ref in refs
    ]
    return [_real_view(episode) for episode in episodes]


def _real_view(episode: Episode) -> dict[str, Any]:
    stream, log = episode.cameras[_REAL[1]], episode.robot
    height, width = stream.size()
    assert log.joints is not None  # DROID logs them
    problem = CameraProblem(
        get_robot(log.robot), stream.decode, (height, width), log.joints, log.gripper, episode.time
    )
    f = _REAL[2] * width
    begun = time.perf_counter()
    solution = solve_wrist([problem], intrinsics(f, f, width / 2, height / 2), spread=_SPREAD)
    pose, K = solution.ee_from_camera, solution.K
    place = [np.nan] * 3 if pose is None else (1000 * pose[:3, 3]).round(1).tolist()
    row = {
        "episode": episode.id.rsplit("/", 1)[-1],
        **dict(zip("xyz", place, strict=True)),
        "focal": np.nan if K is None else round(float(K[0, 0]) / width, 4),
        **_measures(solution, ("track_share", "edge_share", "evidence_gap")),
        "seconds": round(time.perf_counter() - begun, 1),
        "why": solution.why,
        "pose": None if pose is None else pose.tolist(),
    }
    print(row, flush=True)
    return row


def _measures(solution: WristSolution, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: solution.quality.get(name) for name in names}
    rounded = {name: None if v is None else round(v, 2) for name, v in values.items()}
    return {"verdict": solution.verdict, **rounded}


if __name__ == "__main__":
    main()

"""Cameras of the real DROID sample, solved from nothing, against masks drawn by hand.

Solves each exterior view (`pipeline.camera`, no start), renders the robot at the steps of
`benchmarks.hand_masks`, which the solver never used, and prints intersection over union with what
is drawn: the visible robot. The render knows no cables, camera holders or occluders: 1 is out of
reach. ``--picture`` draws both: green where they agree, red drawn only, blue rendered only.

    python -m benchmarks.camera_masks --data ../shared/data/droid_rlds --picture out/masks.png
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import hand_masks
from benchmarks._common import parser, print_header, write_json
from converters import open_source
from pipeline.camera import lens_of, masks_of
from reconstruction.camera import CameraProblem, solve_camera
from robots.models import get_robot
from robots.rasterizer import RobotRasterizer
from schemas.config import CameraConfig


def main() -> None:
    parse = parser(__doc__)
    parse.add_argument("--data", required=True, help="the sample's folder")
    parse.add_argument("--picture", type=Path)
    args = parse.parse_args()
    machine = print_header("Solved cameras against hand-drawn masks")
    source = open_source("droid", args.data)
    refs = [(split, ref) for split, found in source.refs(None).items() for ref in found]
    episodes = {e.id: e for e in (source.read(ref, split, None) for split, ref in refs)}
    masks = hand_masks.load()
    rows, pictures = [], []
    for identity, camera in sorted({(mask.episode, mask.camera) for mask in masks}):
        episode = episodes[identity]
        log, stream = episode.robot, episode.cameras[camera]
        assert log.joints is not None  # DROID logs them
        robot = get_robot(log.robot)
        problem = CameraProblem(
            robot, stream.decode, stream.size(), log.joints, log.gripper, episode.time
        )
        K, spread = lens_of("droid", stream.size(), None, CameraConfig())
        began = time.process_time()
        backend = masks_of(CameraConfig(), robot)
        solution = solve_camera([problem], K, spread=spread, masks=backend)
        seconds = time.process_time() - began
        row = {
            "episode": identity.rsplit("/", 1)[-1],
            "camera": camera,
            "verdict": solution.verdict,
            "cpu_s": round(seconds, 1),
            "iou": [],
        }
        rows.append(row)
        if solution.K is None or solution.base_from_camera is None:
            continue
        draw = RobotRasterizer(robot, *stream.size())  # as builds do
        for mask in masks:
            if (mask.episode, mask.camera) != (identity, camera):
                continue
            steps = np.array([mask.step])
            state = problem.states_at(episode.time[steps] - solution.late)
            _, part = draw(*state, solution.K[None], solution.base_from_camera[None])
            drawn, rendered = mask.mask(), part[0] > 0
            row["iou"].append(float((drawn & rendered).sum() / (drawn | rendered).sum()))
            pictures.append(_both(stream.decode(steps)[0], drawn, rendered))
        print(row, flush=True)
    report: dict[str, object] = {"machine": machine, "views": rows}
    for name, chosen in (
        ("all", rows),
        ("not rejected", [r for r in rows if r["verdict"] != "reject"]),
    ):
        iou = [value for row in chosen for value in row["iou"]]
        report[name] = {"mean": float(np.mean(iou)), "p10": float(np.percentile(iou, 10))}
        print(f"{name}: {len(iou)} frames, IoU {report[name]}")
    if args.picture:
        lines = [
            np.concatenate(pictures[i : i + 6], 1) for i in range(0, len(pictures) // 6 * 6, 6)
        ]
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.picture), np.concatenate(lines)[..., ::-1])
    write_json(args.json, report)


def _both(
    image: NDArray[np.uint8], drawn: NDArray[np.bool_], rendered: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    out = image.copy()
    out[drawn & ~rendered] = (255, 0, 0)
    out[rendered & ~drawn] = (0, 0, 255)
    both = drawn & rendered
    out[both] = out[both] // 2 + np.array([0, 120, 0], np.uint8)
    return out


if __name__ == "__main__":
    main()

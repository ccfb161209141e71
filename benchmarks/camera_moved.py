"""Whether moves of a camera are found, at their step, and none where there is none.

    python -m benchmarks.camera_moved --seeds 1001 1003 --real droid=<folder> bridge=<folder>

films twins (some three minutes each) whose camera is moved on the way, and reads real views.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks._camera_film import TWINS
from benchmarks._moved_film import film_moved
from converters import open_source
from reconstruction.camera import CameraProblem
from reconstruction.camera.moved import background_shift, grey_at, still_sections
from schemas.config import SourceConfig

# deg and m.
MOVES = ((0, 0.01), (0, 0.02), (0, 0.05), (1, 0.0), (2, 0.0), (5, 0.0), (3, 0.03))


def main(report: Callable[[str], None] = print) -> None:
    """Print a line a clip."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--sources", nargs="+", choices=TWINS, default=list(TWINS))
    parse.add_argument("--seeds", type=int, nargs="*", default=[])
    parse.add_argument("--real", nargs="*", default=[], help="source=folder")
    args = parse.parse_args()
    for source in args.sources:
        for seed in args.seeds:
            _judge_film(source, seed, report)
    for given in args.real:
        _judge_real(*given.split("=", 1), report)


def _judge_film(source: str, seed: int, report: Callable[[str], None]) -> None:
    film = film_moved(source, seed, MOVES)
    count, last = len(film.time), len(MOVES)
    said = ["still", *(f"{turn:g} deg {100 * shift:g} cm" for turn, shift in MOVES)]
    clips = {
        f"{what} at {count // 3 + view}": film.spliced((0, 0), (view, count // 3 + view))
        for view, what in enumerate(said)
    }
    clips["3 deg 3 cm for 3 steps"] = film.spliced((0, 0), (last, 15), (0, 18))
    dark = film.views[0].copy()
    dark[count // 2 :] = (0.6 * dark[count // 2 :]).astype(np.uint8)
    clips[f"darker at {count // 2}"] = dark
    for what, frames in clips.items():
        report(f"{source} {seed} {what}: {_told(film.problem(frames))}")


def _judge_real(source: str, data: str, report: Callable[[str], None]) -> None:
    opened = open_source(source, data, SourceConfig())
    views, alarms, most = 0, 0, 0.0
    for split, refs in opened.refs(None).items():
        for ref in refs:
            if ref.defect is not None:
                continue
            episode = opened.read(ref, split, None)
            for name, stream in episode.cameras.items():
                if "wrist" in name:
                    continue
                count = len(episode)
                blank = np.zeros((count, 1)), np.zeros(count)
                problem = CameraProblem(None, stream.decode, stream.size(), *blank, episode.time)
                told = _told(problem)
                first = grey_at(problem, 0)
                steps = np.unique(np.linspace(0, count - 1, 17).round().astype(int)).tolist()
                shift = [background_shift(first, grey_at(problem, step)) for step in steps]
                most = max(most, *shift)
                views += 1
                alarms += " and " in told
                report(f"{episode.id} {name}: {told}; {max(shift):.2f} px at most")
    report(f"{source}: {alarms} of {views} real views moved; at most {most:.2f} px")


def _told(problem: CameraProblem) -> str:
    begun = time.process_time()
    found = still_sections(problem)
    spent = time.process_time() - begun
    spans = " and ".join(f"{first}..{past - 1}" for first, past in found.sections)
    jumps = ", ".join(f"{jump:.2f}" for jump in found.jumps)
    return f"still {spans} [{jumps}] {spent:.2f} s"


if __name__ == "__main__":
    main()

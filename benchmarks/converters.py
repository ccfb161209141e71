"""Converters against what one would write instead, per core; and their memory over many episodes.

An episode is read, checked and all its frames decoded, then dropped. RLDS: the team's real samples,
against TFDS' documented loop (``as_dataset``, nested) in a Python of its own; RT-1's twin likewise.
LIBERO: a rollout, rendered again, against a plain loop over its stored small pictures. Raw layouts:
textured episodes of the published frame sizes made to order, against a plain loop of h5py and
``cv2.VideoCapture``, or pickle and ``cv2.imread``, which checks nothing. All on one core, passes
interleaved, medians reported. MB are the files' own.

Memory: resident size every tenth of ``--episodes`` small episodes, in a process of its own.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import (
    add_data_option,
    interleaved,
    one_core,
    parser,
    print_header,
    print_table,
    ratio_of_rounds,
    timed,
    write_json,
)
from benchmarks._converter_sets import ENTRIES, EPISODES
from benchmarks.reading import Worker
from converters import open_source
from schemas.truth import TRUTH_STORE


def convert_all(source: str, folder: Path) -> int:
    """Read every episode and decode every frame; returns how many frames."""
    opened, frames = open_source(source, str(folder)), 0
    for split, refs in opened.refs(None).items():
        for ref in refs:
            episode = opened.read(ref, split, None)
            for camera in episode.cameras.values():
                frames += len(camera.decode(range(len(episode))))
    return frames


def resident_bytes() -> int:
    """This process's resident size."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def memory_over(name: str, episodes: int, marks: int = 10) -> list[int]:
    """Resident bytes after each of ``marks`` equal parts of ``episodes`` small episodes."""
    entry, sizes = ENTRIES[name], []
    with tempfile.TemporaryDirectory() as folder:
        entry.make(Path(folder), episodes, False)
        opened = open_source(entry.source, folder)
        ((split, refs),) = opened.refs(None).items()
        for number, ref in enumerate(refs, 1):
            episode = opened.read(ref, split, None)
            if number % round(1 / entry.memory) == 0:
                for camera in episode.cameras.values():
                    camera.decode(range(len(episode)))
            if number % (episodes // marks) == 0:
                sizes.append(resident_bytes())
    return sizes


def in_fresh_process(name: str, episodes: int) -> list[int]:
    """`memory_over` where nothing else has been."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(memory_over, name, episodes).result()


def slope(sizes: list[int], episodes: int) -> float:
    """Bytes an episode, by least squares over the second half: the first warms up."""
    half = sizes[len(sizes) // 2 :]
    return float(np.polyfit(np.arange(len(half)) * episodes / len(sizes), half, 1)[0])


def _size_of(folder: Path) -> int:
    """Bytes of the files as published; a twin's truth beside them is not read."""
    files = (p for p in folder.rglob("*") if p.is_file() and TRUTH_STORE not in p.parts)
    return sum(p.stat().st_size for p in files)


def compare(name: str, folder: Path, reference: str | None, repeat: int) -> dict[str, Any]:
    """Ours and the other's median seconds over one data set."""
    entry = ENTRIES[name]
    opened = open_source(entry.source, str(folder))
    episodes = sum(len(refs) for refs in opened.refs(None).values())
    frames = convert_all(entry.source, folder)
    sides: dict[str, Callable[[], float]] = {
        "ours": timed(partial(convert_all, entry.source, folder))
    }
    worker = None
    if entry.plain is not None:
        if entry.plain(folder) < frames:
            raise SystemExit(f"{name}: the plain loop reads fewer frames than the converter")
        sides["plain"] = timed(partial(entry.plain, folder))
    elif reference is not None:
        script = str(Path(__file__).with_name("_tfds_worker.py"))
        worker = Worker([reference, script, opened.root, "nested"])
        sides["plain"] = worker
    try:
        seconds = interleaved(sides, min(repeat, entry.repeat))
    finally:
        if worker is not None:
            worker.close()
    ours = statistics.median(seconds["ours"])
    return {
        "episodes": episodes,
        "frames": frames,
        "megabytes": _size_of(folder) / 1e6,
        "seconds": ours,
        "beside": ("plain loop" if entry.plain else "TFDS") if "plain" in sides else "not run",
        "beside_seconds": statistics.median(seconds["plain"]) if "plain" in sides else None,
        "faster": ratio_of_rounds(seconds["plain"], seconds["ours"]) if "plain" in sides else None,
    }


def main() -> None:
    """Run from the command line."""
    parse = parser(__doc__)
    add_data_option(parse)
    parse.add_argument("--reference", metavar="PYTHON", help="a Python with TFDS; none: not run")
    parse.add_argument(
        "--twins",
        type=Path,
        default=Path.home() / ".cache" / "robo4d" / "twins",
        help="where twins and rollouts are kept; made there if they are not",
    )
    parse.add_argument("--only", nargs="+", choices=ENTRIES, help="these layouts; default: all")
    parse.add_argument("--episodes", type=int, default=1000, help="for memory (1000; 0 skips it)")
    args = parse.parse_args()
    report: dict[str, Any] = {"machine": print_header("Converters"), "speed": {}, "memory": {}}
    entries = {name: e for name, e in ENTRIES.items() if not args.only or name in args.only}
    for name in entries if args.episodes else ():
        start = time.perf_counter()
        sizes = in_fresh_process(name, args.episodes)
        report["memory"][name] = {
            "resident": sizes,
            "slope": slope(sizes, args.episodes),
            "seconds": time.perf_counter() - start,
        }
    print(one_core() + "\n")
    with tempfile.TemporaryDirectory() as made:
        for name, entry in entries.items():
            folder = args.data / entry.sample if entry.sample else Path(made) / name
            if entry.simulated is not None:
                folder = entry.simulated(args.twins)
            elif entry.sample is None:
                entry.make(folder, EPISODES[name], True)
            elif not folder.is_dir():
                print(f"{name}: {folder} is not here; not run", file=sys.stderr)
                continue
            report["speed"][name] = compare(name, folder, args.reference, args.repeat)
    print_table(
        ["source", "episodes/s", "frames/s", "MB/s", "beside", "its episodes/s", "ours is x"],
        [
            [
                name,
                r["episodes"] / r["seconds"],
                r["frames"] / r["seconds"],
                r["megabytes"] / r["seconds"],
                r["beside"],
                r["episodes"] / r["beside_seconds"] if r["beside_seconds"] else "",
                r["faster"] or "",
            ]
            for name, r in report["speed"].items()
        ],
    )
    print_table(
        ["source", "MB after a tenth", "after half", "at the end", "bytes an episode"],
        [
            [name, r["resident"][0] / 1e6, r["resident"][4] / 1e6, r["resident"][-1] / 1e6]
            + [round(r["slope"])]
            for name, r in report["memory"].items()
        ],
    )
    write_json(args.json, report)


if __name__ == "__main__":
    main()

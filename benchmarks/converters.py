"""Converters against what one would write instead, per core; and their memory over many episodes.

An episode is read, checked and all its frames decoded, then dropped. RLDS: the team's real samples,
against TFDS' documented loop (``as_dataset``, nested) in a Python of its own. Raw layouts:
textured episodes of the published frame sizes made to order, against a plain loop of h5py and
``cv2.VideoCapture``, or pickle and ``cv2.imread``, which checks nothing. All on one core, passes
interleaved, medians reported. MB are the files' own.

Memory: resident size every tenth of ``--episodes`` small episodes, in a process of its own.
"""

from __future__ import annotations

import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from benchmarks import inputs_raw as raw
from benchmarks import inputs_rlds as rlds
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
from benchmarks.reading import Worker
from converters import open_source


@dataclass(frozen=True)
class Entry:
    """A layout of a source.

    Attributes:
        source: its name in `converters.SOURCES`.
        sample: folder of the team's real samples below ``--data``; None makes one.
        make: writes a data set of so many episodes of so many frames, large and textured or small.
        plain: what one would write instead; None is TFDS, where there is a real sample.
    """

    source: str
    sample: str | None
    make: Callable[[Path, int, bool], object]
    plain: Callable[[Path], int] | None


def convert_all(source: str, folder: Path) -> int:
    """Read every episode and decode every frame; returns how many frames."""
    opened, frames = open_source(source, str(folder)), 0
    for split, refs in opened.refs(None).items():
        for ref in refs:
            episode = opened.read(ref, split, None)
            for camera in episode.cameras.values():
                frames += len(camera.decode(range(len(episode))))
    return frames


def plain_droid(folder: Path) -> int:
    """h5py and OpenCV over DROID's raw folders."""
    frames = 0
    for log in sorted(folder.glob("*/*/*/*/trajectory.h5")):
        with h5py.File(log) as file:
            names: list[str] = []
            file.visit(names.append)
            for name in names:
                if isinstance(file[name], h5py.Dataset):
                    file[name][()]
        for video in sorted(log.parent.glob("recordings/MP4/*.mp4")):
            capture = cv2.VideoCapture(str(video))
            while capture.read()[0]:
                frames += 1
            capture.release()
    return frames


def plain_bridge(folder: Path) -> int:
    """pickle and OpenCV over Bridge's raw trajectories."""
    frames = 0
    for log in sorted(folder.rglob("obs_dict.pkl")):
        for name in ("obs_dict.pkl", "policy_out.pkl"):
            pickle.loads((log.parent / name).read_bytes())  # noqa: S301  # our own files
        for image in log.parent.glob("images*/im_*.jpg"):
            frames += cv2.imread(str(image)) is not None
    return frames


def _texture(size: tuple[int, int], number: int) -> np.ndarray:
    """A scene that moves by two pixels a frame: as costly to decode as film."""
    y, x = np.mgrid[: size[0], : size[1]]
    moved = x + 2 * number
    wave = 127 + 60 * np.sin(moved / 9) + 60 * np.cos(y / 7 + moved / 31)
    return np.repeat(
        (wave.astype(np.uint8) ^ (moved * y >> 9 & 31).astype(np.uint8))[..., None], 3, 2
    )


def _make_droid_raw(root: Path, episodes: int, large: bool) -> None:
    steps = 50 if large else rlds.STEPS
    pictures = [_texture((720, 1280), n) for n in range(steps)] if large else None
    film = raw.film_of(pictures) if pictures else raw.film(steps)
    log = raw.droid_log(steps)
    for number in range(episodes):
        clock = f"{16 + number // 3600:02d}_{number // 60 % 60:02d}_{number % 60:02d}"
        path = f"IRIS/success/2023-03-07/Tue_Mar__7_{clock}_2023"
        hour, minute, second = clock.split("_")
        uuid = f"IRIS+ef107c48+2023-03-07-{hour}h-{minute}m-{second}s"
        files = raw.droid_folder(path, uuid, steps=steps, video=film, log=log)
        raw.write(files, root)


def _make_bridge_raw(root: Path, episodes: int, large: bool) -> None:
    steps = 40 if large else rlds.STEPS
    files = raw.bridge_folder(steps=steps)
    for name in files:
        if large and name.endswith(".jpg"):
            number = int(name.rpartition("_")[2].removesuffix(".jpg"))
            files[name] = cv2.imencode(".jpg", _texture((480, 640), number))[1].tobytes()
    for number in range(episodes):
        raw.write({n.replace("/traj0/", f"/traj{number}/"): d for n, d in files.items()}, root)


def _make_rlds(
    name: str,
    version: str,
    features: Callable[[], rlds.Tree],
    record: Callable[[int], bytes],
    root: Path,
    episodes: int,
    large: bool,
) -> None:
    del large  # the real samples are the large ones
    records = [record(number) for number in range(episodes)]
    raw.write(rlds.data_set(name, version, features(), records), root)


ENTRIES: dict[str, Entry] = {
    "droid rlds": Entry(
        "droid",
        "droid_rlds",
        partial(
            _make_rlds,
            "droid",
            "1.0.0",
            rlds.droid_features,
            lambda n: rlds.droid_record(path=f"TEST/success/2026-01-01/Mon_{n}"),
        ),
        None,
    ),
    "bridge rlds": Entry(
        "bridge",
        "bridge_rlds",
        partial(
            _make_rlds,
            "bridge_dataset",
            "1.0.0",
            rlds.bridge_features,
            lambda n: rlds.bridge_record(number=n),
        ),
        None,
    ),
    "rt1 rlds": Entry(
        "rt1",
        None,
        partial(
            _make_rlds,
            "fractal20220817_data",
            "0.1.0",
            rlds.rt1_features,
            lambda n: rlds.rt1_record(offset=n * 1e-4),
        ),
        None,
    ),
    "droid raw": Entry("droid", None, _make_droid_raw, plain_droid),
    "bridge raw": Entry("bridge", None, _make_bridge_raw, plain_bridge),
}
_EPISODES = {"rt1 rlds": 200, "droid raw": 3, "bridge raw": 8}  # of a timed set made to order


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
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


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
    elif reference is not None and entry.sample is not None:  # TFDS opens what it wrote, not ours
        script = str(Path(__file__).with_name("_tfds_worker.py"))
        worker = Worker([reference, script, opened.root, "nested"])
        sides["plain"] = worker
    try:
        seconds = interleaved(sides, repeat)
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
    parse.add_argument("--episodes", type=int, default=1000, help="for memory (1000; 0 skips it)")
    args = parse.parse_args()
    report: dict[str, Any] = {"machine": print_header("Converters"), "speed": {}, "memory": {}}
    for name in ENTRIES if args.episodes else ():
        start = time.perf_counter()
        sizes = in_fresh_process(name, args.episodes)
        report["memory"][name] = {
            "resident": sizes,
            "slope": slope(sizes, args.episodes),
            "seconds": time.perf_counter() - start,
        }
    print(one_core() + "\n")
    with tempfile.TemporaryDirectory() as made:
        for name, entry in ENTRIES.items():
            folder = args.data / entry.sample if entry.sample else Path(made) / name
            if entry.sample is None:
                entry.make(folder, _EPISODES[name], True)
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

"""The data sets that `benchmarks.converters` times, and what one would write instead."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np

from benchmarks import inputs_libero as libero
from benchmarks import inputs_raw as raw
from benchmarks import inputs_rlds as rlds
from converters._libero_assets import SITE_VARIABLE
from simulation.rollout import default_rollouts
from simulation.twin import default_twin


@dataclass(frozen=True)
class Entry:
    """A layout of a source.

    Attributes:
        source: its name in `converters.SOURCES`.
        sample: folder of the team's real samples below ``--data``; None makes one.
        make: writes a data set of so many episodes of so many frames, large and textured or small.
        plain: what one would write instead; None is TFDS.
        simulated: makes the twin or rollouts to be timed, in a folder that keeps them; None takes
            the real sample, or what ``make`` writes.
        memory: share of the episodes whose frames are decoded while memory is watched.
        repeat: most timed passes.
    """

    source: str
    sample: str | None
    make: Callable[[Path, int, bool], object]
    plain: Callable[[Path], int] | None
    simulated: Callable[[Path], Path] | None = None
    memory: float = 1.0
    repeat: int = 99


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


def plain_libero(folder: Path) -> int:
    """h5py over a demo's stored pictures, turned upright by OpenCV; no depth, camera or parts."""
    frames = 0
    for file in sorted(folder.rglob("*_demo.hdf5")):
        with h5py.File(file) as demos:
            for demo in demos["data"].values():
                for name in ("states", "actions", "robot_states", "rewards", "dones"):
                    demo[name][()]
                for view in ("agentview_rgb", "eye_in_hand_rgb"):
                    frames += len([cv2.flip(picture, 0) for picture in demo[f"obs/{view}"][()]])
    return frames


def _one_rollout(cache: Path) -> Path:
    """The first of the default rollouts, alone: all of them would take minutes a pass."""
    file = min(default_rollouts(cache).rglob("*_demo.hdf5"))
    alone = cache / "one-rollout" / file.name
    alone.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file) as all_of_them, h5py.File(alone, "w") as one:
        data = one.create_group("data")
        data.attrs.update(all_of_them["data"].attrs)
        all_of_them.copy("data/demo_0", data)
    return alone.parent


def _make_libero_demo(root: Path, episodes: int, large: bool) -> None:
    del large  # a rollout is the large one
    libero.assets(root / "assets")
    os.environ[SITE_VARIABLE] = str(root / "assets" / "site")
    text = libero.model(assets=libero.TEXTURE)
    for number in range(episodes):
        libero.write_demo(root, task=f"KITCHEN_SCENE1_open_it_{number}", text=text)


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
        partial(default_twin, "rt1"),
    ),
    "droid raw": Entry("droid", None, _make_droid_raw, plain_droid),
    "bridge raw": Entry("bridge", None, _make_bridge_raw, plain_bridge),
    "libero demo": Entry(
        "libero",
        None,
        _make_libero_demo,
        plain_libero,
        _one_rollout,
        memory=0.01,  # each opens OpenGL anew, for seconds
        repeat=1,
    ),
}
EPISODES = {"droid raw": 3, "bridge raw": 8}  # of a timed set made to order

"""Clips of one camera with its truth, for judging camera solvers; made once and kept in a folder.

    python -m benchmarks._camera_clips --seeds 0 1 2 --sources droid rt1

makes what is not there yet, one at a time. Seeds below `REPORTED` are for tuning; what is reported
is measured on others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks._camera_film import TWINS, FilmOptions, film_clip
from robo4d.geometry import resize_intrinsics

CACHE = Path("~/.cache/robo4d/camera-clips").expanduser()
REPORTED = 1000
SOURCES = tuple(TWINS)
_ROOT = Path(__file__).parents[1]
# What a clip's pixels and truth depend on, beside the robots' descriptions.
_CODE = (
    "benchmarks/_camera_film.py",
    *(f"robots/{name}.py" for name in ("models", "offscreen")),
    *(
        f"simulation/{name}.py"
        for name in ("_geoms", "bridge", "draw", "droid", "film", "furniture", "layout", "rig")
        + ("rt1", "scene", "script", "textures")
    ),
)
_RESIZED_QUALITY = 90  # of JPEG, once more, of frames made smaller
_README = """\
Simulated clips for judging camera solvers, written by `python -m benchmarks._camera_clips`.
Any file may be deleted; it is made again when asked for.

    from benchmarks._camera_clips import get_clip, load_clip
    from benchmarks._camera_film import FilmOptions
    clip = get_clip("droid", 3, FilmOptions())                  # films it where it is not here
    clip = get_clip("droid", 3, FilmOptions(ideal_lens=True))   # principal point centred
    clip = load_clip(path)                                      # one file

Name: source-seed-options-code.npz; the options' letters: c centred principal point and square
pixels (Bridge: 192x256), m motion in thousandths. Fields: see `CameraClip`. Seeds from 1000 on
are for reported figures only.
"""


@dataclass(frozen=True)
class CameraClip:
    """One exterior camera's view of an episode, and the truth.

    Attributes:
        name: source, seed and options.
        robot: key in `robots.models.ROBOTS`.
        rgb: (T, H, W, 3) uint8, as published: each shows the robot ``latency_s`` before its step.
        joints: (T, J) rad, as logged, with noise.
        gripper: (T,) opening.
        time: (T,) s.
        K: (3, 3) pixels.
        base_from_camera: (4, 4).
        robot_visible: (T, H, W) bool, robot pixels not hidden, at the log's times.
        depth: (T, H, W) float32 m, of the whole scene, at the log's times; 0 for nothing.
        latency_s: s by which images lag behind the log.
    """

    name: str
    robot: str
    rgb: NDArray[np.uint8]
    joints: NDArray[np.floating]
    gripper: NDArray[np.floating]
    time: NDArray[np.floating]
    K: NDArray[np.floating]
    base_from_camera: NDArray[np.floating]
    robot_visible: NDArray[np.bool_]
    depth: NDArray[np.float32]
    latency_s: float

    def __len__(self) -> int:
        return len(self.time)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.rgb.shape[1], self.rgb.shape[2]


def get_clip(
    source: str, seed: int, options: FilmOptions | None = None, cache: Path = CACHE
) -> CameraClip:
    """The clip of ``seed``, filmed and kept in ``cache`` where it is not there yet.

    Args:
        source: in `SOURCES`.
    """
    options = options or FilmOptions()
    path = clip_path(source, seed, options, cache)
    if not path.exists():
        made = film_clip(source, seed, options)
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "README").write_text(_README)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        np.savez_compressed(part, name=path.stem.rpartition("-")[0], **made)
        part.rename(path)
    return load_clip(path)


def clip_path(source: str, seed: int, options: FilmOptions, cache: Path = CACHE) -> Path:
    """Where a clip is kept: named by all that it depends on."""
    told = ("c" if options.ideal_lens else "") + (
        f"m{round(1000 * options.motion):04d}" if options.motion != 1 else ""
    )
    digest = hashlib.sha256(json.dumps(asdict(options)).encode())
    for name in _CODE:
        digest.update((_ROOT / name).read_bytes())
    return cache / f"{source}-{seed:04d}-{told or 'plain'}-{digest.hexdigest()[:8]}.npz"


def load_clip(path: Path) -> CameraClip:
    """The clip in a file of the cache."""
    with np.load(path) as held:
        values = {field.name: held[field.name] for field in fields(CameraClip)}
    scalars = {
        "name": str(values["name"]),
        "robot": str(values["robot"]),
        "latency_s": float(values["latency_s"]),
    }
    return CameraClip(**(values | scalars))


def shortened(clip: CameraClip, count: int) -> CameraClip:
    """``count`` steps in a row about the clip's middle; the clip itself where it is no longer."""
    if count >= len(clip):
        return clip
    first = (len(clip) - count) // 2
    part = slice(first, first + count)
    series = ("rgb", "joints", "gripper", "time", "robot_visible", "depth")
    return replace(
        clip, name=f"{clip.name}-t{count}", **{name: getattr(clip, name)[part] for name in series}
    )


def shrunk(clip: CameraClip, width: int) -> CameraClip:
    """The clip at a smaller width, as data sets are cut down: area means, and JPEG once more.

    Raises:
        ValueError: it is smaller than that.
    """
    height, wide = clip.size
    if width > wide:
        raise ValueError(f"{clip.name} is {wide} pixels wide, less than {width}: choose a smaller")
    if width == wide:
        return clip
    size = (width, round(height * width / wide))
    rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * wide / size[0]).astype(int)
    frames = [
        simplejpeg.decode_jpeg(
            simplejpeg.encode_jpeg(
                cv2.resize(frame, size, interpolation=cv2.INTER_AREA), _RESIZED_QUALITY
            )
        )
        for frame in clip.rgb
    ]
    return replace(
        clip,
        name=f"{clip.name}-w{width}",
        rgb=np.stack(frames),
        K=resize_intrinsics(clip.K, size[0] / wide, size[1] / height),
        robot_visible=clip.robot_visible[:, rows][:, :, columns],
        depth=clip.depth[:, rows][:, :, columns],
    )


def contact_sheet(clip: CameraClip, shown: int = 6) -> NDArray[np.uint8]:
    """Frames above the same with the robot's true pixels tinted: (2 H, shown W, 3)."""
    steps = np.linspace(0, len(clip) - 1, shown).round().astype(int)
    tinted = clip.rgb[steps].copy()
    seen = clip.robot_visible[steps]
    tinted[seen] = tinted[seen] // 2 + np.array([0, 127, 0], np.uint8)
    return np.concatenate([np.concatenate(list(row), 1) for row in (clip.rgb[steps], tinted)])


def main(report: Callable[[str], None] = print) -> None:
    """Make clips that are not in the cache yet."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parse.add_argument("--seeds", type=int, nargs="+", default=list(range(12)))
    parse.add_argument("--motion", type=float, nargs="+", default=[1.0])
    parse.add_argument("--ideal-lens", action="store_true")
    parse.add_argument("--cache", type=Path, default=CACHE)
    parse.add_argument("--sheets", type=Path, help="write a contact sheet of each clip here")
    args = parse.parse_args()
    for seed in args.seeds:
        for source in args.sources:
            for motion in args.motion:
                begun = time.perf_counter()
                options = FilmOptions(args.ideal_lens, motion)
                clip = get_clip(source, seed, options, args.cache)
                report(f"{clip.name} {len(clip)} steps {time.perf_counter() - begun:.1f} s")
                if args.sheets:
                    args.sheets.mkdir(parents=True, exist_ok=True)
                    sheet = cv2.cvtColor(contact_sheet(clip), cv2.COLOR_RGB2BGR)
                    cv2.imwrite(str(args.sheets / f"{clip.name}.png"), sheet)


if __name__ == "__main__":
    main()

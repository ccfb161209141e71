"""Kinema4D's data flow, imitated, for `benchmarks.peers`; run by a Python that has TensorFlow.

Usage: ``python _peers_kinema4d.py FOLDER OUT --cameras NAME ... [--episodes N] [--resize W H]``.
What the released scripts do (github.com/mutianxu/Kinema4D, data_proc/ and data_proc_full/), step by
step, with no code of theirs: frames read with TFDS and saved as PNG by Pillow; PNGs read again by
OpenCV and written as mp4 (``mp4v``); the robot's mask as .npy and the video blacked out by it;
pointmaps as 8-bit video. It resumes as they do: PNGs and clips are always made again, what comes
after is skipped where files of its names are there (their ``--skip-existing``).

In the flow's favour: all cameras in one pass over the records (theirs: one run a camera); clips of
49 frames or as many as there are (with their defaults, frames 19 to 339 in steps of 4, an episode
needs 340 and shorter ones are skipped); no segmenter, no pointmap network, no latents. Masks and
pointmaps are stand-ins of the right size made of the frames themselves, so they cost nothing to
find and their bytes are only indicative. It imports nothing of this repository.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

CLIP = 49
FPS = 24  # theirs, whatever the source's rate is


def dump_frames(
    folder: str, out: Path, cameras: list[str], size: tuple[int, int] | None, episodes: int
) -> None:
    """Every frame of every camera to OUT/img/CAMERA/episode_I/frame_J.png."""
    import tensorflow_datasets as tfds
    from PIL import Image

    dataset = tfds.builder_from_directory(folder).as_dataset(split="train", shuffle_files=False)
    for number, episode in enumerate(dataset.take(episodes)):
        homes = {camera: out / "img" / camera / f"episode_{number}" for camera in cameras}
        for home in homes.values():
            home.mkdir(parents=True, exist_ok=True)
        for at, step in enumerate(episode["steps"]):
            for camera, home in homes.items():
                image = Image.fromarray(step["observation"][camera].numpy())
                if size is not None:
                    image = image.resize(size, resample=Image.Resampling.LANCZOS)
                image.save(home / f"frame_{at}.png")


def cut_clips(out: Path, camera: str) -> None:
    """PNGs to OUT/CAMERA/videos/episode_I.mp4."""
    for home in sorted((out / "img" / camera).iterdir()):
        frames = sorted(home.glob("*.png"), key=lambda path: int(path.stem.split("_")[1]))
        chosen = np.linspace(0, len(frames) - 1, min(CLIP, len(frames))).round().astype(int)
        images = (cv2.imread(str(frames[i])) for i in chosen)
        _write_video(_place(out, camera, "videos", f"{home.name}.mp4"), images)


def mask_clips(out: Path, camera: str) -> None:
    """The mask as .npy and the clip blacked out by it; skipped where both files are there."""
    for video in sorted((out / camera / "videos").iterdir()):
        mask_file = _place(out, camera, "masks_npy", f"{video.stem}_multi_seed_union_mask.npy")
        masked_file = _place(out, camera, "mask_videos", video.name)
        if mask_file.exists() and masked_file.exists():
            continue
        frames = _read_video(video)
        masks = np.stack([_stand_in_mask(frame) for frame in frames])
        np.save(mask_file, masks)
        _write_video(
            masked_file, (f * (m[..., None] > 0) for f, m in zip(frames, masks, strict=True))
        )


def map_clips(out: Path, camera: str) -> None:
    """Pointmap and masked pointmap as video; skipped where both files are there."""
    for video in sorted((out / camera / "videos").iterdir()):
        points_file = _place(out, camera, "pointmap", video.name)
        masked_file = _place(out, camera, "mask_pointmap", video.name)
        if points_file.exists() and masked_file.exists():
            continue
        masks = np.load(out / camera / "masks_npy" / f"{video.stem}_multi_seed_union_mask.npy")
        points = [_stand_in_points(frame) for frame in _read_video(video)]
        _write_video(points_file, points)
        _write_video(
            masked_file, (p * (m[..., None] > 0) for p, m in zip(points, masks, strict=True))
        )


def _place(out: Path, camera: str, kind: str, name: str) -> Path:
    (out / camera / kind).mkdir(parents=True, exist_ok=True)
    return out / camera / kind / name


def _stand_in_mask(frame: np.ndarray) -> np.ndarray:
    """Dark pixels: regions that move with the picture, as a robot's do."""
    grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (0, 0), 3)
    return np.where(grey < 90, 255, 0).astype(np.uint8)


def _stand_in_points(frame: np.ndarray) -> np.ndarray:
    """Ramps along x and y and a smooth relief, each over 0..255."""
    height, width = frame.shape[:2]
    relief = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (0, 0), 3)
    x = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    y = np.broadcast_to(np.linspace(0, 255, height).astype(np.uint8)[:, None], (height, width))
    return np.stack([x, y, relief], axis=-1)


def _read_video(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (got := video.read())[0]:
        frames.append(got[1])
    video.release()
    if not frames:
        raise SystemExit(f"no frames decoded from {path}")
    return frames


def _write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    writer = None
    for frame in frames:
        if writer is None:
            size = (frame.shape[1], frame.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, size)
        writer.write(np.ascontiguousarray(frame))
    if writer is not None:
        writer.release()


def main() -> None:
    """All steps, one after the other."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("folder")
    parse.add_argument("out", type=Path)
    parse.add_argument("--cameras", nargs="+", required=True)
    parse.add_argument("--episodes", type=int, default=-1, help="the first so many (all)")
    parse.add_argument("--resize", nargs=2, type=int, metavar=("W", "H"))
    args = parse.parse_args()
    cv2.setNumThreads(1)
    size = tuple(args.resize) if args.resize else None
    dump_frames(args.folder, args.out, args.cameras, size, args.episodes)
    for step in (cut_clips, mask_clips, map_clips):
        for camera in args.cameras:
            step(args.out, camera)


if __name__ == "__main__":
    main()

"""Photographs that scenes are covered with and stand before, out of what `collect` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from schemas.reasons import UsageError

Floats = NDArray[np.floating]
Picture = NDArray[np.uint8]
TEXTURE, PANORAMA = "t", "p"  # what names begin with in the file
PANORAMA_SIZE = (512, 1024)
_OF_TEXTURES = 0.4  # share of patches; the rest is cut out of panoramas
# Pixels, sides of patches. Panoramas' uppermost rows are mostly sky or ceiling.
_OF_TEXTURE, _OF_PANORAMA, _SKY = (64, 384), (60, 300), 80


@dataclass(frozen=True)
class Photographs:
    """Decoded.

    Attributes:
        textures: (H, W, 3) RGB each, of materials, seen from before.
        panoramas: (512, 1024, 3) RGB each, all round; the middle row is the horizon.
    """

    textures: tuple[Picture, ...]
    panoramas: tuple[Picture, ...]


@lru_cache(maxsize=1)
def open_photographs(path: Path) -> Photographs:
    """Read a file of `collect`'s; kept, so not to be changed.

    Raises:
        UsageError: it is not there, is no such file, or lacks textures or panoramas.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            decoded = {name: simplejpeg.decode_jpeg(file[name].tobytes()) for name in file.files}
    except (OSError, EOFError, TypeError, ValueError, BadZipFile) as error:
        raise UsageError(
            f"{path} is no file of photographs ({error}); write one by "
            "`python -m simulation.mask_scenes.collect`"
        ) from error
    kinds = [
        tuple(picture for name, picture in decoded.items() if name.startswith(kind))
        for kind in (TEXTURE, PANORAMA)
    ]
    photographs = Photographs(*kinds)
    if wrong := list(_wrong(photographs)):
        raise UsageError(f"{path} has {wrong[0]}; collect the photographs anew")
    return photographs


def _wrong(photographs: Photographs) -> Iterator[str]:
    for name, pictures in vars(photographs).items():
        if not pictures:
            yield f"no {name}"
    for panorama in photographs.panoramas:
        if panorama.shape[:2] != PANORAMA_SIZE:
            yield f"a panorama of {panorama.shape[:2]} pixels, not {PANORAMA_SIZE}"


def draw_patch(
    photographs: Photographs, rng: np.random.Generator, height: int, width: int
) -> Picture:
    """(height, width, 3): a part of some photograph, stretched, turned over and tinted."""
    if rng.uniform() < _OF_TEXTURES:
        whole = photographs.textures[rng.integers(len(photographs.textures))]
        side = int(rng.integers(*_OF_TEXTURE))
        rows, columns = whole.shape[:2]
        y = rng.integers(0, max(1, rows - side + 1))
        x = rng.integers(0, max(1, columns - side + 1))
    else:
        whole = photographs.panoramas[rng.integers(len(photographs.panoramas))]
        side = int(rng.integers(*_OF_PANORAMA))
        y = rng.integers(_SKY, PANORAMA_SIZE[0] - side)
        x = rng.integers(0, PANORAMA_SIZE[1] - side)
    patch = whole[y : y + side, x : x + side]
    if rng.uniform() < 0.5:
        patch = patch[:, ::-1]
    if rng.uniform() < 0.3:
        patch = np.swapaxes(patch, 0, 1)
    patch = np.ascontiguousarray(patch)
    return tinted(cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA), rng)


def draw_texels(
    photographs: Photographs, rng: np.random.Generator, height: int, width: int
) -> Picture:
    """(height, width, 3): a square patch that is repeated downwards, as a cube's six faces are."""
    square = draw_patch(photographs, rng, min(height, width), width)
    return np.tile(square, (-(-height // width), 1, 1))[:height]


def draw_panorama(photographs: Photographs, rng: np.random.Generator) -> Picture:
    """(512, 1024, 3), tinted a little."""
    return tinted(photographs.panoramas[rng.integers(len(photographs.panoramas))], rng, 0.7)


def tinted(picture: Picture, rng: np.random.Generator, much: float = 1.0) -> Picture:
    """Of another gamma, exposure and white balance, by ``much``, and saturation."""
    x = picture.astype(np.float32) / 255
    x = x ** np.exp(rng.normal(0, 0.3 * much)) * np.exp(rng.normal(0, 0.25 * much))
    x = x * np.exp(rng.normal(0, 0.1 * much, 3))
    colour = rng.uniform(0.3, 1.3)
    x = x.mean(-1, keepdims=True) * (1 - colour) + x * colour
    return np.asarray((255 * x.clip(0, 1)).astype(np.uint8))


def view_of_panorama(panorama: Picture, K: Floats, turn: Floats, size: tuple[int, int]) -> Picture:
    """What a camera sees of a panorama that is infinitely far.

    Args:
        panorama: (512, 1024, 3).
        K: (3, 3) pixels.
        turn: (3, 3) world_from_camera; the world's z points up.
        size: height and width of the picture.
    """
    rows, columns = panorama.shape[:2]
    u, v = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    ray = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ turn.T
    east = np.arctan2(ray[..., 1], ray[..., 0]) / (2 * np.pi) + 0.5
    down = 0.5 - np.arctan2(ray[..., 2], np.hypot(ray[..., 0], ray[..., 1])) / np.pi
    x, y = (east * columns).astype(np.float32), (down * rows).astype(np.float32)
    seen = cv2.remap(panorama, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.asarray(seen)

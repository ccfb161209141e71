"""Which OpenGL MuJoCo renders with where there is no display."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib
import os
import sys

APT_LINE = "apt-get install -y --no-install-recommends libegl1 libgl1 libgl1-mesa-dri"


def choose_gl() -> str:
    """Set ``MUJOCO_GL`` unless the user did: EGL, else OSMesa, else no rendering (kinematics only).

    On macOS MuJoCo's own default (CGL) needs no display.
    """
    if "MUJOCO_GL" not in os.environ and sys.platform == "linux":
        if ctypes.util.find_library("EGL"):
            os.environ["MUJOCO_GL"] = "egl"
        elif ctypes.util.find_library("OSMesa"):
            os.environ["MUJOCO_GL"] = "osmesa"
        else:
            os.environ["MUJOCO_GL"] = "disable"
    return os.environ.get("MUJOCO_GL", "")


def load_triton() -> None:
    """Where PyTorch brought Triton, load it before OpenGL.

    Both come with an LLVM, and OpenGL's is open to all that is loaded after it: Triton, which
    `transformers` imports, then runs into the other's code and the process dies (triton 3.8.0,
    Mesa 22.3.6, 2026-11-28). The other way round both work.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton._C.libtriton")

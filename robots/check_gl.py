"""Is there an OpenGL to render with? As root on Debian, install one; else say what to run.

``python -m robots.check_gl``
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from robots._gl import APT_LINE

_PROBE = """
import mujoco
from robots.offscreen import OffscreenRenderer
OffscreenRenderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()
"""


def rendering_works() -> bool:
    """Try a tiny context in a process of its own, since a broken driver may crash it."""
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    return probe.returncode == 0


def main() -> None:
    """Report, and install where that is ours to do."""
    if rendering_works():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"no OpenGL for rendering; running: {APT_LINE}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run([*APT_LINE.split(), "-qq"], check=False)
        if rendering_works():
            return
    print(
        f"Rendering does not work here yet. On Debian or Ubuntu run: sudo {APT_LINE}\n"
        "Reading, kinematics and sharding work without it; twins and robot depth do not.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()

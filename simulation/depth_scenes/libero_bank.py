"""Started by path in LIBERO's environment: the scenes of its suites, for what they look like.

::

    .venv-libero/bin/python simulation/depth_scenes/libero_bank.py OUT.json.gz [SCENE ...]

Of every scene (of `libero_90`, the tasks of a scene share it) the model and a few placements of its
things at rest: {"scenes": [{"name", "model": MJCF, "placements": [{joint: [qpos]}]}]}. The models'
files are below ``SITE``.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from robosuite.controllers.base_controller import Controller

_OWN_UPDATE = Controller.update

SITE = sysconfig.get_paths()["purelib"]
_PLACEMENTS = 4
_SETTLE = 10  # steps until things, set a few centimetres above their support, lie still


def scenes(suite: Path) -> dict[str, Path]:
    """A task's file for every scene of a suite, by the scene's name."""
    found: dict[str, Path] = {}
    for file in sorted(suite.glob("*.bddl")):
        scene = re.match(r"[A-Z_]+_SCENE\d+", file.stem)
        found.setdefault(scene.group() if scene else file.stem, file)
    return found


def film(bddl: Path) -> dict[str, Any]:
    """The model of a task, and joint positions of its things at rest."""
    from libero.libero.envs.env_wrapper import ControlEnv

    # As in libero_worker/stage.py: with MuJoCo < 3.10 robosuite's own is right.
    Controller.update = _OWN_UPDATE
    control = ControlEnv(
        bddl_file_name=str(bddl),
        use_camera_obs=False,
        has_offscreen_renderer=False,
        hard_reset=False,
    )
    control.seed(0)
    model, data = control.env.sim.model._model, control.env.sim.data._data
    placements = []
    for _ in range(_PLACEMENTS):
        control.reset()
        for _ in range(_SETTLE):
            control.step([0.0] * 6 + [-1.0])
        joints = (model.joint(number).name for number in range(model.njnt))
        placements.append({name: data.joint(name).qpos.round(6).tolist() for name in joints})
    # Files are named below the folder of installed packages, wherever that is.
    xml = str(control.env.sim.model.get_xml()).replace(SITE, "SITE")
    control.close()
    return {"model": xml, "placements": placements}


def main(out: Path, suite: str, wanted: list[str]) -> None:
    """Write the bank of a suite's scenes, or of those that are asked for."""
    from libero.libero import get_libero_path

    files = scenes(Path(get_libero_path("bddl_files")) / suite)
    made = []
    for name in wanted or files:
        print(name, file=sys.stderr, flush=True)
        made.append({"name": name, **film(files[name])})
    out.write_bytes(gzip.compress(json.dumps({"scenes": made}).encode(), mtime=0))


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose libero.py is not LIBERO
    with tempfile.TemporaryDirectory() as settings:
        # Its default is a file in the home folder that may name another LIBERO's assets.
        os.environ["LIBERO_CONFIG_PATH"] = settings
        main(Path(sys.argv[1]), "libero_90", sys.argv[2:])

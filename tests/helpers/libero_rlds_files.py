"""Records in the layout of openvla's modified_libero_rlds, made to order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from scipy.spatial.transform import Rotation

STEM = "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"
PATH = f"/somebody/LIBERO/libero/datasets/libero_10_no_noops/{STEM}_demo.hdf5"
OBSERVATION = "steps/observation"
STATE, JOINTS = f"{OBSERVATION}/state", f"{OBSERVATION}/joint_state"
BASE = np.array([-0.66, 0.0, 0.912])  # of a table; others stand elsewhere


def features() -> dict[str, Any]:
    """features.json as published; pictures are 32x32 here, 256x256 there."""

    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        dims = {"dimensions": [str(n) for n in shape]} if shape else {}
        return {"tensor": {"dtype": dtype, "shape": dims, "encoding": "none"}}

    def group(**children: Any) -> dict[str, Any]:
        return {"featuresDict": {"features": children}}

    image = {"image": {"dtype": "uint8", "shape": {"dimensions": ["32", "32", "3"]}}}
    steps = group(
        action=tensor("float32", 7),
        discount=tensor("float32"),
        is_first=tensor("bool"),
        is_last=tensor("bool"),
        is_terminal=tensor("bool"),
        language_instruction={"text": {}},
        observation=group(
            image=image,
            joint_state=tensor("float32", 7),
            state=tensor("float32", 8),
            wrist_image=image,
        ),
        reward=tensor("float32"),
    )
    return group(
        episode_metadata=group(file_path={"text": {}}),
        steps={"sequence": {"feature": steps}},
    )


def sweep(steps: int) -> np.ndarray:
    """Joints (T, 7) rad that move in several axes, as float32 holds them."""
    rest = np.array([0.0, -0.161, 0.0, -2.4446, 0.0, 2.2268, np.pi / 4])
    return (rest + 0.02 * np.arange(steps)[:, None] * [1, 1, 0, 1, 0, 0, 1]).astype(np.float32)


def logged(joints: np.ndarray, base: np.ndarray = BASE) -> np.ndarray:
    """State's first six (T, 6): the ee's world position in m, its axis times angle in rad."""
    from robots.kinematics import ee_poses
    from robots.models import ROBOTS

    ee = ee_poses(ROBOTS["panda_libero"], joints)
    turn = Rotation.from_matrix(ee[:, :3, :3]).as_rotvec()
    return np.concatenate([ee[:, :3, 3] + base, turn], axis=1)


def picture(size: int = 32) -> np.ndarray:
    """As the camera sees it: red at the left, blue at the right; dark above, bright below."""
    out = np.zeros((size, size, 3), np.uint8)
    out[: size // 2, : size // 2], out[: size // 2, size // 2 :] = (120, 0, 0), (0, 0, 120)
    out[size // 2 :, : size // 2], out[size // 2 :, size // 2 :] = (250, 0, 0), (0, 0, 250)
    return out


def published(seen: np.ndarray) -> bytes:
    """What openvla publishes of a view: stored bottom-up, turned by 180 degrees, as a JPEG."""
    stored = seen[::-1]
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(stored[::-1, ::-1]), quality=95, colorsubsampling="444"
    )


def values(steps: int = 8, base: np.ndarray = BASE) -> dict[str, Any]:
    """Values of one sound record by feature path."""
    joints = sweep(steps)
    fingers = np.linspace(0.04, 0.01, steps)[:, None] * [1, -1]
    last = (np.arange(steps) == steps - 1).astype(int)
    return {
        "episode_metadata/file_path": PATH,
        "steps/action": np.tile([0.1, 0, 0, 0, 0, 0, -1.0], (steps, 1)),
        "steps/discount": np.ones(steps),
        "steps/is_first": last[::-1],
        "steps/is_last": last,
        "steps/is_terminal": last,
        "steps/language_instruction": ["turn on the stove and put the moka pot on it"] * steps,
        f"{OBSERVATION}/image": [published(picture())] * steps,
        JOINTS: joints,
        STATE: np.concatenate([logged(joints, base), fingers], axis=1),
        f"{OBSERVATION}/wrist_image": [published(picture()[:, ::-1])] * steps,
        "steps/reward": last.astype(float),
    }


def write(root: Path, records: list[bytes], tree: dict[str, Any] | None = None) -> Path:
    """A data set of one file; its TFDS name differs from its folder, as in the published one."""
    from converters.tfrecord import frame

    folder = root / "libero_10_no_noops" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(json.dumps(tree or features()))
    file = folder / "liber_o10-train.tfrecord-00000-of-00001"
    file.write_bytes(b"".join(frame(record) for record in records))
    return root

"""DROID records and data sets made to order, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

_CAMERAS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")


def droid_values(steps: int = 12, name: str = "Mon_0", seed: int = 0) -> dict[str, Any]:
    """Values of one sound DROID record by feature path: a slow sweep of the Panda's first joint."""
    from scipy.spatial.transform import Rotation

    from robots.kinematics import ee_poses
    from robots.models import ROBOTS

    robot = ROBOTS["panda_robotiq"]
    joints = np.repeat([robot.rest], steps, 0)
    joints[:, 0] = np.linspace(0, 0.4, steps) + 0.01 * seed
    joints = joints.astype(np.float32).astype(float)
    ee = ee_poses(robot, joints)
    pose = np.concatenate(
        [ee[:, :3, 3], Rotation.from_matrix(ee[:, :3, :3]).as_euler("xyz")], axis=1
    )
    gripper = np.linspace(0, 1, steps)[:, None]
    rng = np.random.default_rng(seed)
    images = {
        f"steps/observation/{camera}": [
            simplejpeg.encode_jpeg(
                np.full((36, 64, 3), rng.integers(40, 200, 3), np.uint8), colorspace="RGB"
            )
            for _ in range(steps)
        ]
        for camera in _CAMERAS
    }
    flags = np.zeros(steps, np.int64)
    return {
        "episode_metadata/file_path": f"/data/TEST/success/2026-01-01/{name}/trajectory.h5",
        "episode_metadata/recording_folderpath": f"/data/TEST/success/2026-01-01/{name}/MP4",
        "steps/action": np.concatenate([pose, gripper], axis=1),
        "steps/action_dict/cartesian_position": pose,
        "steps/action_dict/cartesian_velocity": np.zeros((steps, 6)),
        "steps/action_dict/gripper_position": gripper,
        "steps/action_dict/gripper_velocity": np.zeros((steps, 1)),
        "steps/action_dict/joint_position": joints,
        "steps/action_dict/joint_velocity": np.zeros((steps, 7)),
        "steps/discount": np.ones(steps),
        "steps/is_first": flags,
        "steps/is_last": flags,
        "steps/is_terminal": flags,
        "steps/language_instruction": ["sweep"] * steps,
        "steps/language_instruction_2": [""] * steps,
        "steps/language_instruction_3": [""] * steps,
        "steps/observation/cartesian_position": pose,
        "steps/observation/gripper_position": gripper,
        "steps/observation/joint_position": joints,
        "steps/reward": np.zeros(steps),
        **images,
    }


def example_bytes(values: Mapping[str, Any]) -> bytes:
    """Serialise values by path as a tf.train.Example: text and images, ints, else floats."""
    from converters._example import Example

    example = Example()
    for path, value in values.items():
        feature = example.features.feature[path]
        if isinstance(value, (str, bytes)):
            value = [value]
        if isinstance(value, list):
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in value)
        elif np.issubdtype(value.dtype, np.integer):
            feature.int64_list.value.extend(value.ravel().tolist())
        else:
            feature.float_list.value.extend(value.ravel().tolist())
    return example.SerializeToString()


def write_droid(root: Path, records: list[bytes], promised: int | None = None) -> Path:
    """A DROID data set folder of one TFRecord file; returns the file."""
    from converters.tfrecord import frame

    folder = root / "droid" / "1.0.0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(_features()))
    if promised is not None:
        split = {"name": "train", "shardLengths": [str(promised)]}
        (folder / "dataset_info.json").write_text(
            json.dumps({"name": "droid", "version": "1.0.0", "splits": [split]})
        )
    file = folder / "droid-train.tfrecord-00000-of-00001"
    file.write_bytes(b"".join(frame(record) for record in records))
    return file


def _features() -> dict[str, Any]:
    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        dims = {"dimensions": [str(n) for n in shape]}
        return {"tensor": {"dtype": dtype, "shape": dims, "encoding": "none"}}

    def group(**features: Any) -> dict[str, Any]:
        return {"featuresDict": {"features": features}}

    text: dict[str, Any] = {"text": {}}
    image = {"image": {"dtype": "uint8", "shape": {"dimensions": ["36", "64", "3"]}}}
    six, seven, one = tensor("float64", 6), tensor("float64", 7), tensor("float64", 1)
    steps = group(
        action=seven,
        action_dict=group(
            cartesian_position=six,
            cartesian_velocity=six,
            gripper_position=one,
            gripper_velocity=one,
            joint_position=seven,
            joint_velocity=seven,
        ),
        discount=tensor("float32"),
        is_first=tensor("bool"),
        is_last=tensor("bool"),
        is_terminal=tensor("bool"),
        language_instruction=text,
        language_instruction_2=text,
        language_instruction_3=text,
        observation=group(
            cartesian_position=six,
            gripper_position=one,
            joint_position=seven,
            **dict.fromkeys(_CAMERAS, image),
        ),
        reward=tensor("float32"),
    )
    return group(
        episode_metadata=group(file_path=text, recording_folderpath=text),
        steps={"sequence": {"feature": steps}},
    )

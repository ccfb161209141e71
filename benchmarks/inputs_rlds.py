"""Small sound RLDS data sets made to order: what the fuzzer mutates and the benchmarks read.

A data set is ``{path: bytes}``, so that a change is a change of a dict and nothing lies on disk
until it is written. Poses come from the robots' own kinematics, so every episode builds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from converters import bridge, droid, rt1
from converters._example import Example
from converters.tfrecord import frame
from robots.kinematics import ee_poses
from robots.models import get_robot

Files = dict[str, bytes]
Tree = dict[str, Any]
STEPS = 6
TEXT: Tree = {"text": {}}
IMAGE: Tree = {"image": {"dtype": "uint8", "shape": {"dimensions": ["36", "64", "3"]}}}
_SWEEP = 0.06  # rad a step of the first joint: well above what counts as idle, at any rate here


def tensor(dtype: str, *shape: int) -> Tree:
    """A number feature of features.json."""
    return {"tensor": {"dtype": dtype, "shape": {"dimensions": [str(n) for n in shape]}}}


def group(**features: Tree) -> Tree:
    """A features dict of features.json."""
    return {"featuresDict": {"features": features}}


def episode_features(steps: Tree, **outside: Tree) -> Tree:
    """features.json of an episode: ``steps`` and what lies beside them."""
    return group(**outside, steps={"sequence": {"feature": steps}})


def picture(level: int, size: tuple[int, int] = (36, 64)) -> bytes:
    """A JPEG with a corner of another grey, so that it is not blank."""
    image = np.full((*size, 3), level, np.uint8)
    image[: size[0] // 3, : size[1] // 3] = 255 - level
    return simplejpeg.encode_jpeg(image, colorspace="RGB")


def pictures(steps: int) -> list[bytes]:
    """One a step, each of another grey."""
    return [picture(20 + 7 * (t % 30)) for t in range(steps)]


def sweep(robot: str, steps: int, offset: float = 0.0) -> tuple[NDArray, NDArray]:
    """Joints (T, J) rad that turn the first one, and the ee poses (T, 4, 4) they reach."""
    model = get_robot(robot)
    joints = np.repeat([model.rest], steps, 0).astype(float)
    joints[:, 0] = offset + _SWEEP * np.arange(steps)
    joints = joints.astype(np.float32).astype(float)
    return joints, ee_poses(model, joints)


def euler_pose(ee: NDArray) -> NDArray:
    """(T, 6) position and Euler 'xyz'."""
    return np.concatenate([ee[:, :3, 3], Rotation.from_matrix(ee[:, :3, :3]).as_euler("xyz")], 1)


def example(values: Mapping[str, Any]) -> bytes:
    """A tf.train.Example of values by feature path: text and images, integers, else floats."""
    made = Example()
    for path, value in values.items():
        feature = made.features.feature[path]
        if isinstance(value, (str, bytes)):
            value = [value]
        if isinstance(value, Sequence):
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in value)
        elif np.issubdtype(value.dtype, np.integer):
            feature.int64_list.value.extend(value.ravel().tolist())
        else:
            feature.float_list.value.extend(value.ravel().tolist())
    return made.SerializeToString(deterministic=True)


def data_set(name: str, version: str, features: Tree, records: Sequence[bytes]) -> Files:
    """A data set of one record file, as tensorflow-datasets lays it out."""
    folder = f"{name}/{version}"
    info = {
        "name": name,
        "version": version,
        "description": f"{name} made to order",
        "redistributionInfo": {"license": "CC-BY-4.0"},
        "splits": [{"name": "train", "shardLengths": [str(len(records))]}],
    }
    return {
        f"{folder}/features.json": json.dumps(features).encode(),
        f"{folder}/dataset_info.json": json.dumps(info).encode(),
        f"{folder}/{name}-train.tfrecord-00000-of-00001": b"".join(map(frame, records)),
    }


def droid_record(
    steps: int = STEPS, path: str = "TEST/success/2026-01-01/Mon_0", offset: float = 0.0
) -> bytes:
    """One sound DROID record; ``path`` is its identity."""
    joints, ee = sweep(droid.ROBOT, steps, offset)
    pose, gripper = euler_pose(ee), np.linspace(0, 1, steps)[:, None]
    return example(
        {
            "episode_metadata/file_path": f"/data/{path}/trajectory.h5",
            "episode_metadata/recording_folderpath": f"/data/{path}/recordings/MP4",
            "steps/action": np.concatenate([pose, gripper], axis=1),
            "steps/action_dict/cartesian_position": pose,
            "steps/action_dict/cartesian_velocity": np.zeros((steps, 6)),
            "steps/action_dict/gripper_position": gripper,
            "steps/action_dict/gripper_velocity": np.zeros((steps, 1)),
            "steps/action_dict/joint_position": joints,
            "steps/action_dict/joint_velocity": np.zeros((steps, 7)),
            "steps/language_instruction": ["sweep"] * steps,
            "steps/language_instruction_2": [""] * steps,
            "steps/observation/cartesian_position": pose,
            "steps/observation/gripper_position": gripper,
            "steps/observation/joint_position": joints,
            **{f"steps/observation/{name}": pictures(steps) for name in droid.CAMERAS},
        }
    )


def droid_features() -> Tree:
    """Of `droid_record`."""
    six, seven, one = (tensor("float64", n) for n in (6, 7, 1))
    pose = {"cartesian_position": six, "gripper_position": one, "joint_position": seven}
    speed = {"cartesian_velocity": six, "gripper_velocity": one, "joint_velocity": seven}
    steps = group(
        action=seven,
        action_dict=group(**pose, **speed),
        language_instruction=TEXT,
        language_instruction_2=TEXT,
        observation=group(**pose, **dict.fromkeys(droid.CAMERAS, IMAGE)),
    )
    return episode_features(
        steps, episode_metadata=group(file_path=TEXT, recording_folderpath=TEXT)
    )


def bridge_record(steps: int = STEPS, number: int = 0) -> bytes:
    """One sound Bridge record, of two views."""
    return example(
        {
            "episode_metadata/file_path": "/nfs/bridge_data_v2/kitchen/pot/00/out.npy",
            "episode_metadata/episode_id": np.array([number]),
            "steps/action": np.zeros((steps, 7)),
            "steps/language_instruction": ["move the pot"] * steps,
            "steps/observation/state": bridge_state(steps, 0.02 * number),
            "steps/observation/image_0": pictures(steps),
            "steps/observation/image_1": pictures(steps),
        }
    )


def bridge_state(steps: int, offset: float = 0.0) -> NDArray:
    """(T, 7): R_state = R_ee D^T (`converters.bridge.DEFAULT_ROTATION`), and the gripper."""
    ee = sweep(bridge.ROBOT, steps, offset)[1].copy()
    ee[:, :3, :3] = ee[:, :3, :3] @ bridge.DEFAULT_ROTATION.T
    return np.concatenate([euler_pose(ee), np.linspace(1, 0, steps)[:, None]], axis=1)


def bridge_features() -> Tree:
    """Of `bridge_record`."""
    seven = tensor("float32", 7)
    steps = group(
        action=seven,
        language_instruction=TEXT,
        observation=group(state=seven, image_0=IMAGE, image_1=IMAGE),
    )
    outside = group(file_path=TEXT, episode_id=tensor("int32"))
    return episode_features(steps, episode_metadata=outside)


def rt1_record(steps: int = STEPS, offset: float = 0.0) -> bytes:
    """One sound RT-1 record, of the features that are read."""
    ee = sweep(rt1.ROBOT, steps, offset)[1]
    quaternion = Rotation.from_matrix(ee[:, :3, :3]).as_quat()
    last = np.arange(steps) == steps - 1
    mode = np.stack([last, ~last, last & False], 1).astype(int)
    flags = ("already_success", "feasible", "has_aspects", "success", "undesirable")
    return example(
        {
            **{f"aspects/{name}": np.array([int(name in flags[1:4])]) for name in flags},
            "attributes/env_name": "kitchen",
            "steps/action/base_displacement_vector": np.zeros((steps, 2)),
            "steps/action/base_displacement_vertical_rotation": np.zeros((steps, 1)),
            "steps/action/gripper_closedness_action": np.zeros((steps, 1)),
            "steps/action/rotation_delta": np.zeros((steps, 3)),
            "steps/action/terminate_episode": mode,
            "steps/action/world_vector": np.zeros((steps, 3)),
            "steps/observation/base_pose_tool_reached": np.concatenate(
                [ee[:, :3, 3], quaternion], axis=1
            ),
            "steps/observation/gripper_closed": np.linspace(0, 1, steps)[:, None],
            "steps/observation/image": pictures(steps),
            "steps/observation/natural_language_instruction": ["pick coke can"] * steps,
        }
    )


def rt1_features() -> Tree:
    """Of `rt1_record`."""
    f32 = "float32"
    flags = ("already_success", "feasible", "has_aspects", "success", "undesirable")
    steps = group(
        action=group(
            base_displacement_vector=tensor(f32, 2),
            base_displacement_vertical_rotation=tensor(f32, 1),
            gripper_closedness_action=tensor(f32, 1),
            rotation_delta=tensor(f32, 3),
            terminate_episode=tensor("int32", 3),
            world_vector=tensor(f32, 3),
        ),
        observation=group(
            base_pose_tool_reached=tensor(f32, 7),
            gripper_closed=tensor(f32, 1),
            image=IMAGE,
            natural_language_instruction=tensor("string"),
        ),
    )
    return episode_features(
        steps,
        aspects=group(**dict.fromkeys(flags, tensor("bool"))),
        attributes=group(env_name=tensor("string")),
    )

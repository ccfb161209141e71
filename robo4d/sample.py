"""The published sample: which fields there are, which member holds each, and how they are coded.

A sample is one clip of one camera. What is not known is absent: its member is not there and
``meta["fields"]`` says why. Pointmaps are derived from depth, K and pose, never stored.

======================  ======================  ==========================================
field                   member                  shape, type, unit
======================  ======================  ==========================================
rgb                     rgb.mp4                 T,H,W,3 uint8
depth                   depth.r4a               T,H,W float32 m, z-depth of the scene, 0 unknown
confidence              confidence.r4a          T,H,W uint8
robot_depth             robot_depth.r4a         T,H,W float32 m, the robot alone, amodal, 0 none
robot_part              robot_part.r4a          T,H,W uint8, index into link_names + 1, 0 none
robot_visible           robot_visible.r4a       T,H,W bool, robot pixels not hidden
K, base_from_camera     camera.safetensors      T,3,3 and T,4,4 float64
time, step              state.safetensors       T float64 s, T int64 (index in the episode)
joints, gripper, ee     state.safetensors       T,J float64 rad; T float64 0..1; T,4,4 float64
joints_flagged          state.safetensors       T bool, solved joints that miss the logged pose
link_poses              state.safetensors       T,L,7 float32, base from link: xyz m, wxyz
actions                 actions.safetensors     {name: T,D float64}, columns in meta["actions"]
meta                    meta.json               text, outcome, provenance, quality, licence, origin
======================  ======================  ==========================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from robo4d._arrays import decode_array, encode_bool, encode_depth, encode_uint8
from robo4d._errors import FormatError, ShapeError
from robo4d._video import decode_rgb, encode_rgb
from robo4d.geometry import check_array, check_poses

FORMAT = "robo4d/1"

MEMBER_OF_FIELD = {
    "rgb": "rgb.mp4",
    "depth": "depth.r4a",
    "confidence": "confidence.r4a",
    "robot_depth": "robot_depth.r4a",
    "robot_part": "robot_part.r4a",
    "robot_visible": "robot_visible.r4a",
    "K": "camera.safetensors",
    "base_from_camera": "camera.safetensors",
    "time": "state.safetensors",
    "step": "state.safetensors",
    "joints": "state.safetensors",
    "joints_flagged": "state.safetensors",
    "gripper": "state.safetensors",
    "ee": "state.safetensors",
    "link_poses": "state.safetensors",
    "actions": "actions.safetensors",
    "meta": "meta.json",
}
FIELDS = tuple(MEMBER_OF_FIELD)
_ENCODE_IMAGES: dict[str, Callable[[NDArray], bytes]] = {
    "depth": encode_depth,
    "confidence": encode_uint8,
    "robot_depth": encode_depth,
    "robot_part": encode_uint8,
    "robot_visible": encode_bool,
}
_DECODE: dict[str, Callable[[bytes], Any]] = {"mp4": decode_rgb, "r4a": decode_array}


def sample_key(episode_id: str, camera: str, clip_start: int) -> str:
    """The short stable name of a clip: 16 hex digits of sha256 over id, camera and first step."""
    return hashlib.sha256(f"{episode_id}\n{camera}\n{clip_start}".encode()).hexdigest()[:16]


def check_fields(fields: Mapping[str, Any]) -> tuple[int, int, int]:
    """Check every array of a sample against the table above; returns (T, H, W).

    Raises:
        ShapeError: naming the field, what it is and what was expected.
    """
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise ShapeError(f"unknown fields {unknown}; the format has {list(FIELDS)}")
    rgb = check_array("rgb", fields["rgb"], ["T", "H", "W", 3], "u")
    n, height, width = rgb.shape[:3]
    for name, kind in (("depth", "f"), ("robot_depth", "f"), ("confidence", "u")):
        if name in fields:
            check_array(name, fields[name], [n, height, width], kind)
    for name, kind in (("robot_part", "u"), ("robot_visible", "b")):
        if name in fields:
            check_array(name, fields[name], [n, height, width], kind)
    for name, shape in (("K", [n, 3, 3]), ("time", [n]), ("gripper", [n]), ("joints", [n, "J"])):
        if name in fields:
            check_array(name, fields[name], shape)
    for name in ("base_from_camera", "ee"):
        if name in fields:
            check_poses(name, fields[name], [n])
    if "joints_flagged" in fields:
        check_array("joints_flagged", fields["joints_flagged"], [n], "b")
    if "step" in fields:
        check_array("step", fields["step"], [n], "i")
    if "link_poses" in fields:
        check_array("link_poses", fields["link_poses"], [n, "L", 7])
    for name, values in fields.get("actions", {}).items():
        check_array(f"actions.{name}", values, [n, "D"])
    return n, height, width


def encode_sample(
    fields: Mapping[str, Any], meta: Mapping[str, Any], fps: float, crf: int = 18
) -> dict[str, bytes]:
    """Code a sample as its tar members, in the order in which they are written.

    Args:
        fields: the arrays of the table; at least ``rgb``. Leave out what is absent.
        meta: json values; gets ``format``, ``frames`` and ``size`` here.
        fps: true frame rate of the clip, in Hz.
        crf: H.264 quality; lower is better and larger.

    Raises:
        ShapeError: an array is not as the table says.
    """
    n, height, width = check_fields(fields)
    members = {"rgb.mp4": encode_rgb(np.asarray(fields["rgb"]), fps, crf)}
    for name, encode in _ENCODE_IMAGES.items():
        if name in fields:
            members[MEMBER_OF_FIELD[name]] = encode(np.asarray(fields[name]))
    for member in ("camera.safetensors", "state.safetensors"):
        arrays = {k: fields[k] for k, m in MEMBER_OF_FIELD.items() if m == member and k in fields}
        if arrays:
            members[member] = _save(arrays)
    if fields.get("actions"):
        members["actions.safetensors"] = _save(fields["actions"])
    full = {**meta, "format": FORMAT, "frames": n, "size": [height, width], "fps": fps}
    members["meta.json"] = to_json(full)
    return members


def decode_member(name: str, data: bytes) -> Any:
    """Decode one member by its name; what ``WebDataset(...).decode(robo4d.decode_member)`` calls.

    Returns an array, a dict of arrays, a dict (json), or None for a name it does not know
    (such as webdataset's own ``__key__``).

    Raises:
        FormatError: the bytes are damaged.
    """
    extension = name.rsplit(".", 1)[-1]
    if extension in _DECODE:
        return _DECODE[extension](data)
    try:
        if extension == "safetensors":
            return load_safetensors(data)
        if extension == "json":
            return json.loads(data)
    except (SafetensorError, ValueError) as error:
        raise FormatError(f"member {name} of {len(data)} bytes is damaged: {error}") from error
    return None


def to_json(value: Mapping[str, Any]) -> bytes:
    """Canonical json: sorted keys, no spaces, no NaN; the same value gives the same bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _save(arrays: Mapping[str, NDArray]) -> bytes:
    return save_safetensors({k: np.ascontiguousarray(v) for k, v in arrays.items()})

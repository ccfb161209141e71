"""BridgeData V2 as its robots wrote it: a folder a trajectory, with pickles and JPEGs.

``<...>/<timestamp>/{config.json, collection_metadata.json}`` and below it
``raw/traj_group<g>/traj<n>/{obs_dict.pkl, policy_out.pkl, agent_data.pkl, images<i>/im_<t>.jpg,
lang.txt}`` (rail-berkeley/bridge_data_robot, utils/raw_saver.py). T observations and T - 1 actions:
the last observation has none and is left out, as bridge_data_v2's bridgedata_raw_to_numpy.py does.

Not read: ``agent_data.pkl`` (the collector's bookkeeping; it holds ROS classes),
``diagnostics.png``, ``depth_images*`` (noted), and of ``obs_dict`` all but `full_state`, `state`,
`qpos` and `time_stamp`: `eef_transform`, `transform_pose` and `xyz` repeat the state, `qvel`,
`joint_effort`, `desired_state`, `high_bound`, `low_bound`, `env_done`, `t_get_obs`, `imu` and
`mic` have no place in an `Episode`. Of ``policy_out`` all but `actions`.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import fsspec
import numpy as np

from converters._bridge_files import (
    Folder,
    collection_notes,
    list_files,
    natural,
    numbers,
    read_actions,
    read_cameras,
    read_instructions,
    read_time,
)
from converters._listing import list_folder, read_head
from converters._pickle import MAX_BYTES, load_pickle
from converters.bridge import (
    ACTION_COLUMNS,
    CITATION,
    LICENCE,
    RATE,
    ROBOT,
    ee_from_state,
    groups,
)
from robo4d import ShapeError
from schemas.episode import Episode, Origin, RobotTrajectory
from schemas.plan import EpisodeRef
from schemas.reasons import EpisodeError, Reason, UsageError
from schemas.truth import TWIN_MARK

# "Data collected prior to 7-23 has a delay of 1" (bridge_data_v2, bridgedata_raw_to_numpy.py).
DELAY_FIXED = datetime(2021, 7, 23)
_PICKLES = ("obs_dict.pkl", "policy_out.pkl")
_TRAJECTORY = re.compile(r"(?:^|/)([^/]+)/raw/traj_group(\d+)/traj(\d+)$")
_JOINTS = 6
_DEPTH = 12  # folders between the root and a trajectory; Bridge has eight
_JSON_LIMIT = 4 << 20
_EPISODE_LIMIT = 1 << 30


@dataclass(frozen=True)
class BridgeRawSource:
    """Raw trajectories below one folder; see `converters.source.OpenedSource`."""

    root: str
    twin: bool
    layout: str = "raw"
    joined: str = ""  # nothing lies outside the trajectories
    name: str = "bridge_data_raw"
    facts: str = ""  # its samples depend on nothing but the trajectories
    notes: Sequence[str] = field(default_factory=tuple)

    def refs(self, cache: Path | None) -> dict[str, list[EpisodeRef]]:
        """Every trajectory, by path and number; Bridge publishes no split of its raw data.

        ``crc`` is over the pickles, the text, and the names and sizes of the images.
        """
        fs, root = fsspec.core.url_to_fs(self.root)
        found = [path[len(root) :].strip("/") for path in _trajectories(fs, root)]
        return {"train": [self._ref(fs, root, path) for path in sorted(found, key=natural)]}

    def _ref(self, fs: fsspec.AbstractFileSystem, root: str, path: str) -> EpisodeRef:
        folder = f"{root}/{path}"
        if not path.isprintable():  # no identity, and not UTF-8 perhaps
            said = f"the folder is named {path!r}"
            return EpisodeRef(
                file=ascii(path), record=0, defect=Reason.BAD_IDENTITY, message=ascii(said)
            )
        try:
            files = list_files(fs, folder)
        except EpisodeError as error:
            return EpisodeRef(file=path, record=0, defect=error.reason, message=str(error))
        missing = [name for name in _PICKLES if name not in files]
        if missing:
            said = f"{path} lacks {', '.join(missing)}"
            return EpisodeRef(file=path, record=0, defect=Reason.MISSING_FEATURE, message=said)
        stamp = 0
        for name, size in files.items():
            stamp = zlib.crc32(os.fsencode(f"{name} {size}\n"), stamp)
            if name in (*_PICKLES, "lang.txt") and size <= MAX_BYTES:
                stamp = zlib.crc32(fs.cat_file(f"{folder}/{name}"), stamp)
        own = groups(f"{root}/{path}")
        size = sum(files.values())
        return EpisodeRef(file=path, record=0, length=size, crc=stamp, groups=own)

    def read(self, ref: EpisodeRef, split: str, fps: float | None) -> Episode:
        """Read one trajectory.

        Raises:
            EpisodeError: it cannot be used, with the reason.
            OSError: its files are gone.
        """
        if ref.defect is not None:
            raise EpisodeError(ref.defect, ref.message)
        fs, root = fsspec.core.url_to_fs(self.root)
        identity, path = _identity(root, ref.file), f"{root}/{ref.file}"
        folder = Folder(fs, path, list_files(fs, path))
        try:
            return _read(folder, ref, split, fps, identity, self.twin)
        except EpisodeError as error:
            raise EpisodeError(error.reason, str(error), episode_id=identity) from error
        except ShapeError as error:  # a contract that the values break
            raise EpisodeError(Reason.WRONG_SHAPE, str(error), episode_id=identity) from error


def is_bridge_raw(data: str) -> bool:
    """Whether a raw trajectory lies at or below ``data``."""
    fs, root = fsspec.core.url_to_fs(data)
    return fs.isdir(root) and next(_trajectories(fs, root.rstrip("/")), None) is not None


def open_bridge_raw(data: str) -> BridgeRawSource:
    """The raw trajectories at or below ``data``, a folder or fsspec URL.

    Raises:
        UsageError: there is none.
    """
    fs, root = fsspec.core.url_to_fs(data)
    root = root.rstrip("/")
    first = next(_trajectories(fs, root), None) if fs.isdir(root) else None
    if first is None:
        raise UsageError(
            f"{data} holds no Bridge trajectory; expected "
            "<timestamp>/raw/traj_group<g>/traj<n> in it or below"
        )
    metadata = first.rsplit("/", 3)[0] + "/collection_metadata.json"
    return BridgeRawSource(
        root=fs.unstrip_protocol(root) if "://" in data else root,
        twin=TWIN_MARK.encode() in read_head(fs, metadata, _JSON_LIMIT),
    )


def _trajectories(fs: fsspec.AbstractFileSystem, root: str, depth: int = _DEPTH) -> Iterator[str]:
    """Trajectory folders, without a look into them. Folders named lmdb are the collectors' own."""
    inside = list_folder(fs, root)
    for name in sorted(name for name, about in inside.items() if about["type"] == "directory"):
        path = f"{root.rstrip('/')}/{name}"
        if _TRAJECTORY.search(path):
            yield path
        elif "lmdb" not in name and depth > 1:
            yield from _trajectories(fs, path, depth - 1)


def _identity(root: str, path: str) -> str:
    """Path within Bridge's own tree, whichever of its folders was opened."""
    whole = f"{root}/{path}"
    own = re.search(r"bridge_data_v\d+/.+$", whole)
    if own is None and not _TRAJECTORY.search(path):  # opened at the dated folder or below it
        own = re.search(r"[^/]+/raw/traj_group\d+/traj\d+$", whole)
    return f"bridge/{own[0] if own else path}"


def _read(
    folder: Folder, ref: EpisodeRef, split: str, fps: float | None, identity: str, twin: bool
) -> Episode:
    if sum(folder.files.values()) > _EPISODE_LIMIT:
        raise EpisodeError(Reason.TOO_LARGE, f"{ref.file} has more than {_EPISODE_LIMIT} bytes")
    log = load_pickle(folder.read("obs_dict.pkl", MAX_BYTES), "obs_dict.pkl")
    if not isinstance(log, dict):
        raise EpisodeError(Reason.WRONG_DTYPE, f"obs_dict.pkl holds a {type(log).__name__}")
    name = "full_state" if "full_state" in log else "state"
    state = numbers(log, name, (None, 7))
    total = len(state)
    actions = read_actions(load_pickle(folder.read("policy_out.pkl", MAX_BYTES), "policy_out.pkl"))
    if len(actions) != total - 1:
        raise EpisodeError(
            Reason.WRONG_SHAPE,
            f"{name} has {total} steps and policy_out.pkl {len(actions)}; expected one less",
        )
    notes = ["the last observation has no action and is left out"]
    delay = _delay(folder.path)
    if delay:
        notes.append("collected before 2021-07-23: each action is paired with the next observation")
    kept = slice(delay, total - 1)  # observations; action i - delay belongs to observation i
    if total - 1 - delay <= 0:
        raise EpisodeError(Reason.EMPTY_EPISODE, f"{total} observations leave no step")
    joints = None
    if "qpos" in log:
        logged = numbers(log, "qpos", (total, None))
        if logged.shape[1] < _JOINTS:
            raise EpisodeError(Reason.WRONG_SHAPE, f"qpos has {logged.shape[1]} joints, not 6")
        joints = logged[kept, :_JOINTS]  # what follows is the gripper
    else:
        notes.append("no qpos: joints are not measured")
    time, provenance = read_time(log, total, fps or RATE)
    opening = state[kept, 6]
    if opening.min() < 0 or opening.max() > 1:
        notes.append(f"gripper state spans {opening.min():.4f} to {opening.max():.4f}; clipped")
    cameras = read_cameras(folder, total, kept, notes)
    instructions = read_instructions(folder, notes)
    notes += collection_notes(folder.fs, folder.path.rsplit("/", 3)[0])
    return Episode(
        id=identity,
        source="bridge",
        split=split,
        outcome="unknown",  # the layout does not say
        instructions=instructions,
        fps=fps or RATE,
        time=time[kept] - time[kept][0],
        time_provenance=provenance,
        cameras=cameras,
        robot=RobotTrajectory(
            robot=ROBOT,
            gripper=np.clip(opening, 0, 1),
            joints=joints,
            ee=ee_from_state(state[kept]),
        ),
        actions={"action": actions[: len(actions) - delay]},
        action_columns=ACTION_COLUMNS,
        licence=LICENCE,
        citation=CITATION,
        origin=Origin(ref.file, ref.record, folder.digest.hexdigest()),
        twin=twin,
        groups=groups(folder.path),
        notes=tuple(notes),
    )


def _delay(path: str) -> int:
    """Steps by which actions are late, from the dated folder's name."""
    name = path.rsplit("/", 4)[-4]
    try:
        return int(datetime.strptime(name, "%Y-%m-%d_%H-%M-%S") < DELAY_FIXED)
    except ValueError as error:
        raise EpisodeError(
            Reason.BAD_IDENTITY,
            f"folder {name!r} is no date; expected YYYY-MM-DD_hh-mm-ss, which decides the shift",
        ) from error

"""``trajectory.h5`` of DROID's raw release: rows, clocks, cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from converters import droid
from converters._droid_files import folder_time
from converters._droid_folder import Metadata
from converters._hdf5 import NumberFile
from robo4d.geometry import Floats, make_pose
from schemas.reasons import EpisodeError, Reason

_MAX_APART = 27 * 3600  # s between a local time and UTC: -12 to +14 h, and half a day in hand
_MAX_NAME = 256
_MAX_ROWS = 100_000  # nearly two hours at 15 Hz
_STATE, _STAMPS = "observation/robot_state", "observation/timestamp"
# When a row's state was read, ms of the computer that also stamps the camera frames; the robot's
# own clock (robot_timestamp_seconds) is another one.
_CLOCKS = (f"{_STAMPS}/robot_state/read_start", f"{_STAMPS}/control/step_start")
ACTION_COLUMNS: dict[str, Sequence[str]] = {
    **{name: columns for name, columns in droid.ACTION_COLUMNS.items() if name != "action"},
    "target_cartesian_position": droid.ACTION_COLUMNS["cartesian_position"],
    "target_gripper_position": ("gripper_closed",),
}


@dataclass(frozen=True)
class Log:
    """What is used of ``trajectory.h5``, a row a step.

    Attributes:
        joints: (T, 7) rad. pose: (T, 6) m and rad, Euler 'xyz', of ``panda_link8`` in the base.
        closed: (T,) 0 open to 1 closed.
        time: (T,) s. measured: from the log's clock, not from a nominal rate.
        received: {stream: (T,) ms or None}, when each row's frame came in.
    """

    joints: Floats
    pose: Floats
    closed: Floats
    actions: Mapping[str, Floats]
    time: Floats
    rate: float
    measured: bool
    received: Mapping[str, NDArray[np.float64] | None]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StartPose:
    """What DROID shipped for one camera; stale or wrong for many episodes, so only a start.

    Attributes:
        base_from_camera: (T, 4, 4), by the log's rows.
        gripper_from_camera: (4, 4) for the wrist camera.
        K: (3, 3) pixels of the recording, with OpenCV's pixel centres.
    """

    base_from_camera: Floats
    gripper_from_camera: Floats | None
    K: Floats | None


def read_log(file: Path, metadata: Metadata, fps: float | None) -> Log:
    """Read ``trajectory.h5``.

    Args:
        fps: step rate in Hz where the log has no clock; None is DROID's 15.

    Raises:
        EpisodeError: with what is wrong.
    """
    with NumberFile(file) as log:
        joints = _required(log, f"{_STATE}/joint_positions", (7,))
        rows = len(joints)
        if rows == 0:
            raise EpisodeError(Reason.EMPTY_EPISODE, "trajectory.h5 has no row")
        if rows > _MAX_ROWS:
            raise EpisodeError(Reason.TOO_LARGE, f"{rows} rows; at most {_MAX_ROWS}")
        actions = {}
        for name, columns in ACTION_COLUMNS.items():
            tail = () if len(columns) == 1 else (len(columns),)
            values = _optional(log, f"action/{name}", rows, tail)
            if values is not None:
                actions[name] = values.reshape(rows, len(columns))
        clocks = [_optional(log, name, rows) for name in _CLOCKS]
        clock = next((c for c in clocks if c is not None), None)
        if clock is None:
            rate = fps or droid.RATE
            time = np.arange(rows) / rate
        else:
            time, rate = _seconds(clock, fps)
        received = {
            name: _optional(log, f"{_STAMPS}/cameras/{serial}_frame_received", rows)
            for name, serial in metadata.serials.items()
        }
        _check_identity(log, file.parent.name, clock)
        _check_cameras(log, metadata, rows)
        notes = [*_skipped(log, rows), *_absent(actions)]
        if clock is None:
            notes.append(f"the log has no timestamps; {rate:g} Hz is assumed")
        else:
            notes += _delays(clock, received)
        return Log(
            joints=joints,
            pose=_required(log, f"{_STATE}/cartesian_position", (6,), rows),
            closed=_required(log, f"{_STATE}/gripper_position", (), rows),
            actions=actions,
            time=time,
            rate=rate,
            measured=clock is not None,
            received=received,
            notes=tuple(notes),
        )


def source_extrinsics(log: NumberFile, serial: str) -> StartPose | None:
    """DROID's own extrinsics of one camera's left view; None where it has none.

    The wrist camera's are its mount (``_gripper_offset``) carried by the logged gripper pose
    (droid/robot_env.py).
    """
    name = f"observation/camera_extrinsics/{serial}_left"
    values, mount = log.numbers(name, (6,)), log.numbers(f"{name}_gripper_offset", (6,))
    K = log.numbers(f"observation/camera_intrinsics/{serial}_left", (3, 3))
    if values is None or len(values) == 0 or not np.isfinite(values).all():
        return None
    offset = None if mount is None or not np.isfinite(mount).all() else _poses(mount[:1])[0]
    sound = K is not None and len(K) > 0 and np.isfinite(K[0]).all() and K[0, 0, 0] > 0
    return StartPose(
        _poses(values), offset, K[0].astype(float) if sound and K is not None else None
    )


def _required(
    log: NumberFile, name: str, tail: tuple[int, ...], rows: int | None = None
) -> NDArray[np.float64]:
    values = _optional(log, name, rows, tail)
    if values is None:
        raise EpisodeError(Reason.MISSING_FEATURE, f"trajectory.h5 lacks {name!r}")
    return values


def _optional(
    log: NumberFile, name: str, rows: int | None, tail: tuple[int, ...] = ()
) -> NDArray[np.float64] | None:
    values = log.numbers(name, tail, rows)
    if values is None:
        return None
    out = values.astype(np.float64)
    if not np.isfinite(out).all():
        step = int(np.argwhere(~np.isfinite(out))[0][0])
        raise EpisodeError(Reason.NON_FINITE, f"{name} has {out[step]} at step {step}")
    return out


def _seconds(clock: NDArray[np.float64], fps: float | None) -> tuple[NDArray[np.float64], float]:
    rise = np.diff(clock)
    if (rise <= 0).any():
        at = int(np.argmax(rise <= 0)) + 1
        raise EpisodeError(
            Reason.NON_MONOTONIC_TIME,
            f"time goes from {clock[at - 1]:.0f} to {clock[at]:.0f} ms at step {at}",
        )
    time = (clock - clock[0]) / 1000
    return time, (len(time) - 1) / time[-1] if len(time) > 1 else fps or droid.RATE


def _check_identity(log: NumberFile, folder: str, clock: NDArray[np.float64] | None) -> None:
    """The log must be of its folder's time: by its own ``time`` attribute, which is the folder's
    name (droid/user_interface/data_collector.py), and by its clock to within any time zone.
    """
    named = log.text("/", "time", _MAX_NAME)
    if named is not None and named.replace(":", "_") != folder.replace(":", "_"):
        raise EpisodeError(
            Reason.BAD_IDENTITY, f"trajectory.h5 is of {named!r} and lies in {folder!r}"
        )
    when = folder_time(folder)
    if clock is None or when is None:
        return
    apart = clock[0] / 1000 - when.timestamp()
    if abs(apart) > _MAX_APART:
        raise EpisodeError(
            Reason.BAD_IDENTITY,
            f"trajectory.h5 begins {apart / 3600:.0f} h from its folder's time, {folder!r}: "
            "another episode's?",
        )


def _check_cameras(log: NumberFile, metadata: Metadata, rows: int) -> None:
    """The log's own camera list must know the metadata's cameras, in the same places."""
    known = log.names("observation/camera_type")
    if not known:
        return
    for name, serial in metadata.serials.items():
        if serial not in known:
            raise EpisodeError(
                Reason.BAD_IDENTITY,
                f"metadata's {name} is camera {serial}; the log knows {known[:9]}",
            )
        kind = _optional(log, f"observation/camera_type/{serial}", rows)
        if kind is not None and len(kind) and (int(kind[0]) == 0) != (name == "wrist_image_left"):
            raise EpisodeError(
                Reason.BAD_IDENTITY,
                f"metadata's {name} is camera {serial}, in the log of type {int(kind[0])}",
            )


def _skipped(log: NumberFile, rows: int) -> list[str]:
    for name, moving in (
        (f"{_STAMPS}/skip_action", False),
        ("observation/controller_info/movement_enabled", True),
    ):
        values = _optional(log, name, rows)
        if values is not None:
            count = int((values.astype(bool) != moving).sum())
            said = f"{count} of {rows} steps were logged while the operator moved nothing; kept"
            return [said] if count else []
    return []


def _absent(actions: Mapping[str, Floats]) -> list[str]:
    lost = [name for name in droid.ACTION_COLUMNS if name != "action" and name not in actions]
    return [f"the log has no action {', '.join(lost)}"] if lost else []


def _delays(
    clock: NDArray[np.float64], received: Mapping[str, NDArray[np.float64] | None]
) -> list[str]:
    return [
        f"{name}: frames came in {np.median(times - clock):.0f} ms (median) after their step"
        for name, times in received.items()
        if times is not None
    ]


def _poses(values: NDArray) -> Floats:
    turn = Rotation.from_euler("xyz", values[:, 3:]).as_matrix()
    return make_pose(turn, values[:, :3].astype(float))

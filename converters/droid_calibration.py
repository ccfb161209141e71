"""DROID's post-hoc calibration and annotations, joined to their own episode or not at all.

Published at huggingface.co/KarlP/droid; structure after its README.md, CalibrationExample.ipynb and
public code that reads the files. All but one are keyed by the episode's uuid
(``<LAB>+<user>+2023-03-07-16h-19m-59s``):

- ``episode_id_to_path.json``: ``"<LAB>/<outcome>/<date>/<time>"``.
- ``camera_serials.json``: ``{"ext1_cam_serial", "ext2_cam_serial", "wrist_cam_serial"}``.
- ``intrinsics.json``: ``{serial: {"cameraMatrix": [fx, cx, fy, cy], "width", "height", ...}}`` at
  1280x720; README says a bare list, which is read too. All zeros: absent.
- ``cam2base_extrinsics.json``, ``cam2base_extrinsic_superset.json``: ``{serial: [x, y, z, rx, ry,
  rz], "relative_path", ...}``, camera to base, m and rad, Euler 'xyz' as SciPy's ``from_euler``.
- ``cam2cam_extrinsics.json``: ``{"left_cam": {"pose": 4x4, "focal", ...}, "right_cam": {...}}``. It
  names no serial, so it is never chained into a calibration; see `read_relative_poses`.
- ``droid_language_annotations.json``: ``{"language_instruction1", ...2, ...3}``.
- ``keep_ranges_*.json``: ``{"<recording_folderpath>--<file_path>": [[start, stop], ...]}``,
  half-open, in steps of ``droid/1.0.1``.

What does not fit together is dropped and counted in ``notes``: an id twice with different values,
one path under two ids, a uuid whose lab or time is not its path's, an entry whose own
``relative_path`` or serials are another episode's.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from converters import _droid_files as files
from converters._droid_files import Camera, Pose, episode_path, same_episode
from robo4d.geometry import intrinsics, invert, make_pose, resize_intrinsics
from schemas.episode import Calibration, Provenance
from schemas.reasons import UsageError

# RLDS names for DROID's roles (CalibrationExample.ipynb).
ROLES = {
    "exterior_image_1_left": "ext1_cam_serial",
    "exterior_image_2_left": "ext2_cam_serial",
    "wrist_image_left": "wrist_cam_serial",
}
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CalibrationIndex:
    """What the files say, by uuid, after everything doubtful was dropped.

    Attributes:
        path_of, uuid_of: the two ways between uuid and normal path (`episode_path`).
        serials: {uuid: {role: serial}}.
        cameras: {uuid: {serial: intrinsics}}.
        poses: {uuid: {serial: (x, y, z, rx, ry, rz)}}; fixed cameras only.
        texts: {uuid: instructions}.
        keep: {normal path: step ranges}.
        refused: uuids that name two episodes, or share one; nothing is joined to them.
        notes: what was dropped, and how often.
        sha256: over the files, for a plan's fingerprint.
    """

    path_of: Mapping[str, str] = field(default_factory=dict)
    uuid_of: Mapping[str, str] = field(default_factory=dict)
    serials: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    cameras: Mapping[str, Mapping[str, Camera]] = field(default_factory=dict)
    poses: Mapping[str, Mapping[str, Pose]] = field(default_factory=dict)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keep: Mapping[str, Ranges] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    notes: Sequence[str] = ()
    sha256: str = ""

    def resolve(self, *, uuid: str | None = None, path: str | None = None) -> str | None:
        """The uuid of an episode named by uuid, by path or by both; None unless all agree."""
        if uuid in self.refused:
            return None
        if path is None:
            return uuid
        normal = episode_path(path)
        if normal is None:
            return None
        if uuid is None:
            return self.uuid_of.get(normal)
        known = self.uuid_of.get(normal, uuid) == uuid and self.path_of.get(uuid, normal) == normal
        return uuid if known and same_episode(uuid, normal) else None

    def lookup(
        self,
        serial: str,
        size: tuple[int, int],
        *,
        uuid: str | None = None,
        path: str | None = None,
    ) -> Calibration | None:
        """Calibration of one fixed camera in one episode, for frames of ``size`` (height, width).

        None is a miss: an unknown episode or camera, no pose or no intrinsics, a moving camera, or
        frames of another aspect.
        """
        found = self.resolve(uuid=uuid, path=path)
        if found is None:
            return None
        camera = self.cameras.get(found, {}).get(serial)
        pose = self.poses.get(found, {}).get(serial)
        if camera is None or pose is None:
            return None
        height, width = size
        across, down = width / camera.width, height / camera.height
        if abs(across / down - 1) > 0.01:
            return None
        return Calibration(scaled(camera, across, down), pose_matrix(pose), Provenance.POSTHOC)

    def instructions(self, *, uuid: str | None = None, path: str | None = None) -> tuple[str, ...]:
        """Up to three instructions, as annotated after the release; none if unknown."""
        found = self.resolve(uuid=uuid, path=path)
        return self.texts.get(found, ()) if found is not None else ()

    def keep_ranges(self, path: str) -> Ranges | None:
        """Half-open ranges of steps that are not idle; None if nothing is said of the episode."""
        return self.keep.get(episode_path(path) or "")

    def digest(self, *, uuid: str | None, path: str) -> int:
        """CRC32 of all that is joined to an episode, for a plan's fingerprint."""
        found = self.resolve(uuid=uuid, path=path)
        facts = [table.get(found or "") for table in (self.cameras, self.poses, self.texts)]
        return zlib.crc32(repr([found, facts, self.keep_ranges(path)]).encode())


@dataclass(frozen=True)
class RldsJoin:
    """What the files add to an RLDS episode. Cameras without calibration are left out."""

    uuid: str | None
    calibrations: Mapping[str, Calibration]
    instructions: tuple[str, ...]
    keep_ranges: Ranges | None


NOTHING = RldsJoin(None, {}, (), None)


def join_rlds(
    index: CalibrationIndex, file_path: str, size: tuple[int, int] = (180, 320)
) -> RldsJoin:
    """Join by ``episode_metadata/file_path``; ``size`` is the frames' (height, width)."""
    uuid = index.resolve(path=file_path)
    serials = index.serials.get(uuid or "", {})
    found = {
        name: index.lookup(serials[role], size, path=file_path)
        for name, role in ROLES.items()
        if role in serials
    }
    return RldsJoin(
        uuid,
        {name: calibration for name, calibration in found.items() if calibration is not None},
        index.instructions(path=file_path),
        index.keep_ranges(file_path),
    )


def keep_of_steps(ranges: Ranges, rows: NDArray[np.integer]) -> Ranges:
    """The ranges as half-open ranges of steps, where step k is the log's row ``rows[k]``."""
    bounds = [np.searchsorted(rows, pair).tolist() for pair in ranges]
    return tuple((start, stop) for start, stop in bounds if start < stop)


def has_annotations(folder: Path) -> bool:
    """Any of the published files lies in ``folder``."""
    return any(files.found(folder))


def read_calibration(folder: Path) -> CalibrationIndex:
    """Read the files that are in ``folder``; the same files are read once a process.

    Raises:
        UsageError: none is there, or one is no JSON object of a sane size.
    """
    here = files.found(folder)
    if not here:
        raise UsageError(
            f"{folder} holds none of KarlP/droid's annotation files ({', '.join(files.NAMES)})"
        )
    stamps = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in here)
    return _read(folder, stamps)


def read_relative_poses(folder: Path) -> dict[str, NDArray[np.floating]]:
    """{uuid: right_from_left (4, 4)} of the two exterior views, from ``cam2cam_extrinsics.json``.

    Which serial is left is not published: a start for a search, never a calibration. Scale is the
    file's own.
    """
    poses: dict[str, NDArray[np.floating]] = {}
    for uuid, entry in files.read_object(folder / "cam2cam_extrinsics.json").items():
        left, right = (files.matrix(entry, side) for side in ("left_cam", "right_cam"))
        if left is not None and right is not None:
            poses[uuid] = invert(right) @ left
    return poses


def pose_matrix(pose: Sequence[float]) -> NDArray[np.floating]:
    """[x, y, z, rx, ry, rz] (m, rad) to a (4, 4) pose; Euler 'xyz' as SciPy has it."""
    return make_pose(Rotation.from_euler("xyz", pose[3:]).as_matrix(), pose[:3])


def scaled(camera: Camera, across: float, down: float) -> NDArray[np.floating]:
    """K (3, 3) after a resize. OpenCV counts from pixel centres, this product from corners."""
    K = intrinsics(camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5)
    return resize_intrinsics(K, across, down)


@lru_cache(maxsize=2)
def _read(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> CalibrationIndex:
    dropped = files.Dropped()
    digest = hashlib.sha256()
    for file, _, _ in stamps:
        digest.update(Path(file).name.encode() + b"\0" + Path(file).read_bytes())
    path_of = files.read_paths(folder, dropped)
    serials = files.read_serials(folder, dropped)
    return CalibrationIndex(
        path_of=path_of,
        uuid_of={path: uuid for uuid, path in path_of.items()},
        serials=serials,
        cameras=files.read_cameras(folder, dropped),
        poses=files.read_poses(folder, path_of, serials, dropped),
        texts=files.read_texts(folder, dropped),
        keep=files.read_keep(folder, dropped),
        refused=frozenset(dropped.ids),
        notes=dropped.notes(),
        sha256=digest.hexdigest(),
    )

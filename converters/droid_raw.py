"""DROID's raw release: ``<LAB>/{success,failure}/<date>/<time>/``, a folder an episode.

Read: ``trajectory.h5`` (state, actions, timestamps, camera types; extrinsics and intrinsics as
starts, see `DroidRawSource.start_poses`), ``metadata_<uuid>.json`` (uuid, serials, success,
current_task), ``recordings/MP4/<serial>.mp4`` (the left view) and its ``_timestamps.json``; with
``stereo``, ``<serial>-stereo.mp4`` (left and right view side by side).

Dropped, and why: ``recordings/SVO`` (needs the vendor's SDK);
``joint_velocities``, ``joint_torques_*``, ``motor_torques_measured`` and ``prev_*`` of the robot's
state, ``action/robot_state`` (the same state again), ``controller_info`` but for
``movement_enabled``, the other timestamps, ``observation/image`` and the file's attributes (user,
building): no field of `Episode` takes them. Paths in the metadata are never followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from converters import droid
from converters._droid_files import episode_path
from converters._droid_folder import (
    Metadata,
    description,
    episodes,
    file_mark,
    find_roots,
    inside,
    read_metadata,
    record_sha256,
    recorded_times,
    stereo_file,
)
from converters._droid_log import ACTION_COLUMNS, Log, StartPose, read_log, source_extrinsics
from converters._hdf5 import NumberFile
from converters.droid_calibration import (
    CalibrationIndex,
    has_annotations,
    keep_of_steps,
    read_calibration,
)
from converters.droid_frames import Video, align_frames, probe_video, right_view
from robo4d import ShapeError
from robo4d.geometry import make_pose
from schemas.episode import (
    CameraStream,
    Episode,
    Origin,
    Provenance,
    RightView,
    RobotTrajectory,
)
from schemas.plan import EpisodeRef, Groups
from schemas.reasons import EpisodeError, Reason, UsageError
from schemas.truth import TWIN_MARK
from schemas.video import VideoFrames

_WRIST = "wrist_image_left"
# m between a camera's lenses, by Stereolabs' data sheets: DROID has ZED 2 on tripods and a ZED Mini
# on the wrist (Khazatsky et al. 2024). Each one's own calibration is not published as files here.
_BASELINE, _WRIST_BASELINE = 0.12, 0.063


@dataclass(frozen=True)
class DroidRawSource:
    """A folder of labs, on a local disk.

    Attributes:
        calibration: the post-hoc files; empty where none are given.
        trust_order: see `converters.droid_frames.align_frames`.
        stereo: offer right views, where they are published.
    """

    root: str
    calibration: CalibrationIndex
    description: str = ""
    trust_order: bool = False
    stereo: bool = False
    layout: str = "raw"
    joined: str = ""  # each ref covers its own annotations
    name: str = "droid_raw"

    @property
    def twin(self) -> bool:
        """Simulated by `simulation/`, not published."""
        return TWIN_MARK in self.description

    @property
    def facts(self) -> str:
        """A twin's description, which states its seed; the published one changes no sample."""
        return self.description if self.twin else ""

    @property
    def notes(self) -> Sequence[str]:
        """What was dropped from the annotation files, and whether frames go by order alone."""
        said = ["frames are paired with steps by order alone where no timestamp tells"]
        return [*self.calibration.notes, *(said if self.trust_order else [])]

    def refs(self, cache: Path | None) -> dict[str, list[EpisodeRef]]:
        """Every episode folder, by path; the release has one split, ``train``."""
        del cache  # listing folders is all there is to do
        refs = [self._ref(folder) for folder in episodes(Path(self.root))]
        return {"train": refs} if refs else {}

    def read(self, ref: EpisodeRef, split: str, fps: float | None) -> Episode:
        """Read one folder. ``fps`` counts only where the log has no timestamps.

        Raises:
            EpisodeError: it cannot be used, with the reason.
            OSError: its files are gone.
        """
        if ref.defect is not None:
            raise EpisodeError(ref.defect, ref.message)
        folder, path = self._place(ref)
        identity = f"droid/{path}"
        try:
            metadata = read_metadata(folder, path)
            log = read_log(inside(folder, folder / "trajectory.h5"), metadata, fps)
            return self._episode(folder, path, metadata, log, split)
        except ShapeError as error:  # a contract that the files' values break
            raise EpisodeError(Reason.WRONG_SHAPE, str(error), episode_id=identity) from error
        except EpisodeError as error:
            error.episode_id = identity
            raise

    def start_poses(self, ref: EpisodeRef) -> dict[str, StartPose]:
        """DROID's own extrinsics of an episode's cameras, by stream; starts, never trusted."""
        folder, path = self._place(ref)
        metadata = read_metadata(folder, path)
        with NumberFile(inside(folder, folder / "trajectory.h5")) as log:
            found = {
                name: source_extrinsics(log, serial) for name, serial in metadata.serials.items()
            }
        return {name: start for name, start in found.items() if start is not None}

    def _place(self, ref: EpisodeRef) -> tuple[Path, str]:
        path = episode_path(ref.file)
        if path is None or ".." in ref.file.split("/") or ref.file.count("/") != 3:
            raise EpisodeError(
                Reason.BAD_IDENTITY, f"{ref.file!r} is no <LAB>/<outcome>/<date>/<time>"
            )
        return Path(self.root) / ref.file, path

    def _ref(self, folder: Path) -> EpisodeRef:
        log = folder / "trajectory.h5"
        metadata = sorted(folder.glob("metadata_*.json"))
        recordings = sorted((folder / "recordings" / "MP4").glob("*"))
        defect, message = None, ""
        if not log.is_file():
            defect, message = Reason.MISSING_FEATURE, "no trajectory.h5"
        elif log.stat().st_size == 0:
            defect, message = Reason.EMPTY_FILE, "trajectory.h5 is empty"
        elif len(metadata) != 1:
            defect = Reason.BAD_IDENTITY if metadata else Reason.MISSING_FEATURE
            message = f"{len(metadata)} files metadata_<uuid>.json; expected one"
        elif not any(file.suffix == ".mp4" for file in recordings):
            defect, message = Reason.NO_CAMERA, "no video in recordings/MP4"
        mark = b"".join(file_mark(f) for f in (log, *metadata, *recordings) if f.is_file())
        file = folder.relative_to(self.root).as_posix()
        if not file.isprintable():
            defect, message = Reason.BAD_IDENTITY, f"the folder is named {file!r}"
            file = ascii(file)
        uuid = metadata[0].stem.removeprefix("metadata_") if metadata else None
        mark += self.calibration.digest(uuid=uuid, path=file).to_bytes(4, "big")
        return EpisodeRef(
            file=file,
            record=0,
            length=log.stat().st_size if log.is_file() else 0,
            crc=google_crc32c.value(mark),
            groups=Groups() if episode_path(file) is None else droid.groups(file),
            defect=defect,
            message=message,
        )

    def _episode(
        self, folder: Path, path: str, metadata: Metadata, log: Log, split: str
    ) -> Episode:
        cameras, rows, said = self._cameras(folder, path, metadata, log)
        closed, pose = log.closed[rows], log.pose[rows]
        success = path.split("/")[1] == "success"
        notes = [*log.notes, *said]
        if metadata.success is not None and metadata.success != success:
            notes.append(f"metadata says success: {metadata.success}; the folder is believed")
        if closed.min() < 0 or closed.max() > 1:
            notes.append(
                f"gripper_position spans {closed.min():.4f} to {closed.max():.4f}; clipped"
            )
        texts = self.calibration.instructions(uuid=metadata.uuid, path=path)
        if not texts and metadata.task:
            texts = (metadata.task,)
            notes.append("the instruction is the collector's prompt (current_task)")
        ranges = self.calibration.keep_ranges(path)
        if ranges and ranges[-1][1] > len(log.time):
            notes.append(f"keep_ranges end at step {ranges[-1][1]} of {len(log.time)}; not used")
            ranges = None
        return Episode(
            id=f"droid/{path}",
            source="droid",
            split=split,
            outcome="success" if success else "failure",
            instructions=texts,
            fps=log.rate,
            time=log.time[rows] - log.time[rows[0]],
            time_provenance=Provenance.MEASURED if log.measured else Provenance.ESTIMATED,
            cameras=cameras,
            robot=RobotTrajectory(
                robot=droid.ROBOT,
                gripper=np.clip(1 - closed, 0, 1),
                joints=log.joints[rows],
                ee=make_pose(Rotation.from_euler("xyz", pose[:, 3:]).as_matrix(), pose[:, :3]),
            ),
            actions={name: values[rows] for name, values in log.actions.items()},
            action_columns={name: ACTION_COLUMNS[name] for name in log.actions},
            licence=droid.LICENCE,
            citation=droid.CITATION,
            origin=Origin(
                folder.relative_to(self.root).as_posix(),
                0,
                record_sha256(folder, metadata, stereo=self.stereo),
            ),
            twin=self.twin,
            aliases=(metadata.uuid,),
            groups=droid.groups(path),
            keep=None if ranges is None else keep_of_steps(ranges, rows),
            notes=tuple(notes),
        )

    def _cameras(
        self, folder: Path, path: str, metadata: Metadata, log: Log
    ) -> tuple[dict[str, CameraStream], NDArray[np.int64], list[str]]:
        """Streams over the rows that every camera has a frame of, these rows, and notes."""
        videos: dict[str, Video] = {}
        files, frames, notes = {}, {}, []
        steps = len(log.time)
        for name, serial in metadata.serials.items():
            video = folder / "recordings" / "MP4" / f"{serial}.mp4"
            if not video.is_file():
                raise EpisodeError(
                    Reason.MISSING_FEATURE, f"{name}: no recordings/MP4/{video.name}"
                )
            files[name] = str(inside(folder, video))
            videos[name] = probe_video(video)
            aligned = align_frames(
                name,
                videos[name].frames,
                steps,
                log.received[name],
                recorded_times(folder, video),
                trust_order=self.trust_order,
            )
            frames[name] = aligned.frame_of_row
            notes += [aligned.note] if aligned.note else []
            if not self.stereo and stereo_file(video).exists():
                notes.append(f"{name}: the right view in {serial}-stereo.mp4 is not used")
        framed = np.min(list(frames.values()), axis=0) >= 0
        rows = np.flatnonzero(framed)
        if len(rows) == 0:
            raise EpisodeError(Reason.EMPTY_EPISODE, "no step has a frame of every camera")
        if len(rows) < steps:
            lost = np.flatnonzero(~framed)[:8].tolist()
            notes.append(f"{steps - len(rows)} of {steps} steps lack a frame; left out: {lost}")
        streams = {}
        lab, _, day, _ = path.split("/")
        for name, serial in metadata.serials.items():
            calibration, setup = None, ""
            if name != _WRIST:  # it moves: no fixed pose is its
                setup = f"{lab}/{day}/{serial}"
                calibration = self.calibration.lookup(
                    serial, videos[name].size, uuid=metadata.uuid, path=path
                )
            right = None
            both = stereo_file(Path(files[name]))
            if self.stereo and both.exists():
                try:
                    half = right_view(inside(folder, both), videos[name], frames[name][rows])
                    right = RightView(half, _WRIST_BASELINE if name == _WRIST else _BASELINE)
                except EpisodeError as error:  # the left view is whole
                    notes.append(f"{name}: the right view is not used: {error}")
            streams[name] = CameraStream(
                name,
                VideoFrames(files[name], frames[name][rows]),
                calibration,
                setup=setup,
                right=right,
            )
        return streams, rows, notes


def is_droid_raw(data: str) -> bool:
    """Whether ``data`` is a local folder of DROID's raw layout, or holds one at most two below."""
    return "://" not in data and bool(find_roots(Path(data)))


def open_droid_raw(
    data: str, annotations: str | None = None, *, trust_order: bool = False, stereo: bool = False
) -> DroidRawSource:
    """Open the raw release at or below ``data``.

    Args:
        annotations: folder of the post-hoc files (`droid_calibration`); None looks beside the labs.
        stereo: offer the right views too; else they are not opened.

    Raises:
        UsageError: nothing there, several, or a URL.
    """
    if "://" in data:
        raise UsageError(f"{data}: DROID's raw layout is read from local folders only; copy it")
    roots = find_roots(Path(data))
    if len(roots) != 1:
        what = f"{len(roots)} raw data sets ({', '.join(map(str, roots[:4]))})" if roots else "none"
        raise UsageError(
            f"{data} holds {what}; give the folder of <LAB>/{{success,failure}}/<date>/<time>/"
        )
    root = roots[0]
    calibration = CalibrationIndex()
    if annotations is not None or has_annotations(root):
        calibration = read_calibration(root if annotations is None else Path(annotations))
    return DroidRawSource(str(root), calibration, description(root), trust_order, stereo)

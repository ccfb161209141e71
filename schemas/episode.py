"""What a converter yields: one episode, source-neutral, in the conventions of `robo4d.geometry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from robo4d import ShapeError
from robo4d.geometry import check_array, check_poses
from schemas.images import decode_image, image_size
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason

Floats = NDArray[np.floating]
# No arm reaches 100 m from its base; the solvers' arithmetic overflows far beyond it.
_MAX_REACH = 100.0
Outcome = Literal["success", "failure", "unknown"]


class Provenance(StrEnum):
    """Where a quantity came from."""

    MEASURED = "measured"
    POSTHOC = "posthoc"
    SIMULATED = "simulated"
    ESTIMATED = "estimated"
    ABSENT = "absent"


@dataclass(frozen=True)
class Calibration:
    """Camera geometry: K (3, 3) in pixels and base_from_camera (4, 4) or (T, 4, 4)."""

    K: Floats
    base_from_camera: Floats
    provenance: Provenance

    def __post_init__(self) -> None:
        check_array("Calibration.K", self.K, [3, 3])
        if not (self.K[0, 0] > 0 and self.K[1, 1] > 0):
            raise ShapeError(f"Calibration.K has focal lengths {self.K[0, 0]}, {self.K[1, 1]}")
        lead = [None] if np.ndim(self.base_from_camera) == 3 else []
        check_poses("Calibration.base_from_camera", self.base_from_camera, lead)

    def poses(self, steps: NDArray[np.integer]) -> Floats:
        """base_from_camera at the given steps, (n, 4, 4)."""
        if self.base_from_camera.ndim == 3:
            return self.base_from_camera[steps]
        return np.repeat(self.base_from_camera[None], len(steps), axis=0)


class FrameSource(Protocol):
    """Frames that are not encoded images: a video, or a simulator set to stored states."""

    def __len__(self) -> int: ...

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    def decode(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """(n, H, W, 3) uint8 RGB at ``steps``; raises `EpisodeError`."""


class DepthSource(Protocol):
    """Exact depth that comes with a source's own frames."""

    def depth(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Z-depth (n, H, W) in m at ``steps``, 0 where there is no surface."""


@dataclass(frozen=True)
class RightView:
    """What a stereo camera's right lens saw: same size and K as the left one's, rows that match.

    Attributes:
        frames: one a step.
        baseline: m between the lenses.
    """

    frames: FrameSource
    baseline: float


@dataclass(frozen=True)
class CameraStream:
    """One camera's frames, one a step; decoded only when asked.

    Attributes:
        frames: encoded images, or a `FrameSource`.
        depth: where the source itself knows depth exactly (a simulator's stored states).
        setup: what it shares with the same device in other episodes that stood in one place, as
            far as the source tells; empty where it says nothing.
        right: of a stereo camera, whose left view ``frames`` are.
    """

    name: str
    frames: Sequence[bytes] | FrameSource
    calibration: Calibration | None = None
    depth: DepthSource | None = None
    setup: str = ""
    right: RightView | None = None

    def __post_init__(self) -> None:
        if len(self.frames) == 0:
            raise ShapeError(f"CameraStream.frames of {self.name!r} is empty; expected one a step")
        if self.right is not None and len(self.right.frames) != len(self.frames):
            counts = f"{len(self.right.frames)} right frames and {len(self.frames)} left ones"
            raise ShapeError(f"CameraStream {self.name!r} has {counts}; expected as many")

    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, from the first frame's header."""
        if not isinstance(self.frames, Sequence):
            return self.frames.size()
        return image_size(self.frames[0])

    def decode(self, steps: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Decode the frames at ``steps`` to (n, H, W, 3) uint8 RGB.

        Raises:
            EpisodeError: a frame cannot be decoded, or their sizes differ.
        """
        if not isinstance(self.frames, Sequence):
            return self.frames.decode(steps)
        out: NDArray[np.uint8] | None = None
        for place, step in enumerate(steps):
            try:
                image = decode_image(self.frames[int(step)])
            except EpisodeError as error:
                message = f"{self.name} step {int(step)}: {error}"
                raise EpisodeError(error.reason, message) from error
            if out is None:  # filled in place: a list to be stacked would hold all frames twice
                out = np.empty((len(steps), *image.shape), np.uint8)
            if image.shape != out.shape[1:]:
                shapes = [out.shape[1:], image.shape]
                raise EpisodeError(Reason.WRONG_SHAPE, f"{self.name} changes size: {shapes}")
            out[place] = image
        assert out is not None  # a clip has a step
        return out


@dataclass(frozen=True)
class RobotTrajectory:
    """The robot's log. ``None`` is a quantity that the source does not give.

    Attributes:
        robot: name in `robots.models.ROBOTS`.
        gripper: (T,) opening fraction, 0 closed, 1 open.
        joints: (T, J) rad, in the robot description's order.
        ee: (T, 4, 4) base_from_ee, of the frame that the robot model names ``ee``.
        fingers: (T, F) each gripper joint's own opening, in the robot description's order, where
            the log tells them apart; else all have ``gripper``'s. Limits that give way under load
            may put it a little past 0 and 1.
    """

    robot: str
    gripper: Floats
    joints: Floats | None = None
    ee: Floats | None = None
    fingers: Floats | None = None

    def __post_init__(self) -> None:
        n = len(check_array("RobotTrajectory.gripper", self.gripper, ["T"]))
        if self.gripper.min(initial=0.0) < 0 or self.gripper.max(initial=1.0) > 1:
            span = f"{self.gripper.min()} to {self.gripper.max()}"
            raise ShapeError(f"RobotTrajectory.gripper spans {span}; expected 0 closed to 1 open")
        if self.joints is not None:
            check_array("RobotTrajectory.joints", self.joints, [n, "J"])
        if self.ee is not None:
            check_poses("RobotTrajectory.ee", self.ee, [n])
            reach = np.abs(self.ee[:, :3, 3]).max(initial=0.0)
            if reach > _MAX_REACH:
                raise ShapeError(f"RobotTrajectory.ee is {reach:.3g} m from the base")
        if self.fingers is not None:
            check_array("RobotTrajectory.fingers", self.fingers, [n, "F"])
        if self.joints is None and self.ee is None:
            raise ShapeError("RobotTrajectory has neither joints nor ee; expected at least one")


@dataclass(frozen=True)
class Origin:
    """Where an episode was read: file (relative to the data set), record, sha256 of the record."""

    file: str
    record: int
    sha256: str


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        id: the source's own identity, never its position in a file.
        time: (T,) seconds from the start; ``time_provenance`` tells logged from nominal.
        actions: {name: (T, D)}; ``action_columns`` says what each column is.
        twin: simulated by `simulation/`, not published data.
        simulated: published, and logged in a simulator: its log is `SIMULATED`, not `MEASURED`.
        aliases: other identities of the same episode (DROID: its uuid).
        groups: what a split may be made by, as the source names it; see `Groups`.
        keep: half-open ranges of steps that the source's own annotation says are not idle; None
            where nothing is said.
        notes: facts about the source's defects that a user of the data should know.
    """

    id: str
    source: str
    split: str
    outcome: Outcome
    instructions: tuple[str, ...]
    fps: float
    time: Floats
    time_provenance: Provenance
    cameras: Mapping[str, CameraStream]
    robot: RobotTrajectory
    actions: Mapping[str, Floats]
    action_columns: Mapping[str, Sequence[str]]
    licence: str
    citation: str
    origin: Origin
    twin: bool = False
    simulated: bool = False
    aliases: tuple[str, ...] = ()
    groups: Groups = field(default_factory=Groups)
    keep: tuple[tuple[int, int], ...] | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.id or not self.id.startswith(f"{self.source}/"):
            raise ShapeError(f"Episode.id is {self.id!r}; expected {self.source}/<identity>")
        if not self.fps > 0:
            raise ShapeError(f"Episode.fps is {self.fps}; expected a positive rate in Hz")
        if self.outcome not in ("success", "failure", "unknown"):
            raise ShapeError(
                f"Episode.outcome is {self.outcome!r}; expected success|failure|unknown"
            )
        check_array("Episode.time", self.time, ["T"])
        if not self.cameras:
            raise ShapeError("Episode.cameras is empty; expected at least one view")
        for name, camera in self.cameras.items():
            if len(camera.frames) != len(self):
                raise ShapeError(
                    f"Episode.cameras[{name!r}] has {len(camera.frames)} frames; "
                    f"expected {len(self)}, one a step"
                )
        if len(self.robot.gripper) != len(self):
            raise ShapeError(f"Episode.robot has {len(self.robot.gripper)} steps, not {len(self)}")
        if set(self.actions) != set(self.action_columns):
            raise ShapeError("Episode.actions and Episode.action_columns name different actions")
        for name, values in self.actions.items():
            columns = len(self.action_columns[name])
            check_array(f"Episode.actions[{name!r}]", values, [len(self), columns])

    @property
    def logged(self) -> Provenance:
        """Where what the log itself says came from."""
        return Provenance.SIMULATED if self.twin or self.simulated else Provenance.MEASURED

    def __len__(self) -> int:
        return len(self.time)

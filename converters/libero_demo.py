"""LIBERO's demos: ``<task>_demo.hdf5``, a file a task; fresh rollouts in the same layout.

Read, of the file: ``problem_info``, ``env_args`` (the control rate) and ``bddl_file_name``; of
each ``data/demo_<i>``: ``model_file``, ``states`` (time, qpos, qvel), ``actions``, ``rewards``,
``dones``. The simulator is rebuilt from ``model_file`` and set to each stored state; joints, poses,
frames and depth come from there, at the size asked for. Actions are never replayed.
Rollouts of ours say more of themselves in the attribute ``robo4d_rollout``.

Dropped, and why: ``obs/*_rgb`` (upside down, small, and of the step after), ``obs/joint_states``,
``gripper_states``, ``ee_*`` and ``robot_states`` (in the states, exactly, at their own step),
velocities in ``states``, ``init_state`` (the state before the first kept one), ``env_name``,
``bddl_file_content``, ``tag``, ``num_demos``, ``total``, ``macros_image_convention``: no field of
`Episode` takes them. Paths in the file name files of its authors' machine and are never opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from converters._hdf5 import NumberFile
from converters._libero import ACTION_COLUMNS, CITATION, LICENCE, RATE, ROBOT, SUFFIX
from converters._libero_assets import LiberoAssets, find_assets
from converters._libero_file import (
    MAX_JSON,
    ROLLOUT,
    Demo,
    TaskFile,
    demo_numbers,
    read_demo,
    read_file,
)
from converters._libero_model import safe_model
from converters._libero_scene import Scene
from robo4d import ShapeError
from robo4d.geometry import Floats, invert, make_pose
from robots.models import ROBOTS
from schemas.config import LiberoConfig
from schemas.episode import (
    CameraStream,
    Episode,
    Origin,
    Provenance,
    RobotTrajectory,
)
from schemas.plan import EpisodeRef
from schemas.reasons import EpisodeError, Reason, UsageError

# Stream name -> camera of the model, for the two views that LIBERO stores.
CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}


@dataclass(frozen=True)
class LiberoDemoSource:
    """A folder of demo files on a local disk.

    Attributes:
        files: their paths below ``root``.
    """

    root: str
    files: tuple[str, ...]
    assets: LiberoAssets
    height: int
    width: int
    layout: str = "demo"
    name: str = "libero_demo"
    facts: str = ""  # nothing but the demos and ``joined``
    twin: bool = False  # rollouts are made in LIBERO's own simulator; `notes` says which are

    @cached_property
    def joined(self) -> str:
        """sha256 standing for the installed assets, which the frames depend on."""
        return self.assets.digest()

    @cached_property
    def notes(self) -> Sequence[str]:
        """Which files are rollouts of ours, which say so of themselves."""
        made = 0
        for file in self.files:
            try:
                with NumberFile(Path(self.root) / file) as log:
                    made += log.text("data", ROLLOUT, MAX_JSON) is not None
            except (EpisodeError, OSError):  # said again, by demo, when it is planned
                continue
        if made == 0:
            return ()
        return (
            f"{made} of {len(self.files)} files are fresh rollouts of a scripted policy in "
            "LIBERO's simulator, not published demonstrations",
        )

    def refs(self, cache: Path | None) -> dict[str, list[EpisodeRef]]:
        """Every demo of every file; LIBERO has one split, ``train``."""
        del cache  # a demo's numbers are a few hundred kilobytes
        refs = [ref for file in self.files for ref in self._file_refs(file)]
        return {"train": refs} if refs else {}

    def read(self, ref: EpisodeRef, split: str, fps: float | None) -> Episode:
        """Rebuild one demo. ``fps`` counts only where its states' times do not increase.

        Raises:
            EpisodeError: it cannot be used, with the reason.
            OSError: its file is gone.
        """
        if ref.defect is not None:
            raise EpisodeError(ref.defect, ref.message)
        with NumberFile(Path(self.root) / ref.file) as log:
            said = read_file(log, ref.file)
            identity = f"libero/{said.suite}/{said.stem}/demo_{ref.record}"
            try:
                demo = read_demo(log, ref.record)
            except EpisodeError as error:
                error.episode_id = identity
                raise
        if demo.rollout:  # any number of files may hold a demo_0 of the same task
            identity = f"libero/{said.suite}/{said.stem}/rollout_{demo.sha256[:16]}"
        try:
            return self._episode(identity, said, demo, ref, split, fps)
        except ShapeError as error:  # a contract that the file's values break
            raise EpisodeError(Reason.WRONG_SHAPE, str(error), episode_id=identity) from error
        except EpisodeError as error:
            error.episode_id = identity
            raise

    def _file_refs(self, file: str) -> list[EpisodeRef]:
        path, size = Path(self.root) / file, 0
        try:
            if not path.is_file():  # a folder, a pipe, a link to nowhere or to itself
                raise EpisodeError(Reason.UNDECODABLE_RECORD, f"{file} is no file")
            size = path.stat().st_size
            if size == 0:
                raise EpisodeError(Reason.EMPTY_FILE, "the file is empty")
            with NumberFile(path) as log:
                said = read_file(log, file)
                numbers = demo_numbers(log)
                if not numbers:
                    raise EpisodeError(Reason.EMPTY_FILE, "the file holds no data/demo_<i>")
                return [self._ref(log, file, said, number) for number in numbers]
        except EpisodeError as error:
            return [
                EpisodeRef(
                    file=file, record=0, length=size, defect=error.reason, message=str(error)
                )
            ]

    def _ref(self, log: NumberFile, file: str, said: TaskFile, number: int) -> EpisodeRef:
        try:
            demo = read_demo(log, number)
        except EpisodeError as error:
            return EpisodeRef(
                file=file,
                record=number,
                groups=said.groups,
                defect=error.reason,
                message=str(error),
            )
        mark = f"{said} {demo.sha256}".encode()
        return EpisodeRef(
            file=file,
            record=number,
            length=demo.states.nbytes + demo.actions.nbytes + len(demo.model),
            crc=google_crc32c.value(mark),
            groups=said.groups,
        )

    def _episode(
        self,
        identity: str,
        said: TaskFile,
        demo: Demo,
        ref: EpisodeRef,
        split: str,
        fps: float | None,
    ) -> Episode:
        scene = _scene(safe_model(demo.model, self.assets), demo.states)
        base = scene.bodies("robot0_link0")[:, 0]
        time = demo.states[:, 0] - demo.states[0, 0]
        clocked = bool((np.diff(time) > 0).all())
        rate = fps or said.rate or RATE
        notes = demo.notes
        if not clocked:
            time = np.arange(len(time)) / rate
            notes.append(f"the states' times do not increase; {rate:g} Hz is assumed")
        cameras = {}
        for name, camera in CAMERAS.items():
            view, calibration = scene.camera(camera, self.height, self.width, base)
            cameras[name] = CameraStream(name, view, calibration, view)
        return Episode(
            id=identity,
            source="libero",
            split=split,
            outcome=demo.outcome,
            instructions=(said.instruction,) if said.instruction else (),
            fps=rate,
            time=time,
            time_provenance=Provenance.SIMULATED if clocked else Provenance.ESTIMATED,
            cameras=cameras,
            robot=_robot(scene, base),
            actions={"action": demo.actions},
            action_columns=ACTION_COLUMNS,
            licence=LICENCE,
            citation=CITATION,
            origin=Origin(ref.file, ref.record, demo.sha256),
            twin=self.twin,
            simulated=True,
            groups=said.groups,
            notes=tuple(notes),
        )


def is_libero_demo(data: str) -> bool:
    """Whether ``data`` is a demo file, or a local folder with one at or below it."""
    if "://" in data:
        return False
    path = Path(data)
    return path.name.endswith(SUFFIX) if path.is_file() else any(path.rglob(f"*{SUFFIX}"))


def open_libero_demo(data: str, settings: LiberoConfig) -> LiberoDemoSource:
    """Open the demo files at or below ``data``.

    Raises:
        UsageError: nothing there, a URL, or LIBERO's assets are not here.
    """
    if "://" in data:
        raise UsageError(f"{data}: LIBERO's demos are read from local folders only; copy them")
    path = Path(data)
    root, files = (
        (path.parent, [path]) if path.is_file() else (path, sorted(path.rglob(f"*{SUFFIX}")))
    )
    if not files or not all(file.name.endswith(SUFFIX) for file in files):
        raise UsageError(f"{data} holds no demo of LIBERO; expected files <task>{SUFFIX}")
    return LiberoDemoSource(
        str(root),
        tuple(file.relative_to(root).as_posix() for file in files),
        find_assets(settings.assets),
        settings.height,
        settings.width,
    )


def _scene(xml: str, states: NDArray[np.float64]) -> Scene:
    scene = Scene(xml, states[:, :0])
    nq, nv = scene.model.nq, scene.model.nv
    if states.shape[1] != 1 + nq + nv:
        raise EpisodeError(
            Reason.WRONG_SHAPE,
            f"states have {states.shape[1]} values; model_file asks for time, {nq} positions and "
            f"{nv} velocities, {1 + nq + nv}",
        )
    return Scene(xml, states[:, 1 : 1 + nq])


def _robot(scene: Scene, base: Floats) -> RobotTrajectory:
    """Exact joints, and the pose that LIBERO logs: grip_site turned like right_hand."""
    robot = ROBOTS[ROBOT]
    joints = np.stack([scene.joint(f"robot0_{name}") for name in robot.joint_names], axis=1)
    fingers = np.stack(
        [
            (scene.joint(f"gripper0_{name}") - closed) / (opened - closed)
            for name, (closed, opened) in robot.gripper.items()
        ],
        axis=1,
    )
    hand, grip = np.moveaxis(scene.bodies("robot0_right_hand", "gripper0_eef"), 1, 0)
    world = make_pose(hand[:, :3, :3], grip[:, :3, 3])
    return RobotTrajectory(
        robot=ROBOT,
        gripper=np.clip(fingers.mean(axis=1), 0, 1),
        joints=joints,
        ee=invert(base) @ world,
        fingers=fingers,
    )

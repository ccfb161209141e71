"""What was reconstructed of a view before, found again where all that it came from is the same.

A view is kept in three parts, each under a key of its own, so that a change makes anew what depends
on it and nothing else:

camera  the `CameraChoice`: from frames, motion and ``camera.*`` of every episode of its pool
robot   K, base_from_camera, robot_depth, robot_part: from poses, joints and steps as they are
depth   everything else that lifting gives: from the frames, ``depth.*`` and what is in ``robot``

Frames, state and actions are read from the source each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from converters.source import OpenedSource
from pipeline.camera import CameraChoice
from pipeline.kept import Kept, choice_from, keep_choice, keep_lifted, lifted_from
from pipeline.lineage import MASKS, Lineage, tree_hash
from pipeline.made_by import code_of
from pipeline.setup import Cameras, Prepared, is_shared, solve_pool
from pipeline.staging import LAYOUT, Staging, digest_of
from reconstruction.lift import Lifted
from reconstruction.motion import Motion
from robots.rasterizer import RobotRasterizer
from schemas.config import CameraConfig
from schemas.plan import ClipPlan, EpisodeRef

# What makes each part: modules with all that they import, and those that only call it.
_MADE_BY: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "camera": (
        ("converters", "pipeline.camera", "reconstruction.camera"),
        ("pipeline.recall", "pipeline.samples", "pipeline.setup"),
    ),
    "robot": (
        ("robots.rasterizer",),
        ("pipeline.recall", "pipeline.samples", "reconstruction.lift"),
    ),
    "depth": (
        ("converters", "reconstruction.depth", "reconstruction.lift"),
        ("pipeline.recall", "pipeline.samples"),
    ),
}
_PLAIN = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Recall:
    """One view's memory.

    Attributes:
        staging: None: nothing is kept, and nothing found.
        name: what the view's files begin with.
        view: what its frames are, as `digest_of` takes it.
        pool: digests of the episodes that its camera may be solved with, its own among them.
        found: parts that were there.
    """

    staging: Staging | None
    name: str
    view: dict[str, Any]
    pool: tuple[str, ...]
    lineage: Lineage
    found: list[str] = field(default_factory=list, compare=False)

    def camera(self) -> CameraChoice | None:
        """The camera that was found before; raises `OutputError`."""
        kept = self._read("camera", self._camera_key)
        return None if kept is None else choice_from(kept)

    def keep_camera(self, choice: CameraChoice) -> None:
        """Keep a camera as it was found, before a clip is cut to it; raises `OutputError`."""
        if self.staging is not None:
            self.staging.write(f"{self.name}.camera", self._camera_key(), keep_choice(choice))

    def lift(
        self,
        clip: ClipPlan,
        motion: Motion,
        choice: CameraChoice,
        size: tuple[int, int],
        make: Callable[[RobotRasterizer | None], Lifted],
    ) -> Lifted:
        """What was lifted before; what of it is not there is made and kept.

        Args:
            motion: as the camera shows it.
            size: (H, W) in pixels.
            make: lifts the clip; what it is given stands in for the renderer where the robot was
                rendered before.

        Raises:
            OutputError: the staging folder cannot be read or written.
        """
        if self.staging is None:
            return make(None)
        robot_key = self._robot_key(clip, motion, choice, size)
        depth_key = self._key(
            "depth",
            robot=robot_key,
            view=digest_of(self.view),
            config=self.lineage.config.depth.model_dump(mode="json"),
            models={k: v for k, v in self.lineage.models.items() if k != MASKS},
        )
        robot = self._read("robot", lambda: robot_key)
        depth = self._read("depth", lambda: depth_key)
        if robot is not None and depth is not None:
            return lifted_from(robot, depth)
        rendered = None
        if robot is not None and "robot_depth" in robot.arrays:
            rendered = _Rendered(robot.arrays["robot_depth"], robot.arrays["robot_part"])
        lifted = make(cast("RobotRasterizer | None", rendered))
        kept = keep_lifted(lifted)
        if robot is None:
            self.staging.write(f"{self.name}.robot", robot_key, kept[0])
        self.staging.write(f"{self.name}.depth", depth_key, kept[1])
        return lifted

    def _read(self, part: str, key: Callable[[], str]) -> Kept | None:
        if self.staging is None:
            return None
        kept = self.staging.read(f"{self.name}.{part}", key())
        if kept is not None:
            self.found.append(part)
        return kept

    def _key(self, part: str, **made_from: Any) -> str:
        roots, alone = _MADE_BY[part]
        made_by = {"layout": LAYOUT, "code": code_of(roots, alone)}
        return digest_of(
            {**made_from, **made_by, "part": part, "packages": tree_hash(self.lineage.packages)}
        )

    def _camera_key(self) -> str:
        return self._key(
            "camera",
            view=digest_of(self.view),
            pool=self.pool,
            # A network's checkpoint stands there as its identity.
            config=self.lineage.config.camera.model_dump(mode="json"),
        )

    def _robot_key(
        self, clip: ClipPlan, motion: Motion, choice: CameraChoice, size: tuple[int, int]
    ) -> str:
        if choice.calibration is None:
            return self._key("robot", steps=clip.steps, size=size, why=choice.why)
        return self._key(
            "robot",
            steps=clip.steps,
            size=size,
            robot=self.view["robot"],
            K=choice.calibration.K,
            base_from_camera=choice.calibration.poses(clip.steps),
            provenance=str(choice.calibration.provenance),
            joints=motion.joints[clip.steps],
            fingers=motion.fingers[clip.steps],
        )


def recall_pool(
    pool: Sequence[tuple[EpisodeRef, Prepared]],
    staging: Staging | None,
    source: OpenedSource,
    lineage: Lineage,
) -> list[dict[str, Recall]]:
    """Each episode's views by camera, of episodes whose cameras may be solved together."""
    if staging is None:
        nothing = Recall(None, "", {}, (), lineage)
        return [dict.fromkeys(one.episode.cameras, nothing) for _, one in pool]
    common = {
        "layout": source.layout,
        "dataset": source.name,
        "facts": source.facts,
        "joined": lineage.joined,
        "config": lineage.config.source.model_dump(mode="json"),
    }
    views, digests = [], []
    for ref, one in pool:
        episode, motion = one.episode, one.motion
        view = {
            **common,
            "episode": episode.id,
            "record": episode.origin.sha256,
            # Stands for what decides its frames and lies beside the record.
            "mark": ref.crc,
            "robot": one.robot.name,
        }
        moved = {name: getattr(motion, name) for name in ("joints", "fingers", "ee")}
        views.append(view)
        digests.append(digest_of({**view, **moved, "time": episode.time}))
    return [
        {
            camera: Recall(
                staging,
                f"{one.episode.origin.sha256}/{_file_name(camera)}",
                {**view, "camera": camera},
                tuple(digests),
                lineage,
            )
            for camera in one.episode.cameras
        }
        for (_, one), view in zip(pool, views, strict=True)
    ]


def solve_cameras(
    pool: Sequence[Prepared], recalls: Sequence[dict[str, Recall]], config: CameraConfig
) -> list[Cameras]:
    """The cameras of each episode that were solved with the others' now; those missing were
    found before, or are to be solved alone.

    Raises:
        OutputError: the staging folder cannot be read or written.
    """
    nothing: list[Cameras] = [{} for _ in pool]
    if len(pool) == 1 or all(
        recall[name].camera() is not None
        for one, recall in zip(pool, recalls, strict=True)
        for name, stream in one.episode.cameras.items()
        if is_shared(stream)
    ):
        return nothing
    solved = solve_pool(pool, config)
    for cameras, recall in zip(solved, recalls, strict=True):
        for name, choice in cameras.items():
            recall[name].keep_camera(choice)
    return solved


@dataclass(frozen=True)
class _Rendered:
    """In the place of a renderer: what it gave before. (T, H, W) float32 m and uint8."""

    depth: NDArray[np.float32]
    part: NDArray[np.uint8]

    def __call__(self, *_: Any) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        return self.depth, self.part


def _file_name(camera: str) -> str:
    """A camera's name as part of a file's; what a source calls it may be anything."""
    return camera if _PLAIN.fullmatch(camera) else digest_of({"camera": camera})[:16]

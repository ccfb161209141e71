"""Twins' clips whose camera is moved on the way, and stays, or comes back; with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks._camera_film import TWINS, degrade
from reconstruction.camera import CameraProblem
from robo4d.geometry import make_pose
from robots.models import RobotModel
from simulation.film import film_script
from simulation.layout import Camera

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class MovedFilm:
    """One episode, filmed from where its camera stands and from where it is moved to.

    Attributes:
        robot: whose joints these are.
        views: each (T, H, W, 3) uint8 and whole; the first is of the camera as it stood.
        poses: (4, 4) base_from_camera of each.
        joints, opening, time: (T, J) rad, (T,), (T,) s.
        K: (3, 3) pixels, of all views.
    """

    robot: RobotModel
    views: tuple[NDArray[np.uint8], ...]
    poses: tuple[Floats, ...]
    joints: Floats
    opening: Floats
    time: Floats
    K: Floats

    def spliced(self, *parts: tuple[int, int]) -> NDArray[np.uint8]:
        """(T, H, W, 3) of parts (view, first step), each up to the next."""
        out = self.views[parts[0][0]].copy()
        for view, first in parts[1:]:
            out[first:] = self.views[view][first:]
        return out

    def problem(self, frames: NDArray[np.uint8]) -> CameraProblem:
        """What a solver gets of frames (T, H, W, 3)."""
        size = frames.shape[1], frames.shape[2]
        return CameraProblem(
            self.robot, lambda s: frames[s], size, self.joints, self.opening, self.time
        )


def film_moved(
    source: str, seed: int, moves: Sequence[tuple[float, float]], past: int | None = None
) -> MovedFilm:
    """Film the first fixed camera of a twin's episode, and copies moved by (deg, m), any way.

    Args:
        past: steps, counted from the first, that are filmed; None: all.
    """
    twin = TWINS[source]
    episode = twin.draw_episode(seed, seed % 6)
    script = episode.script
    if past is not None:
        script = replace(
            script,
            joints=script.joints[:past],
            closed=script.closed[:past],
            things=script.things[:past],
            held=script.held[:past],
        )
    rng = np.random.default_rng([seed, 7])
    camera = next(c for c in episode.layout.cameras.values() if not c.on_wrist)
    mounts = [camera.mount, *(camera.mount @ _step(*move, rng) for move in moves)]
    cameras = {f"view{i}": Camera(camera.K, mount) for i, mount in enumerate(mounts)}
    films = film_script(replace(episode.layout, cameras=cameras), script, twin.RIG.robot)
    views = []
    for name in cameras:
        frames = np.stack([simplejpeg.decode_jpeg(frame) for frame in films[name].frames])
        # The same sensor throughout: its noise, blur and drift are drawn alike for each view.
        views.append(degrade(frames, np.random.default_rng([seed, 8])))
    return MovedFilm(
        twin.RIG.robot,
        tuple(views),
        tuple(films[name].base_from_camera[0] for name in cameras),
        script.joints.astype(np.float64),
        script.opening,
        np.arange(len(script.joints)) / twin.RIG.rate,
        camera.K,
    )


def _step(degrees: float, metres: float, rng: np.random.Generator) -> Floats:
    """A turn about any axis, and a shift any way, in the camera's own frame."""
    axis, way = rng.normal(size=(2, 3))
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    return make_pose(turn, metres * way / np.linalg.norm(way))

"""Frames of a random twin's scene, with the robot's silhouette as it is seen and as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robo4d.geometry import quaternion_from_matrix
from robots.models import RobotModel
from robots.offscreen import OffscreenRenderer
from simulation._geoms import SCENE_GROUP
from simulation.depth_scenes import FIRST_SEED
from simulation.depth_scenes.surroundings import (
    add_surroundings,
    draw_surroundings,
    find_walls,
)
from simulation.depth_scenes.take import (
    FRAMES,
    HEIGHT,
    RENDERED,
    ROBOT_GROUP,
    TAKES,
    WIDTH,
    draw_views,
)
from simulation.depth_scenes.twins import (
    KINDS,
    SHARES,
    SOURCES,
    ground_of,
    part_robot,
    workplace_of,
)
from simulation.film import body_pose, play_script
from simulation.layout import Layout
from simulation.mask_scenes.photographs import Photographs, draw_panorama, view_of_panorama
from simulation.mask_scenes.strange import (
    cover_scene,
    covers_of,
    draw_cables,
    fasten_things,
    recolour_robot,
)
from simulation.scene import build_scene

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]
_STREAM = 77  # of random numbers, apart from `depth_scenes.twins`'
_FINER = RENDERED[0] // HEIGHT
_OWN = 0.6  # share of takes of the scene's own cameras; the others look from anywhere
# Shares of takes whose room is the scene's, whose walls a panorama replaces, and whose floor too.
_BEHIND = (0.4, 0.35, 0.25)
_WALLS = ("wall_", "around_wall", "front_", "left_", "back_", "right_", "around_hung")
_FLOORS = ("floor", "around_ground")
_CABLED = 0.6  # share of takes
# Of a picture, a fifth may be empty or nearer than a camera can focus (m), and so much the robot.
_TOO_NEAR, _MOST_ROBOT = 0.06, 0.6


@dataclass(frozen=True)
class MaskTake:
    """Frames of one camera, or of one that moved.

    Attributes:
        rgb: (4, H, W, 3).
        visible: (4, H, W), share of 255 of each pixel in which the robot is seen.
        whole: (4, H, W), likewise as if nothing hid it.
    """

    rgb: Bytes
    visible: Bytes
    whole: Bytes


def film_masks(source: str, number: int, photographs: Photographs | None) -> Iterator[MaskTake]:
    """At most `TAKES` takes of one scene; a function of the arguments.

    Args:
        source: a key of `depth_scenes.twins.SOURCES`.
        number: of the scene.
        photographs: on surfaces and behind the room; None: plain colours, and no other room.
    """
    module = SOURCES[source]
    rng = np.random.default_rng([FIRST_SEED, _STREAM, number])
    episode = module.draw_episode(FIRST_SEED + number // 1000, number % 1000)
    layout: Layout = episode.layout
    robot: RobotModel = module.RIG.robot
    model = build_scene(layout, robot, add_surroundings)
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] *= rng.uniform() < 0.6
    model.vis.headlight.ambient[:] *= rng.uniform(0.5, 1.7)
    model.light_diffuse[:] *= rng.uniform(0.3, 1.7, (model.nlight, 1))
    kind = KINDS[int(rng.choice(3, p=SHARES))]
    ground, covers = ground_of(model, layout), covers_of(photographs)
    around = draw_surroundings(model, rng, ground, kind, covers)
    recolour_robot(model, robot, rng)
    if photographs is not None:
        cover_scene(model, photographs, rng)
    held = fasten_things(model, around, rng, covers)
    states = play_script(model, episode.script, robot)
    for state in states:
        hand = body_pose(state, robot.ee_body) @ robot.body_from_ee
        _place(state, around, {name: hand @ pose for name, pose in held.items()})
    place = workplace_of(layout, find_walls(model, ground, around))
    part_robot(model, robot.visual_group)
    with OffscreenRenderer(model, *RENDERED) as renderer:
        camera = _Camera(renderer, model, place.groups)
        for _ in range(TAKES):
            chosen = [states[t] for t in rng.integers(0, len(states), FRAMES)]
            hands = [body_pose(state, robot.ee_body) @ robot.body_from_ee for state in chosen]
            views, K = draw_views(rng, place, hands, "own" if rng.uniform() < _OWN else "any")
            look = _draw_look(photographs, rng)
            take = camera.film(chosen, views, K, look, rng)
            if take is not None:
                yield take


def _place(state: mujoco.MjData, around: dict[str, Floats], held: dict[str, Floats]) -> None:
    """Bodies at ``around``'s poses (7,), but for those at ``held``'s (4, 4)."""
    fixed = {name: (pose[:3], pose[3:]) for name, pose in around.items()}
    fixed |= {n: (pose[:3, 3], quaternion_from_matrix(pose[:3, :3])) for n, pose in held.items()}
    for name, (at, quat) in fixed.items():
        mocap = state.model.body(name).mocapid[0]
        state.mocap_pos[mocap], state.mocap_quat[mocap] = at, quat
    mujoco.mj_kinematics(state.model, state)


@dataclass(frozen=True)
class _Look:
    """Of one take.

    Attributes:
        quality: of its JPEG files.
        panorama: (512, 1024, 3) behind the walls; None: the scene's own room.
        floor: the panorama replaces the floor too.
        yaw: rad by which it is turned about the vertical.
        cables: there are some.
    """

    quality: int
    panorama: Bytes | None
    floor: bool
    yaw: float
    cables: bool


def _draw_look(photographs: Photographs | None, rng: np.random.Generator) -> _Look:
    quality = int(rng.integers(40, 96))
    behind = int(rng.choice(3, p=_BEHIND))
    panorama = None if photographs is None else draw_panorama(photographs, rng)
    yaw, cables = rng.uniform(0, 2 * np.pi), rng.uniform() < _CABLED
    return _Look(quality, panorama if behind else None, behind == 2, yaw, cables)


class _Camera:
    """Films one scene.

    Args:
        renderer: of size `RENDERED`, of ``model``, whose robot is in `ROBOT_GROUP`.
        groups: of the scene without the robot.
    """

    def __init__(
        self, renderer: OffscreenRenderer, model: mujoco.MjModel, groups: tuple[int, ...]
    ) -> None:
        self._renderer, self._groups = renderer, groups
        self._robot = np.append(model.geom_group == ROBOT_GROUP, False)  # -1 finds the last
        self._wall, self._floor = room_of(model)

    def film(
        self,
        states: Sequence[mujoco.MjData],
        views: Floats,
        K: Floats,
        look: _Look,
        rng: np.random.Generator,
    ) -> MaskTake | None:
        """Frames (4) from world_from_camera (4, 4, 4) by a lens K of pictures of (HEIGHT, WIDTH);
        None where one shows too little, or too much robot.
        """
        renderer, lens = self._renderer, K.copy()
        lens[:2] *= _FINER
        moments = list(zip(states, views, strict=True))
        renderer.show((*self._groups, ROBOT_GROUP))
        geoms = []
        for state, view in moments:
            depth, seen = renderer.depth_and_geoms(state, lens, view)
            if np.percentile(depth[::4, ::4], 20) < _TOO_NEAR:  # 0 is nothing
                return None
            if self._robot[seen].mean() > _MOST_ROBOT:
                return None
            geoms.append(seen)
        frames = []
        for (state, view), seen in zip(moments, geoms, strict=True):
            fine = self._behind(renderer.rgb(state, lens, view), seen, lens, view, look)
            if look.cables:
                fine = draw_cables(fine, self._robot[seen], rng)
            small = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=look.quality)
            frames.append(simplejpeg.decode_jpeg(jpeg))
        visible = [_shares(self._robot[seen]) for seen in geoms]
        renderer.show((ROBOT_GROUP,))
        whole = [_shares(renderer.depth_and_geoms(s, lens, view)[0] > 0) for s, view in moments]
        return MaskTake(np.stack(frames), np.stack(visible), np.stack(whole))

    def _behind(
        self, fine: Bytes, geoms: NDArray[np.int32], lens: Floats, view: Floats, look: _Look
    ) -> Bytes:
        """The picture with its panorama, where it has one, in place of walls."""
        if look.panorama is None:
            return fine
        away = self._wall | self._floor if look.floor else self._wall
        turn = Rotation.from_euler("z", look.yaw).as_matrix() @ view[:3, :3]
        far = view_of_panorama(look.panorama, lens, turn, RENDERED)
        return np.where(away[geoms][..., None], far, fine)


def room_of(model: mujoco.MjModel) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which geoms are walls and what hangs there, and which floors: (ngeom + 1,) each, with a last
    entry that geom -1, nothing, finds.
    """
    # By their groups too: the fingers of DROID's gripper are called left and right as walls are.
    names = [
        model.geom(geom).name if model.geom_group[geom] == SCENE_GROUP else ""
        for geom in range(model.ngeom)
    ]
    wall = np.array([*(name.startswith(_WALLS) for name in names), True])
    return wall, np.array([*(name.startswith(_FLOORS) for name in names), True])


def _shares(mask: NDArray[np.bool_]) -> Bytes:
    """(HEIGHT, WIDTH) of 255, of a finer mask."""
    fine = 255 * mask.astype(np.uint8)
    return np.asarray(cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))

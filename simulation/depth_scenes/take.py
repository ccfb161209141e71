"""Four frames of one scene: two of a camera at rest, two after it moved; filmed with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import mujoco
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from robo4d.geometry import intrinsics, make_pose
from robots.offscreen import OffscreenRenderer
from simulation.layout import look_at

Floats = NDArray[np.floating]
FRAMES = 4
TAKES = 8  # of a scene: drawing and compiling it costs as much as filming them
# Pixels; every source's aspect is cut out of it when it is trained on.
HEIGHT, WIDTH = 256, 320
# Each pixel is the mean of so many by so many: LIBERO and the twins render with 4 samples a pixel.
_FINER = 2
# Geom group that robots are moved to, which no model uses.
ROBOT_GROUP = 5
# Focal length over width: wide wrist cameras to RT-1's head.
_FOCALS = (0.4, 1.2)
_OFF_WALLS = 0.1  # m
# Of the logarithm of the focal length over an own camera's, mean and standard deviation: training
# then cuts some fifth off pictures, which half makes up for.
_OWN_FOCAL = (-0.1, 0.12)
# Of a picture, what must have depth at all, and be farther than a camera can focus (m).
_LEAST_SEEN, _TOO_NEAR = 0.7, 0.06


@dataclass(frozen=True)
class Take:
    """Frames with their truth.

    Attributes:
        rgb: (4, H, W, 3) uint8.
        depth: (4, H, W) float16 z-depth in m, 0 for nothing.
        robot: (4, H / 2, W / 2) float16 z-depth in m of the robot alone at every other pixel's
            corner, 0 for none.
        K: (4, 3, 3) pixels.
        base_from_camera: (4, 4, 4); the first two are equal unless the camera rides on the hand.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float16]
    robot: NDArray[np.float16]
    K: Floats
    base_from_camera: Floats


@dataclass(frozen=True)
class Workplace:
    """Where cameras look in one scene, in its world's frame.

    Attributes:
        world_from_base: (4, 4) of the robot.
        groups: geom groups of the scene without the robot; the robot's own is `ROBOT_GROUP`.
        low, high: (3,) m, corners of the box in which things happen.
        room: (low, high) (3,) m: cameras stay within.
        own: (world_from_camera, K as of `held_lens`) of the scene's own cameras at rest.
        own_hand: (hand_from_camera, K likewise) of those on the hand.
        walls: (N, 3) of each wall n_x, n_y, d in m: inside, n . (x, y) < d. Random cameras
            stand there.
    """

    world_from_base: Floats
    groups: tuple[int, ...]
    low: Floats
    high: Floats
    room: tuple[Floats, Floats]
    own: tuple[tuple[Floats, Floats], ...]
    own_hand: tuple[tuple[Floats, Floats], ...]
    walls: Floats


def draw_views(
    rng: np.random.Generator,
    place: Workplace,
    world_from_hand: Sequence[Floats],
    kind: Literal["own", "hand", "any"] | None = None,
) -> tuple[Floats, Floats]:
    """world_from_camera (4, 4, 4) and K (3, 3) of a take.

    Args:
        kind: one of the scene's own cameras, shaken ("own"), one that rides on the hand, or one
            that looks at the workplace from anywhere; None: half, a fifth, and the rest.
    """
    kind = kind or rng.choice(["own", "hand", "any"], p=[0.5, 0.2, 0.3])
    if kind == "hand" and place.own_hand:
        mount, lens = place.own_hand[rng.integers(len(place.own_hand))]
        mount = mount @ _shake(rng, 0.02, 0.15)
        return np.stack([hand @ mount for hand in world_from_hand]), _lens(rng, lens)
    if kind == "own" and place.own:
        first, lens = place.own[rng.integers(len(place.own))]
        first = first @ _shake(rng, 0.06, 0.08)
        K = _lens(rng, lens)
    else:
        first, K = _anywhere(rng, place), _lens(rng, None)
    small = rng.uniform() < 0.7
    moved = [first @ _shake(rng, *((0.04, 0.06) if small else (0.15, 0.2))) for _ in range(2)]
    return np.stack([first, first, *moved]), K


def held_lens(K: Floats, size: tuple[int, int]) -> Floats:
    """K (3, 3) of pictures of ``size`` (height, width), in pixels of a take's picture that holds
    one of them whole: a square one of its height, a wide one of its width.
    """
    scale = min(HEIGHT / size[0], WIDTH / size[1])
    return np.diag([scale, scale, 1.0]) @ K


def film_take(
    renderer: OffscreenRenderer,
    place: Workplace,
    states: Sequence[mujoco.MjData],
    views: Floats,
    K: Floats,
    rng: np.random.Generator,
) -> Take | None:
    """Film the states from the views; None where a picture shows little or is too near.

    Args:
        renderer: of size `RENDERED`, of a model without samples.
        K: of pictures of (HEIGHT, WIDTH).
    """
    lens = K.copy()
    lens[:2] *= _FINER
    # The finer pixel whose depth stands for a picture's pixel lies beside its centre.
    beside = lens.copy()
    beside[:2, 2] -= (_FINER - 1) / 2
    depth = np.empty((FRAMES, HEIGHT, WIDTH), np.float16)
    robot = np.empty((FRAMES, HEIGHT // 2, WIDTH // 2), np.float16)
    renderer.show((*place.groups, ROBOT_GROUP))
    for k, (state, view) in enumerate(zip(states, views, strict=True)):
        z, _ = renderer.depth_and_geoms(state, beside, view)
        depth[k] = z[::_FINER, ::_FINER]
        seen = depth[k][depth[k] > 0]
        if seen.size < _LEAST_SEEN * depth[k].size or np.percentile(seen, 20) < _TOO_NEAR:
            return None
    quality = int(rng.integers(40, 96))
    frames = []
    for state, view in zip(states, views, strict=True):
        fine = renderer.rgb(state, lens, view)
        small = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=quality)
        frames.append(simplejpeg.decode_jpeg(jpeg))
    renderer.show((ROBOT_GROUP,))
    for k, (state, view) in enumerate(zip(states, views, strict=True)):
        z, _ = renderer.depth_and_geoms(state, beside, view)
        robot[k] = z[_FINER - 1 :: 2 * _FINER, _FINER - 1 :: 2 * _FINER]
    poses = np.linalg.inv(place.world_from_base) @ views
    return Take(np.stack(frames), depth, robot, np.repeat(K[None], FRAMES, 0), poses)


RENDERED = (HEIGHT * _FINER, WIDTH * _FINER)


def _anywhere(rng: np.random.Generator, place: Workplace) -> Floats:
    low, high = place.room
    for _ in range(100):
        target = rng.uniform(place.low, place.high)
        azimuth, elevation = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(8, 75))
        away = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)]
        position = target + rng.uniform(0.35, 1.6) * np.array([*away, np.sin(elevation)])
        inside = (place.walls[:, :2] @ position[:2] < place.walls[:, 2] - _OFF_WALLS).all()
        if inside and (position > low).all() and (position < high).all():
            break
    return look_at(np.clip(position, low, high), target, rng.normal(0, 0.06))


def _lens(rng: np.random.Generator, own: Floats | None) -> Floats:
    """K of a picture of (HEIGHT, WIDTH)."""
    if own is None:
        focal = WIDTH * np.exp(rng.uniform(*np.log(_FOCALS))) * np.ones(2)
        centre = rng.normal(0, 0.01, 2)
    else:  # Bridge's pixels are not square
        focal = own.diagonal()[:2] * np.exp(rng.normal(*_OWN_FOCAL))
        centre = rng.normal(0, 0.015, 2)
    fx, fy = focal
    return intrinsics(fx, fy, WIDTH * (0.5 + centre[0]), HEIGHT / 2 + WIDTH * centre[1])


def _shake(rng: np.random.Generator, metres: float, radians: float) -> Floats:
    turn, _ = cv2.Rodrigues(rng.normal(0, radians / 2, 3))
    return make_pose(turn, rng.normal(0, metres / 2, 3))

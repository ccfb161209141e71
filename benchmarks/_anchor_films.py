"""Clips of twins with exact depth, and the relative depth that a network would give of them."""

from __future__ import annotations

import os

# Software OpenGL would start a thread a core; set before anything makes a context.
os.environ.setdefault("LP_NUM_THREADS", "1")

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from robots.render import RobotRenderer
from simulation import bridge, droid, rt1

_TWINS: dict[str, Any] = {"droid": droid, "bridge": bridge, "rt1": rt1}
_STEPS = 49  # a clip


@dataclass(frozen=True)
class TrueClip:
    """One camera of one episode of a twin, true in every field; shapes as in `robo4d.sample`."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    robot_depth: NDArray[np.float32]
    robot_visible: NDArray[np.bool_]
    static: bool

    @property
    def resting(self) -> NDArray[np.bool_]:
        """(T - 1, H, W) pixels that show one surface, not the robot's, in two frames running."""
        near = np.abs(np.diff(self.depth, axis=0)) < 1e-4
        scene = ~self.robot_visible & (self.depth > 0)
        return near & scene[1:] & scene[:-1]


@dataclass(frozen=True)
class Spoiling:
    """How a network's depth departs from the truth.

    Attributes:
        kind: what is known up to scale and shift.
        scale, shift: standard deviation from frame to frame, the shift's in shares of the clip's
            median.
        fixed, fresh: standard deviation of smooth relative errors, those that stay over the clip
            and those that are new in every frame.
        fine: standard deviation of relative errors of single pixels.
        blur: standard deviation in pixels of the blur that takes the edges.
    """

    kind: Literal["depth", "inverse"]
    scale: float = 0.04
    shift: float = 0.02
    fixed: float = 0.0
    fresh: float = 0.0
    fine: float = 0.0
    blur: float = 0.0


def true_clips(
    folder: Path, source: str, seeds: list[int], episodes: int
) -> Iterator[tuple[str, TrueClip]]:
    """(name, clip) of every camera, filmed once and kept under ``folder``."""
    for seed in seeds:
        for index in range(episodes):
            made = sorted(folder.glob(f"{source}-{seed}-{index}-*.npz"))
            if not made:
                folder.mkdir(parents=True, exist_ok=True)
                for name, clip in _film(_TWINS[source], seed, index).items():
                    arrays = {f.name: getattr(clip, f.name) for f in fields(clip)}
                    np.savez(folder / f"{source}-{seed}-{index}-{name}.npz", **arrays)
                made = sorted(folder.glob(f"{source}-{seed}-{index}-*.npz"))
            for path in made:
                with np.load(path) as stored:
                    clip = TrueClip(**{f.name: stored[f.name] for f in fields(TrueClip)})
                yield path.stem, replace(clip, static=bool(clip.static))


def _film(twin: Any, seed: int, index: int) -> dict[str, TrueClip]:
    episode = twin.draw_episode(seed, index)
    script = episode.script
    count = len(script.joints)
    steps = np.unique(np.linspace(0, count - 1, min(count, _STEPS)).round().astype(int))
    script = replace(
        script,
        joints=script.joints[steps],
        closed=script.closed[steps],
        things=script.things[steps],
        held=script.held[steps],
    )
    films = twin.film_episode(replace(episode, script=script))
    robot = twin.RIG.robot
    clips = {}
    with RobotRenderer(robot, *episode.layout.size) as render:
        for name, film in films.items():
            K = np.repeat(film.K[None], len(steps), axis=0)
            amodal, _ = render(script.joints, script.opening, K, film.base_from_camera)
            clips[name] = TrueClip(
                rgb=np.stack([simplejpeg.decode_jpeg(frame) for frame in film.frames]),
                depth=film.depth,
                robot_depth=amodal,
                robot_visible=film.robot_part > 0,
                static=bool(np.ptp(film.base_from_camera, axis=0).max() < 1e-6),
            )
    return clips


def relative_depth(clip: TrueClip, how: Spoiling, seed: int) -> NDArray[np.float32]:
    """(T, H, W) depth, or inverse depth, of unknown scale and shift; 0 where there is none.

    The shift keeps all of it positive, as networks do.
    """
    rng = np.random.default_rng(seed)
    known = clip.depth > 0
    z = np.where(known, clip.depth, clip.depth.max())
    if how.blur:
        z = np.stack([1 / cv2.GaussianBlur(1 / frame, (0, 0), how.blur) for frame in z])
    size = clip.depth.shape[1:]
    z = z * np.exp(how.fixed * _smooth(rng, size))
    z = z * np.stack([np.exp(how.fresh * _smooth(rng, size)) for _ in z])
    z = z * np.exp(how.fine * rng.standard_normal(z.shape, np.float32))
    x = z if how.kind == "depth" else 1 / z
    middle, least = np.median(x), x.min()
    drift = 1 + how.scale * rng.standard_normal(len(x))
    shift = middle * how.shift * rng.standard_normal(len(x))
    # Nothing may cross 0, which means unknown.
    shift += rng.uniform(0.2, 0.6) * middle - min(0.0, (drift * least + shift).min())
    scale = rng.uniform(0.2, 5.0)
    spoilt = scale * (drift[:, None, None] * x + shift[:, None, None])
    return np.where(known, spoilt, 0).astype(np.float32)


def _smooth(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) noise of standard deviation 1, correlated over an eighth of the image's height."""
    rough = rng.standard_normal(size, np.float32)
    field = cv2.GaussianBlur(rough, (0, 0), size[0] / 16)
    return field / field.std()


def occluded(clip: TrueClip, seed: int) -> TrueClip:
    """With a striped board that passes before the robot, nearer than all of it."""
    rng = np.random.default_rng(seed)
    size = np.array(clip.depth.shape[1:])
    half = size * rng.uniform(0.1, 0.16, 2)
    middle = np.argwhere(clip.robot_visible.any(0)).mean(0)
    path = np.linspace(-0.25, 0.25, len(clip.depth))[:, None] * size * rng.choice([-1, 1], 2)
    rows, columns = np.indices(size)
    near = 0.9 * clip.robot_depth[clip.robot_depth > 0].min()
    light, dark = rng.integers(40, 220, (2, 3))
    stripes = np.where(((rows + columns) // 12 % 2 == 0)[..., None], light, dark).astype(np.uint8)
    board = np.stack(
        [(np.abs(rows - r) < half[0]) & (np.abs(columns - c) < half[1]) for r, c in middle + path]
    )
    return replace(
        clip,
        rgb=np.where(board[..., None], stripes, clip.rgb),
        depth=np.where(board, near, clip.depth).astype(np.float32),
        robot_visible=clip.robot_visible & ~board,
    )

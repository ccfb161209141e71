"""Single runs of camera solvers on clips with truth, and how each came out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks._camera_clips import SOURCES, CameraClip, get_clip, shortened, shrunk
from benchmarks._camera_film import FilmOptions
from benchmarks._camera_peers import icp_pose, silhouette_pose
from benchmarks._degraded_masks import DegradedMasks
from pipeline.camera import masks_of
from reconstruction.camera import CameraProblem, score_pose, solve_camera
from reconstruction.camera.learned_masks import MaskBackend
from robo4d.geometry import invert, make_pose, project, rotation_angle, transform
from robots.kinematics import link_poses
from robots.models import get_robot
from robots.rasterizer import RobotRasterizer
from robots.surface import surface_points
from schemas.config import CameraConfig

Floats = NDArray[np.floating]
# Within these a camera counts as found: deg and mm of the camera's centre.
FOUND = (0.6, 8.0)
# Errors of starts: deg and m.
STARTS = ((0, 0.0), (5, 0.03), (10, 0.07), (15, 0.1), (20, 0.15))
LEVELS: dict[str, tuple[float, ...]] = {
    "start": tuple(float(turn) for turn, _ in STARTS),
    "cold": (0.0,),
    "masks": (0.0,),
    "focal": (0.0,),
    "frames": (5, 8, 12, 16, 24, 32),
    "motion": (0.0, 0.02, 0.05, 0.1, 0.2, 0.5),
    "width": (64, 96, 128, 192),
    "shipped": (0.0,),
}
PEERS = ("icp", "silhouette", "silhouette_true")
# What is run first, and then the settings in their order: most is read from these.
_FIRST = ("start", 15.0)
_ORDER = ("cold", "focal", "start", "frames", "motion", "width", "shipped", "masks")
# Of a guess at the focal length: how wrong it is (log, one sigma), and what the solver is told.
FOCAL_ERROR, FOCAL_SIGMA = 0.1, 0.15
_SHIPPED = 4  # poses of each kind a clip: right, and stale
_STALE, _RIGHT = (20.0, 0.3), (0.25, 0.004)  # largest error, deg and m
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        setting: what is varied, a key of `LEVELS`.
        level: how far: deg of the start's error, frames, scale of motion, or width in pixels.
        method: "solver", or one of `PEERS`.
    """

    setting: str
    level: float
    method: str
    source: str
    seed: int

    @property
    def key(self) -> str:
        """Names the run and the code that it runs, so that results outlive a changed solver."""
        told = json.dumps([*asdict(self).values(), _code(self.method)])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def film(self) -> FilmOptions:
        """How its clip is filmed, before it is shortened or shrunk."""
        return FilmOptions(
            ideal_lens=self.setting == "focal",
            motion=self.level if self.setting == "motion" else 1.0,
        )

    def __str__(self) -> str:
        return f"{self.source} {self.seed} {self.setting} {self.level:g} {self.method}"


def trials(
    settings: tuple[str, ...],
    methods: tuple[str, ...],
    sources: tuple[str, ...],
    seeds: list[int],
    starts: tuple[float, ...] = LEVELS["start"],
) -> Iterator[Trial]:
    """Every run once: the most telling settings first, each for all clips, and peers last.

    A run broken off so has whole points of its curves. Peers need a start and the true K, so they
    run in the setting "start" alone.
    """
    runs = [
        (setting, level, method)
        for method in ("solver", *PEERS[::-1])  # the slowest peer first: none is waited for alone
        for setting in _ORDER
        for level in (starts if setting == "start" else LEVELS[setting])
        if setting in settings and method in methods and (method == "solver" or setting == "start")
    ]
    runs.sort(key=lambda run: (run[2] != "solver", run[:2] != _FIRST))
    for setting, level, method in dict.fromkeys(runs):
        for seed in dict.fromkeys(seeds):
            for source in dict.fromkeys(sources):
                yield Trial(setting, level, method, source, seed)


def run_trial(trial: Trial, cache: Path) -> dict[str, Any]:
    """What came of it, as JSON holds it: see `judged` and, for "shipped", `_shipped`."""
    clip = _clip(trial, cache)
    begun = time.perf_counter()
    if trial.setting == "shipped":
        outcome: dict[str, Any] = {"poses": _shipped(clip, trial.seed)}
    elif trial.method == "solver":
        outcome = _solved(clip, trial)
    else:
        pose = _peer(trial.method, clip, start_pose(clip, trial))
        outcome = judged(clip, pose, clip.K)
    seconds = time.perf_counter() - begun
    return {"key": trial.key, **asdict(trial), "clip": clip.name, "seconds": seconds, **outcome}


def start_pose(clip: CameraClip, trial: Trial) -> Floats:
    """The true pose, turned and shifted by the trial's level about and along random axes."""
    shift = dict(STARTS)[int(trial.level)]
    return displaced(
        clip.base_from_camera,
        np.radians(trial.level),
        shift,
        np.random.default_rng([trial.seed, int(trial.level), SOURCES.index(trial.source)]),
    )


def displaced(pose: Floats, turn: float, shift: float, rng: np.random.Generator) -> Floats:
    """A pose turned by ``turn`` rad about a random axis and shifted by ``shift`` m at random."""
    axis, way = rng.standard_normal((2, 3))
    rotation = Rotation.from_rotvec(turn * axis / np.linalg.norm(axis)).as_matrix()
    return np.asarray(pose @ make_pose(rotation, shift * way / np.linalg.norm(way)))


def judged(clip: CameraClip, pose: Floats | None, K: Floats | None) -> dict[str, Any]:
    """Errors of a camera: rotation (deg), centre (mm), focal length (share), reprojection (px).

    Reprojection: median distance between points of the robot's surface, at all steps, in the true
    and the found camera, of those that are in the true picture; inf if none is before the camera.
    """
    if pose is None or K is None:
        return {"deg": None, "mm": None, "px": None, "focal": None, "found": False}
    truth = clip.base_from_camera
    deg = float(np.degrees(rotation_angle(pose[:3, :3], truth[:3, :3])))
    mm = 1e3 * float(np.linalg.norm(pose[:3, 3] - truth[:3, 3]))
    robot = get_robot(clip.robot)
    links = link_poses(robot, clip.joints, clip.gripper)
    points = surface_points(robot.name, 200).placed(links).reshape(-1, 3)
    true, depth = project(transform(invert(truth), points), clip.K)
    height, width = clip.size
    with np.errstate(invalid="ignore"):
        seen = (depth > 0) & (true > 0).all(1) & (true < [width, height]).all(1)
    other = project(transform(invert(pose), points[seen]), K)[0]
    apart = np.linalg.norm(other - true[seen], axis=1)
    px = float(np.median(np.where(np.isfinite(apart), apart, np.inf)))
    return {
        "deg": deg,
        "mm": mm,
        "px": px if np.isfinite(px) else None,
        "focal": float(K[0, 0] / clip.K[0, 0] - 1),
        "found": bool(deg < FOUND[0] and mm < FOUND[1]),
    }


def problem_of(clip: CameraClip) -> CameraProblem:
    """The clip as the solver takes it: no truth in it."""
    return CameraProblem(
        robot=get_robot(clip.robot),
        decode=lambda steps: clip.rgb[steps],
        size=clip.size,
        joints=clip.joints,
        fingers=clip.gripper,
        time=clip.time,
    )


def _clip(trial: Trial, cache: Path) -> CameraClip:
    clip = _kept(trial.source, trial.seed, trial.film, cache)
    if trial.setting == "frames":
        return shortened(clip, int(trial.level))
    return shrunk(clip, int(trial.level)) if trial.setting == "width" else clip


@lru_cache(maxsize=2)
def _kept(source: str, seed: int, options: FilmOptions, cache: Path) -> CameraClip:
    return get_clip(source, seed, options, cache)


def _solved(clip: CameraClip, trial: Trial) -> dict[str, Any]:
    starts = [start_pose(clip, trial)] if trial.setting == "start" else []
    K, spread = clip.K, 0.0
    if trial.setting == "focal":
        wrong = np.random.default_rng([trial.seed, 6]).normal(0, FOCAL_ERROR)
        K, spread = np.diag([np.exp(wrong), np.exp(wrong), 1.0]) @ clip.K, FOCAL_SIGMA
        K[:2, 2] = clip.K[:2, 2]
    masks: MaskBackend | None = masks_of(CameraConfig(), get_robot(clip.robot))  # as builds do
    if trial.setting == "masks":
        masks = DegradedMasks(clip, trial.seed)
    solution = solve_camera(
        [problem_of(clip)], K, spread=spread, starts=starts, seed=trial.seed, masks=masks
    )
    quality = {name: _plain(value) for name, value in solution.quality.items()}
    covariance = solution.covariance
    return judged(clip, solution.base_from_camera, solution.K) | {
        "late_error_s": solution.late - clip.latency_s,
        "verdict": solution.verdict,
        "why": solution.why,
        "quality": quality,
        "sd": None if covariance is None else np.sqrt(np.diag(covariance)).tolist(),
    }


def _peer(method: str, clip: CameraClip, start: Floats) -> Floats:
    if method == "icp":
        return icp_pose(clip, start)
    return silhouette_pose(clip, start, true_masks=method == "silhouette_true")


def _shipped(clip: CameraClip, seed: int) -> list[dict[str, Any]]:
    """Scores of poses as data sets ship them: right to a hair, or stale by up to 20 deg and 30 cm.

    The same share of the largest turn and of the largest shift, uniform, makes a stale one.
    """
    rng = np.random.default_rng([seed, 7])
    problem, rows = problem_of(clip), []
    renderer = RobotRasterizer(problem.robot, *problem.working_size)
    for stale in [False, True] * _SHIPPED:
        share = rng.uniform(0.05, 1) if stale else rng.uniform()
        turn, shift = np.multiply(_STALE if stale else _RIGHT, share)
        pose = displaced(clip.base_from_camera, np.radians(turn), shift, rng)
        scores = score_pose([problem], clip.K, pose, renderer)
        found = {name: _plain(value) for name, value in scores.items()}
        rows.append({"stale": stale, "deg": turn, "mm": 1e3 * shift, "scores": found})
    return rows


def _plain(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


@lru_cache(maxsize=8)
def _code(method: str) -> str:
    """Of what a method's results depend on, beside the clips."""
    folder = _ROOT / "reconstruction/camera"
    files = sorted([*folder.glob("*.py"), *folder.glob("*.safetensors")])
    if method != "solver":
        files = [_ROOT / "benchmarks/_camera_peers.py"]
    digest = hashlib.sha256()
    films = (_ROOT / f"benchmarks/_{name}.py" for name in ("camera_film", "degraded_masks"))
    for file in [*files, *films]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]

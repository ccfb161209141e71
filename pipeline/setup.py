"""Episodes made ready to be encoded, and those of one camera setup solved together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.camera import CameraChoice, choice_of, lens_of, masks_of
from pipeline.checks import check_motion
from pipeline.clip import plan_clip
from pipeline.timing import Timing, time_motion
from reconstruction.motion import Motion, solve_motion
from robots.models import RobotModel, get_robot
from schemas.config import BuildConfig, CameraConfig
from schemas.episode import CameraStream, Episode
from schemas.plan import ClipPlan, EpisodeRef
from schemas.reasons import EpisodeError

# More clips tell little that eight do not, and are held in memory until their pool is solved.
POOL = 8
# Least share of its outline that an episode must confirm at the pool's pose, against the pool's;
# below it the camera has moved, and the episode is solved alone.
_MOVED = 0.6
Cameras = dict[str, CameraChoice]


@dataclass(frozen=True)
class Prepared:
    """An episode that passed its checks: its clip, its motion, and how late its images are."""

    episode: Episode
    robot: RobotModel
    clip: ClipPlan
    motion: Motion
    timing: Timing


def prepare(episode: Episode, config: BuildConfig) -> Prepared:
    """Plan the clip, solve or take the joints, check them, and estimate the images' offset.

    Raises:
        EpisodeError: it cannot be built.
    """
    robot = get_robot(episode.robot.robot)
    clip = plan_clip(episode, config.clip)
    motion = solve_motion(episode, robot)
    check_motion(episode, robot, motion, config.checks)
    motion, timing = time_motion(episode, robot, motion, config.timing)
    if timing.corrected:
        clip = plan_clip(episode, config.clip, timing.late)
    return Prepared(episode, robot, clip, motion, timing)


def setup_of(episode: Episode, config: CameraConfig) -> str | None:
    """What names the camera setup that an episode shares with others; None: it is solved alone.

    Bridge keeps a setup's trajectories in one folder, which its RLDS names as the file before the
    ``#``. DROID's RLDS names no setup: its cameras move from scene to scene of one lab.
    """
    exact = episode.twin or episode.simulated
    if config.solve == "never" or exact or episode.source != "bridge":
        return None
    name, mark, _ = episode.id.partition("#")
    return name if mark else None


def pools(
    ready: Iterable[tuple[EpisodeRef, Prepared]], config: CameraConfig
) -> Iterator[list[tuple[EpisodeRef, Prepared]]]:
    """Episodes by setup, at most `POOL` at once; an episode without one goes alone, at once."""
    waiting: dict[str, list[tuple[EpisodeRef, Prepared]]] = {}
    for one in ready:
        setup = setup_of(one[1].episode, config)
        if setup is None:
            yield [one]
            continue
        waiting.setdefault(setup, []).append(one)
        if len(waiting[setup]) == POOL:
            yield waiting.pop(setup)
    yield from waiting.values()


def solve_pool(pool: Sequence[Prepared], config: CameraConfig) -> list[Cameras]:
    """The cameras of each episode that were solved with the others'; those missing are not.

    A frame that cannot be decoded leaves its camera to `pipeline.camera.choose_camera`, which
    meets it again and says whose it is.
    """
    cameras: list[Cameras] = [{} for _ in pool]
    names = sorted({name for one in pool for name in one.episode.cameras})
    for name in names:
        shared = [i for i, one in enumerate(pool) if _is_shared(one.episode.cameras.get(name))]
        sizes = {pool[i].episode.cameras[name].size() for i in shared}
        if len(shared) < 2 or len(sizes) > 1:
            continue
        try:
            found = _solve_shared([pool[i] for i in shared], name, config)
        except EpisodeError:
            continue
        for i, choice in zip(shared, found, strict=True):
            if choice is not None:
                cameras[i][name] = choice
    return cameras


def _is_shared(stream: CameraStream | None) -> bool:
    return stream is not None and stream.calibration is None and "wrist" not in stream.name


def _solve_shared(
    pool: Sequence[Prepared], name: str, config: CameraConfig
) -> list[CameraChoice | None]:
    from reconstruction.camera import CameraProblem, score_pose, solve_camera

    problems = [
        CameraProblem(
            one.robot,
            one.episode.cameras[name].decode,
            one.episode.cameras[name].size(),
            one.motion.joints,
            one.motion.fingers,
            one.episode.time,
        )
        for one in pool
    ]
    first = pool[0]
    K, spread = lens_of(first.episode.source, problems[0].size, None, config)
    masks = masks_of(config)
    solution = solve_camera(problems, K, spread=spread, seed=config.seed, masks=masks)
    choice = choice_of(solution)
    choice = replace(choice, why=f"{choice.why}; {len(pool)} episodes of one setup together")
    if choice.calibration is None:
        return [choice] * len(pool)
    out: list[CameraChoice | None] = []
    least = _MOVED * (solution.quality["edge_share"] or 0.0)
    for problem in problems:
        calibration = choice.calibration
        pose, late = calibration.base_from_camera, solution.late
        own = score_pose([problem], calibration.K, pose, late=late, masks=masks)
        same = (own["edge_share"] or 0.0) >= least
        out.append(replace(choice, quality=choice.quality | own) if same else None)
    return out

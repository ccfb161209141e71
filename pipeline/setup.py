"""Episodes made ready to be encoded, and those of one camera setup solved together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from reconstruction.camera import CameraProblem

# More clips tell little that eight do not, and are held in memory until their pool is solved.
POOL = 8
# Least share of its outline that an episode must confirm at the pool's pose, against the pool's;
# below it the camera has moved by less than its background tells, or something else is amiss.
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
    """What names the cameras that an episode shares with others; None: it is solved alone.

    Bridge keeps a setup's trajectories in one folder: its RLDS names it as the file before the
    ``#``, its raw trajectories lie in the dated folder of one session. DROID's raw files tell lab,
    day and serial numbers; its RLDS names no setup. That a camera is the same does not mean that
    it stayed: see `solve_pool`.
    """
    if config.solve == "never" or episode.twin or episode.simulated:
        return None
    if episode.source == "bridge":
        for mark in ("#", "/raw/traj_group"):
            name, found, _ = episode.id.partition(mark)
            if found:
                return name
    if any(is_shared(stream) and stream.setup for stream in episode.cameras.values()):
        return "|".join(sorted(stream.setup for stream in episode.cameras.values()))
    return None


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
    # By device where the source tells it: DROID's two may change places.
    devices: dict[tuple[str, tuple[int, int]], list[tuple[int, str]]] = {}
    for i, one in enumerate(pool):
        for name, stream in one.episode.cameras.items():
            if not is_shared(stream):
                continue
            try:
                device = (stream.setup or name, stream.size())
            except EpisodeError:
                continue
            devices.setdefault(device, []).append((i, name))
    for members in devices.values():
        if len(members) < 2:
            continue
        try:
            found = _solve_shared([(pool[i], name) for i, name in members], config)
        except EpisodeError:
            continue
        for (i, name), choice in zip(members, found, strict=True):
            if choice is not None:
                cameras[i][name] = choice
    return cameras


def is_shared(stream: CameraStream) -> bool:
    """Whether a camera may be solved with those of other episodes."""
    return stream.calibration is None and "wrist" not in stream.name


def _solve_shared(
    views: Sequence[tuple[Prepared, str]], config: CameraConfig
) -> list[CameraChoice | None]:
    """A choice for each view of one camera; None for those that are to be solved alone."""
    from reconstruction.camera import CameraProblem, is_confirmed, is_loose
    from reconstruction.camera.moved import group_clips, still_sections

    problems = [
        CameraProblem(
            one.robot,
            one.episode.cameras[name].decode,
            one.episode.cameras[name].size(),
            one.motion.joints,
            one.motion.fingers,
            one.episode.time,
        )
        for one, name in views
    ]
    source = views[0][0].episode.source
    out: list[CameraChoice | None] = [None] * len(views)

    def solve(members: list[int]) -> list[int]:
        """Put what was found into ``out``; those that agree, none where all are rejected.

        A pose of the whole pool that images confirm, and only hold too loosely, is told to all:
        fewer clips would hold it looser.
        """
        found = _solve_together([problems[i] for i in members], source, config)
        agreed = [i for i, choice in zip(members, found, strict=True) if choice is not None]
        if len(agreed) > 1:
            for i, choice in zip(members, found, strict=True):
                out[i] = choice
        rejected = found[0] if all(c is not None and c.calibration is None for c in found) else None
        if rejected is None:
            return agreed
        loose = is_confirmed(rejected.quality) and is_loose(rejected.quality)
        return agreed if loose and members == whole else []

    whole = left = [i for i, problem in enumerate(problems) if not still_sections(problem).jumps]
    agreed = whole
    # Those that do not confirm a pose are of another, which two may share again.
    while len(left) > 1 and len(agreed) > 1:
        agreed = solve(left)
        if not agreed and left != whole:
            for i in left:
                out[i] = None
        elif not agreed:
            # Several poses may have spoilt each other. The background is asked only now: what
            # looks alike is of one place, but Bridge's toy kitchens are moved as well.
            places = group_clips([problems[i] for i in whole])
            for place in places if len(places) > 1 else []:
                members = [whole[i] for i in place]
                for i in members:
                    out[i] = None
                if len(members) > 1:
                    solve(members)
        left = [i for i in left if i not in agreed]
    return out


def _solve_together(
    problems: Sequence[CameraProblem], source: str, config: CameraConfig
) -> list[CameraChoice | None]:
    """The pose of all, for those clips that confirm it; None for the others.

    If none is found, all are rejected: eight clips tell more than one.
    """
    from reconstruction.camera import score_pose, solve_camera

    K, spread = lens_of(source, problems[0].size, None, config)
    masks = masks_of(config, problems[0].robot)
    solution = solve_camera(problems, K, spread=spread, seed=config.seed, masks=masks)
    choice = choice_of(solution)
    choice = replace(choice, why=f"{choice.why}; {len(problems)} episodes of one setup together")
    if choice.calibration is None:
        return [choice] * len(problems)
    out: list[CameraChoice | None] = []
    least = _MOVED * (solution.quality["edge_share"] or 0.0)
    for problem in problems:
        calibration = choice.calibration
        pose, late = calibration.base_from_camera, solution.late
        own = score_pose([problem], calibration.K, pose, late=late, masks=masks)
        same = (own["edge_share"] or 0.0) >= least
        # The pose rests on how the robots of all move.
        own["swept_px"] = choice.quality.get("swept_px")
        out.append(replace(choice, quality=choice.quality | own) if same else None)
    return out

"""Which camera a clip gets: the simulator's, or one solved from the robot; never one untested."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base import base_motion
from reconstruction.motion import Motion, shift_motion
from robo4d.geometry import intrinsics, invert
from robots.models import RobotModel
from schemas.config import CameraConfig
from schemas.episode import Calibration, CameraStream, Episode, Provenance
from schemas.plan import ClipPlan

if TYPE_CHECKING:
    from reconstruction.camera import CameraSolution
    from reconstruction.camera.learned_masks import MaskBackend
    from reconstruction.camera.sections import SectionedSolution

Floats = NDArray[np.floating]
# Focal lengths (fx, fy) as shares of width and height, and how far a unit may lie off, where a
# source ships no intrinsics.
_GUESS: dict[str, tuple[float, float, float]] = {
    # ZED 2's left eye at 16:9: units whose owners published their calibration have 0.407 to 0.416
    # of the width (MuSoHu-data-collection's issue 3: 523.4 of 1280 pixels); the six real sample
    # episodes, solved with 3 % left open, 130 to 136 of 320.
    "droid": (0.415, 0.415 * 16 / 9, 0.01),
    # 623.588 at 640x480, squashed to a square (rail-berkeley/bridge_data_v2).
    "bridge": (623.588 / 640, 623.588 / 480, 0.03),
    # 425 at 640x512 (simpler-env/SimplerEnv).
    "rt1": (425 / 640, 425 / 512, 0.03),
    "libero": (1.207, 1.207, 0.01),  # MuJoCo's 45 degrees upright, in a square picture
}


# Likewise of cameras on the hand.
_WRIST_GUESS: dict[str, tuple[float, float, float]] = {
    # ZED Mini's left eye at 16:9; the six real sample episodes, solved with 2 % left open, have
    # 0.56 to 0.59.
    "droid": (0.57, 0.57 * 16 / 9, 0.02),
    # MuJoCo's 75 degrees upright, in a square picture: 1 / (2 tan 37.5 deg), exact.
    "libero": (0.65161, 0.65161, 0.0),
}

# Steps in a row that a clip may lack while a camera is on its way: a fifth of a second to one.
_GAP = 3


@dataclass(frozen=True)
class CameraChoice:
    """A clip's camera and what is known of it.

    Attributes:
        calibration: what the sample gets; None: no camera that can be trusted.
        verdict: ``exact`` (the simulator's), ``good``, ``usable``, ``reject``, ``unsolved``
            (not tried), or ``shipped`` (the source's own, taken untested as the configuration
            says).
        why: in words.
        quality: measures on steps that the solver did not use.
        late: s by which this camera's images lag behind the sample's states.
        shipped: the source's own or a post-hoc camera, kept beside the solved one.
        shipped_quality: its measures.
        covariance: (6, 6) of turn (rad) and shift (m) in the camera's frame.
        known: (T,) bool: steps at which ``calibration`` holds; None: at all.
        sections: of a camera that was moved on the way, what was found of each place it stood in.
    """

    calibration: Calibration | None
    verdict: str
    why: str = ""
    quality: dict[str, float | None] = field(default_factory=dict)
    late: float = 0.0
    shipped: Calibration | None = None
    shipped_quality: dict[str, float | None] = field(default_factory=dict)
    covariance: Floats | None = None
    known: NDArray[np.bool_] | None = None
    sections: tuple[dict[str, Any], ...] = ()

    def columns(self) -> dict[str, Any]:
        """The manifest's."""
        return {
            "camera_verdict": self.verdict,
            "silhouette_iou": self.quality.get("silhouette_iou"),
            "flow_score": self.quality.get("flow_score"),
        }

    def describe(self) -> dict[str, Any]:
        """For the sample's metadata."""
        out: dict[str, Any] = {"verdict": self.verdict, "why": self.why, "quality": self.quality}
        out["late_s"] = self.late
        if self.covariance is not None:
            out["covariance"] = self.covariance.tolist()
        if self.sections:
            out["sections"] = list(self.sections)
        if self.shipped is not None:
            out["shipped"] = {
                "K": self.shipped.K.tolist(),
                "base_from_camera": self.shipped.base_from_camera.tolist(),
                "provenance": str(self.shipped.provenance),
                "quality": self.shipped_quality,
            }
        return out


def choose_camera(
    episode: Episode,
    stream: CameraStream,
    exact: Calibration | None,
    motion: Motion,
    robot: RobotModel,
    config: CameraConfig,
) -> CameraChoice:
    """The simulator's camera, or a solved one, or none with the reason.

    A camera that the source ships is a start for the solver and is scored beside what it found;
    it is taken as it is only with ``camera.solve=never``.
    """
    if exact is not None:
        return CameraChoice(exact, "exact")
    shipped = stream.calibration
    if shipped is not None and shipped.provenance == Provenance.SIMULATED:
        return CameraChoice(shipped, "exact")
    if config.solve == "never":
        if shipped is None:
            return CameraChoice(None, "unsolved", "camera.solve is never")
        return CameraChoice(shipped, "shipped", "camera.solve is never", shipped=shipped)
    if "wrist" in stream.name:
        return _solve_on_hand(episode, stream, shipped, motion, robot, config)
    return solve_alone(episode, stream, shipped, motion, robot, config)


def solve_alone(
    episode: Episode,
    stream: CameraStream,
    shipped: Calibration | None,
    motion: Motion,
    robot: RobotModel,
    config: CameraConfig,
) -> CameraChoice:
    """A camera from one episode."""
    # Imported here: Warp takes seconds to load, and builds of exact cameras do not need it.
    from reconstruction.camera import CameraProblem, score_pose, solve_camera
    from reconstruction.camera.moved import still_sections
    from reconstruction.camera.sections import part_of, solve_riding, solve_sections

    problem = CameraProblem(
        robot, stream.decode, stream.size(), motion.joints, motion.fingers, episode.time
    )
    K, spread = lens_of(episode.source, stream.size(), shipped, config)
    still = still_sections(problem)
    base = base_motion(episode)
    masks = masks_of(config, robot)
    if base is not None and base.moved:
        spans = base.standing(still.sections)
        riding = solve_riding(problem, spans, K, spread=spread, seed=config.seed, masks=masks)
        return replace(choice_of(riding), shipped=shipped)
    starts: list[Floats] = []
    scores: dict[str, float | None] = {}
    if shipped is not None and shipped.base_from_camera.ndim == 2:
        starts.append(shipped.base_from_camera)
        first, past = max(still.sections, key=lambda span: span[1] - span[0])
        longest = part_of(problem, first, past)
        scores = score_pose([longest], shipped.K, shipped.base_from_camera, masks=masks)
    if still.jumps:
        found = solve_sections(
            problem, still, K, spread=spread, starts=starts, seed=config.seed, masks=masks
        )
        choice = _choice_of_sections(found)
    else:
        solution = solve_camera(
            [problem], K, spread=spread, starts=starts, seed=config.seed, masks=masks
        )
        choice = choice_of(solution)
    return replace(choice, shipped=shipped, shipped_quality=scores)


def known_part(
    clip: ClipPlan, choice: CameraChoice, time: Floats, fewest: int
) -> tuple[ClipPlan, CameraChoice]:
    """The clip of a view whose camera is known at some of its steps only: the longest part of it.

    Steps at which a camera was on its way are left out like any that the images do not show; where
    more than a few in a row are, the clip ends. What is left is spread as evenly as the clip was.

    Args:
        time: (T,) s, of all the episode's steps.
        fewest: frames that a clip must have; with less the choice is a rejected one.
    """
    if choice.known is None or choice.calibration is None or choice.known[clip.steps].all():
        return clip, choice
    span = np.arange(clip.steps[0], clip.steps[-1] + 1)
    kept = span[choice.known[span]]
    parts = np.split(kept, np.flatnonzero(np.diff(kept) > _GAP + 1) + 1)
    longest = max(parts, key=len)
    said = f"{choice.why}; {len(longest)} of the clip's {len(span)} steps have a camera"
    if len(longest) < max(fewest, 2):
        return clip, replace(choice, calibration=None, verdict="reject", why=said)
    count = min(len(clip.steps), len(longest))
    steps = longest[np.linspace(0, len(longest) - 1, count).round().astype(np.int64)]
    fps = (count - 1) / float(time[steps[-1]] - time[steps[0]])
    return replace(clip, steps=steps, fps=fps), replace(choice, why=said)


def _solve_on_hand(
    episode: Episode,
    stream: CameraStream,
    shipped: Calibration | None,
    motion: Motion,
    robot: RobotModel,
    config: CameraConfig,
) -> CameraChoice:
    """A camera that rides on the hand, from one episode: a pose a step.

    A mount that the source ships is scored only.
    """
    if shipped is None and episode.source not in _WRIST_GUESS:
        return CameraChoice(None, "unsolved", f"{episode.source}'s wrist lens is not known")
    # Imported here: see `solve_alone`.
    from reconstruction.camera import CameraProblem, score_mount, solve_wrist

    problem = CameraProblem(
        robot, stream.decode, stream.size(), motion.joints, motion.fingers, episode.time
    )
    if shipped is None:
        across, down, spread = _WRIST_GUESS[episode.source]
        height, width = stream.size()
        K = intrinsics(across * width, down * height, width / 2, height / 2)
    else:
        K, spread = shipped.K, 0.0
    solution = solve_wrist([problem], K, spread=spread, seed=config.seed)
    calibration, scores = None, {}
    if shipped is not None and shipped.base_from_camera.ndim == 3:
        mount = invert(motion.ee[0]) @ shipped.base_from_camera[0]
        scores = score_mount([problem], shipped.K, mount)
    if solution.verdict != "reject":
        assert solution.K is not None
        assert solution.ee_from_camera is not None
        shown = shift_motion(motion, robot, episode.time, solution.late)
        pose = shown.ee @ solution.ee_from_camera
        calibration = Calibration(solution.K, pose, Provenance.ESTIMATED)
    return CameraChoice(
        calibration,
        solution.verdict,
        solution.why,
        solution.quality,
        solution.late,
        shipped,
        scores,
        solution.covariance,
    )


def masks_of(config: CameraConfig, robot: RobotModel) -> MaskBackend | None:
    """The network that the configuration names; None too where ours does not know the robot.

    Raises:
        UsageError: it cannot be opened.
    """
    # Imported here: see `solve_alone`.
    if config.masks.model is not None:
        from reconstruction.camera.sam_masks import open_sam

        return open_sam(config.masks.model)
    if config.masks.backend == "none":
        return None
    from reconstruction.camera.robot_masks import masks_for

    return masks_for(robot.name)


def choice_of(solution: CameraSolution) -> CameraChoice:
    """A solution as a choice; a rejected one has no calibration."""
    calibration = None
    if solution.verdict != "reject":
        assert solution.K is not None
        assert solution.base_from_camera is not None
        calibration = Calibration(solution.K, solution.base_from_camera, Provenance.ESTIMATED)
    return CameraChoice(
        calibration,
        solution.verdict,
        solution.why,
        solution.quality,
        solution.late,
        covariance=solution.covariance,
    )


def _choice_of_sections(found: SectionedSolution) -> CameraChoice:
    """Poses by section under the best one's measures."""
    best = found.best
    calibration = None
    if found.poses is not None:
        assert best.K is not None
        calibration = Calibration(best.K, found.poses, Provenance.ESTIMATED)
    return CameraChoice(
        calibration,
        found.verdict,
        found.why,
        best.quality,
        best.late,
        covariance=best.covariance,
        known=found.known,
        sections=tuple(section.describe() for section in found.sections),
    )


def lens_of(
    source: str, size: tuple[int, int], shipped: Calibration | None, config: CameraConfig
) -> tuple[Floats, float]:
    """K to begin with, and the relative deviation of its focal lengths."""
    if shipped is not None:
        return shipped.K, 0.0
    height, width = size
    across, down, spread = _GUESS[source]
    if config.focal is not None:
        across, down = config.focal, config.focal * width / height
        spread = config.focal_spread
    return intrinsics(across * width, down * height, width / 2, height / 2), spread

"""One camera's sample of an episode: lifted, described, encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.camera import CameraChoice, choose_camera, known_part
from pipeline.describe import put_state, row_facts, sample_meta
from pipeline.lineage import Lineage
from pipeline.recall import Recall
from pipeline.setup import Prepared
from reconstruction.depth import DepthEstimator
from reconstruction.depth.backends import NETWORKS, open_network
from reconstruction.depth.simulator import SimulatorDepth, open_truth
from reconstruction.lift import Lifted, lift_clip
from reconstruction.motion import shift_motion
from robo4d.sample import encode_sample, sample_key
from robo4d.shard import IndexedSample
from robots.models import RobotModel
from robots.rasterizer import RobotRasterizer
from schemas.config import BuildConfig, DepthConfig
from schemas.episode import Episode
from schemas.manifest import ManifestRow
from schemas.plan import ClipPlan, PlannedSource


@dataclass(frozen=True)
class LiftedSample:
    """One sample before it is encoded.

    Attributes:
        fields, meta, fps: what `robo4d.sample.encode_sample` takes.
        row: of the manifest, but for where the sample lies.
    """

    key: str
    fields: dict[str, Any]
    meta: dict[str, Any]
    fps: float
    row: dict[str, Any]


@dataclass
class Renderers:
    """One renderer a robot and image size, for as long as a shard is built."""

    made: dict[tuple[str, int, int], RobotRasterizer] = field(default_factory=dict)

    def __call__(self, robot: RobotModel, height: int, width: int) -> RobotRasterizer:
        key = (robot.name, height, width)
        if key not in self.made:
            # What is published is exact: the meshes themselves.
            self.made[key] = RobotRasterizer(robot, height, width, thinned=False)
        return self.made[key]


def lift_sample(
    ready: Prepared,
    camera: str,
    origin: PlannedSource,
    lineage: Lineage,
    config: BuildConfig,
    renderers: Renderers,
    network: DepthEstimator | None,
    solved: CameraChoice | None,
    recall: Recall,
) -> LiftedSample:
    """Find the camera, render robot and depth, and say where all of it came from.

    Args:
        network: of depth, that another process runs; None: it is opened here where it is wanted.
        solved: the camera, where it was found with those of other episodes.
        recall: what was reconstructed of this view before.

    Raises:
        EpisodeError: the view's frames or its ground truth cannot be read.
    """
    episode, robot, clip, motion = ready.episode, ready.robot, ready.clip, ready.motion
    stream = episode.cameras[camera]
    choice = solved or recall.camera()
    if choice is None:
        exact = None
        if episode.twin and stream.depth is None:  # whatever its depth is taken from
            exact = open_truth(origin.data, episode.id, camera).calibration()
        choice = choose_camera(episode, stream, exact, motion, robot, config.camera)
        recall.keep_camera(choice)
    clip, choice = known_part(clip, choice, episode.time, config.clip.min_frames)
    rgb = stream.decode(clip.steps)
    shown = shift_motion(motion, robot, episode.time, choice.late) if choice.late else motion

    def lift(rendered: RobotRasterizer | None) -> Lifted:
        estimator = None
        # A network's depth becomes metric by the robot, which nobody sees without a camera.
        if choice.calibration is not None or config.depth.backend not in NETWORKS:
            estimator = _estimator(episode, camera, clip, origin, config.depth, network)
        renderer = rendered
        if renderer is None and choice.calibration is not None:
            renderer = renderers(robot, *rgb.shape[1:3])
        return lift_clip(rgb, clip, shown, choice.calibration, estimator, renderer, choice.why)

    lifted = recall.lift(clip, shown, choice, rgb.shape[1:3], lift)
    put_state(lifted, episode, clip, motion, ready.timing)
    fields: dict[str, Any] = {"rgb": rgb, **lifted.fields}
    fields["actions"] = {name: values[clip.steps] for name, values in episode.actions.items()}
    key = sample_key(episode.id, camera, int(clip.steps[0]))
    row = row_facts(episode, camera, clip, motion, ready.timing, choice, lifted, key, rgb.shape)
    meta = sample_meta(
        episode, camera, clip, ready.timing, choice, robot, lifted, row, origin, lineage
    )
    return LiftedSample(key, fields, meta, clip.fps, row)


def _estimator(
    episode: Episode,
    camera: str,
    clip: ClipPlan,
    origin: PlannedSource,
    config: DepthConfig,
    network: DepthEstimator | None,
) -> DepthEstimator | None:
    """Where a view's depth comes from; None: nowhere."""
    if config.backend in NETWORKS:
        return network or open_network(config)
    own = episode.cameras[camera].depth
    if own is not None and config.backend != "none":
        return SimulatorDepth(own, clip.steps)
    if config.backend == "simulator" or (config.backend == "auto" and episode.twin):
        return SimulatorDepth(open_truth(origin.data, episode.id, camera), clip.steps)
    return None


def manifest_row(sample: LiftedSample, place: IndexedSample, shard: str) -> ManifestRow:
    """The row of a sample that lies at ``place``."""
    spans = place.members.values()
    first = min(offset for offset, _, _ in spans)
    end = max(offset + length for offset, length, _ in spans)
    return ManifestRow(shard=shard, offset=first, bytes=end - first, **sample.row)


def encode_samples(samples: Sequence[LiftedSample], crf: int) -> list[dict[str, bytes]]:
    """The members of each, see `robo4d.sample.encode_sample`."""
    return [encode_sample(sample.fields, sample.meta, sample.fps, crf) for sample in samples]

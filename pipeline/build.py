"""Build one shard: read, check, lift and encode its episodes; the unit of work of every engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from converters import open_source
from pipeline.camera import CameraChoice, choose_camera, known_part
from pipeline.describe import put_state, row_facts, sample_meta
from pipeline.lineage import Lineage, lineage_of
from pipeline.publish import explained, publish, publish_bytes
from pipeline.setup import Cameras, Prepared, pools, prepare, solve_pool
from pipeline.sketch import sketch_episode
from pipeline.split import check_side
from reconstruction.depth.simulator import SimulatorDepth, open_truth
from reconstruction.lift import lift_clip
from reconstruction.motion import shift_motion
from robo4d import FormatError
from robo4d.sample import encode_sample, sample_key
from robo4d.shard import INDEX_SUFFIX, IndexedSample, ShardIndex, ShardWriter
from robots.models import RobotModel
from robots.render import RobotRenderer
from schemas.config import BuildConfig
from schemas.episode import Episode
from schemas.manifest import EpisodeSketch, ManifestRow, QuarantineRecord
from schemas.plan import BuildPlan, EpisodeRef, PlannedSource, ShardTask
from schemas.reasons import EpisodeError, Reason, UsageError


@dataclass(frozen=True)
class _Encoded:
    """One sample, ready for the tar."""

    key: str
    members: dict[str, bytes]
    row: dict[str, Any]
    first_frame: NDArray[np.uint8]


@dataclass
class _Renderers:
    """One renderer a robot and image size, for as long as a shard is built."""

    made: dict[tuple[str, int, int], RobotRenderer] = field(default_factory=dict)

    def __call__(self, robot: RobotModel, height: int, width: int) -> RobotRenderer:
        key = (robot.name, height, width)
        if key not in self.made:
            self.made[key] = RobotRenderer(robot, height, width)
        return self.made[key]

    def close(self) -> None:
        for renderer in self.made.values():
            renderer.close()


def finished(out: Path, task: ShardTask) -> ShardIndex | None:
    """The index of a shard that is built already, by the same plan, configuration and code."""
    try:
        index = ShardIndex.from_json((out / f"{task.name}{INDEX_SUFFIX}").read_bytes())
        whole = (out / index.shard).stat().st_size == index.size
    except (FileNotFoundError, FormatError):
        return None
    return index if whole and index.build.get("fingerprint") == task.fingerprint else None


def build_shard(task: ShardTask, plan: BuildPlan, out: Path) -> ShardIndex:
    """Build one shard into ``out``: the tar first, its index last, each renamed when whole.

    A bad episode becomes a quarantine row in the index; everything else that goes wrong is
    raised and leaves nothing under a final name.

    Raises:
        OutputError: ``out`` cannot be written.
        UsageError: the data set or the robot's description is not here.
    """
    origin = plan.source_of(task)
    source = open_source(origin.source, origin.data, plan.config.source)
    lineage = lineage_of(plan, origin)
    renderers = _Renderers()
    rows: list[ManifestRow] = []
    quarantine: list[QuarantineRecord] = []
    sketches: list[EpisodeSketch] = []
    index: ShardIndex | None = None
    shard = f"{task.name}.tar"

    def write(file: IO[bytes]) -> None:
        nonlocal index
        writer = ShardWriter(file)
        seen: set[str] = set()

        def ready() -> Iterator[tuple[EpisodeRef, Prepared]]:
            for ref in task.refs:
                one = None
                with _set_aside(ref, task, origin, quarantine):
                    episode = source.read(ref, task.split, plan.config.source.fps)
                    _refuse_twice(episode, seen)
                    check_side(episode, task, plan.config.split)
                    with _named(episode):
                        one = prepare(episode, plan.config)
                if one is not None:
                    yield ref, one

        for pool in pools(ready(), plan.config.camera):
            members = [one for _, one in pool]
            solved = [{}] if len(pool) == 1 else solve_pool(members, plan.config.camera)
            for (ref, one), cameras in zip(pool, solved, strict=True):
                encoded = None
                with _set_aside(ref, task, origin, quarantine), _named(one.episode):
                    _refuse_twice(one.episode, seen)
                    encoded = _encode(one, origin, lineage, plan.config, renderers, cameras)
                if encoded is None:
                    continue
                samples, sketch = encoded
                seen.add(one.episode.id)
                sketches.append(sketch)
                for sample in samples:
                    place = writer.add(sample.key, sample.members)
                    rows.append(_row(sample, place, shard))
        index = writer.finish(
            shard,
            {
                "fingerprint": task.fingerprint,
                # Notes tell of the whole copy and of what was left out of the build, not of this.
                "source": origin.model_dump(mode="json", exclude={"data", "notes"}),
                "split": task.split,
                "lineage": lineage.model_dump(mode="json"),
                "records": [
                    ref.model_dump(mode="json", exclude_defaults=True) for ref in task.refs
                ],
                "rows": [row.model_dump(mode="json") for row in rows],
                "quarantine": [row.model_dump(mode="json") for row in quarantine],
                "sketches": [row.model_dump(mode="json") for row in sketches],
            },
        )

    try:
        with explained(out):
            publish(out / shard, write)
            assert index is not None
            publish_bytes(out / f"{task.name}{INDEX_SUFFIX}", index.to_json())
    finally:
        renderers.close()
    return index


@contextmanager
def _set_aside(
    ref: EpisodeRef, task: ShardTask, origin: PlannedSource, quarantine: list[QuarantineRecord]
) -> Iterator[None]:
    """A bad episode becomes a row of the quarantine; input that cannot be read ends the build."""
    try:
        yield
    except EpisodeError as error:
        quarantine.append(_record(ref, task, error))
    except OSError as error:
        raise UsageError(f"cannot read {ref.file} of {origin.data}: {error}") from error


@contextmanager
def _named(episode: Episode) -> Iterator[None]:
    """What fails within is this episode's."""
    try:
        yield
    except EpisodeError as error:
        error.episode_id = episode.id
        raise


def _refuse_twice(episode: Episode, seen: set[str]) -> None:
    if episode.id in seen:
        raise EpisodeError(
            Reason.DUPLICATE_EPISODE, "an earlier record has this id", episode_id=episode.id
        )


def _encode(
    ready: Prepared,
    origin: PlannedSource,
    lineage: Lineage,
    config: BuildConfig,
    renderers: _Renderers,
    cameras: Cameras,
) -> tuple[list[_Encoded], EpisodeSketch]:
    """Every camera of an episode; all or none, so that a bad view leaves no half episode."""
    samples = [
        _encode_camera(ready, name, origin, lineage, config, renderers, cameras.get(name))
        for name in ready.episode.cameras
    ]
    first = {sample.row["camera"]: sample.first_frame for sample in samples}
    return samples, sketch_episode(ready.episode, ready.motion.ee, first)


def _encode_camera(
    ready: Prepared,
    camera: str,
    origin: PlannedSource,
    lineage: Lineage,
    config: BuildConfig,
    renderers: _Renderers,
    solved: CameraChoice | None,
) -> _Encoded:
    episode, robot, clip, motion = ready.episode, ready.robot, ready.clip, ready.motion
    stream = episode.cameras[camera]
    exact, truth = None, None
    backend = config.depth.backend
    if stream.depth is not None and backend != "none":
        truth = stream.depth
    elif backend == "simulator" or (backend == "auto" and episode.twin):
        truth = open_truth(origin.data, episode.id, camera)
        exact = truth.calibration()
    choice = solved or choose_camera(episode, stream, exact, motion, robot, config.camera)
    clip, choice = known_part(clip, choice, episode.time, config.clip.min_frames)
    rgb = stream.decode(clip.steps)
    estimator = None if truth is None else SimulatorDepth(truth, clip.steps)
    renderer = renderers(robot, *rgb.shape[1:3]) if choice.calibration is not None else None
    shown = shift_motion(motion, robot, episode.time, choice.late) if choice.late else motion
    lifted = lift_clip(rgb, clip, shown, choice.calibration, estimator, renderer, choice.why)
    put_state(lifted, episode, clip, motion, ready.timing)
    fields: dict[str, Any] = {"rgb": rgb, **lifted.fields}
    fields["actions"] = {name: values[clip.steps] for name, values in episode.actions.items()}
    key = sample_key(episode.id, camera, int(clip.steps[0]))
    row = row_facts(episode, camera, clip, motion, ready.timing, choice, lifted, key, rgb.shape)
    meta = sample_meta(
        episode, camera, clip, ready.timing, choice, robot, lifted, row, origin, lineage
    )
    members = encode_sample(fields, meta, clip.fps, config.shard.rgb_crf)
    return _Encoded(key, members, row, rgb[0].copy())


def _row(sample: _Encoded, place: IndexedSample, shard: str) -> ManifestRow:
    spans = place.members.values()
    first = min(offset for offset, _, _ in spans)
    end = max(offset + length for offset, length, _ in spans)
    return ManifestRow(shard=shard, offset=first, bytes=end - first, **sample.row)


def _record(ref: EpisodeRef, task: ShardTask, error: EpisodeError) -> QuarantineRecord:
    return QuarantineRecord(
        episode_id=error.episode_id or f"{task.source}/{ref.fallback_id}",
        source=task.source,
        shard=task.name,
        file=ref.file,
        record=ref.record,
        stage=error.stage,
        reason=error.reason,
        message=str(error),
    )

"""Build one shard: read, check, lift and encode its episodes; the unit of work of every engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from threadpoolctl import threadpool_limits

from converters import open_source
from converters.source import OpenedSource
from pipeline.lineage import Lineage, lineage_of
from pipeline.merge import AT_ONCE
from pipeline.recall import recall_pool, solve_cameras
from pipeline.retries import again, read_input, said, store_errors
from pipeline.samples import LiftedSample, Renderers, encode_samples, lift_sample, manifest_row
from pipeline.setup import Prepared, pools, prepare
from pipeline.sketch import sketch_episode
from pipeline.split import check_side
from pipeline.stages import Stages, in_order
from pipeline.staging import Staging
from pipeline.store import Store
from reconstruction.depth import DepthEstimator
from robo4d import FormatError
from robo4d.shard import INDEX_SUFFIX, ShardIndex, ShardWriter
from schemas.config import BuildConfig
from schemas.episode import Episode
from schemas.manifest import EpisodeSketch, ManifestRow, QuarantineRecord
from schemas.plan import BuildPlan, EpisodeRef, PlannedSource, ShardTask
from schemas.reasons import EpisodeError, Reason, UsageError

_log = logging.getLogger("robo4d.build")
# Linear algebra adds up in another order on each number of threads, and the last bit of a solved
# camera differs: one thread, wherever a shard is built, so that its bytes do not depend on cores.
# The libraries are loaded by now; what is loaded later is not limited.
_one_thread = threadpool_limits.wrap(limits=1)


def finished(tasks: Sequence[ShardTask], store: Store) -> Iterator[tuple[ShardTask, ShardIndex]]:
    """The shards that are built already, by the same plan, configuration and code, and their
    indexes, of which few are in memory at once.

    Raises:
        OutputError: the store does not answer.
    """
    with store.explained():
        there = store.names()
    tasks = [task for task in tasks if {_tar(task), _index(task)} <= there.keys()]
    for start in range(0, len(tasks), AT_ONCE):
        some = tasks[start : start + AT_ONCE]
        with store.explained():
            contents = _read_all(store, [_index(task) for task in some])
        for task, content in zip(some, contents, strict=True):
            try:
                index = ShardIndex.from_json(content or b"")
            except FormatError:
                continue
            whole = there[_tar(task)] == index.size
            if whole and index.build.get("fingerprint") == task.fingerprint:
                yield task, index


def find_finished(tasks: Sequence[ShardTask], store: Store) -> dict[str, ShardIndex]:
    """`finished`, by name and all at once."""
    return {task.name: index for task, index in finished(tasks, store)}


def _read_all(store: Store, names: Sequence[str]) -> Sequence[bytes | None]:
    try:
        return store.read_all(names)
    except FileNotFoundError:
        pass  # another build of the plan has just removed one, to write it anew
    out: list[bytes | None] = []
    for name in names:
        try:
            out.append(store.read(name))
        except FileNotFoundError:
            out.append(None)
    return out


def _tar(task: ShardTask) -> str:
    return f"{task.name}.tar"


def _index(task: ShardTask) -> str:
    return f"{task.name}{INDEX_SUFFIX}"


@dataclass(frozen=True)
class ShardBuilder:
    """Builds shards of one plan: what an engine gives to each of its workers, once.

    Attributes:
        sources: the plan's inputs.
        code, models: the plan's.
        stages: where an episode is read and encoded.
        network: of depth, that another process runs; None: this one does. It has to be picklable.
    """

    sources: tuple[PlannedSource, ...]
    config: BuildConfig
    code: str
    models: dict[str, str]
    store: Store
    stages: Stages = field(default_factory=Stages, compare=False)
    network: DepthEstimator | None = field(default=None, compare=False)
    _opened: dict[str, OpenedSource] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, plan: BuildPlan, store: Store) -> ShardBuilder:
        """The builder of a plan's shards, without its hundreds of thousands of records."""
        return cls(plan.sources, plan.config, plan.code, plan.models, store)

    def __reduce__(self) -> Any:
        # Neither open files nor pools travel.
        given = (self.sources, self.config, self.code, self.models, self.store)
        return type(self), (*given, Stages(), self.network)

    @_one_thread
    def __call__(self, task: ShardTask) -> ShardIndex:
        """Build one shard: the tar first, its index last, each put there when whole.

        A bad episode becomes a quarantine row in the index; everything else that goes wrong is
        raised and leaves nothing under a final name.

        Raises:
            OutputError: the store cannot be written.
            UsageError: the data set or the robot's description is not here, or the plan was made by
                other code.
        """
        origin = next(source for source in self.sources if source.source == task.source)
        if task.source not in self._opened:
            self._opened[task.source] = read_input(
                lambda: open_source(origin.source, origin.data, self.config.source), origin.data
            )
        lineage = lineage_of(origin, self.config, self.code, self.models)
        opened, staging = self._opened[task.source], Staging.at(self.config.staging.path)
        how = (self.config, self.stages, self.network)
        work = _Shard(task, origin, opened, lineage, *how, staging)
        work.log("shard begun", episodes=len(task.refs))
        index: ShardIndex | None = None

        def write(file: IO[bytes]) -> None:
            nonlocal index
            index = work.write(file)

        self.store.publish(_tar(task), write)
        assert index is not None
        self.store.publish_bytes(_index(task), index.to_json())
        work.log("shard done", samples=len(index.samples), bytes=index.size, sha256=index.sha256)
        return index


@dataclass
class _Shard:
    """One shard while it is built."""

    task: ShardTask
    origin: PlannedSource
    source: OpenedSource
    lineage: Lineage
    config: BuildConfig
    stages: Stages
    network: DepthEstimator | None
    staging: Staging | None
    rows: list[ManifestRow] = field(default_factory=list)
    quarantine: list[QuarantineRecord] = field(default_factory=list)
    sketches: list[EpisodeSketch] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def write(self, file: IO[bytes]) -> ShardIndex:
        """Everything that the shard holds, in the order of its records."""
        writer = ShardWriter(file)
        encoded = in_order(self._lifted(Renderers()), self._encode, self.stages.ahead)
        for samples, future in encoded:
            for sample, members in zip(samples, future.result(), strict=True):
                place = writer.add(sample.key, members)
                self.rows.append(manifest_row(sample, place, _tar(self.task)))
        return writer.finish(
            _tar(self.task),
            {
                "fingerprint": self.task.fingerprint,
                # Notes tell of the whole copy and of what was left out of the build, not of this.
                "source": self.origin.model_dump(mode="json", exclude={"data", "notes"}),
                "split": self.task.split,
                "lineage": self.lineage.model_dump(mode="json"),
                "records": [ref.to_tree() for ref in self.task.refs],
                "rows": [row.model_dump(mode="json") for row in self.rows],
                "quarantine": [row.model_dump(mode="json") for row in self.quarantine],
                "sketches": [row.model_dump(mode="json") for row in self.sketches],
            },
        )

    def log(self, event: str, level: int = logging.INFO, **facts: Any) -> None:
        """A line of the log, with what it is about."""
        _log.log(level, event, extra={"facts": {"shard": self.task.name, **facts}})

    def _encode(self, samples: list[LiftedSample]) -> Future[list[dict[str, bytes]]]:
        return self.stages.encode.submit(encode_samples, samples, self.config.shard.rgb_crf)

    def _ready(self) -> Iterator[tuple[EpisodeRef, Prepared]]:
        def submit(ref: EpisodeRef) -> Future[Prepared]:
            return self.stages.read.submit(_read, self.source, ref, self.task, self.config)

        for ref, future in in_order(self.task.refs, submit, self.stages.ahead):
            one = None
            with self._set_aside(ref):
                read = future.result()
                _refuse_twice(read.episode, self.seen)
                one = read
            if one is not None:
                yield ref, one

    def _lifted(self, renderers: Renderers) -> Iterator[list[LiftedSample]]:
        """The samples of each episode, of every camera: all or none, so that none is half there."""
        camera = self.config.camera
        fixed = (self.origin, self.lineage, self.config, renderers, self.network)
        for pool in pools(self._ready(), camera):
            members = [one for _, one in pool]
            recalls = recall_pool(pool, self.staging, self.source, self.lineage)
            solved = solve_cameras(members, recalls, camera)
            for (ref, one), cameras, views in zip(pool, solved, recalls, strict=True):
                samples = None
                with self._set_aside(ref), _named(one.episode):
                    _refuse_twice(one.episode, self.seen)
                    samples = [
                        # A twin's truth is read on the way, perhaps from an object store.
                        again(
                            partial(lift_sample, one, name, *fixed, cameras.get(name), views[name])
                        )
                        for name in one.episode.cameras
                    ]
                if samples is None:
                    continue
                self.seen.add(one.episode.id)
                staged = {name: sorted(set(recall.found)) for name, recall in views.items()}
                self.log("episode lifted", episode=one.episode.id, staged=staged)
                first = {sample.row["camera"]: sample.fields["rgb"][0] for sample in samples}
                self.sketches.append(sketch_episode(one.episode, one.motion.ee, first))
                yield samples

    @contextmanager
    def _set_aside(self, ref: EpisodeRef) -> Iterator[None]:
        """A bad episode becomes a row of the quarantine; input that cannot be read ends all."""
        try:
            yield
        except EpisodeError as error:
            row = _record(ref, self.task, error)
            self.quarantine.append(row)
            self.log(
                "episode quarantined",
                level=logging.WARNING,
                episode=row.episode_id,
                reason=str(row.reason),
                message=row.message,
            )
        except store_errors() as error:
            where = f"{ref.file} of {self.origin.data}"
            raise UsageError(f"cannot read {where}: {said(error)}") from error


@_one_thread
def _read(source: OpenedSource, ref: EpisodeRef, task: ShardTask, config: BuildConfig) -> Prepared:
    """One episode, read, checked and with its clip planned."""

    def read() -> Episode:
        return source.read(ref, task.split, config.source.fps)

    try:
        episode = again(read)
    except EpisodeError as error:
        # Over a network a damaged record may be a damaged answer.
        if error.reason is not Reason.BAD_CRC or "://" not in source.root:
            raise
        episode = again(read)
    check_side(episode, task, config.split)
    with _named(episode):
        return prepare(episode, config)


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

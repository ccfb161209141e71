"""What a build will take and cost, from rates that were measured and prices that a user gives.

``configs/rates.yaml`` holds what `benchmarks.rates` measured, by source, layout, and twin or not;
``configs/prices.yaml`` holds examples. What has no measured rate is None throughout: unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.schedule import EFFICIENT, efficiency, efficient_size, makespan
from reconstruction.depth.backends import NETWORKS
from schemas.config import BuildConfig
from schemas.plan import BuildPlan, EpisodeRef, PlannedSource, ShardTask
from schemas.reasons import UsageError

_HOUR = 3600.0
# A record known to be lost is not read, but it is a row of the quarantine: a shard of nothing but
# such records must not hold all of them.
_LOST = 0.1
# Sections of the configuration that decide how long a build takes or how large it gets.
_TIMED = ("clip", "depth", "timing", "camera")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Part):
    """What an episode of one source takes. Times are processor seconds of one core.

    Cameras are solved on a clip and a clip is what is written, and its length is bounded: neither
    part grows with the episode. Reading and decoding does.

    Attributes:
        camera_cpu_s: an episode, to find its cameras; not taken with ``camera.solve: never``.
        cpu_s, cpu_s_per_mb: all else, an episode and a megabyte (1e6) of its record.
        clips, output_bytes: an episode.
        gpu_s: an episode; None: no stage was measured on a GPU.
        source_mb: least and greatest record that was measured; beyond, a rate is an extrapolation.
        episodes, quarantined: that were measured, and set aside of these.
        data, machine, date, command: what it was measured on, where, when and how.
        note: what a user should know about it.
    """

    source: str
    layout: str
    twin: bool
    camera_cpu_s: float = Field(ge=0)
    cpu_s: float = Field(ge=0)
    cpu_s_per_mb: float = Field(ge=0)
    clips: float = Field(ge=0)
    output_bytes: float = Field(ge=0)
    gpu_s: float | None = Field(ge=0)
    source_mb: tuple[float, float]
    episodes: int = Field(ge=1)
    quarantined: int = Field(ge=0)
    data: str
    machine: str
    date: str
    command: str
    note: str = ""

    def seconds(self, ref: EpisodeRef, solve: bool) -> float:
        """Processor seconds that a record is expected to take."""
        return self.cpu_s + solve * self.camera_cpu_s + self.cpu_s_per_mb * ref.length / 1e6


class Rates(_Part):
    """The rates file."""

    rates: tuple[Rate, ...]

    def of(self, source: str, layout: str, twin: bool, config: BuildConfig) -> Rate | None:
        """The measured rate; None where nothing like it was measured."""
        networks = config.camera.masks.backend == "sam" or config.depth.backend in NETWORKS
        if networks:
            return None  # never measured
        key = (source, layout, twin)
        found = (one for one in self.rates if (one.source, one.layout, one.twin) == key)
        return next(found, None)


class Prices(_Part):
    """The prices file, in ``currency``. Storage is a month's; the rest is paid once."""

    currency: str
    note: str = ""
    cpu_core_hour: float = Field(ge=0)
    gpu_hour: float = Field(ge=0)
    storage_gb_month: float = Field(ge=0)
    put_per_1000: float = Field(ge=0)
    get_per_1000: float = Field(ge=0)
    egress_per_gb: float = Field(ge=0)


_File = TypeVar("_File", Rates, Prices)


def load_rates(path: str | None) -> Rates:
    """The rates at ``path``, or those measured by us. Raises `UsageError` if they are no rates."""
    return _load(Rates, "rates", path)


def load_prices(path: str | None) -> Prices:
    """The prices at ``path``, or the examples. Raises `UsageError` if they are no prices."""
    return _load(Prices, "prices", path)


def _load(kind: type[_File], name: str, path: str | None) -> _File:
    place = files("configs") / f"{name}.yaml" if path is None else Path(path)
    try:
        return kind.model_validate(yaml.safe_load(place.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"cost.{name}: cannot read {place}: {error}") from error


def weigh(refs: Sequence[EpisodeRef], rate: Rate | None, config: BuildConfig) -> list[float]:
    """Expected work of each record, by what an index knows of it: its bytes.

    Steps and frames are unknown before a record is read, but of one source they go with its bytes.
    Without a measured rate, half of the work is taken to be each episode's and half its bytes';
    that balances shards, and is never shown as seconds.
    """
    solve = config.camera.solve != "never"
    sound = [ref for ref in refs if ref.defect is None]
    if rate is None:
        mean = sum(ref.length for ref in sound) / max(len(sound), 1) or 1.0
        weights = [1 + ref.length / mean for ref in sound]
    else:
        weights = [rate.seconds(ref, solve) for ref in sound]
    lost, each = min(weights, default=1.0) * _LOST, iter(weights)
    return [next(each) if ref.defect is None else lost for ref in refs]


@dataclass(frozen=True)
class SourceCost:
    """What one source's new shards take; None is unknown.

    Attributes:
        kept: shards of an earlier plan that stay; they are counted in nothing else here.
        episodes: records planned; those known to be lost among them take nothing.
        gpu_hours: None too where no stage was measured on a GPU.
        storage_month: price of keeping the output for a month.
        once: price of processor time, requests, and of reading a source that lies at a URL.
        notes: how far the rate can be trusted here.
    """

    source: str
    layout: str
    dataset: str
    twin: bool
    shards: int
    kept: int
    episodes: int
    source_bytes: int
    clips: float | None
    output_bytes: float | None
    cpu_hours: float | None
    gpu_hours: float | None
    storage_month: float | None
    once: float | None
    rate: Rate | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlanCost:
    """`SourceCost` of every source, together; None is unknown.

    Attributes:
        wall_hours: of ``workers`` with a core each.
        efficiency: share of that time in which they have a shard to build, 0 to 1.
        episodes_a_shard: a ``shard.episodes`` by which that is at least `EFFICIENT`; None too where
            it is as planned, or no size gives it.
    """

    sources: tuple[SourceCost, ...]
    workers: int
    wall_hours: float | None
    efficiency: float | None
    episodes_a_shard: int | None
    prices: Prices


def estimate(
    plan: BuildPlan,
    rates: Rates,
    prices: Prices,
    workers: int,
    previous: BuildPlan | None = None,
) -> PlanCost:
    """What the shards of ``plan`` that ``previous`` does not have will take and cost."""
    there = set() if previous is None else {task.fingerprint for task in previous.shards}
    seconds: list[float] | None = []
    runs: dict[tuple[str, str], list[float]] = {}  # s of each record, by source and split
    costs = []
    for origin in plan.sources:
        rate = rates.of(origin.source, origin.layout, origin.twin, plan.config)
        tasks = [task for task in plan.shards if task.source == origin.source]
        new = [task for task in tasks if task.fingerprint not in there]
        costs.append(_source_cost(origin, new, len(tasks) - len(new), rate, prices, plan.config))
        if rate is None and new:
            seconds = None
        elif rate is not None and seconds is not None:
            for task in new:
                each = _seconds(task, rate, plan.config)
                seconds.append(sum(each))
                runs.setdefault((task.source, task.split), []).extend(each)
    if seconds is None:
        return PlanCost(tuple(costs), workers, None, None, None, prices)
    wall, busy = makespan(sorted(seconds, reverse=True), workers), efficiency(seconds, workers)
    better = None
    if busy < EFFICIENT:
        better = efficient_size(list(runs.values()), plan.config.shard.episodes, workers)
    return PlanCost(tuple(costs), workers, wall / _HOUR, busy, better, prices)


def _seconds(task: ShardTask, rate: Rate, config: BuildConfig) -> list[float]:
    solve = config.camera.solve != "never"
    return [rate.seconds(ref, solve) for ref in task.refs if ref.defect is None]


def longest_first(plan: BuildPlan, tasks: Iterable[ShardTask]) -> list[ShardTask]:
    """Shards in the order in which workers should take them, so that no long one is begun last.

    By the mean of a source's episodes, so that shards of a source stay in the plan's order while
    they hold as many. Where a source has no measured rate nothing is known of any order.
    """
    rates = load_rates(plan.config.cost.rates)
    solve = plan.config.camera.solve != "never"
    means: dict[str, float] = {}
    for source in plan.sources:
        rate = rates.of(source.source, source.layout, source.twin, plan.config)
        if rate is None:
            return list(tasks)
        sizes = [
            ref.length
            for task in plan.shards
            if task.source == source.source
            for ref in task.refs
            if ref.defect is None
        ]
        mean = sum(sizes) / max(len(sizes), 1) / 1e6
        means[source.source] = rate.cpu_s + solve * rate.camera_cpu_s + rate.cpu_s_per_mb * mean
    return sorted(tasks, key=lambda task: -means[task.source] * len(task.refs))


def _source_cost(
    origin: PlannedSource,
    tasks: Sequence[ShardTask],
    kept: int,
    rate: Rate | None,
    prices: Prices,
    config: BuildConfig,
) -> SourceCost:
    refs = [ref for task in tasks for ref in task.refs if ref.defect is None]
    source_bytes = sum(ref.length for ref in refs)
    clips = output = cpu = gpu = storage = once = None
    notes: list[str] = []
    if rate is not None:
        clips = rate.clips * len(refs)
        output = rate.output_bytes * len(refs)
        cpu = sum(sum(_seconds(task, rate, config)) for task in tasks) / _HOUR
        gpu = None if rate.gpu_s is None else rate.gpu_s * len(refs) / _HOUR
        storage = output / 1e9 * prices.storage_gb_month
        once = cpu * prices.cpu_core_hour + (gpu or 0.0) * prices.gpu_hour
        once += 2 * len(tasks) / 1000 * prices.put_per_1000  # a tar and its index
        if "://" in origin.data:
            once += len(refs) / 1000 * prices.get_per_1000
            once += source_bytes / 1e9 * prices.egress_per_gb
        notes = _notes(rate, source_bytes / 1e6 / max(len(refs), 1), config)
    return SourceCost(
        source=origin.source,
        layout=origin.layout,
        dataset=origin.dataset,
        twin=origin.twin,
        shards=len(tasks),
        kept=kept,
        episodes=sum(len(task.refs) for task in tasks),
        source_bytes=source_bytes,
        clips=clips,
        output_bytes=output,
        cpu_hours=cpu,
        gpu_hours=gpu,
        storage_month=storage,
        once=once,
        rate=rate,
        notes=tuple(notes),
    )


def _notes(rate: Rate, mean_mb: float, config: BuildConfig) -> list[str]:
    notes = [rate.note] if rate.note else []
    least, greatest = rate.source_mb
    if mean_mb and not least * 0.5 <= mean_mb <= greatest * 2:
        notes.append(
            f"records are {mean_mb:.3g} MB on average; those measured have {least:.3g} to "
            f"{greatest:.3g}: an extrapolation"
        )
    usual = BuildConfig()
    changed = [part for part in _TIMED if getattr(config, part) != getattr(usual, part)]
    changed += ["source.libero"] if config.source.libero != usual.source.libero else []
    changed += ["shard.rgb_crf"] if config.shard.rgb_crf != usual.shard.rgb_crf else []
    if changed:
        notes.append(f"measured with the default configuration; yours has another {changed}")
    return notes

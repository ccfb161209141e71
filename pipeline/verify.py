"""Check a finished build against its plan: hashes, samples decoded, nothing lost or doubled."""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from pydantic import BaseModel

from pipeline.manifest import DUPLICATES, MANIFEST, PLAN, QUARANTINE, STATS, table_rows
from pipeline.merge import StoredIndexes, Tables, merge
from pipeline.stats import Counts, stats_json
from pipeline.store import Store
from robo4d import Robo4dError
from robo4d.reader import Dataset, Sample
from robo4d.sample import MEMBER_OF_FIELD, check_fields, sample_key
from robo4d.shard import INDEX_SUFFIX, ShardIndex
from schemas.plan import BuildPlan
from schemas.reasons import UsageError

_Place = tuple[str, str, int]  # source, file, record


@dataclass
class Verdict:
    """What was checked and what was wrong; ``problems`` is empty for a sound build."""

    shards: int = 0
    samples: int = 0
    episodes_built: int = 0
    episodes_quarantined: int = 0
    episodes_planned: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def read_plan(store: Store) -> BuildPlan:
    """The plan that a build wrote beside its shards.

    Raises:
        UsageError: there is none, or it is damaged.
        OutputError: the store does not answer.
    """
    try:
        return BuildPlan.from_json(store.read(PLAN))
    except OSError as error:
        raise UsageError(f"{store} holds no build: {PLAN} cannot be read ({error})") from error
    except ValueError as error:
        raise UsageError(f"{store.path(PLAN)} is damaged: {error}") from error


def verify(store: Store, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Verify a build: shards against their hashes, samples against the format, counts against
    plan and quarantine, tables against indexes.

    Args:
        progress: called with (shards done, shards in all).

    Raises:
        UsageError: the store holds no build.
        OutputError: the store does not answer.
    """
    plan = read_plan(store)
    verdict = Verdict(episodes_planned=plan.episodes)
    readable: list[str] = []
    sizes = store.names()
    for number, task in enumerate(plan.shards):
        if progress is not None:
            progress(number, len(plan.shards))
        try:
            index = ShardIndex.from_json(store.read(f"{task.name}{INDEX_SUFFIX}"))
            if index.build.get("fingerprint") != task.fingerprint:
                verdict.problems.append(f"{task.name}: built by another plan or other code")
            _verify_shard(store, index, sizes.get(index.shard), verdict)
            readable.append(task.name)
        except OSError as error:
            verdict.problems.append(f"{task.name}: cannot be read: {error}")
        except Robo4dError as error:
            verdict.problems.append(f"{task.name}: {error}")
    tars = {name.removesuffix(".tar") for name in sizes if name.endswith(".tar")}
    extra = tars - {task.name for task in plan.shards}
    verdict.problems += [f"{name}.tar is in no plan" for name in sorted(extra)]
    _verify_counts(store, plan, merge(StoredIndexes(store, readable)), verdict)
    return verdict


def _verify_shard(store: Store, index: ShardIndex, size: int | None, verdict: Verdict) -> None:
    # The index comes along: the reader takes members' checksums from it.
    own = index.shard.removesuffix(".tar") + INDEX_SUFFIX
    with store.fetched(index.shard, own) as folder:
        path = folder / index.shard
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != index.sha256 or size != index.size:
            verdict.problems.append(f"{index.shard}: bytes differ from the index's sha256")
            return
        with tarfile.open(path, "r:") as tar:
            inside = [(info.name, info.offset_data, info.size) for info in tar]
        told = [
            (f"{sample.key}.{name}", offset, length)
            for sample in index.samples
            for name, (offset, length, _) in sample.members.items()
        ]
        if inside != told:
            verdict.problems.append(f"{index.shard}: the index does not list what the tar holds")
        for sample in Dataset(str(path)):
            try:
                _verify_sample(sample)
            except Robo4dError as error:
                verdict.problems.append(f"{index.shard}: {sample.key}: {error}")
            verdict.samples += 1
    verdict.shards += 1
    verdict.bytes += index.size


def _verify_sample(sample: Sample) -> None:
    meta = sample.meta
    fields = {name: getattr(sample, name) for name in MEMBER_OF_FIELD if name in sample}
    frames, height, width = check_fields(fields)
    if (frames, [height, width]) != (meta["frames"], meta["size"]):
        raise Robo4dError(f"{frames} frames of {height}x{width}; meta says otherwise")
    if sample_key(meta["id"], meta["camera"], int(sample.step[0])) != sample.key:
        raise Robo4dError("the key is not that of its id, camera and first step")
    for name, said in meta["fields"].items():
        if (said["provenance"] == "absent") == (name in fields):
            raise Robo4dError(f"{name} is {said['provenance']} in meta; the member says otherwise")


def _verify_counts(store: Store, plan: BuildPlan, tables: Tables, verdict: Verdict) -> None:
    built: set[_Place] = set()
    aside: Counter[_Place] = Counter()
    keys: set[str] = set()
    rows, counts = 0, Counts()
    for shard in tables.shards():
        counts.add(shard)
        built.update((row.source, row.file, row.record) for row in shard.rows)
        aside.update((row.source, row.file, row.record) for row in shard.quarantine)
        keys.update(row.key for row in shard.rows)
        rows += len(shard.rows)
    planned = {(task.source, ref.file, ref.record) for task in plan.shards for ref in task.refs}
    verdict.episodes_built, verdict.episodes_quarantined = len(built), len(aside)
    for what, refs in (
        ("planned but neither built nor quarantined", planned - built - set(aside)),
        ("built or quarantined but not planned", (built | set(aside)) - planned),
        ("both built and quarantined", built & set(aside)),
        ("quarantined twice", {ref for ref, n in aside.items() if n > 1}),
    ):
        verdict.problems += [
            f"{source}: record {n} of {file} is {what}" for source, file, n in sorted(refs)
        ]
    if len(keys) != rows:
        verdict.problems.append("two samples share a key")
    for name, expected in (
        (MANIFEST, tables.rows),
        (QUARANTINE, tables.quarantine),
        (DUPLICATES, tables.duplicates),
    ):
        _verify_table(store, name, expected, verdict)
    try:
        if store.read(STATS) != stats_json(counts.report(plan, tables.duplicates)):
            verdict.problems.append(f"{STATS} differs from the shards' own indexes")
    except OSError as error:
        verdict.problems.append(f"{STATS} cannot be read: {error}")


def _verify_table(store: Store, name: str, expected: Iterable[BaseModel], verdict: Verdict) -> None:
    told = (row.model_dump(mode="json") for row in expected)
    try:
        same = all(one == other for one, other in zip_longest(table_rows(store, name), told))
    except (OSError, ValueError) as error:
        verdict.problems.append(f"{name} cannot be read: {error}")
        return
    if not same:
        verdict.problems.append(f"{name} differs from the shards' own indexes")

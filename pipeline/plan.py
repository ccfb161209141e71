"""Make the plan: which records of which files go into which shard."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from converters import get_source
from converters.rlds import RldsDataset, open_rlds
from converters.tfrecord import index_file
from schemas.config import BuildConfig, QuarantineConfig
from schemas.plan import BuildPlan, EpisodeRef, ShardTask, fingerprint
from schemas.reasons import Reason, UsageError

# Folders whose code decides a shard's bytes, and libraries that do.
_CODE = ("robo4d", "schemas", "robots", "converters", "reconstruction", "pipeline")
_LIBRARIES = (
    "av",
    "mujoco",
    "mujoco-menagerie",
    "numcodecs",
    "numpy",
    "robosuite",
    "opencv-python-headless",
    "safetensors",
    "scipy",
    "simplejpeg",
)


@lru_cache(maxsize=1)
def code_version() -> str:
    """sha256 over the sources and library versions that decide a shard's bytes."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for folder in _CODE:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    for library in _LIBRARIES:
        try:
            found = version(library)
        except PackageNotFoundError:
            found = "none"
        digest.update(f"{library}=={found}".encode())
    return digest.hexdigest()


def make_plan(source: str, data: str, config: BuildConfig, cache: Path | None = None) -> BuildPlan:
    """Plan a build of the data set at ``data`` (a folder or fsspec URL).

    Raises:
        UsageError: unknown source, or no such data set there.
    """
    layout = get_source(source)
    dataset = open_rlds(data, layout.required)
    if config.source.splits:
        known = {split for split, _, _ in dataset.files}
        unknown = [s for s in config.source.splits if s not in known]
        if unknown:
            raise UsageError(f"source.splits asks for {unknown}; the data set has {sorted(known)}")
    by_split: dict[str, list[EpisodeRef]] = {}
    notes = list(dataset.notes)
    left = config.source.max_episodes
    for split, file, promised in dataset.files:
        if config.source.splits and split not in config.source.splits:
            continue
        refs = _file_refs(dataset, file, promised, cache)
        if left is not None:
            if len(refs) > left:
                notes.append(f"source.max_episodes leaves out {len(refs) - left} of {file}")
            refs = refs[:left]
            left -= len(refs)
        by_split.setdefault(split, []).extend(refs)
    code = code_version()
    # How much bad data is tolerated changes no byte of a shard.
    bytes_config = config.model_copy(update={"quarantine": QuarantineConfig()})
    shards = []
    # The description states the rate, and of a twin its seed.
    identity = f"{source}/{dataset.name}/{dataset.version}/{dataset.description}"
    if dataset.stated_rate() and config.source.fps is None:
        notes.append(f"step rate {dataset.stated_rate():g} Hz, as the data set's description says")
    for split, refs in sorted(by_split.items()):
        size = config.shard.episodes
        for number, start in enumerate(range(0, len(refs), size)):
            part = tuple(refs[start : start + size])
            name = f"robo4d-{source}-{split}-{number:05d}"
            mark = fingerprint(identity, code, bytes_config, name, split, *part)
            shards.append(ShardTask(name=name, split=split, refs=part, fingerprint=mark))
    if not shards:
        raise UsageError(f"{data} holds no record to build from")
    return BuildPlan(
        source=source,
        layout=layout.layout,
        data=dataset.root,
        dataset=f"{dataset.name}/{dataset.version}",
        twin=dataset.twin,
        config=config,
        code=code,
        shards=tuple(shards),
        notes=tuple(notes),
    )


def _file_refs(
    dataset: RldsDataset, file: str, promised: int | None, cache: Path | None
) -> list[EpisodeRef]:
    """The file's records; what the framing or the promised count shows to be lost is a ref too."""
    index = index_file(dataset.url(file), cache)
    refs = [
        EpisodeRef(file=file, record=n, offset=span.offset, length=span.length, crc=span.crc)
        for n, span in enumerate(index.records)
    ]
    defect, message = index.defect, index.message
    lost = max((promised or 0) - len(refs), 0)
    if defect is None and lost:
        defect = Reason.MISSING_RECORDS
        message = f"dataset_info.json promises {promised} records; the file holds {len(refs)}"
    if not refs and defect in (None, Reason.MISSING_RECORDS) and promised != 0:
        defect, message = Reason.EMPTY_FILE, "the file holds no record"
    if defect is not None:
        refs += [
            EpisodeRef(file=file, record=len(refs) + n, defect=defect, message=message)
            for n in range(max(lost, 1))
        ]
    return refs

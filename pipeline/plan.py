"""Make the plan: which records of which files go into which shard."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from converters import open_source
from schemas.config import BuildConfig, QuarantineConfig
from schemas.plan import BuildPlan, ShardTask, fingerprint
from schemas.reasons import UsageError

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
    opened = open_source(source, data)
    by_split = opened.refs(cache)
    notes = list(opened.notes)
    if config.source.splits:
        unknown = sorted(set(config.source.splits) - set(by_split))
        if unknown:
            raise UsageError(f"source.splits asks for {unknown}; the data has {sorted(by_split)}")
        by_split = {split: by_split[split] for split in config.source.splits}
    left = config.source.max_episodes
    for split, refs in by_split.items():
        if left is not None and len(refs) > left:
            notes.append(f"source.max_episodes leaves out {len(refs) - left} of split {split!r}")
        by_split[split] = refs[:left]
        left = None if left is None else left - len(by_split[split])
    code = code_version()
    # How much bad data is tolerated changes no byte of a shard.
    bytes_config = config.model_copy(update={"quarantine": QuarantineConfig()})
    shards = []
    # The description states the rate, and of a twin its seed.
    identity = f"{source}/{opened.layout}/{opened.name}/{opened.description}"
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
        layout=opened.layout,
        data=opened.root,
        dataset=opened.name,
        twin=opened.twin,
        config=config,
        code=code,
        shards=tuple(shards),
        notes=tuple(notes),
    )

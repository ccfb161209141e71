"""What decides a shard's bytes beside its records: configuration, code, packages, models.

Nothing here depends on who builds, where or when: the same inputs have the same lineage anywhere.
Every hash is sha256 over canonical json (`robo4d.sample.to_json`), but for ``code`` and the
identity of a model, which are over files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from reconstruction.depth.backends import NETWORKS, network_identity
from robo4d import __version__
from robo4d.sample import to_json
from schemas.config import (
    BuildConfig,
    CostConfig,
    DepthConfig,
    MasksConfig,
    QuarantineConfig,
    RunConfig,
    ShardConfig,
    SplitConfig,
    StagingConfig,
)
from schemas.plan import PlannedSource
from schemas.reasons import UsageError

# Folders whose code decides a shard's bytes, and libraries that do.
CODE_FOLDERS = ("robo4d", "schemas", "robots", "converters", "reconstruction", "pipeline")
_LIBRARIES = (
    "av",
    "fast-simplification",
    "h5py",
    "mujoco",
    "mujoco-menagerie",
    "numcodecs",
    "numpy",
    "robosuite",
    "opencv-python-headless",
    "safetensors",
    "scipy",
    "simplejpeg",
    "warp-lang",
)
MASKS, DEPTH = "camera.masks", "depth"


class Lineage(BaseModel):
    """The part of a shard's lineage that all its samples share; whole in the shard's index.

    Attributes:
        code: see `source_hash`.
        version: of `robo4d`.
        packages: see `package_versions`.
        models: stage -> identity of the network that it ran.
        joined: sha256 of the files joined to every record; empty without any.
        config: see `bytes_config`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    version: str
    packages: dict[str, str]
    models: dict[str, str]
    joined: str
    config: BuildConfig

    def of_record(self, sha256: str) -> dict[str, Any]:
        """``meta["lineage"]`` of a sample: some 400 bytes, hashes in the place of what is whole in
        the index.

        Args:
            sha256: of the record that the sample was made from.
        """
        return {
            "record": sha256,
            "config": tree_hash(self.config.model_dump(mode="json")),
            "code": self.code,
            "version": self.version,
            "packages": tree_hash(self.packages),
            "models": self.models,
            **({"joined": self.joined} if self.joined else {}),
        }


def lineage_of(
    source: PlannedSource, config: BuildConfig, code: str, models: dict[str, str]
) -> Lineage:
    """The lineage of what this process builds of one source of a plan.

    Args:
        config, code, models: the plan's.

    Raises:
        UsageError: the plan was made by other code, libraries or networks than this process has.
    """
    if code_version() != code:
        raise UsageError(
            f"the plan was made by code {code[:12]}, this worker has {code_version()[:12]}: "
            "install the same robo4d and the same packages wherever shards are built"
        )
    if (here := _networks_here(config.camera.masks, config.depth)) != models:
        raise UsageError(
            f"the plan names the networks {models}, this worker has {here}: the same checkpoints, "
            "torch and kind of device are needed wherever shards are built"
        )
    return Lineage(
        code=source_hash(),
        version=__version__,
        packages=package_versions(),
        models=models,
        joined=source.joined,
        config=bytes_config(config, models),
    )


def tree_hash(tree: Mapping[str, Any]) -> str:
    """sha256 over canonical json."""
    return hashlib.sha256(to_json(tree)).hexdigest()


def bytes_config(config: BuildConfig, models: Mapping[str, str]) -> BuildConfig:
    """The part of a configuration that decides the bytes made from given records; the rest is as
    by default.

    What chooses a shard's records is not in it (``source.splits``, ``max_episodes``, ``mix``,
    ``seed``, ``shard.episodes``): the shard names them. Places of files become what lies there, or
    nothing where a shard's lineage has that beside (``joined``) or its records' marks do.

    Args:
        models: stage -> identity, see `model_identities`.
    """
    chosen_by = {"splits": None, "max_episodes": None, "mix": None, "seed": 0}
    source = config.source.model_copy(
        update={
            **chosen_by,
            "droid": config.source.droid.model_copy(update={"annotations": None}),
            "libero": config.source.libero.model_copy(update={"assets": None}),
        }
    )
    masks = config.camera.masks
    if masks.model is not None:
        masks = masks.model_copy(update={"model": models[MASKS]})
    # A place says nothing of what lies there.
    depth = config.depth.model_copy(update={"model": models.get(DEPTH)})
    if depth.backend not in NETWORKS:  # nothing is batched
        depth = DepthConfig(backend=depth.backend)
    # Episodes whose group shows only when they are read are set aside by what ``split`` says.
    split = SplitConfig() if config.split.by == "source" else config.split
    return config.model_copy(
        update={
            "source": source,
            "split": split,
            "depth": depth,
            "camera": config.camera.model_copy(update={"masks": masks}),
            "shard": config.shard.model_copy(update={"episodes": ShardConfig().episodes}),
            "quarantine": QuarantineConfig(),
            "cost": CostConfig(),
            "staging": StagingConfig(),
            "run": RunConfig(),
        }
    )


def model_identities(config: BuildConfig) -> dict[str, str]:
    """Stage -> identity of the network that it runs.

    Raises:
        UsageError: a checkpoint, or what runs it, is not here.
    """
    return _networks(config.camera.masks, config.depth)


def _networks(masks: MasksConfig, depth: DepthConfig) -> dict[str, str]:
    found = {MASKS: _masks(masks), DEPTH: network_identity(depth)}
    return {stage: identity for stage, identity in found.items() if identity}


# A worker keeps what it loaded; to hash it for every shard would take longer than some shards.
_networks_here = lru_cache(maxsize=4)(_networks)


def _masks(config: MasksConfig) -> str:
    if config.model is None:
        return ""
    # Imported here: the package loads Warp, which takes seconds.
    from reconstruction.camera.sam_masks import identity

    return identity(config.model)


def code_version() -> str:
    """sha256 over the sources and library versions that decide a shard's bytes."""
    return tree_hash({"code": source_hash(), "packages": package_versions()})


@lru_cache(maxsize=1)
def source_hash() -> str:
    """sha256 over the path, a zero byte and the content of each source file, in order of paths, and
    of weights beside one of its name.
    """
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for folder in CODE_FOLDERS:
        for source in sorted((root / folder).rglob("*.py")):
            for path in with_weights(source):
                name = path.relative_to(root).as_posix()
                digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def with_weights(source: Path) -> list[Path]:
    """A source file, and the weights that it runs, where they lie beside it by its name."""
    weights = (source.with_suffix(kind) for kind in (".onnx", ".safetensors"))
    return [source, *(path for path in weights if path.is_file())]


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """The installed version of each library that decides a shard's bytes; ``none`` of those that
    are not there.
    """
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "none"
    return found

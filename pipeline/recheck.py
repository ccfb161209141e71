"""Whether a chain of `pipeline.explain` still holds: the record at its source, the shard."""

from __future__ import annotations

import hashlib
import json

import fsspec

from converters import open_source
from pipeline.explain import BuiltData, Tree
from pipeline.manifest import PLAN
from robo4d import FormatError
from schemas.config import SourceConfig
from schemas.plan import EpisodeRef
from schemas.reasons import EpisodeError, UsageError


def recheck(data: BuiltData, chain: Tree, source_data: str | None) -> list[Tree]:
    """Read the record again and hash the shard again.

    Args:
        chain: one of the records of `pipeline.explain.explain`.
        source_data: folder or URL of the published data; None takes what plan.json says.

    Returns {what, holds, said} each; ``holds`` is None where no hash was kept to compare with.

    Raises:
        UsageError: the data set is not there, or nobody says where it is.
    """
    found = [_record(data, chain, source_data), _shard(data, chain)]
    return found + [_sample(data, chain, sample) for sample in chain["samples"]]


def _record(data: BuiltData, chain: Tree, source_data: str | None) -> Tree:
    published, told = chain["published"], chain["record"]
    try:
        plan = json.loads(data.read(PLAN) or b"{}")
        # What lies beside the data (annotations, assets) is named in the plan alone.
        config = plan["config"] if plan else chain["lineage"]["config"]
        settings = SourceConfig.model_validate(config["source"])
        ref = EpisodeRef.from_tree({k: v for k, v in told.items() if k != "sha256"})
    except ValueError as error:
        raise UsageError(
            f"{data.folder}/{PLAN} or the index is damaged, or of another robo4d: {error}"
        ) from error
    planned = {one["source"]: one["data"] for one in plan.get("sources", [])}
    where = source_data or planned.get(published["source"])
    if where is None:
        raise UsageError(f"{data.folder}/{PLAN} is not there; say with --data where the data lies")
    what = f"record {told['record']} of {told['file']}"
    source = open_source(published["source"], where, settings)
    aside = chain["set_aside"]
    try:
        episode = source.read(ref, chain["shard"]["split"], settings.fps)
    except EpisodeError as error:
        again = aside is not None and str(error.reason) == aside["reason"]
        return _found(what, again, f"{error.reason}: {error}")
    except OSError as error:
        return _found(what, False, f"cannot be read: {error}")
    if source.joined != chain["lineage"]["joined"]:
        return _found(what, False, "the files joined to it are others, or not given")
    return _same(what, episode.origin.sha256, told["sha256"])


def _shard(data: BuiltData, chain: Tree) -> Tree:
    name, digest = chain["shard"]["name"], hashlib.sha256()
    try:
        with fsspec.open(f"{data.folder}/{name}", "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        return _found(name, False, f"cannot be read: {error}")
    return _same(name, digest.hexdigest(), chain["shard"]["sha256"])


def _sample(data: BuiltData, chain: Tree, sample: Tree) -> Tree:
    """Its members against the index's checksums, its own lineage against the shard's."""
    what, lineage = f"sample {sample['key']}", chain["lineage"]
    stored = data.shard(sample["stored"]["shard"].removesuffix(".tar"))[sample["key"]]
    try:
        for member in stored.members:
            stored.read_bytes(member)
    except (OSError, FormatError) as error:
        return _found(what, False, str(error))
    told = sample["lineage"]
    wanted = {
        "record": chain["record"]["sha256"],
        "config": lineage["config_sha256"],
        "packages": lineage["packages_sha256"],
        **{name: lineage[name] for name in ("code", "version", "models")},
    }
    other = sorted(name for name, value in wanted.items() if told.get(name) != value)
    if other:
        return _found(what, False, f"its lineage says otherwise than the shard's: {other}")
    return _found(what, True, "")


def _same(what: str, now: str, then: str | None) -> Tree:
    if then is None:
        return _found(what, None, f"sha256 {now}; none was kept of a record set aside")
    return _found(what, now == then, "" if now == then else f"sha256 {now} now")


def _found(what: str, holds: bool | None, said: str) -> Tree:
    return {"what": what, "holds": holds, "said": said}

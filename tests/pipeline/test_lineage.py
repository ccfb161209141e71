"""What a shard says of the configuration, code, packages and models that decide its bytes."""

import hashlib
import json
import typing
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from records import droid_values, example_bytes, write_droid

from pipeline.lineage import (
    DEPTH,
    MASKS,
    Lineage,
    bytes_config,
    lineage_of,
    model_identities,
    package_versions,
    source_hash,
    tree_hash,
)
from pipeline.plan import make_plan
from reconstruction import checkpoint
from reconstruction.depth.simulator import open_truth
from robo4d import __version__
from schemas.config import BuildConfig, load_config, override
from schemas.reasons import EpisodeError, UsageError
from schemas.video import VideoFrames

# Keys that decide no byte made from given records, with a value that is not the default.
FREE = {
    "source.splits": ("train",),
    "source.max_episodes": 3,
    "source.mix": {"droid": 1.0},
    "source.seed": 5,
    "source.droid.annotations": "/somewhere",
    "source.libero.assets": "/somewhere/else",
    "split.shares": {"a": 0.5, "b": 0.5},
    "split.seed": 5,
    "shard.episodes": 3,
    "depth.model": "/somewhere",  # without a network
    "depth.batch": 3,
    "depth.compiled": True,
    "cost.rates": "/somewhere",
    "cost.prices": "/somewhere",
}
# Decisive keys whose other value follows from no default.
OTHER = {
    "source.fps": 7.0,
    "camera.focal": 0.7,
    "camera.masks.backend": "sam",
    "camera.masks.model": "elsewhere",
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, typing.Any, object]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind, info.default


def another(kind: typing.Any, default: object) -> object:
    if typing.get_origin(kind) is typing.Literal:
        return next(value for value in typing.get_args(kind) if value != default)
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, (int, float)) else "other"


def changed(tree: BaseModel, key: str, value: object) -> typing.Any:
    name, _, rest = key.partition(".")
    new = changed(getattr(tree, name), rest, value) if rest else value
    return tree.model_copy(update={name: new})


def config_hash(config: BuildConfig) -> str:
    models = {MASKS: str(config.camera.masks.model), DEPTH: str(config.depth.model)}
    return tree_hash(bytes_config(config, models).model_dump(mode="json"))


KEYS = list(leaves(BuildConfig))


@pytest.mark.parametrize(("key", "kind", "default"), KEYS, ids=[key for key, _, _ in KEYS])
def test_every_key_decides_but_those_that_choose_records_or_name_places(key, kind, default):
    value = FREE.get(key, OTHER.get(key)) if key in FREE | OTHER else another(kind, default)
    config = changed(BuildConfig(), key, value)
    assert config != BuildConfig()
    free = key in FREE or key.startswith(("run.", "quarantine.", "staging."))
    assert (config_hash(config) == config_hash(BuildConfig())) == free


def test_how_a_network_is_run_decides_where_one_is():
    network = load_config(None, ["depth.backend=pointmap"])
    for key in ("depth.batch=3", "depth.compiled=true", "depth.model=elsewhere"):
        assert config_hash(override(network, [key])) != config_hash(network)


def test_what_sets_episodes_aside_when_they_are_read_decides():
    by_lab = load_config(None, ["split.by=lab"])
    assert config_hash(by_lab) != config_hash(load_config(None, ["split.by=lab", "split.seed=1"]))


def test_a_checkpoint_is_known_by_its_content_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_versions", lambda: "torch==2 transformers==5")
    monkeypatch.setattr(checkpoint, "device", lambda: "cpu")

    def config(place: str, weights: bytes) -> BuildConfig:
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(weights)
        settings = [f"camera.masks={{backend: sam, model: {folder}}}"]
        found = load_config(None, settings)
        return bytes_config(found, model_identities(found))

    here = config("here", b"one")
    assert config("there", b"one") == here
    assert config("there", b"two") != here
    assert str(tmp_path) not in here.model_dump_json()


def canonical(tree: object) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_samples_hashes_are_those_of_what_its_shards_index_has_whole():
    whole = Lineage(
        code="c" * 64,
        version=__version__,
        packages=package_versions(),
        models={MASKS: "5" * 64},
        joined="a" * 64,
        config=bytes_config(load_config(None, ["clip.frames=9"]), {}),
    )
    index = json.loads(whole.model_dump_json())
    sample = whole.of_record("7" * 64)
    assert sample["record"] == "7" * 64
    assert sample["config"] == canonical(index["config"])
    assert sample["packages"] == canonical(index["packages"])
    assert (sample["code"], sample["joined"]) == (index["code"], index["joined"])
    assert len(json.dumps(sample)) < 600
    assert index["packages"]["numpy"] == version("numpy")


def test_a_worker_with_other_code_than_the_plans_builds_nothing(tmp_path):
    write_droid(tmp_path / "data", [example_bytes(droid_values(8))])
    plan = make_plan({"droid": str(tmp_path / "data")}, BuildConfig())
    source = plan.sources[0]
    assert lineage_of(source, plan.config, plan.code, {}).code == source_hash()
    with pytest.raises(UsageError, match="install the same robo4d"):
        lineage_of(source, plan.config, "0" * 64, {})


def no_truth(folder: Path) -> None:
    open_truth(str(folder), "droid/x", "wrist")


def no_video(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"junk")
    VideoFrames(str(folder / "a.mp4"), np.arange(3)).decode([0])


@pytest.mark.parametrize("fail", [no_truth, no_video])
def test_what_is_said_of_a_bad_episode_names_no_folder(fail, tmp_path):
    with pytest.raises(EpisodeError) as caught:
        fail(tmp_path)
    assert str(tmp_path) not in str(caught.value)

"""Configuration: one tree, YAML then overrides, unknown keys are errors."""

from pathlib import Path

import pytest

from schemas.config import BuildConfig, load_config
from schemas.reasons import UsageError, did_you_mean

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OTHERS = ("rates", "prices", "depth_training", "depth_training_more")  # that are no BuildConfig


def test_overrides_win_over_yaml_and_yaml_over_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("clip: {frames: 25}\nshard: {episodes: 8}\n")
    config = load_config(path, ["clip.frames=7"])
    assert (config.clip.frames, config.shard.episodes, config.clip.min_frames) == (7, 8, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clip.frame=7", "unknown key 'clip.frame'; did you mean 'clip.frames'"),
        ("clip.frames=-1", "clip.frames is -1"),
        ("clip.frames", "has no '='"),
        ("clip.frames.x=1", "clip.frames"),
        ("depth.backend=magic", "depth.backend is 'magic'"),
    ],
)
def test_a_bad_override_names_the_key_and_the_value(override, message):
    with pytest.raises(UsageError, match=message):
        load_config(None, [override])


def test_a_bad_file_is_explained(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        load_config(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UsageError, match="expected a mapping"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system [true]")
    with pytest.raises(UsageError, match="cannot read"):
        load_config(tmp_path / "code.yaml")


@pytest.mark.parametrize(
    "path",
    sorted(p for p in CONFIGS.glob("*.yaml") if p.stem not in OTHERS),
    ids=lambda p: p.name,
)
def test_shipped_configurations_load(path):
    assert isinstance(load_config(path), BuildConfig)


def test_the_shipped_default_is_the_default():
    assert load_config(CONFIGS / "default.yaml") == BuildConfig()


def test_a_near_name_is_suggested():
    assert "did you mean 'bridge'" in did_you_mean("source", "brigde", ["droid", "bridge"])
    assert "there are: bridge, droid" in did_you_mean("source", "xyz", ["droid", "bridge"])


def test_masks_want_a_backend_and_a_model_together():
    given = load_config(None, ["camera.masks={backend: sam, model: hub:facebook/sam-vit-base}"])
    assert given.camera.masks.model == "hub:facebook/sam-vit-base"
    for alone in ("camera.masks.backend=sam", "camera.masks.model=hub:facebook/sam-vit-base"):
        with pytest.raises(UsageError, match="set both, or neither"):
            load_config(None, [alone])

"""Every published field is in the `Episode` or named as dropped; nothing is lost silently."""

from __future__ import annotations

import json
from collections import UserDict
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from google.protobuf.json_format import MessageToJson

from converters import bridge, droid, libero_rlds, rt1
from converters.fields import LAYOUTS, page
from converters.rlds import Record, RldsDataset, _parse_features, open_rlds
from schemas.episode import Episode

RLDS = {at.source: at for at in LAYOUTS if at.name == "RLDS"}
CONVERT = {
    "droid": droid.convert,
    "bridge": bridge.convert,
    "rt1": rt1.convert,
    "libero": libero_rlds.convert,
}


class _Touched(UserDict):
    """Remembers which features were asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)


def _published(source: str):
    """The features as tensorflow-datasets writes them for the twin's layout."""
    from simulation import bridge as bridge_twin
    from simulation import droid as droid_twin
    from simulation import libero_rlds as libero_twin
    from simulation import rt1 as rt1_twin

    twins = {
        "droid": droid_twin,
        "bridge": bridge_twin,
        "rt1": rt1_twin,
        "libero": libero_twin,
    }
    tree = json.loads(MessageToJson(twins[source].tfds_features().to_proto()))
    return _parse_features(tree)


def _record(features, steps: int = 4) -> Record:
    """Values of the right kind, of no meaning but where a converter asks for one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (32, 48, 3), np.uint8)
    jpeg = simplejpeg.encode_jpeg(noise)
    values = {}
    for path, feature in features.items():
        if feature.dtype == "bytes":
            one = jpeg if feature.kind == "image" else b"text"
            values[path] = [one] * steps if feature.sequence else one
        else:
            shape = (steps, *feature.shape) if feature.sequence else feature.shape
            values[path] = np.zeros(shape, feature.dtype)
    path = "/x/r2d2-data-full/LAB/success/2023-01-01/a/trajectory.h5"
    values["episode_metadata/file_path"] = path.encode()
    values["aspects/has_aspects"] = np.array(True)
    pose = "steps/observation/base_pose_tool_reached"
    if pose in values:
        values[pose][:, 6] = 1.0  # the quaternion's w
    return Record(values, steps, "train", "file", 0, "0" * 64)


def _dataset(features) -> RldsDataset:
    return RldsDataset("", "name", "1.0.0", "", "", "", features, (), ())


@pytest.mark.parametrize("source", sorted(RLDS))
def test_every_published_rlds_field_is_kept_or_dropped_with_why(source):
    layout = RLDS[source]
    assert not set(layout.kept) & set(layout.dropped)
    assert set(_published(source)) == set(layout.kept) | set(layout.dropped)


@pytest.mark.parametrize("source", ["droid", "bridge"])
def test_the_real_samples_have_no_field_besides(source, request):
    data = request.getfixturevalue(f"{source}_data")
    layout = RLDS[source]
    assert set(open_rlds(str(data), ()).features) == set(layout.kept) | set(layout.dropped)


@pytest.mark.parametrize("source", sorted(RLDS))
def test_converters_touch_what_is_said_to_be_kept_and_nothing_else(source):
    features = _published(source)
    record = _record(features)
    touched = _Touched(record.values)
    episode = CONVERT[source](replace(record, values=touched), _dataset(features), None)
    assert isinstance(episode, Episode)
    assert touched.names == set(RLDS[source].kept)


def test_every_layout_names_its_proof_and_its_module(request):
    root = request.config.rootpath
    for layout in LAYOUTS:
        assert (root / layout.module).is_file()
        assert layout.proof
        assert all(layout.kept.values())
        assert all(layout.dropped.values())


def test_the_page_is_up_to_date(request):
    written = (request.config.rootpath / "docs" / "sources.md").read_text()
    assert written == page(), "run `python -m converters.fields > docs/sources.md`"

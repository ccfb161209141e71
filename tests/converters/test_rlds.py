"""Records decoded by features.json; what does not fit has its reason."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import droid_values, example_bytes, write_droid

from converters import bridge, droid
from converters.rlds import decode_record, open_rlds
from schemas.reasons import EpisodeError, Reason, UsageError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("rlds")
    write_droid(root, [example_bytes(droid_values())])
    return open_rlds(str(root), droid.REQUIRED)


def convert(payload, dataset):
    record = decode_record(payload, dataset.features, "train", "file", 0)
    return droid.convert(record, dataset, None)


def reason_of(values, dataset) -> Reason:
    with pytest.raises(EpisodeError) as caught:
        convert(example_bytes(values), dataset)
    return caught.value.reason


def test_a_sound_record_becomes_an_episode(dataset):
    values = droid_values(steps=9)
    episode = convert(example_bytes(values), dataset)
    assert len(episode) == 9
    assert (episode.id, episode.outcome) == ("droid/TEST/success/2026-01-01/Mon_0", "success")
    assert episode.instructions == ("sweep",)
    assert episode.fps == 15
    np.testing.assert_allclose(episode.robot.joints, values["steps/observation/joint_position"])
    closed = values["steps/observation/gripper_position"][:, 0]
    np.testing.assert_allclose(episode.robot.gripper, 1 - closed, atol=1e-6)
    assert episode.cameras["wrist_image_left"].decode([0, 8]).shape == (2, 36, 64, 3)


def test_each_defect_has_its_own_reason(dataset):
    joint = "steps/observation/joint_position"

    def changed(**changes):
        return {**droid_values(), **{k: v for k, v in changes.items()}}

    missing = droid_values()
    del missing[joint]
    assert reason_of(missing, dataset) == Reason.MISSING_FEATURE
    assert reason_of({**droid_values(), joint: np.arange(84)}, dataset) == Reason.WRONG_DTYPE
    assert reason_of({**droid_values(), joint: np.zeros(83)}, dataset) == Reason.WRONG_SHAPE
    assert reason_of({**droid_values(), joint: np.zeros((5, 7))}, dataset) == Reason.WRONG_SHAPE
    nan = droid_values()
    nan[joint] = nan[joint].copy()
    nan[joint][3, 2] = np.nan
    assert reason_of(nan, dataset) == Reason.NON_FINITE
    assert reason_of(droid_values(steps=0), dataset) == Reason.EMPTY_EPISODE
    assert (
        reason_of({**droid_values(), "episode_metadata/file_path": "/x/y.h5"}, dataset)
        == Reason.BAD_IDENTITY
    )
    with pytest.raises(EpisodeError) as caught:
        convert(b"\xff\xff\xff", dataset)
    assert caught.value.reason == Reason.UNDECODABLE_RECORD


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_mutated_records_are_read_or_refused_never_a_crash(dataset, data):
    payload = bytearray(example_bytes(droid_values(steps=3)))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        episode = convert(bytes(payload), dataset)
        for camera in episode.cameras.values():
            camera.decode(range(len(episode)))
    except (EpisodeError, ValueError):  # ShapeError is a ValueError; a build files it as one
        pass


def test_a_folder_that_is_no_data_set_says_what_was_looked_for(tmp_path):
    with pytest.raises(UsageError, match="holds no data set; expected one features.json"):
        open_rlds(str(tmp_path), droid.REQUIRED)
    with pytest.raises(UsageError, match="is no folder"):
        open_rlds(str(tmp_path / "nowhere"), droid.REQUIRED)
    write_droid(tmp_path, [b""])
    with pytest.raises(UsageError, match=r"not of this source: features\.json lacks"):
        open_rlds(str(tmp_path), bridge.REQUIRED)


_FLOATS = {"tensor": {"dtype": "float32", "shape": {"dimensions": ["6"]}}}


@pytest.mark.parametrize(
    ("part", "feature", "stored", "reason"),
    [
        ("joint_position", _FLOATS, np.zeros((2, 6)), Reason.WRONG_SHAPE),
        (
            "gripper_position",
            {"tensor": {"dtype": "float32", "shape": {}}},
            np.zeros(2),
            Reason.WRONG_SHAPE,
        ),
        ("joint_position", {"text": {}}, ["x", "y"], Reason.WRONG_DTYPE),
        ("wrist_image_left", _FLOATS, np.zeros((2, 6)), Reason.WRONG_DTYPE),
    ],
)
def test_a_data_set_that_declares_other_types_is_refused_record_by_record(
    tmp_path, part, feature, stored, reason
):
    file = write_droid(tmp_path, [])
    declared = json.loads((file.parent / "features.json").read_text())
    steps = declared["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    steps["features"]["observation"]["featuresDict"]["features"][part] = feature
    (file.parent / "features.json").write_text(json.dumps(declared))
    values = {**droid_values(steps=2), f"steps/observation/{part}": stored}
    assert reason_of(values, open_rlds(str(tmp_path), droid.REQUIRED)) == reason


@pytest.mark.parametrize("text", ["{", "[]", '{"featuresDict": {"features": {"a": {}}}}'])
def test_a_damaged_features_json_is_explained(tmp_path, text):
    file = write_droid(tmp_path, [b""])
    (file.parent / "features.json").write_text(text)
    with pytest.raises(UsageError, match=r"features\.json"):
        open_rlds(str(tmp_path), droid.REQUIRED)


def test_the_stated_rate_is_used(droid_data):
    dataset = open_rlds(str(droid_data), droid.REQUIRED)
    assert dataset.stated_rate() == 5.0
    assert not dataset.twin

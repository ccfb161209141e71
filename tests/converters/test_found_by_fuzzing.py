"""What `benchmarks.fuzz` found: each was an exception that would have stopped a whole build."""

import io
import json
import pickle

import h5py
import numpy as np
import pytest

from benchmarks import inputs_raw as made
from benchmarks.inputs_rlds import data_set, droid_features, droid_record
from converters import open_source
from converters._json import parse_json
from pipeline.clip import plan_clip
from schemas.config import ClipConfig, DroidConfig, SourceConfig
from schemas.reasons import EpisodeError, Reason

LOG, PATH, UUID = f"{made.DROID_PATH}/trajectory.h5", made.DROID_PATH, made.DROID_UUID


def read(source, files, root, **options):
    opened = open_source(source, str(made.write(files, root)), SourceConfig(**options))
    (ref,) = opened.refs(None)["train"]
    return opened.read(ref, "train", None)


def reason_of(source, files, root) -> Reason:
    with pytest.raises(EpisodeError) as caught:
        plan_clip(read(source, files, root), ClipConfig())
    return caught.value.reason


def logged(**values) -> dict[str, bytes]:
    """A raw episode of DROID whose log holds other values."""
    files = made.droid_folder()
    buffer = io.BytesIO(files[LOG])
    with h5py.File(buffer, "r+") as log:
        for name, value in values.items():
            del log[name]
            log[name] = value
    return {**files, LOG: buffer.getvalue()}


def pickled(**values) -> dict[str, bytes]:
    """A raw trajectory of Bridge whose log holds other values."""
    files = made.bridge_folder()
    name = next(path for path in files if path.endswith("obs_dict.pkl"))
    log = pickle.loads(files[name])  # noqa: S301  # made above
    return {**files, name: pickle.dumps({**log, **values})}


def test_a_camera_type_that_is_no_number(tmp_path):
    name = f"observation/camera_type/{made.SERIALS['ext1']}"
    assert reason_of("droid", logged(**{name: np.full(6, np.nan)}), tmp_path) == Reason.NON_FINITE


@pytest.mark.parametrize("step", [1e-9, 1e9])
def test_a_clock_in_another_unit(tmp_path, step):
    """An mp4 cannot hold the rate, so the encoder stopped."""
    name = "observation/timestamp/robot_state/read_start"
    clock = 1_678_205_999_000 + step * np.arange(6)
    files = logged(**{name: clock})
    assert reason_of("droid", files, tmp_path) in (Reason.IMPLAUSIBLE, Reason.NON_MONOTONIC_TIME)


def test_a_rate_that_no_robot_has(tmp_path):
    name = "observation/timestamp/robot_state/read_start"
    clock = 1_678_205_999_000 + 1e-3 * np.arange(6)
    assert reason_of("droid", logged(**{name: clock}), tmp_path) == Reason.IMPLAUSIBLE


def test_a_pose_that_no_arm_reaches(tmp_path):
    """1e200 m squared is infinite, and the solver's system singular."""
    state = made.bridge_state(6)
    state[2, 0] = 1e200
    assert reason_of("bridge", pickled(full_state=state), tmp_path) == Reason.WRONG_SHAPE


def test_too_few_joints_and_a_bare_number(tmp_path):
    few = pickled(qpos=np.zeros((6, 5)))
    assert reason_of("bridge", few, tmp_path / "few") == Reason.WRONG_SHAPE
    bare = pickled(full_state=np.array(np.nan))
    assert reason_of("bridge", bare, tmp_path / "bare") == Reason.WRONG_SHAPE


def annotated(root, **changes) -> SourceConfig:
    trees = {**made.droid_annotations([UUID], [PATH]), **changes}
    made.write(made.annotation_files(trees), root)
    return DroidConfig(annotations=str(root))


def test_ranges_that_keep_nothing(tmp_path):
    key = f"gs://x/{PATH}/recordings/MP4--gs://x/{PATH}/trajectory.h5"
    own = annotated(tmp_path / "notes", keep_ranges_1_0_1={key: []})
    files = data_set("droid", "1.0.0", droid_features(), [droid_record(path=PATH)])
    episode = read("droid", files, tmp_path / "data", droid=own)
    assert len(plan_clip(episode, ClipConfig()).steps) == len(episode)


@pytest.mark.parametrize("size", [0.9, 1e300])
def test_a_camera_of_less_than_a_pixel_or_of_no_lens_is_absent(tmp_path, size):
    camera = {"cameraMatrix": [530, 0.2, 530, 0.2], "width": size, "height": size}
    entry = {UUID: {made.SERIALS["ext1"]: camera}}
    own = annotated(tmp_path / "notes", intrinsics=entry)
    episode = read("droid", made.droid_folder(), tmp_path / "data", droid=own)
    assert all(view.calibration is None for view in episode.cameras.values())


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '{"a": ["\\udfff"]}', "[" * 90 + "]" * 90, "[" * 10**5, "{", "", "\0"]
)
def test_json_that_cannot_be_written_again_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text.encode())


def test_json_of_any_language_is_read():
    tree = {"a": ["\U0001f916", "é", 1e308, [[[]]]], "": None}
    for text in (json.dumps(tree), json.dumps(tree, ensure_ascii=False)):
        assert parse_json(text.encode()) == tree


def test_a_bridge_collection_whose_notes_are_no_text_is_read(tmp_path):
    files = made.bridge_folder()
    files[f"{made.BRIDGE_DATED}/collection_metadata.json"] = b'{"environment": "\\ud800"}'
    notes = read("bridge", files, tmp_path).notes
    assert any("collection_metadata.json is no JSON" in note for note in notes)

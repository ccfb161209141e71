"""LIBERO as RLDS: pictures the right way round, poses in the robot's base, defects by reason."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libero_rlds_files import (
    BASE,
    JOINTS,
    OBSERVATION,
    PATH,
    STATE,
    STEM,
    features,
    picture,
    published,
    sweep,
    values,
    write,
)
from records import droid_values, example_bytes, write_droid
from scipy.spatial.transform import Rotation

from converters import libero_rlds, open_source
from converters.rlds import decode_record, open_rlds
from robo4d.geometry import rotation_angle
from robots.kinematics import ee_poses
from robots.models import ROBOTS
from schemas.episode import Provenance
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason, UsageError

ROBOT = ROBOTS["panda_libero"]
# The mean first step of a published copy, as a reader of it reports (four decimals or fewer).
PUBLISHED_STATE = (-0.204, 0.001, 1.173, 3.140, 0.001, -0.092, 0.0388, -0.0388)
PUBLISHED_JOINTS = (0.0007, -0.146, 0.0017, -2.428, 0.0004, 2.223, 0.788)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write(tmp_path_factory.mktemp("libero"), [example_bytes(values())])
    return open_rlds(str(root), libero_rlds.REQUIRED)


def convert(made, dataset, fps=None):
    payload = made if isinstance(made, bytes) else example_bytes(made)
    record = decode_record(payload, dataset.features, "train", "f", 0)
    return libero_rlds.convert(record, dataset, fps)


def reason_of(made, dataset) -> Reason:
    with pytest.raises(EpisodeError) as caught:
        convert(made, dataset)
    return caught.value.reason


def changed(path, step, column, value):
    made = values()
    made[path] = np.array(made[path], float)
    made[path][step, column] = value
    return made


def test_a_sound_record_becomes_an_episode(dataset):
    episode = convert(values(8), dataset)
    assert (episode.source, episode.outcome, episode.robot.robot) == (
        "libero",
        "success",
        "panda_libero",
    )
    assert episode.instructions == ("turn on the stove and put the moka pot on it",)
    assert (episode.fps, episode.time[-1]) == (20.0, pytest.approx(7 / 20))
    assert episode.time_provenance == Provenance.ESTIMATED
    assert episode.simulated
    assert not episode.twin
    assert episode.logged == Provenance.SIMULATED
    assert list(episode.cameras) == ["image", "wrist_image"]
    assert all(camera.calibration is None for camera in episode.cameras.values())
    assert all(camera.depth is None for camera in episode.cameras.values())
    np.testing.assert_array_equal(episode.robot.joints, sweep(8))
    np.testing.assert_allclose(episode.robot.gripper, np.linspace(1, 0.25, 8), atol=1e-6)
    np.testing.assert_allclose(episode.actions["action"][:, -1], -1)
    assert episode.groups == Groups(scene="KITCHEN_SCENE3", lab="libero", task=STEM)
    assert convert(values(8), dataset, 10.0).fps == 10


def test_pictures_are_upright_and_not_mirrored(dataset):
    """As published the right half comes first; above stays above."""
    episode = convert(values(4), dataset)
    shown = episode.cameras["image"].decode([0, 3])
    assert shown.shape == (2, 32, 32, 3)
    assert episode.cameras["image"].size() == (32, 32)
    assert np.abs(shown[0].astype(int) - picture()).mean() < 3
    wrist = episode.cameras["wrist_image"].decode([1])[0]
    assert np.abs(wrist.astype(int) - picture()[:, ::-1]).mean() < 3
    assert any("mirrored" in note for note in episode.notes)


@pytest.mark.parametrize("base", [(-0.66, 0.0, 0.912), (-0.6, 0.0, 0.0), (-0.51, 0.02, 0.41)])
def test_poses_are_in_the_base_wherever_it_stands(dataset, base):
    episode = convert(values(8, np.array(base)), dataset)
    truth = ee_poses(ROBOT, sweep(8))
    np.testing.assert_allclose(episode.robot.ee[:, :3, 3], truth[:, :3, 3], atol=1e-6)
    assert rotation_angle(episode.robot.ee[:, :3, :3], truth[:, :3, :3]).max() < 1e-5
    place = ", ".join(f"{value:.4f}" for value in base)
    assert any(f"({place}) m" in note for note in episode.notes)


def test_the_model_explains_the_published_first_step(dataset):
    """A mean over episodes, rounded: the model's own error is far below a millimetre."""
    made = values(1)
    made[STATE], made[JOINTS] = np.array([PUBLISHED_STATE]), np.array([PUBLISHED_JOINTS])
    episode = convert(made, dataset)
    turn = Rotation.from_rotvec(PUBLISHED_STATE[3:6]).as_matrix()
    assert np.degrees(rotation_angle(ee_poses(ROBOT, [PUBLISHED_JOINTS])[0, :3, :3], turn)) < 0.2
    shift = np.array(PUBLISHED_STATE[:3]) - episode.robot.ee[0, :3, 3]
    np.testing.assert_allclose(shift, BASE, atol=1e-3)
    assert episode.robot.gripper[0] == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("step", "column", "by"), [(3, 0, 0.0022), (5, 2, -0.1), (2, 3, 0.05), (0, 5, 0.05)]
)
def test_a_log_that_the_joints_do_not_explain_gives_no_ee(dataset, step, column, by):
    made = values(8)
    made[STATE][step, column] += by
    episode = convert(made, dataset)
    assert episode.robot.ee is None
    assert episode.robot.joints is not None
    assert any("no place of the robot's base" in note for note in episode.notes)


def test_poses_one_physics_step_older_than_the_joints_are_those_of_the_log(dataset):
    """So robosuite logs them: an arm at rest starts, and moves as fast as it is ever asked to."""
    rates = np.where(np.arange(7) == 0, 1.0, 0.0)
    reach = np.linalg.norm(ee_poses(ROBOT, [ROBOT.rest])[0, :2, 3])
    moving = np.maximum(np.arange(12) / 20 - 0.2, 0)[:, None] * rates * 0.95 / reach
    made = values(12)
    made[JOINTS] = np.array(ROBOT.rest) + moving
    older = made[JOINTS] - np.where(moving > 0, 0.002 * rates * 0.95 / reach, 0)
    logged = ee_poses(ROBOT, older)
    made[STATE] = np.array(made[STATE], float)
    made[STATE][:, :3] = logged[:, :3, 3] + BASE
    made[STATE][:, 3:6] = Rotation.from_matrix(logged[:, :3, :3]).as_rotvec()
    apart = np.linalg.norm(logged[:, :3, 3] - ee_poses(ROBOT, made[JOINTS])[:, :3, 3], axis=1)
    assert 0.0018 < apart.max() < 0.002
    episode = convert(made, dataset)
    off = np.linalg.norm(episode.robot.ee[:, :3, 3] - logged[:, :3, 3], axis=1)
    assert off.max() < 0.002


def test_fingers_are_kept_apart_and_a_wide_one_is_noted(dataset):
    made = values(8)
    made[STATE][:, 6:] = [0.04, -0.01]
    episode = convert(made, dataset)
    np.testing.assert_allclose(episode.robot.fingers, np.tile([1, 0.25], (8, 1)), atol=1e-6)
    np.testing.assert_allclose(episode.robot.gripper, 0.625, atol=1e-6)
    made[STATE][2, 6] = 0.06
    assert any("1.5000 of their travel" in note for note in convert(made, dataset).notes)


@pytest.mark.parametrize(("reward", "outcome"), [(1.0, "success"), (0.0, "unknown")])
def test_only_a_reward_at_the_end_is_a_success(dataset, reward, outcome):
    """is_terminal is true of every last step, whatever happened."""
    made = values()
    made["steps/reward"] = np.zeros(8)
    made["steps/reward"][-1] = reward
    made["steps/reward"][0] = 1.0
    assert convert(made, dataset).outcome == outcome


def test_the_identity_is_the_demos_own(dataset):
    """Fifty demos share a path: the log tells them apart; pictures and folders do not."""
    made = values()
    first = convert(made, dataset).id
    assert first.startswith(f"libero/libero_10_no_noops/{STEM}/")
    moved = dict(reversed(made.items()))
    moved[f"{OBSERVATION}/image"] = [published(picture(16))] * 8
    moved["episode_metadata/file_path"] = f"/elsewhere/libero_10_no_noops/{STEM}_demo.hdf5"
    assert convert(moved, dataset).id == first
    for path in (STATE, JOINTS, "steps/action"):
        assert convert(changed(path, 2, 0, 0.123), dataset).id != first
    assert convert({**made, "steps/language_instruction": ["stir"] * 8}, dataset).id != first


@pytest.mark.parametrize(
    ("path", "groups"),
    [
        (PATH, Groups(scene="KITCHEN_SCENE3", lab="libero", task=STEM)),
        (
            "/x/libero_goal_no_noops/open_the_drawer_demo.hdf5",
            Groups(scene="libero_goal_no_noops", lab="libero", task="open_the_drawer"),
        ),
        ("push_demo.hdf5", Groups(scene="unknown", lab="libero", task="push")),
        ("", Groups()),
    ],
)
def test_groups_come_from_the_path(path, groups):
    assert libero_rlds.groups(path) == groups


def test_each_defect_has_its_reason(dataset):
    assert reason_of(changed(STATE, 3, 1, np.nan), dataset) == Reason.NON_FINITE
    assert reason_of(changed(JOINTS, 3, 6, np.inf), dataset) == Reason.NON_FINITE
    assert reason_of(changed("steps/action", 0, 0, np.nan), dataset) == Reason.NON_FINITE
    assert reason_of({**values(), "steps/reward": np.full(8, np.nan)}, dataset) == Reason.NON_FINITE
    assert reason_of({**values(), STATE: np.zeros(9)}, dataset) == Reason.WRONG_SHAPE
    assert reason_of({**values(), JOINTS: np.zeros((7, 7))}, dataset) == Reason.WRONG_SHAPE
    assert reason_of(values(0), dataset) == Reason.EMPTY_EPISODE
    lacking = {path: value for path, value in values().items() if path != JOINTS}
    assert reason_of(lacking, dataset) == Reason.MISSING_FEATURE
    for path in ("", "/x/../..", "/x/a\nb_demo.hdf5"):
        made = {**values(), "episode_metadata/file_path": path}
        assert reason_of(made, dataset) == Reason.BAD_IDENTITY
    with pytest.raises(EpisodeError) as caught:
        convert(changed(STATE, 3, 1, np.nan), dataset)
    assert caught.value.episode_id.startswith(f"libero/libero_10_no_noops/{STEM}/")


def test_a_picture_that_is_none_is_said_with_its_step(dataset):
    made = values()
    made[f"{OBSERVATION}/image"] = [published(picture())] * 7 + [b"\xff\xd8 cut"]
    stream = convert(made, dataset).cameras["image"]
    with pytest.raises(EpisodeError, match="image step 7"):
        stream.decode([7])
    made[f"{OBSERVATION}/image"] = [published(picture()), *[published(picture(48))] * 7]
    with pytest.raises(EpisodeError, match="changes size"):
        convert(made, dataset).cameras["image"].decode([0, 1])


def test_a_folder_of_records_is_opened_as_libero(tmp_path):
    """Twice the same demo is two refs of one identity, which a plan sees."""
    root = write(tmp_path, [example_bytes(values(6)), example_bytes(values(6))])
    source = open_source("libero", str(root), grouped=True)
    assert source.layout == "rlds"
    refs = source.refs(None)["train"]
    assert [ref.groups.scene for ref in refs] == ["KITCHEN_SCENE3"] * 2
    first, second = (source.read(ref, "train", None) for ref in refs)
    assert first.id == second.id


def test_data_that_is_not_this_layout_is_a_usage_error(tmp_path):
    tree = features()
    steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    del steps["features"]["observation"]["featuresDict"]["features"]["joint_state"]
    root = write(tmp_path / "a", [example_bytes(values())], tree)
    with pytest.raises(UsageError, match="lacks steps/observation/joint_state"):
        open_source("libero", str(root))
    write_droid(tmp_path / "b", [example_bytes(droid_values())])
    with pytest.raises(UsageError, match=r"features\.json lacks"):
        open_source("libero", str(tmp_path / "b"))


def test_other_declared_types_are_refused(tmp_path):
    tree = features()
    steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    steps["features"]["observation"]["featuresDict"]["features"]["state"] = {"text": {}}
    root = write(tmp_path, [example_bytes({**values(), STATE: ["x"] * 8})], tree)
    source = open_source("libero", str(root))
    [ref] = source.refs(None)["train"]
    with pytest.raises(EpisodeError) as caught:
        source.read(ref, "train", None)
    assert caught.value.reason == Reason.WRONG_DTYPE


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.data())
def test_mutated_records_are_read_or_refused_never_a_crash(dataset, data):
    payload = bytearray(example_bytes(values(steps=3)))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        episode = convert(bytes(payload), dataset)
        for camera in episode.cameras.values():
            camera.decode(range(len(episode)))
    except (EpisodeError, ValueError) as error:
        # A contract of Episode (ShapeError); RldsSource.read gives it its reason.
        assert isinstance(error, EpisodeError) or "ShapeError" in type(error).__name__  # noqa: PT017

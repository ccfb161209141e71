"""Calibration, metadata and files of another episode are never attached.

Episodes of one lab, one day and one rig, so that neither a serial number nor a lab tells them
apart. What is attached to an episode is the true thing of that episode, or absent; what contradicts
itself is quarantined.
"""

import json
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import inputs_raw as made
from benchmarks.inputs_rlds import data_set, droid_features, droid_record
from converters import open_source
from converters.droid import CAMERAS
from converters.droid_calibration import join_rlds, read_calibration
from schemas.config import DroidConfig, SourceConfig
from schemas.reasons import EpisodeError, Reason

COUNT = 4
SECONDS = (7, 19, 31, 44)
PATHS = [f"IRIS/success/2023-03-07/Tue_Mar__7_16_19_{n:02d}_2023" for n in SECONDS]
UUIDS = [f"IRIS+ef107c48+2023-03-07-16h-19m-{n:02d}s" for n in SECONDS]
STARTS = [1_678_205_940_000 + 1000 * n for n in SECONDS]
HD, EXT1, EXT2 = (720, 1280), made.SERIALS["ext1"], made.SERIALS["ext2"]
# Files whose entries say themselves whose they are: by path, or by the cameras they name.
# A shuffle of the others (intrinsics, texts, values of ranges) shows in no published field.
TELLING = (
    "episode_id_to_path",
    "camera_serials",
    "cam2base_extrinsics",
    "cam2base_extrinsic_superset",
)
ALL = tuple(made.droid_annotations(UUIDS, PATHS))


def truth(number: int, camera: int) -> np.ndarray:
    return np.array(made.camera_pose(number, camera)[:3])


def published() -> dict:
    """The annotations; K is the camera's, as published factory intrinsics are."""
    files = made.droid_annotations(UUIDS, PATHS)
    for entry in files["intrinsics"].values():
        for serial, camera in entry.items():
            camera["cameraMatrix"][0] = 500.0 + int(serial) % 100
    return files


def check_view(calibration, number: int, camera: int) -> bool:
    """Whether anything is attached; it must then be this camera's in this episode."""
    if calibration is None:
        return False
    np.testing.assert_allclose(calibration.base_from_camera[:3, 3], truth(number, camera))
    serial = (EXT1, EXT2)[camera]
    width = 2 * (calibration.K[0, 2] - 0.5 * calibration.K[0, 0] / (500.0 + int(serial) % 100))
    np.testing.assert_allclose(calibration.K[0, 0], (500.0 + int(serial) % 100) * width / 1280)
    return True


@dataclass(frozen=True)
class Damage:
    """What was done to one file's ids."""

    order: tuple[int, ...] = tuple(range(COUNT))  # whose value each id has
    dropped: frozenset[int] = frozenset()
    twice: tuple[tuple[int, int], ...] = ()  # (id, whose value it has a second time)

    def apply(self, tree: dict) -> str:
        keys, values = list(tree), list(tree.values())
        pairs = [
            (key, values[self.order[n]]) for n, key in enumerate(keys) if n not in self.dropped
        ]
        pairs += [(keys[n], values[other]) for n, other in self.twice]
        return "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}"


ids = st.integers(0, COUNT - 1)
shuffles = st.builds(
    Damage,
    st.permutations(range(COUNT)).map(tuple),
    st.frozensets(ids, max_size=2),
    st.lists(st.tuples(ids, ids), max_size=2).map(tuple),
)
# Of a file that says nothing of its own, an id with only another's value is past noticing.
losses = st.builds(
    lambda dropped, twice: Damage(
        dropped=dropped, twice=tuple(pair for pair in twice if pair[0] not in dropped)
    ),
    st.frozensets(ids, max_size=3),
    st.lists(st.tuples(ids, ids), max_size=3),
)


def index_of(folder, damage: dict[str, Damage]):
    files = published()
    trees = {name: damage.get(name, Damage()).apply(tree) for name, tree in files.items()}
    return read_calibration(made.write(made.annotation_files(trees), folder))


def check_index(index) -> int:
    """Every way to name every episode; returns how many calibrations were attached."""
    attached = 0
    for n, (uuid, path) in enumerate(zip(UUIDS, PATHS, strict=True)):
        for key in ({"uuid": uuid}, {"path": path}, {"uuid": uuid, "path": path}):
            for camera, serial in enumerate((EXT1, EXT2)):
                attached += check_view(index.lookup(serial, HD, **key), n, camera)
            assert set(index.instructions(**key)) <= {f"do {n}.{k}" for k in (1, 2, 3)}
        assert index.keep_ranges(path) in (None, ((0, 3 + n),))
        join = join_rlds(index, f"gs://x/{path}/trajectory.h5")
        assert join.uuid in (None, uuid)
        for camera, name in enumerate(CAMERAS[:2]):
            attached += check_view(join.calibrations.get(name), n, camera)
        assert "wrist_image_left" not in join.calibrations
        for other in set(UUIDS) - {uuid}:
            assert index.lookup(EXT1, HD, uuid=other, path=path) is None
    return attached


def test_undamaged_files_join_everything(tmp_path):
    assert check_index(index_of(tmp_path, {})) == COUNT * 2 * 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    st.fixed_dictionaries(
        {name: shuffles if name in TELLING else losses for name in ALL},
    )
)
def test_shuffled_dropped_and_doubled_ids_join_the_true_episode_or_nothing(
    tmp_path_factory, damage
):
    check_index(index_of(tmp_path_factory.mktemp("files"), damage))


@pytest.mark.parametrize("name", TELLING)
def test_one_file_whose_ids_moved_by_one_is_noticed(tmp_path, name):
    index = index_of(tmp_path, {name: Damage(order=(1, 2, 3, 0))})
    check_index(index)
    if name != "camera_serials":  # one rig: every entry is the same
        assert any("4 dropped" in note for note in index.notes)


# Raw folders


def sound() -> dict[str, bytes]:
    """Four episodes with their annotations beside them; levels of grey tell their videos."""
    files = made.annotation_files(published())
    for n, (path, uuid) in enumerate(zip(PATHS, UUIDS, strict=True)):
        folder = made.droid_folder(path, uuid, start=STARTS[n], level=60 * n)
        files |= made.with_times(folder, path, STARTS[n])
    return files


SOUND = sound()


def check_raw(root) -> list[Reason | None]:
    """Read every folder: what is built holds its own things alone. Reasons of the others."""
    source, reasons = open_source("droid", str(root)), []
    for ref in source.refs(None)["train"]:
        n = PATHS.index(ref.file)
        try:
            episode = source.read(ref, "train", None)
        except EpisodeError as error:
            reasons.append(error.reason)
            continue
        reasons.append(None)
        assert (episode.id, episode.aliases) == (f"droid/{PATHS[n]}", (UUIDS[n],))
        for camera, name in enumerate(CAMERAS[:2]):
            check_view(episode.cameras[name].calibration, n, camera)
        for camera in episode.cameras.values():
            assert camera.decode([0]).mean() == pytest.approx(60 * n, abs=4)
        assert set(episode.instructions) <= {
            *(f"do {n}.{k}" for k in (1, 2, 3)),
            "Move object to a new position",
        }
        assert episode.keep in (None, ((0, 3 + n),))
    return reasons


def swapped(files: dict[str, bytes], part: str, a: int = 0, b: int = 1) -> dict[str, bytes]:
    """Files whose path in the folder begins with ``part``, from folder a to b and back."""
    out = {}
    for name, data in files.items():
        for here, there in ((a, b), (b, a)):
            if name.startswith(f"{PATHS[here]}/{part}"):
                out[name.replace(PATHS[here], PATHS[there])] = data
                break
        else:
            out[name] = data
    return out


def test_sound_folders_hold_their_own(tmp_path):
    assert check_raw(made.write(SOUND, tmp_path)) == [None] * COUNT


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("metadata_", Reason.BAD_IDENTITY),
        ("trajectory.h5", Reason.BAD_IDENTITY),
        ("recordings/MP4", Reason.WRONG_SHAPE),  # the recordings' times are not the log's
    ],
)
def test_files_swapped_between_folders_are_refused(tmp_path, part, reason):
    assert check_raw(made.write(swapped(SOUND, part), tmp_path)) == [reason, reason, None, None]


def test_metadata_swapped_under_the_right_name_is_refused(tmp_path):
    files = dict(SOUND)
    a, b = (f"{PATHS[n]}/metadata_{UUIDS[n]}.json" for n in (0, 1))
    files[a], files[b] = files[b], files[a]
    assert check_raw(made.write(files, tmp_path))[:2] == [Reason.BAD_IDENTITY] * 2


def test_metadata_of_two_episodes_in_one_folder_is_refused(tmp_path):
    files = dict(SOUND)
    files[f"{PATHS[0]}/metadata_{UUIDS[1]}.json"] = files[f"{PATHS[1]}/metadata_{UUIDS[1]}.json"]
    assert check_raw(made.write(files, tmp_path))[0] == Reason.BAD_IDENTITY


def test_a_log_without_a_name_is_known_by_its_day(tmp_path):
    """The attribute is the collector's; without it the clock still tells days apart."""
    other = made.droid_log(start=STARTS[0] + 2 * 86_400_000)
    files = {**SOUND, f"{PATHS[0]}/trajectory.h5": other}
    assert check_raw(made.write(files, tmp_path))[0] == Reason.BAD_IDENTITY


def test_a_whole_folder_under_another_name_is_refused(tmp_path):
    files = {name: data for name, data in SOUND.items() if not name.startswith(PATHS[1])}
    moved = {n.replace(PATHS[0], PATHS[1]): d for n, d in SOUND.items() if n.startswith(PATHS[0])}
    assert check_raw(made.write({**files, **moved}, tmp_path))[1] == Reason.BAD_IDENTITY


@pytest.mark.slow
def test_any_mixture_of_folders_and_ids_builds_the_true_episode_or_none(tmp_path_factory):
    """Seeded: folders' parts and annotation ids all moved at once."""
    draw = random.Random(0)
    built = 0
    for round_ in range(25):
        files = dict(SOUND)
        for part in ("metadata_", "trajectory.h5", "recordings/MP4"):
            if draw.random() < 0.4:
                files = swapped(files, part, *draw.sample(range(COUNT), 2))
        trees = published()
        for name in TELLING:
            order = draw.sample(range(COUNT), COUNT)
            damage = Damage(tuple(order), frozenset(draw.sample(range(COUNT), draw.randint(0, 2))))
            trees[name] = damage.apply(trees[name])
        files |= made.annotation_files(trees)
        reasons = check_raw(made.write(files, tmp_path_factory.mktemp(f"mix{round_}")))
        built += reasons.count(None)
    assert 0 < built < 25 * COUNT


# RLDS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.fixed_dictionaries({name: shuffles for name in TELLING}), st.permutations(range(COUNT)))
def test_rlds_records_in_any_order_join_their_own(tmp_path_factory, damage, order):
    root = tmp_path_factory.mktemp("rlds")
    index_of(root / "annotations", damage)
    records = [droid_record(path=PATHS[n], offset=0.1 * n) for n in order]
    made.write(data_set("droid", "1.0.0", droid_features(), records), root / "data")
    options = SourceConfig(droid=DroidConfig(annotations=str(root / "annotations")))
    source = open_source("droid", str(root / "data"), options)
    for n, ref in zip(order, source.refs(None)["train"], strict=True):
        episode = source.read(ref, "train", None)
        assert episode.id == f"droid/{PATHS[n]}"
        assert episode.aliases in ((), (UUIDS[n],))
        assert episode.robot.joints[0, 0] == pytest.approx(0.1 * n, abs=1e-6)
        for camera, name in enumerate(CAMERAS[:2]):
            check_view(episode.cameras[name].calibration, n, camera)
        assert episode.cameras["wrist_image_left"].calibration is None
        assert set(episode.instructions) <= {"sweep", *(f"do {n}.{k}" for k in (1, 2, 3))}

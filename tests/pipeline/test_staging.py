"""Kept parts: whole or not there, equal to the last bit, and never trusted when they are not."""

import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import pipeline.recall
import pipeline.staging
from pipeline.camera import CameraChoice
from pipeline.kept import Kept, choice_from, keep_choice, keep_lifted, lifted_from
from pipeline.lineage import Lineage, bytes_config
from pipeline.recall import recall_pool, solve_cameras
from pipeline.staging import LAYOUT, Staging, digest_of
from reconstruction.lift import Lifted
from robo4d.geometry import intrinsics
from schemas.config import BuildConfig, load_config
from schemas.episode import Calibration, Origin, Provenance
from schemas.plan import EpisodeRef
from schemas.reasons import UsageError

K = intrinsics(130, 131, 160, 90)
KEY = "a" * 64


@pytest.fixture
def staging(tmp_path) -> Staging:
    found = Staging.at(str(tmp_path / "kept"))
    assert found is not None
    return found


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "kept").rglob("*.zip"))


def film(frames: int = 20) -> Kept:
    depth = np.random.default_rng(0).random((frames, 12, 16), np.float32)
    return Kept({"depth": depth, "K": K}, {"residual": 0.1 + 0.2, "why": "as told"})


def same(a: Kept, b: Kept) -> bool:
    equal = a.facts == b.facts and a.arrays.keys() == b.arrays.keys()
    for name, values in a.arrays.items():
        other = b.arrays[name]
        equal &= (values.dtype, values.shape) == (other.dtype, other.shape)
        equal &= np.ascontiguousarray(values).tobytes() == other.tobytes()
    return equal


def test_zarr_itself_opens_a_part_in_sharded_chunks_of_a_few_frames(staging, tmp_path):
    kept = film()
    staging.write("record/view.depth", KEY, kept)
    (path,) = files(tmp_path)
    assert path.parent.name == "record"
    group = zarr.open_group(zarr.storage.ZipStore(path), mode="r")
    depth = group["depth"]
    assert group.metadata.zarr_format == 3
    assert (depth.chunks, depth.shards, depth.dtype) == ((8, 12, 16), (24, 12, 16), np.float32)
    np.testing.assert_array_equal(depth[8:16], kept.arrays["depth"][8:16])
    assert group.attrs["facts"] == kept.facts
    assert (group.attrs["layout"], group.attrs["key"]) == (LAYOUT, KEY)


@given(
    arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.bool_, np.int64]),
        array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_kept_comes_back_to_the_last_bit(values, number):
    kept = Kept({"values": values}, {"number": number, "none": None, "list": [1, "a"]})
    packed = pipeline.staging._pack(kept, KEY)
    assert same(kept, pipeline.staging._unpack(packed, KEY))
    assert packed == pipeline.staging._pack(kept, KEY)


def test_another_key_finds_nothing_and_disturbs_nothing(staging):
    assert staging.read("r/v.depth", KEY) is None
    staging.write("r/v.depth", KEY, film(20))
    staging.write("r/v.depth", "b" * 64, film(9))
    assert same(staging.read("r/v.depth", KEY), film(20))
    assert same(staging.read("r/v.depth", "b" * 64), film(9))
    # The name has the first 16 digits; the whole key is inside.
    assert staging.read("r/v.depth", "a" * 63 + "b") is None


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_flipped_bit_is_found(share, staging, tmp_path, caplog):
    staging.write("r/v.depth", KEY, film())
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1
    path.write_bytes(data)
    found = staging.read("r/v.depth", KEY)
    # Where the zip says how an entry is called or dated once more, a flip changes no content.
    assert found is None or same(found, film())
    if share >= 0.1:
        assert found is None
        assert "made again" in caplog.text


def test_a_damaged_chunk_fails_its_own_checksum_for_any_reader(staging, tmp_path):
    staging.write("r/v.depth", KEY, film())
    (path,) = files(tmp_path)
    with zipfile.ZipFile(path) as archive:
        inside = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    inside["depth/c/0/0/0"][100] ^= 1
    with zipfile.ZipFile(path, "w") as archive:  # and the zip's own checksums are right
        for name, data in inside.items():
            archive.writestr(name, bytes(data))
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_group(zarr.storage.ZipStore(path), mode="r")["depth"][0:8]
    assert staging.read("r/v.depth", KEY) is None


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_file_cut_short_is_not_there(cut, staging, tmp_path):
    staging.write("r/v.depth", KEY, film())
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    assert staging.read("r/v.depth", KEY) is None
    staging.write("r/v.depth", KEY, film())
    assert same(staging.read("r/v.depth", KEY), film())


def test_another_layout_is_not_trusted(staging, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.staging, "LAYOUT", "robo4d-staging/0")
        staging.write("r/v.depth", KEY, film())
    assert staging.read("r/v.depth", KEY) is None


def test_a_write_that_dies_leaves_nothing_under_the_name(staging, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            staging.write("r/v.depth", KEY, film())
    assert not files(tmp_path)
    assert staging.read("r/v.depth", KEY) is None


def test_an_object_store_keeps_them_as_well(s3):
    staging = Staging.at("s3://data/kept")
    assert staging.read("r/v.depth", KEY) is None
    staging.write("r/v.depth", KEY, film())
    assert same(staging.read("r/v.depth", KEY), film())
    (name,) = s3.objects("data")
    assert name.startswith("kept/r/v.depth.aaaa")


def test_a_url_that_nothing_opens_is_wrong_use():
    assert Staging.at(None) is None
    with pytest.raises(UsageError, match="nosuch"):
        Staging.at("nosuch://x/y")


def test_digests_tell_types_shapes_names_and_values():
    zeros = np.zeros((2, 3))
    different = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(3, 2)},
        {"a": zeros.astype(np.int64)},
        {"a": zeros + 1},
        {"a": zeros.tolist()},
        {"a": None},
        {},
    ]
    assert len({digest_of(values) for values in different}) == len(different)
    assert digest_of({"a": 1, "b": zeros}) == digest_of({"b": zeros.copy(order="F"), "a": 1})


CHOICES = {
    "solved": CameraChoice(
        Calibration(K, np.eye(4), Provenance.ESTIMATED),
        "good",
        "by its outline",
        {"silhouette_iou": 0.1 + 0.7, "flow_score": None},
        -0.0123456789012345,
        Calibration(K + 1, np.eye(4), Provenance.POSTHOC),
        {"edge_share": 0.25},
        np.random.default_rng(0).random((6, 6)),
        np.arange(9) % 2 == 0,
        ({"first": 0, "past": 4, "verdict": "good"}, {"first": 5, "past": 9, "verdict": "reject"}),
    ),
    "rejected": CameraChoice(None, "reject", "its outline lies elsewhere", {"edge_share": 0.1}),
    "on the hand": CameraChoice(
        Calibration(K, np.repeat(np.eye(4)[None], 20, 0), Provenance.ESTIMATED), "usable"
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_camera_comes_back_with_all_that_is_known_of_it(name):
    choice = CHOICES[name]
    packed = pipeline.staging._pack(keep_choice(choice), KEY)
    back = choice_from(pipeline.staging._unpack(packed, KEY))
    assert (back.describe(), back.columns()) == (choice.describe(), choice.columns())
    assert (back.calibration is None) == (choice.calibration is None)
    for a, b in ((back.calibration, choice.calibration), (back.shipped, choice.shipped)):
        if a is not None and b is not None:
            np.testing.assert_array_equal(a.K, b.K)
            np.testing.assert_array_equal(a.base_from_camera, b.base_from_camera)
            assert a.provenance is b.provenance
    np.testing.assert_equal(back.known, choice.known)


def test_a_lifted_clip_comes_back_with_its_reasons_and_figures():
    lifted = Lifted(robot_residual=0.1 + 0.2)
    lifted.put("K", np.repeat(K[None], 3, 0), Provenance.ESTIMATED)
    lifted.put("robot_part", np.ones((3, 4, 5), np.uint8), Provenance.ESTIMATED)
    lifted.leave_out("nothing shows it", "depth", "confidence", "base_from_camera")
    lifted.put("robot_visible", np.ones((3, 4, 5), bool), Provenance.ESTIMATED)
    robot, depth = keep_lifted(lifted)
    assert set(robot.arrays) == {"K", "robot_part"}
    assert set(robot.facts["reasons"]) == {"base_from_camera"}
    parts = [pipeline.staging._pack(part, KEY) for part in (robot, depth)]
    back = lifted_from(*(pipeline.staging._unpack(part, KEY) for part in parts))
    assert back.describe() == lifted.describe()
    assert back.robot_residual == lifted.robot_residual
    assert same(Kept(back.fields), Kept(lifted.fields))


def lineage_of(*overrides: str) -> Lineage:
    config = bytes_config(load_config(None, overrides), {})
    return Lineage(code="c", version="1", packages={}, models={}, joined="", config=config)


def pool_of(*names: str):
    """Bridge episodes of one setup, with one camera that they share."""
    source = SimpleNamespace(layout="rlds", name="made/1", facts="")
    motion = {name: np.zeros((5, 7)) for name in ("joints", "fingers", "ee")}
    pool = []
    for number, name in enumerate(names):
        episode = SimpleNamespace(
            id=f"bridge/{name}",
            cameras={"image_0": SimpleNamespace(calibration=None, name="image_0")},
            origin=Origin("file", number, digest_of({"record": name})),
            time=np.arange(5.0),
        )
        robot = SimpleNamespace(name="widowx_250s")
        one = SimpleNamespace(episode=episode, robot=robot, motion=SimpleNamespace(**motion))
        pool.append((EpisodeRef("file", number), one))
    return pool, source


@pytest.fixture
def solve_pools(staging, monkeypatch):
    """Solve the cameras of pools as a build does; returns what was found and how many were solved
    together.
    """

    def run(*names, alone=(), overrides=()):
        pool, source = pool_of(*names)
        asked = []

        def solve_pool(members, config):
            asked.append(len(members))
            told = f"{len(members)} together"
            return [
                {}
                if one.episode.id.removeprefix("bridge/") in alone
                else {"image_0": replace(CHOICES["rejected"], why=told)}
                for one in members
            ]

        monkeypatch.setattr(pipeline.recall, "solve_pool", solve_pool)
        recalls = recall_pool(pool, staging, source, lineage_of(*overrides))
        members = [one for _, one in pool]
        solved = solve_cameras(members, recalls, BuildConfig().camera)
        cameras = []
        for found, views in zip(solved, recalls, strict=True):
            choice = found.get("image_0") or views["image_0"].camera()
            cameras.append(None if choice is None else choice.why)
        return cameras, asked

    return run


def test_cameras_of_a_pool_are_found_again_for_the_same_pool_only(solve_pools):
    assert solve_pools("a", "b", "c") == (["3 together"] * 3, [3])
    assert solve_pools("a", "b", "c") == (["3 together"] * 3, [])
    # The source grew or lost an episode: eight clips tell more than one, so it is another camera.
    assert solve_pools("a", "b") == (["2 together"] * 2, [2])
    assert solve_pools("a", "b", "c", "d") == (["4 together"] * 4, [4])
    assert solve_pools("a") == ([None], [])
    assert solve_pools("a", "b", "c") == (["3 together"] * 3, [])


def test_a_pool_with_a_camera_that_is_not_there_is_solved_again(solve_pools, tmp_path):
    solve_pools("a", "b", "c")
    files(tmp_path)[0].unlink()
    assert solve_pools("a", "b", "c") == (["3 together"] * 3, [3])
    assert solve_pools("a", "b", "c", overrides=["depth.backend=none"])[1] == []
    assert solve_pools("a", "b", "c", overrides=["camera.seed=1"])[1] == [3]
    # One that the pool leaves to be solved alone is not kept as the pool's.
    assert solve_pools("x", "y", alone=["y"]) == (["2 together", None], [2])

"""Shards and their reader: random access, laziness, plain webdataset, damage."""

import io
import json
import pickle
import tarfile

import fsspec
import numpy as np
import pytest

import robo4d
from robo4d.sample import encode_sample, sample_key
from robo4d.shard import ShardIndex, ShardWriter


def fields(n: int = 4, height: int = 24, width: int = 32, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 2, (n, height, width)).astype(np.float32)
    depth[:, :3] = 0
    robot = np.where(rng.random(depth.shape) < 0.3, depth, 0).astype(np.float32)
    pose = np.repeat(np.eye(4)[None], n, 0)
    pose[:, 0, 3] = np.arange(n) * 0.1
    return {
        "rgb": rng.integers(0, 255, (n, height, width, 3), dtype=np.uint8),
        "depth": depth,
        "confidence": np.where(depth > 0, 255, 0).astype(np.uint8),
        "robot_depth": robot,
        "robot_part": (robot > 0).astype(np.uint8) * 3,
        "robot_visible": robot > 0,
        "K": np.repeat(np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])[None], n, 0),
        "base_from_camera": pose,
        "time": np.arange(n) / 5,
        "step": np.arange(n),
        "joints": rng.normal(size=(n, 7)),
        "gripper": rng.random(n),
        "actions": {"action": rng.normal(size=(n, 7))},
    }


@pytest.fixture
def build(tmp_path):
    """A folder of two shards, three samples; returns (folder, {key: fields})."""
    truth = {}
    for number, count in enumerate((2, 1)):
        shard = f"robo4d-test-train-{number:05d}.tar"
        with (tmp_path / shard).open("wb") as file:
            writer = ShardWriter(file)
            for i in range(count):
                values = fields(seed=10 * number + i)
                if i == 1:
                    del values["depth"], values["confidence"]
                key = sample_key(f"test/{number}", f"camera{i}", 0)
                meta = {"fields": {"depth": {"provenance": "absent", "reason": "no sensor"}}}
                writer.add(key, encode_sample(values, meta, 5.0))
                truth[key] = values
            index = writer.finish(shard)
        (tmp_path / shard.replace(".tar", ".index.json")).write_bytes(index.to_json())
    return tmp_path, truth


def test_samples_by_index_and_by_key_are_the_same(build):
    folder, truth = build
    data = robo4d.open(folder)
    assert data.keys == list(truth)
    assert len(data) == 3
    for i, key in enumerate(data.keys):
        np.testing.assert_array_equal(data[i].joints, data[key].joints)
        np.testing.assert_array_equal(data[key].robot_part, truth[key]["robot_part"])
        np.testing.assert_array_equal(data[key].actions["action"], truth[key]["actions"]["action"])
        assert data[key].K.dtype == np.float64
    with pytest.raises(IndexError):
        data[3]


def test_only_the_members_asked_for_are_read(build, monkeypatch):
    data = robo4d.open(build[0])
    asked = []
    read = robo4d.Dataset._read
    monkeypatch.setattr(
        robo4d.Dataset, "_read", lambda self, s, e, m: asked.extend(m) or read(self, s, e, m)
    )
    sample = data[0]
    assert asked == []
    sample.load("depth", "K")
    sample.pointmap("camera")
    assert asked == ["depth.r4a", "camera.safetensors"]


def test_pointmaps_in_each_frame_follow_from_depth_and_pose(build):
    sample = robo4d.open(build[0])[0]
    depth, K = sample.depth[2], sample.K[2]
    camera = sample.pointmap("camera")[2]
    i, j = 10, 20
    expected = depth[i, j] * np.linalg.inv(K) @ [j + 0.5, i + 0.5, 1]
    np.testing.assert_allclose(camera[i, j], expected, rtol=1e-5)
    moved = sample.pointmap("base")[2] - camera
    np.testing.assert_allclose(moved, [0.2, 0, 0] + 0 * camera, atol=1e-6)
    first = sample.pointmap("first_camera")
    np.testing.assert_allclose(first[0], sample.pointmap("camera")[0], atol=1e-6)
    assert np.isnan(camera[0, 0]).all()
    assert np.isnan(sample.robot_pointmap()[sample.robot_depth == 0]).all()


def test_an_absent_field_says_why(build):
    sample = robo4d.open(build[0])[1]
    assert "depth" not in sample
    assert "robot_depth" in sample
    with pytest.raises(robo4d.FieldAbsentError, match="no sensor"):
        _ = sample.depth
    with pytest.raises(AttributeError):
        _ = sample.colour


def test_a_plain_webdataset_loop_reads_the_same_tars(build):
    import webdataset

    folder, truth = build
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    stream = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    seen = list(stream.decode(robo4d.decode_member))
    assert [s["__key__"] for s in seen] == list(truth)
    reader = robo4d.open(folder)
    for item in seen:
        np.testing.assert_array_equal(item["rgb.mp4"], reader[item["__key__"]].rgb)
        np.testing.assert_array_equal(item["camera.safetensors"]["K"], truth[item["__key__"]]["K"])
        assert item["meta.json"]["frames"] == 4


def test_a_shard_whose_index_is_lost_is_read_by_its_headers(build):
    folder, truth = build
    shard = sorted(folder.glob("*.tar"))[0]
    with_index = robo4d.open(shard)
    shard.with_name(shard.name.replace(".tar", ".index.json")).unlink()
    without = robo4d.open(shard)
    assert without.keys == with_index.keys == list(truth)[:2]
    np.testing.assert_array_equal(without[1].joints, with_index[1].joints)


def test_a_url_is_read_by_ranges(build):
    folder, truth = build
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    data = robo4d.open("memory://shards")
    assert data.keys == list(truth)
    np.testing.assert_array_equal(data[2].robot_visible, truth[data.keys[2]]["robot_visible"])


def test_a_data_set_travels_to_worker_processes(build):
    data = pickle.loads(pickle.dumps(robo4d.open(build[0])))  # noqa: S301  our own bytes
    assert data[1].rgb.shape == (4, 24, 32, 3)


def test_a_changed_byte_is_noticed(build):
    shard = sorted(build[0].glob("*.tar"))[0]
    data = robo4d.open(build[0])
    offset, length, _ = data.shards[0].samples[0].members["depth.r4a"]
    raw = bytearray(shard.read_bytes())
    raw[offset + length // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(robo4d.FormatError, match="differ from the index"):
        _ = data[0].depth


def test_the_same_samples_give_the_same_tar_and_tarfile_reads_it():
    def write() -> bytes:
        buffer = io.BytesIO()
        writer = ShardWriter(buffer)
        writer.add("k" * 16, {"a.npy": b"123", "meta.json": b"{}"})
        index = writer.finish("s.tar")
        assert index.size == len(buffer.getvalue())
        return buffer.getvalue()

    assert write() == write()
    with tarfile.open(fileobj=io.BytesIO(write())) as tar:
        assert tar.getnames() == ["k" * 16 + ".a.npy", "k" * 16 + ".meta.json"]
        assert {m.mtime for m in tar} == {0}


@pytest.mark.parametrize(
    "change",
    [
        lambda i: i.update(format="robo4d/9"),
        lambda i: i.update(shard="../../etc/passwd"),
        lambda i: i["samples"][0].update(key="../x"),
        lambda i: i["samples"][0]["members"].update({"rgb.mp4": [10**12, 5, 0]}),
        lambda i: i["samples"][0]["members"].update({"../../x": [0, 5, 0]}),
        lambda i: i.pop("samples"),
    ],
)
def test_a_hostile_index_is_refused(build, change):
    path = sorted(build[0].glob("*.index.json"))[0]
    index = json.loads(path.read_text())
    change(index)
    with pytest.raises(robo4d.FormatError):
        ShardIndex.from_json(json.dumps(index).encode())


def test_a_folder_without_shards_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no shards"):
        robo4d.open(tmp_path)


def test_wrong_fields_are_refused_by_name():
    values = fields()
    values["depth"] = values["depth"][:2]
    with pytest.raises(robo4d.ShapeError, match=r"depth has shape \(2, 24, 32\)"):
        encode_sample(values, {}, 5.0)
    with pytest.raises(robo4d.ShapeError, match="unknown fields"):
        encode_sample({"rgb": fields()["rgb"], "colour": 1}, {}, 5.0)

"""What a kill leaves is told from what is whole, whatever the kind of file."""

import json
import tarfile

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks._peers_outputs import broken, clips_of_kinema4d, files_of, frames_of

_CLIP_KINDS = ("videos", "mask_videos", "pointmap", "mask_pointmap")


def write_video(path, frames=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()


def write_png(path):
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))


def write_tar(path):
    clip = path.with_name("in.mp4")
    write_video(clip, 40)  # so long that a tar's padding is less than a third of it
    with tarfile.open(path, "w") as tar:
        tar.add(clip, "a.rgb.mp4")
    clip.unlink()


WRITERS = {
    "a.mp4": write_video,
    "a.png": write_png,
    "a.tar": write_tar,
    "a.npy": lambda path: np.save(path, np.zeros((4, 8, 8))),
    "a.parquet": lambda path: pq.write_table(pa.table({"x": list(range(500))}), path),
    "a.json": lambda path: path.write_text(json.dumps({"x": list(range(50))})),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_cut_short_is_broken_and_a_whole_one_is_not(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert broken(tmp_path) == []
    data = (tmp_path / name).read_bytes()
    for share in (0.0, 0.3, 0.7):
        (tmp_path / name).write_bytes(data[: int(share * len(data))])
        assert broken(tmp_path) == [name]


def test_scratch_is_not_output(tmp_path):
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "a.tar").write_bytes(b"half")
    assert files_of(tmp_path) == []


def test_frames_are_counted_by_decoding(tmp_path):
    write_video(tmp_path / "a.mp4", 7)
    assert frames_of(tmp_path / "a.mp4") == 7


def test_a_clip_whose_five_files_differ_in_length_is_not_whole(tmp_path):
    for kind in _CLIP_KINDS:
        write_video(tmp_path / "cam" / kind / "episode_0.mp4", 6)
    masks = tmp_path / "cam" / "masks_npy"
    masks.mkdir()
    np.save(masks / "episode_0_multi_seed_union_mask.npy", np.zeros((6, 48, 64), np.uint8))
    assert clips_of_kinema4d(tmp_path)["episode_0 cam"] == 1
    write_video(tmp_path / "cam" / "mask_videos" / "episode_0.mp4", 5)
    assert clips_of_kinema4d(tmp_path)["episode_0 cam"] == 0

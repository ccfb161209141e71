"""Inputs made to harm: bombs that unpack to far more than they are, and ways out of the folder.

Each is read as a build reads it, in a process that may take 1 GiB more than it has after its
imports: what is refused too late fails here. Elsewhere: pickles (`test_pickle`), links, virtual and
external storage and foreign filters in HDF5, serials and links that lead out of a folder of DROID
(`test_droid_raw`).
"""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import simplejpeg

from benchmarks import inputs_raw as made
from benchmarks._mutate import png, scan_bomb
from benchmarks.inputs_rlds import (
    bridge_features,
    bridge_record,
    data_set,
    droid_features,
    droid_record,
    picture,
)
from converters._example import Example
from converters._hdf5 import NumberFile
from schemas.reasons import EpisodeError, Reason

pytestmark = pytest.mark.slow  # each starts a process
REPO = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, resource, sys, time
import benchmarks  # chooses OpenGL
from converters import open_source
from pipeline.clip import plan_clip
from schemas.config import ClipConfig
from schemas.reasons import EpisodeError, UsageError
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (1 << 30),) * 2)
for source, root in json.load(sys.stdin):
    start, told = time.process_time(), []
    try:
        opened = open_source(source, root)
        for ref in opened.refs(None)["train"]:
            try:
                episode = opened.read(ref, "train", None)
                for camera in episode.cameras.values():
                    camera.decode(plan_clip(episode, ClipConfig()).steps)
                told.append("built: " + " ".join(episode.instructions))
            except EpisodeError as error:
                told.append(str(error.reason))
    except UsageError:
        told.append("refused")
    print(json.dumps([told, time.process_time() - start]), flush=True)
"""
SECONDS = 10  # of processor time that an input may cost


def outcomes(source: str, roots: dict[str, Path]) -> dict[str, list[str]]:
    """What becomes of the episodes of each folder; the test fails if the process does."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([[source, str(root)] for root in roots.values()]),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [*roots][len(lines) :][:1]
    assert done.returncode == 0, f"at {failed}: {done.stderr[-2000:]}"
    slow = {name: line[1] for name, line in zip(roots, lines, strict=True) if line[1] > SECONDS}
    assert not slow
    return {name: line[0] for name, line in zip(roots, lines, strict=True)}


def written(cases: dict[str, dict[str, bytes]], root: Path) -> dict[str, Path]:
    return {name: made.write(files, root / str(n)) for n, (name, files) in enumerate(cases.items())}


# Pictures

FLAT = zlib.compress(bytes(1 << 24), 9)  # 16 MB in 16 kB


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims other sides than it has."""
    data = bytearray(picture(60))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def text_chunk(size: int) -> bytes:
    """A zTXt chunk that unpacks to ``size`` bytes."""
    body = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(size), 9)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


BOMBS = {
    "jpeg header": (jpeg_of(60000, 60000), "too_large"),
    "jpeg header, one side": (jpeg_of(65500, 1), "too_large"),
    "jpeg of the largest area": (jpeg_of(4096, 4096), "too_large"),
    "jpeg scans": (scan_bomb(), "too_large"),
    "png header": (png(60000, 60000, zlib.compress(b"")), "too_large"),
    "png header, beyond 31 bits": (png(1 << 31, 1, zlib.compress(b"")), "too_large"),
    "png data beyond its claim": (png(64, 36, zlib.compress(bytes(1 << 28))), None),
    "png without data": (png(2048, 2048, zlib.compress(b"")), "undecodable_image"),
    "png text": (png(64, 36, FLAT, text_chunk(1 << 28)), None),
    "gif": (b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(40), "undecodable_image"),
}


@pytest.mark.parametrize("layout", ["rlds", "raw"])
def test_image_bombs_are_refused(tmp_path, layout):
    cases = {}
    for name, (bomb, _) in BOMBS.items():
        if layout == "raw":
            files = made.bridge_folder()
            cases[name] = {n: bomb if "/images0/" in n else data for n, data in files.items()}
            continue
        record = Example.FromString(bridge_record())
        images = record.features.feature["steps/observation/image_0"].bytes_list
        images.value[:] = [bomb] * len(images.value)
        records = [record.SerializeToString()]
        cases[name] = data_set("bridge_dataset", "1.0.0", bridge_features(), records)
    for name, (told,) in outcomes("bridge", written(cases, tmp_path)).items():
        reason = BOMBS[name][1]
        # None: what lies behind or beside a sound picture's data may be left unread.
        assert told == reason or (reason is None and told.startswith(("built", "undec"))), name


# Videos


def film_of(pictures: list[bytes], size: tuple[int, int] = (36, 64)) -> bytes:
    """An MP4 of motion JPEG, whose every frame states its own size."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=15)
        stream.height, stream.width, stream.pix_fmt = *size, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1, 15)
            container.mux(packet)
    return buffer.getvalue()


def header_of(width: int, height: int) -> bytes:
    """An MP4 whose sample entry claims other sides (ISO 14496-12, VisualSampleEntry)."""
    data = bytearray(film_of([picture(60)] * 6))
    at = data.index(b"mp4v") + 28 if b"mp4v" in data else data.index(b"jpeg") + 28
    data[at : at + 4] = struct.pack(">HH", width, height)
    return bytes(data)


SOUND = "built: Move object to a new position"
EITHER = ("too_large", "undecodable_image")
FILMS = {
    "sound": (film_of([picture(60)] * 6), (SOUND,)),
    "frames that change size": (
        film_of([picture(60)] * 3 + [picture(60, (72, 128))] * 3),
        ("wrong_shape",),
    ),
    "a frame of 60000 x 60000": (film_of([picture(60)] * 5 + [jpeg_of(60000, 60000)]), EITHER),
    "frames of 8192 x 8192": (film_of([picture(60)] * 2 + [jpeg_of(8192, 8192)] * 4), EITHER),
    # Where FFmpeg believes the frames and not the header, nothing is lost.
    "a header of 60000 x 60000": (header_of(60000, 60000), ("too_large", SOUND)),
}


def test_video_bombs_are_refused(tmp_path):
    cases = {}
    for name, (film, _) in FILMS.items():
        files = made.droid_folder()
        cases[name] = {n: film if n.endswith(".mp4") else data for n, data in files.items()}
    for name, (told,) in outcomes("droid", written(cases, tmp_path)).items():
        assert told in FILMS[name][1], name


# JSON and text


def info_of(**changes) -> dict[str, bytes]:
    """A data set whose dataset_info.json says other things."""
    files = data_set("bridge_dataset", "1.0.0", bridge_features(), [bridge_record()])
    name = "bridge_dataset/1.0.0/dataset_info.json"
    return {**files, name: json.dumps({**json.loads(files[name]), **changes}).encode()}


def test_a_data_set_that_promises_nonsense_is_refused(tmp_path):
    said = (
        {"splits": [{"name": "train", "shardLengths": ["1000000000000"]}]},
        {"splits": [{"name": "train", "shardLengths": ["-5"]}]},
        {"splits": ["train"]},
        {"splits": {"name": "train"}},
        {"name": "a" * (17 << 20)},
    )
    cases = {str(changes)[:60]: info_of(**changes) for changes in said}
    for name, told in outcomes("bridge", written(cases, tmp_path)).items():
        assert told == ["refused"], name


def test_a_data_set_that_says_odd_things_of_itself_is_read(tmp_path):
    said = (
        {"redistributionInfo": ["license"]},
        {"description": "RLDS " * 400_000},  # a pattern that backtracks never ends on this
        {"version": {"a": 1}, "citation": None},
    )
    cases = {str(changes)[:60]: info_of(**changes) for changes in said}
    for name, (told,) in outcomes("bridge", written(cases, tmp_path)).items():
        assert told.startswith("built"), name


def test_json_nested_past_the_stack_is_refused(tmp_path):
    cases = {}
    for deep in ("[" * 5000 + "]" * 5000, '{"a":' * 500 + "1" + "}" * 500, "[[["):
        for name in ("features.json", "dataset_info.json"):
            files = info_of()
            files[f"bridge_dataset/1.0.0/{name}"] = b'{"x": ' + deep.encode() + b"}"
            cases[f"{name} {deep[:9]}"] = files
    for name, told in outcomes("bridge", written(cases, tmp_path)).items():
        assert told == ["refused"], name


def test_metadata_texts_that_no_file_can_hold_are_refused_or_left_out(tmp_path):
    cases = {}
    for task in ("\ud800", "a" * (9 << 20), [[[]]], {"a": 1}):
        files = made.droid_folder()
        name = next(n for n in files if "metadata_" in n)
        files[name] = json.dumps({**made.droid_metadata(), "current_task": task}).encode()
        cases[ascii(task)[:20]] = files
    told = [told for (told,) in outcomes("droid", written(cases, tmp_path)).values()]
    assert told == ["undecodable_record", "too_large", "built: ", "built: "]


def test_long_paths_in_records_end_at_once(tmp_path):
    """A pattern that tries each start of a long text against each of its ends does not."""
    cases = {}
    for path in ("a" * 60_000, "success/" * 7000, "x/" * 30_000, "a" * 3_000_000):
        records = [droid_record(path=path)]
        cases[f"{path[:8]} {len(path)}"] = data_set("droid", "1.0.0", droid_features(), records)
    told = [told for (told,) in outcomes("droid", written(cases, tmp_path)).values()]
    assert told == ["bad_identity", "built: sweep", "bad_identity", "too_large"]


def test_features_that_declare_more_than_memory_are_refused(tmp_path):
    name, cases = "bridge_dataset/1.0.0/features.json", {}
    for dims in (["1000000000000"], ["-1", "-1"], ["2"] * 100):
        files = info_of()
        tree = json.loads(files[name])
        steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
        steps["features"]["action"]["tensor"]["shape"]["dimensions"] = dims
        cases[str(dims)[:20]] = {**files, name: json.dumps(tree).encode()}
    told = [told for (told,) in outcomes("bridge", written(cases, tmp_path)).values()]
    assert told == ["refused", "wrong_shape", "refused"]


# Logs


def test_a_log_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    """Chunks of zeros under gzip: a thousandth of their size in the file."""
    cases = {}
    for rows in (1 << 20, 1 << 23):
        files = made.droid_folder()
        name = f"{made.DROID_PATH}/trajectory.h5"
        buffer = io.BytesIO(files[name])
        with h5py.File(buffer, "r+") as log:
            joints = "observation/robot_state/joint_positions"
            del log[joints]
            zeros = np.zeros((rows, 7), "f4")
            log.create_dataset(joints, data=zeros, chunks=(rows >> 4, 7), compression="gzip")
        cases[str(rows)] = {**files, name: buffer.getvalue()}
    told = outcomes("droid", written(cases, tmp_path))
    assert list(told.values()) == [["too_large"], ["too_large"]]


def test_pickle_bombs_are_refused(tmp_path):
    bombs = {
        "a memo of 4 billion places": b"\x80\x02Nr\xff\xff\xff\xff0.",
        "a length": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        "a function": pickle.dumps({"full_state": os.system}),
    }
    sound = made.bridge_folder()
    name = next(path for path in sound if path.endswith("obs_dict.pkl"))
    cases = {why: {**sound, name: bomb} for why, bomb in bombs.items()}
    for why, told in outcomes("bridge", written(cases, tmp_path)).items():
        assert told == ["undecodable_record"], why


# Ways out of the folder, and what is no file


def test_links_out_of_a_bridge_trajectory_are_refused(tmp_path):
    """A link to a secret would publish it as an instruction."""
    roots = {}
    for n, part in enumerate(("lang.txt", "obs_dict.pkl", "images0/im_0.jpg")):
        root = roots[part] = made.write(made.bridge_folder(), tmp_path / f"data{n}")
        path = root / made.BRIDGE_DATED / "raw/traj_group0/traj0" / part
        path.rename(tmp_path / f"elsewhere{n}")
        path.symlink_to(tmp_path / f"elsewhere{n}")
    for part, told in outcomes("bridge", roots).items():
        assert told == ["bad_identity"], part


def test_links_within_a_trajectory_are_read(tmp_path):
    root = made.write(made.bridge_folder(), tmp_path / "data")
    folder = root / made.BRIDGE_DATED / "raw/traj_group0/traj0"
    (folder / "lang.txt").rename(folder / "said.txt")
    (folder / "lang.txt").symlink_to("said.txt")
    assert outcomes("bridge", {"": root}) == {"": ["built: move the pot"]}


def test_record_files_may_be_links_as_a_cache_of_downloads_has_them(tmp_path):
    root = made.write(info_of(), tmp_path / "data")
    for n, path in enumerate(sorted(root.glob("*/*/*"))):
        path.rename(tmp_path / f"blob{n}")
        path.symlink_to(tmp_path / f"blob{n}")
    assert outcomes("bridge", {"": root}) == {"": ["built: move the pot"]}


PARTS = {
    "bridge": ("obs_dict.pkl", "lang.txt"),
    "droid": (
        "trajectory.h5",
        f"metadata_{made.DROID_UUID}.json",
        f"recordings/MP4/{made.SERIALS['ext1']}.mp4",
        f"recordings/MP4/{made.SERIALS['ext1']}_timestamps.json",
    ),
}


def put(path: Path, what: str) -> None:
    """Something that is no file, in a file's place."""
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to({"loop": path, "nowhere": "no such", "zero": "/dev/zero"}[what])


@pytest.mark.parametrize("source", PARTS)
def test_what_is_no_file_quarantines_its_episode_and_nothing_waits(tmp_path, source):
    if source == "bridge":
        files, folder = made.bridge_folder(), f"{made.BRIDGE_DATED}/raw/traj_group0/traj0"
    else:
        files, folder = made.with_times(made.droid_folder()), made.DROID_PATH
    roots = {}
    for part in PARTS[source]:
        for what in ("pipe", "folder", "loop", "nowhere", "zero"):
            root = made.write(files, tmp_path / str(len(roots)))
            put(root / folder / part, what)
            roots[f"{what} {part}"] = root
    for name, (told,) in outcomes(source, roots).items():
        spare = told.startswith("built") and name.endswith(("_timestamps.json", "lang.txt"))
        assert told in ("bad_identity", "missing_feature") or spare, name


def test_a_folder_whose_name_is_no_text_is_quarantined(tmp_path):
    files = made.droid_folder()
    odd = {n.replace("Tue_Mar", "\udcff\udcfe"): data for n, data in files.items()}
    root = made.write({**files, **odd}, tmp_path)
    (told,) = outcomes("droid", {"": root}).values()
    assert sorted(told) == ["bad_identity", SOUND]


def test_jpegs_of_the_largest_admitted_size_still_fit(tmp_path):
    """The bound on pixels is what keeps a clip of 49 frames below the limit."""
    ramp = np.tile(np.arange(2048, dtype=np.uint8)[:, None, None], (1, 2048, 3))
    image = simplejpeg.encode_jpeg(ramp, colorspace="RGB")
    files = made.bridge_folder(steps=50, views=(0,))
    files = {n: image if n.endswith(".jpg") else data for n, data in files.items()}
    (told,) = outcomes("bridge", {"": made.write(files, tmp_path)}).values()
    assert told[0].startswith("built")


def test_a_global_heap_that_the_library_would_walk_for_ever_is_refused(tmp_path):
    """An object of no size in a heap of texts, found by the fuzzer: h5py alone never returns."""
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as log:
        log.attrs["time"] = "Mon_0" * 20
    with NumberFile(file) as log:
        assert log.text("/", "time", 256) == "Mon_0" * 20
    data = bytearray(file.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 32] = bytes(16)  # its first object: number 0, size 0
    file.write_bytes(data)
    with pytest.raises(EpisodeError) as caught, NumberFile(file) as log:
        log.text("/", "time", 256)
    assert caught.value.reason == Reason.UNDECODABLE_RECORD

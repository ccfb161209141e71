"""Duplicates: planted copies are found, different episodes are not, and nothing costs a square."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from converters import open_source
from pipeline.clip import plan_clip
from pipeline.duplicates import FRAME_BITS, PATH_MM, PATH_SHARE, find_duplicates
from pipeline.sketch import frame_hash, path_points, sketch_episode
from schemas.config import ClipConfig
from schemas.manifest import EpisodeSketch


def sketch(name, points, frame=0x0123456789ABCDEF, content=None, split="train") -> EpisodeSketch:
    path = np.asarray(points).astype("<i2").tobytes().hex()
    frames = {"c": f"{frame:016x}"}
    return EpisodeSketch(
        episode_id=name, split=split, content=content or name, path=path, frames=frames
    )


def curve(seed: int, length: float = 300.0) -> np.ndarray:
    """(16, 3) points of a smooth path, mm."""
    rng = np.random.default_rng(seed)
    knots = rng.normal(0, length, (5, 3))
    return CubicSpline(np.linspace(0, 1, 5), knots)(np.linspace(0, 1, 16)).round()


def by_all_pairs(sketches) -> dict[str, str]:
    """The same answer by comparing everything with everything."""
    out: dict[str, str] = {}
    paths = [
        np.frombuffer(bytes.fromhex(s.path), "<i2").reshape(16, 3).astype(float) for s in sketches
    ]
    lengths = [np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path in paths]
    first: dict[str, int] = {}
    exact = {n for n, s in enumerate(sketches) if first.setdefault(s.content, n) != n}
    for n, m in itertools.product(range(len(sketches)), repeat=2):
        one, other = sketches[n], sketches[m]
        if n in exact:
            out[one.episode_id] = sketches[first[one.content]].episode_id
            continue
        if m >= n or m in exact or one.episode_id in out or other.episode_id in out:
            continue
        rms = np.sqrt(((paths[n] - paths[m]) ** 2).sum(1).mean())
        bits = min(
            (int(a, 16) ^ int(b, 16)).bit_count()
            for a in one.frames.values()
            for b in other.frames.values()
        )
        limit = min(PATH_MM, PATH_SHARE * min(lengths[n], lengths[m]))
        if lengths[n] > 0 and lengths[m] > 0 and rms <= limit and bits <= FRAME_BITS:
            out[one.episode_id] = other.episode_id
    return out


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0, 12), st.integers(0, 8), st.integers(0, 25)),
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
def test_near_pairs_are_those_of_comparing_everything(made, random):
    rng = np.random.default_rng(random.randrange(1 << 30))
    sketches = []
    for n, (base, noise, flips, content) in enumerate(made):
        points = curve(base, 40) + rng.normal(0, noise / 1.7 + 1e-9, 3)  # as a whole: no averaging
        frame = 0x0F1E2D3C4B5A6978 * (base % 2 + 1) & (1 << 64) - 1
        for bit in rng.choice(64, flips, replace=False):
            frame ^= 1 << int(bit)
        sketches.append(sketch(f"e{n}", points.round(), frame, f"c{content}"))
    found = {pair.episode_id: pair.duplicate_of for pair in find_duplicates(sketches)}
    assert found == by_all_pairs(sketches)


def test_a_copy_says_what_it_repeats_how_and_whether_splits_leak():
    first, other = curve(0), curve(1)
    pairs = find_duplicates(
        [
            sketch("a", first, content="same"),
            sketch("b", other, frame=7),
            sketch("c", first, content="same", split="val"),
            sketch("d", first + 2, frame=0x0123456789ABCDEE),
            sketch("e", first, frame=0xFEDCBA9876543210),  # another scene
        ]
    )
    assert [(p.kind, p.episode_id, p.duplicate_of) for p in pairs] == [
        ("exact", "c", "a"),
        ("near", "d", "a"),
    ]
    assert (pairs[0].split, pairs[0].split_of_first) == ("val", "train")
    assert pairs[1].path_mm == pytest.approx(2 * 3**0.5, abs=0.05)
    assert pairs[1].frame_bits == 1


def test_a_resting_arm_and_a_flat_view_are_no_evidence():
    rest = np.repeat([[300, 0, 400]], 16, 0)
    resting = [sketch(f"e{n}", rest) for n in range(3)]
    unseen = [
        s.model_copy(update={"frames": {}}) for s in (sketch("x", curve(0)), sketch("y", curve(0)))
    ]
    assert find_duplicates(resting + unseen) == []
    assert find_duplicates([]) == []
    assert frame_hash(np.full((90, 160, 3), 130, np.uint8)) is None


def test_a_thousand_copies_make_a_thousand_pairs_not_a_million():
    pairs = find_duplicates([sketch(f"e{n}", curve(0) + n % 2) for n in range(1001)])
    assert len(pairs) == 1000
    assert {pair.duplicate_of for pair in pairs} == {"e0"}


@given(st.integers(0, 1000))
def test_a_frames_hash_compares_the_means_of_its_blocks(seed):
    rng = np.random.default_rng(seed)
    frame = np.repeat(rng.integers(0, 256, (48, 72, 1), np.uint8), 3, 2)
    means = frame[:, :, 0].reshape(8, 6, 9, 8).mean((1, 3))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(frame_hash(frame)), np.uint8)).reshape(8, 8)
    clear = np.abs(np.diff(means, axis=1)) > 1
    np.testing.assert_array_equal(bits[clear], (np.diff(means, axis=1) > 0)[clear])


def test_idling_and_the_rate_do_not_change_a_path():
    time = np.linspace(0, 6, 91)
    way = CubicSpline([0, 1.5, 3, 4.5, 6], np.random.default_rng(3).normal(0, 0.2, (5, 3)))
    points = path_points(way(time), time)
    moved = np.concatenate(
        [np.repeat(way(time[:1]), 40, 0), way(time), np.repeat(way([6.0]), 9, 0)]
    )
    np.testing.assert_allclose(path_points(moved, np.arange(140) / 15), points, atol=1e-9)
    dense = np.linspace(0, 6, 271)
    assert np.abs(path_points(way(dense), dense) - points).max() < 0.003
    # Between leaving the start by 2 cm and coming within 2 cm of the end.
    np.testing.assert_allclose(np.linalg.norm(points[0] - way(0)), 0.02, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(points[-1] - way(6)), 0.02, atol=1e-3)


def real(source, data):
    opened = open_source(source, str(data))
    for split, refs in opened.refs(None).items():
        for ref in refs:
            episode = opened.read(ref, split, None)
            step = plan_clip(episode, ClipConfig()).steps[:1]
            yield episode, {name: c.decode(step)[0] for name, c in episode.cameras.items()}


def renamed(episode, ee=None, time=None, name="copy", frames=None):
    ee = episode.robot.ee if ee is None else ee
    robot = replace(episode.robot, ee=ee, joints=None, gripper=np.ones(len(ee)))
    changed = replace(
        episode,
        id=f"{episode.id}/{name}",
        robot=robot,
        time=np.arange(len(ee)) / episode.fps if time is None else time,
        actions={},
        action_columns={},
        cameras={k: replace(c, frames=[b""] * len(ee)) for k, c in episode.cameras.items()},
    )
    return sketch_episode(changed, ee, frames)


def encoded(frames, quality, scale=1.0):
    def again(image):
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, quality, colorspace="RGB"))

    return {name: again(image) for name, image in frames.items()}


@pytest.fixture(scope="module")
def samples(droid_data, bridge_data):
    return [*real("droid", droid_data), *real("bridge", bridge_data)]


def test_no_two_real_episodes_are_duplicates(samples):
    sketches = [sketch_episode(e, e.robot.ee, frames) for e, frames in samples]
    assert len(sketches) == 31
    assert find_duplicates(sketches) == []
    # The same bytes under other ids are, every one of them.
    again = [s.model_copy(update={"episode_id": s.episode_id + "/copy"}) for s in sketches]
    assert [p.kind for p in find_duplicates(sketches + again)] == ["exact"] * 31


def test_planted_copies_of_real_episodes_are_found_and_nothing_else(samples):
    rng = np.random.default_rng(0)
    originals = [sketch_episode(e, e.robot.ee, frames) for e, frames in samples]
    copies = []
    for episode, frames in samples:
        noisy = episode.robot.ee.copy()
        noisy[:, :3, 3] += rng.normal(0, 0.001, (len(noisy), 3))
        idle = np.concatenate([np.repeat(episode.robot.ee[:1], 7, 0), episode.robot.ee])
        time = np.linspace(0, episode.time[-1], 3 * len(episode))
        dense = np.repeat(np.eye(4)[None], len(time), 0)
        dense[:, :3, 3] = CubicSpline(episode.time, episode.robot.ee[:, :3, 3])(time)
        copies += [
            renamed(episode, name="encoded", frames=encoded(frames, 50)),
            renamed(episode, name="small", frames=encoded(frames, 75, 0.5)),
            renamed(episode, noisy, name="noisy", frames=encoded(frames, 75)),
            renamed(episode, idle, name="idle", frames=frames),
            renamed(episode, dense, time, name="resampled", frames=encoded(frames, 75)),
        ]
    found = find_duplicates(originals + copies)
    wrong = [p for p in found if not p.episode_id.startswith(p.duplicate_of + "/")]
    assert wrong == []
    missed = {c.episode_id for c in copies} - {p.episode_id for p in found}
    # 1 mm of noise on a way of 40 mm (Bridge, 2 s) may be more than 15 % of it.
    assert all(name.startswith("bridge/") and name.endswith("/noisy") for name in missed)
    assert len(missed) <= 1

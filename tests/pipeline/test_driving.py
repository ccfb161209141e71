"""RT-1's robot drives up before it works: told by its record, and its camera is still found."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from converters import open_source
from pipeline.base import base_motion
from pipeline.camera import choose_camera
from reconstruction.camera import CameraProblem
from reconstruction.camera.moved import still_sections
from robo4d.geometry import invert, project, rotation_angle, transform
from robots.kinematics import ee_poses
from schemas.config import CameraConfig, SourceConfig
from simulation import rt1
from simulation._store import write_dataset_info, write_tfrecord
from simulation.rt1_driving import drive_up, encode_driving, film_driving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """The episode as its converter reads it, with script, film and way of the base."""
    drawn = rt1.draw_episode(1001, 5)
    way = drive_up(drawn)
    films = film_driving(drawn, way)
    folder = tmp_path_factory.mktemp("driving") / "fractal20220817_data" / "0.1.0"
    folder.mkdir(parents=True)
    features = rt1.tfds_features()
    features.save_config(str(folder))
    example = features.encode_example(encode_driving(drawn, films, way))
    payload = features.serialize_example(example)
    write_tfrecord(folder / "fractal20220817_data-train.tfrecord-00000-of-00001", [payload])
    write_dataset_info(
        folder,
        name="fractal20220817_data",
        version="0.1.0",
        description=rt1.describe(1001),
        shard_lengths=[1],
        payload_bytes=len(payload),
    )
    source = open_source("rt1", str(folder), SourceConfig())
    ((split, (ref,)),) = source.refs(None).items()
    return source.read(ref, split, None), drawn.script, films["image"], way


def test_the_record_tells_how_far_the_base_is_driven(driven):
    episode, _, film, way = driven
    told = base_motion(episode).describe()
    moves = np.linalg.norm(np.diff(way[:, :3, 3], axis=0), axis=1)
    turns = rotation_angle(way[:-1, :3, :3], way[1:, :3, :3])
    assert told["base_moved"]
    assert told["metres"] == pytest.approx(moves.sum(), abs=1e-5)
    assert told["radians"] == pytest.approx(turns.sum(), abs=1e-5)
    assert told["driven_steps"] == (moves > 1e-3).sum()
    assert any("the base is told to move" in note for note in episode.notes)
    # The camera rides on the base: against it, it stands still.
    assert np.ptp(film.base_from_camera, axis=0).max() < 1e-9


def test_the_background_stands_still_from_where_the_base_arrives(driven):
    episode, script, _, way = driven
    arrived = int(np.flatnonzero(np.linalg.norm(way[:, :3, 3], axis=1) < 1e-6)[0])
    stream = episode.cameras["image"]
    time = episode.time
    problem = CameraProblem(None, stream.decode, stream.size(), script.joints, script.opening, time)
    *_, (first, past) = still_sections(problem).sections
    assert (first, past) == (arrived, len(time))


def test_its_camera_is_solved_where_the_base_stands_and_is_the_true_one(driven):
    episode, script, film, _ = driven
    motion = SimpleNamespace(joints=script.joints.astype(float), fingers=script.opening)
    choice = choose_camera(
        episode, episode.cameras["image"], None, motion, rt1.RIG.robot, CameraConfig()
    )
    assert "the base moves; solved where it stands, steps 7 to" in choice.why
    assert choice.verdict in ("good", "usable")
    # The lens is guessed, and its principal point taken for the middle, which a turn makes up for:
    # what counts is where the hand is seen, also while the base was driven.
    found = choice.calibration
    assert found.base_from_camera.shape == (4, 4)
    hand = ee_poses(rt1.RIG.robot, script.joints)[:, :3, 3]
    seen = project(transform(invert(found.base_from_camera), hand), found.K)[0]
    true = project(transform(invert(film.base_from_camera[0]), hand), film.K)[0]
    assert np.linalg.norm(seen - true, axis=1).max() < 2.0
    off = found.base_from_camera[:3, 3] - film.base_from_camera[0, :3, 3]
    assert np.linalg.norm(off) < 0.02

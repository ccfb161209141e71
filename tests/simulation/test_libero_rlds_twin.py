"""The twin of LIBERO as RLDS: published layout, views the right way round, LIBERO's own numbers."""

from __future__ import annotations

import json
import re

import mujoco
import numpy as np
import pytest
import simplejpeg
from scipy.spatial.transform import Rotation

from converters import open_source
from robo4d.geometry import invert, project, transform
from robots.kinematics import ee_poses, solve_joints
from robots.models import ROBOTS
from robots.render import RobotRenderer
from simulation import libero_rlds
from simulation.layout import COLOURS
from simulation.script import PLACED_WITHIN
from simulation.twin import TWINS

pytestmark = pytest.mark.slow
ROBOT = ROBOTS["panda_libero"]


@pytest.fixture(scope="module")
def episodes(libero_twin):
    """As the converter reads them."""
    source = open_source("libero", str(libero_twin.folder))
    assert source.twin
    return [source.read(ref, "train", None) for ref in source.refs(None)["train"]]


# The builders of modified_libero_rlds (e.g. YinpeiDai/rlds_dataset_builder, LIBERO_Spatial).
PUBLISHED = {
    "episode_metadata/file_path": "text",
    "steps/action": ("float32", ["7"]),
    "steps/discount": ("float32", []),
    "steps/is_first": ("bool", []),
    "steps/is_last": ("bool", []),
    "steps/is_terminal": ("bool", []),
    "steps/language_instruction": "text",
    "steps/observation/image": ("uint8", ["256", "256", "3"]),
    "steps/observation/joint_state": ("float32", ["7"]),
    "steps/observation/state": ("float32", ["8"]),
    "steps/observation/wrist_image": ("uint8", ["256", "256", "3"]),
    "steps/reward": ("float32", []),
}


def _leaves(tree, prefix=""):
    tree = tree["sequence"]["feature"] if "sequence" in tree else tree
    if "featuresDict" in tree:
        out = {}
        for name, child in tree["featuresDict"]["features"].items():
            out |= _leaves(child, f"{prefix}/{name}".lstrip("/"))
        return out
    if "text" in tree:
        return {prefix: "text"}
    leaf = tree.get("image") or tree["tensor"]
    return {prefix: (leaf["dtype"], leaf["shape"].get("dimensions", []))}


def test_features_are_those_of_the_published_builders(libero_twin):
    assert _leaves(json.loads((libero_twin.folder / "features.json").read_text())) == PUBLISHED


def test_tfds_reads_it_with_the_values_that_the_converter_reads(libero_twin, episodes):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(libero_twin.folder))
    assert f"{builder.info.name}/{builder.info.version}" == TWINS["libero"]
    assert builder.info.splits["train"].num_examples == len(episodes) == 2
    for k, episode in enumerate(episodes):
        np.testing.assert_array_equal(
            libero_twin.floats(k, "observation/joint_state", 7), episode.robot.joints
        )


def test_ids_are_those_of_the_truth_and_outcomes_are_said(libero_twin, episodes):
    for k, (episode, success) in enumerate(zip(episodes, (True, False), strict=True)):
        for camera in libero_rlds.VIEWS:
            truth = libero_twin.truth_of(episode.id, camera)
            assert truth["depth"].shape == (len(episode), 256, 256)
        assert libero_twin.truth_of(episode.id, "image")["depth"][0].min() > 0.5, "a free view"
        assert libero_rlds.draw_episode(0, k).script.success is success
        # A published copy holds no failures, so its layout has no word for one.
        assert episode.outcome == ("success" if success else "unknown")
        assert (episode.fps, episode.groups.scene) == (20.0, "libero_spatial_no_noops")
        assert episode.groups.task == episode.instructions[0].replace(" ", "_")
        assert 75 <= len(episode) <= 115


def _painted(frame, colour):
    """Pixels of a painted thing, whatever the light: by direction in colour space."""
    pixels = frame.astype(float) + 1
    wanted = np.array(COLOURS[colour])
    cosine = pixels @ wanted / np.linalg.norm(pixels, axis=-1) / np.linalg.norm(wanted)
    return cosine > 0.985


def test_known_points_are_seen_where_the_camera_has_them_and_not_in_the_mirror(
    libero_twin, episodes
):
    """The thing and the plate, by colour, against their positions projected by K and pose."""
    drawn = libero_rlds.draw_episode(0, 0)
    episode = episodes[0]
    truth = libero_twin.truth_of(episode.id, "image")
    frame = episode.cameras["image"].decode([0])[0]
    camera = invert(truth["base_from_camera"][0])
    for colour, point in (
        (drawn.layout.things[0].colour, drawn.script.things[0, 0, :3, 3]),
        (drawn.layout.plate_colour, drawn.layout.plate),
    ):
        [[u, v]], _ = project(transform(camera, point[None]), np.asarray(truth["K"]))
        assert abs(u - 128) > 12, "in the middle a mirror would not show"
        near = _painted(frame, colour)[int(v) - 3 : int(v) + 4]
        assert near[:, int(u) - 2 : int(u) + 3].mean() > 0.6, colour
        assert near[:, 255 - int(u) - 2 : 255 - int(u) + 3].mean() < 0.2, colour


def test_published_pictures_are_the_films_mirrored(libero_twin, episodes):
    for camera in libero_rlds.VIEWS:
        stored = simplejpeg.decode_jpeg(libero_twin.images(0, camera)[5])
        read = episodes[0].cameras[camera].decode([5])[0]
        np.testing.assert_array_equal(read, stored[:, ::-1])
        assert np.abs(read.astype(int) - stored).mean() > 8


@pytest.mark.parametrize("camera", libero_rlds.VIEWS)
def test_the_robot_is_where_its_logged_joints_put_it(libero_twin, episodes, camera):
    """The truth's parts against a render of the robot alone from what the converter read."""
    episode = episodes[0]
    truth = libero_twin.truth_of(episode.id, camera)
    steps = np.array([0, len(episode) // 2, len(episode) - 1])
    log = episode.robot
    with RobotRenderer(ROBOT, 256, 256) as render:
        _, parts = render(
            log.joints[steps],
            log.fingers[steps],
            np.repeat(np.asarray(truth["K"])[None], len(steps), 0),
            np.asarray(truth["base_from_camera"])[steps],
        )
    for mask, seen in zip(parts > 0, np.asarray(truth["robot_part"])[steps] > 0, strict=True):
        # Things may hide the robot, never the other way round.
        assert (seen & ~mask).sum() <= 0.01 * mask.sum()
        assert (seen & mask).sum() > 0.8 * mask.sum()


def test_states_are_in_liberos_world_and_explained_by_the_joints(libero_twin, episodes):
    for k, episode in enumerate(episodes):
        state = libero_twin.floats(k, "observation/state", 8)
        reached = ee_poses(ROBOT, episode.robot.joints)
        place = state[:, :3] - reached[:, :3, 3]
        np.testing.assert_allclose(place, np.tile([-0.66, 0, 0.912], (len(state), 1)), atol=1e-6)
        turn = Rotation.from_rotvec(state[:, 3:6]).as_matrix()
        np.testing.assert_allclose(turn, reached[:, :3, :3], atol=1e-5)
        np.testing.assert_allclose(episode.robot.ee[:, :3, 3], reached[:, :3, 3], atol=1e-6)
        np.testing.assert_allclose(state[:, 6], -state[:, 7])
        assert state[:, 6].min() >= 0
        assert state[:, 6].max() <= 0.04 + 1e-6
        # LIBERO begins near its published mean first step.
        np.testing.assert_allclose(state[0, :3], [-0.204, 0.001, 1.173], atol=0.08)
        solved = solve_joints(ROBOT, episode.robot.ee, episode.time)
        assert not solved.flagged.any()


def test_an_action_leads_to_the_next_state(libero_twin):
    """In robosuite's units: 1 asks for 0.05 m and 0.5 rad."""
    state = libero_twin.floats(0, "observation/state", 8).astype(float)
    action = libero_twin.floats(0, "action", 7).astype(float)
    assert np.abs(action).max() <= 1
    free = (np.abs(action[:-1, :6]) < 1).all(axis=1)
    assert free.mean() > 0.9
    move = np.diff(state[:, :3], axis=0)
    np.testing.assert_allclose(move[free], 0.05 * action[:-1][free, :3], atol=1e-6)
    rotation = Rotation.from_rotvec(state[:, 3:6])
    turn = Rotation.from_rotvec(0.5 * action[:-1, 3:6]) * rotation[:-1]
    assert (turn[free].inv() * rotation[1:][free]).magnitude().max() < 1e-4
    np.testing.assert_array_equal(action[-1, :6], 0)
    assert set(action[:, 6]) == {-1.0, 1.0}
    shut = np.diff(state[:, 6]) < -1e-4
    assert (action[:-1, 6][shut] == 1).all()


def test_episodes_end_as_they_were_meant_to():
    plans = set()
    for seed, index in ((0, 0), (0, 1), (1, 1)):
        episode = libero_rlds.draw_episode(seed, index)
        script, layout = episode.script, episode.layout
        gap = np.linalg.norm(script.things[-1, 0, :2, 3] - layout.plate[:2])
        assert script.success == (episode.plan == "place") == bool(gap < PLACED_WITHIN)
        plans.add(episode.plan)
    assert plans == {"place", "miss", "drop"}


def test_the_cameras_are_liberos(libero_site):
    """Against the numbers in LIBERO's and robosuite's own files."""
    source = (
        libero_site / "libero/libero/envs/problems/libero_tabletop_manipulation.py"
    ).read_text()
    own = re.search(r'camera_name="agentview",\s+pos=\[(.*?)\],\s+quat=\[(.*?)\]', source, re.S)
    position, turn = (json.loads(f"[{text.strip().rstrip(',')}]") for text in own.groups())
    np.testing.assert_array_equal(position, libero_rlds._AGENTVIEW)
    np.testing.assert_array_equal(turn, libero_rlds._AGENTVIEW_TURN)
    spec = mujoco.MjSpec.from_file(
        str(libero_site / "robosuite/models/assets/robots/panda/robot.xml")
    )
    [eye] = [camera for camera in spec.cameras if camera.name == "eye_in_hand"]
    np.testing.assert_allclose(eye.pos, libero_rlds._EYE)
    np.testing.assert_allclose(eye.quat, libero_rlds._EYE_TURN)
    assert eye.fovy == libero_rlds._EYE_FOV

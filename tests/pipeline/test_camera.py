"""Which camera a clip gets, where nothing is to be solved."""

from types import SimpleNamespace

import numpy as np
import pytest

import reconstruction.camera
from pipeline.camera import choose_camera
from pipeline.lineage import _masks
from reconstruction import checkpoint
from reconstruction.camera import CameraSolution, WristSolution, sam_masks
from reconstruction.camera.robot_masks import embedded_masks
from reconstruction.motion import solve_motion
from robo4d.geometry import intrinsics
from robots.kinematics import ee_poses
from robots.models import get_robot
from schemas.config import CameraConfig, MasksConfig
from schemas.episode import Calibration, CameraStream, Provenance, RobotTrajectory

POSE = np.eye(4)
K = intrinsics(100, 100, 50, 50)


def choose(stream, exact=None, **config):
    return choose_camera(None, stream, exact, None, None, CameraConfig(**config))


def stream(name="exterior", provenance=None):
    shipped = None if provenance is None else Calibration(K, POSE, provenance)
    return CameraStream(name, [b""], shipped)


def test_the_simulators_camera_is_exact():
    exact = Calibration(K, POSE, Provenance.SIMULATED)
    assert choose(stream(), exact).verdict == "exact"
    assert choose(stream(provenance=Provenance.SIMULATED)).calibration is not None


def test_a_shipped_camera_is_taken_untested_only_where_the_configuration_says_so():
    choice = choose(stream(provenance=Provenance.POSTHOC), solve="never")
    assert (choice.verdict, choice.columns()["silhouette_iou"]) == ("shipped", None)
    assert choice.calibration is choice.shipped
    assert choice.describe()["shipped"]["provenance"] == "posthoc"


@pytest.mark.parametrize("name", ["wrist_image_left", "x"])
def test_a_camera_that_is_not_solved_is_absent_with_the_reason(name):
    choice = choose(stream(name), solve="never")
    assert (choice.calibration, choice.verdict) == (None, "unsolved")
    assert choice.why


def test_a_camera_on_the_hand_gets_a_pose_a_step_by_forward_kinematics(monkeypatch):
    mount, late = np.eye(4), 0.1
    mount[:3, 3] = [-0.07, 0.03, 0.01]
    found = WristSolution(mount, K, np.eye(6), late, "usable", "as told", {"track_share": 0.7})
    monkeypatch.setattr(reconstruction.camera, "solve_wrist", lambda *_, **__: found)
    robot = get_robot("panda_robotiq")
    time = np.arange(6) / 5.0
    joints = np.asarray(robot.rest) + np.linspace(0, 0.5, 6)[:, None]
    episode = SimpleNamespace(
        source="droid",
        time=time,
        robot=RobotTrajectory("panda_robotiq", np.ones(6), joints),
        logged=Provenance.MEASURED,
    )
    wrist = SimpleNamespace(
        name="wrist_image_left", calibration=None, decode=None, size=lambda: (180, 320)
    )
    motion = solve_motion(episode, robot)
    choice = choose_camera(episode, wrist, None, motion, robot, CameraConfig())
    assert (choice.verdict, choice.late, choice.quality) == ("usable", late, {"track_share": 0.7})
    assert choice.calibration.provenance == Provenance.ESTIMATED
    # Images half a step late show the hand where the log had it half a step before.
    between = ee_poses(robot, (joints[2:3] + joints[3:4]) / 2)[0] @ mount
    assert choice.calibration.base_from_camera.shape == (6, 4, 4)
    assert np.abs(choice.calibration.base_from_camera[3] - between).max() < 1e-6


def test_a_hand_camera_of_unknown_lens_is_left_alone():
    episode = SimpleNamespace(source="rt1")
    choice = choose_camera(episode, stream("wrist"), None, None, None, CameraConfig())
    assert (choice.verdict, choice.calibration) == ("unsolved", None)
    assert "lens" in choice.why


def test_a_configured_network_is_opened_and_handed_to_the_solver(monkeypatch):
    asked = {}

    def solve(*_, masks, **__):
        asked["masks"] = masks
        return CameraSolution(None, None, None, 0.0, "reject", "as told")

    monkeypatch.setattr(reconstruction.camera, "solve_camera", solve)
    monkeypatch.setattr(sam_masks, "open_sam", lambda model: f"opened {model}")
    episode = SimpleNamespace(source="droid", time=np.arange(6) / 5.0, actions={})
    view = SimpleNamespace(
        name="exterior",
        calibration=None,
        decode=lambda steps: np.zeros((len(steps), 180, 320, 3), np.uint8),
        size=lambda: (180, 320),
    )
    motion = SimpleNamespace(joints=np.zeros((6, 7)), fingers=np.zeros(6))
    droid, widowx = SimpleNamespace(name="panda_robotiq"), SimpleNamespace(name="widowx_250s")
    for masks, robot, wanted in (
        (MasksConfig(), droid, embedded_masks()),
        (MasksConfig(), widowx, None),
        (MasksConfig(backend="none"), droid, None),
        (MasksConfig(backend="sam", model="a/b"), widowx, "opened a/b"),
    ):
        choose_camera(episode, view, None, motion, robot, CameraConfig(masks=masks))
        assert asked["masks"] == wanted


def test_other_weights_make_other_shards(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "_versions", lambda: "torch==2 transformers==5")
    monkeypatch.setattr(checkpoint, "device", lambda: "cpu")
    config = MasksConfig(backend="sam", model=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = _masks(config)
    assert _masks(config) == first
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert _masks(config) != first
    assert _masks(MasksConfig()) == ""

"""Cameras solved from nothing, judged by the simulator's own; and what must be rejected."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from benchmarks._camera_clips import CameraClip, get_clip
from benchmarks._camera_film import FilmOptions
from benchmarks._camera_trials import displaced, judged, problem_of
from benchmarks._degraded_masks import DegradedMasks
from reconstruction.camera import CameraProblem, score_pose, solve_camera
from reconstruction.camera.estimate import Estimate
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.learned_masks import mask_iou
from reconstruction.camera.problem import diverse_steps
from reconstruction.camera.refine import refine
from reconstruction.camera.robot_masks import embedded_masks
from reconstruction.camera.solve import judge
from reconstruction.camera.trail import _BY_MASKS, last_rounds
from robo4d.geometry import intrinsics, invert, rotation_angle
from robots.kinematics import ee_poses
from robots.models import get_robot
from robots.rasterizer import RobotRasterizer
from simulation.layout import look_at

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(session_folder) -> CameraClip:
    """DROID's twin as a real camera would film it: noise, blur, JPEG, late images."""
    return get_clip("droid", 1001, FilmOptions(), session_folder / "clips")


@pytest.fixture(scope="module")
def solution(clip, made_once):
    def solve(folder):
        folder.mkdir()
        found = solve_camera([problem_of(clip)], clip.K)
        (folder / "solution.pickle").write_bytes(pickle.dumps(found))

    folder = made_once("solved-droid-1001", solve)
    return pickle.loads((folder / "solution.pickle").read_bytes())  # noqa: S301  ours


def test_a_camera_is_found_from_nothing(clip, solution):
    found = solution.base_from_camera
    off = np.linalg.norm(found[:3, 3] - clip.base_from_camera[:3, 3])
    assert np.degrees(rotation_angle(found[:3, :3], clip.base_from_camera[:3, :3])) < 0.6
    assert off < 0.012
    assert solution.verdict in ("good", "usable")
    assert abs(solution.late - clip.latency_s) < 0.005


def test_the_last_steps_lead_back_to_a_true_camera(clip):
    """From half a pixel or so, by matting and the network, and by matting alone."""
    problem = problem_of(clip)
    renderer = RobotRasterizer(problem.robot, *problem.working_size)
    frames = FrameSet([problem], [diverse_steps(problem, problem.solving(), 24)], renderer)
    off = displaced(clip.base_from_camera, np.radians(0.3), 0.008, np.random.default_rng(1))
    begin = Estimate(off, late=clip.latency_s)
    for enlarged, by in ((1.0, "both"), (2.0, "matte")):
        rounds = last_rounds(enlarged)
        assert {turn.by for turn in rounds} == {by}
        enough = frames.more(max(turn.frames for turn in rounds))
        end = refine(enough, begin, clip.K, 0.0, rounds, np.random.default_rng(0))
        found = end.pose
        assert np.linalg.norm(found[:3, 3] - clip.base_from_camera[:3, 3]) < 0.005
        assert np.degrees(rotation_angle(found[:3, :3], clip.base_from_camera[:3, :3])) < 0.3
        assert end.covariance is not None
        assert end.covariance.shape == (8, 8)


def test_more_frames_of_the_same_clip(clip):
    problem = problem_of(clip)
    renderer = RobotRasterizer(problem.robot, *problem.working_size)
    frames = FrameSet([problem], [diverse_steps(problem, problem.solving(), 6)], renderer)
    assert frames.more(6) is frames
    more = frames.more(9)
    assert len(more) == 9
    told = {image.tobytes() for image in more.images}
    assert {image.tobytes() for image in frames.images} < told
    assert len(frames.more(1000)) == len(problem.solving())


def test_the_true_pose_scores_well_and_a_stale_one_is_told_by_score_alone(clip, solution):
    problem = problem_of(clip)
    true = score_pose([problem], clip.K, clip.base_from_camera)
    stale = clip.base_from_camera.copy()
    stale[:3, 3] += [0.05, -0.05, 0.03]
    wrong = score_pose([problem], clip.K, stale)
    # The least that `judge` calls usable lies between them.
    assert true["edge_share"] > 0.7 > 0.6 > wrong["edge_share"]
    assert true["silhouette_iou"] > wrong["silhouette_iou"] + 0.1
    assert solution.quality["edge_share"] == pytest.approx(true["edge_share"], abs=0.1)


class OfSomethingElse:
    """A backend that takes one and the same place for the robot, whatever it is asked."""

    def __call__(self, frames, prompts):
        shares = np.zeros(frames.shape[:3], np.float32)
        shares[:, 20:90, 30:140] = 1
        return shares


@pytest.mark.parametrize("right", [True, False])
def test_degraded_masks_help_and_wrong_ones_do_no_harm(right, clip, solution):
    masks = DegradedMasks(clip) if right else OfSomethingElse()
    found = solve_camera([problem_of(clip)], clip.K, masks=masks)
    off = np.linalg.norm(found.base_from_camera[:3, 3] - clip.base_from_camera[:3, 3])
    turn = rotation_angle(found.base_from_camera[:3, :3], clip.base_from_camera[:3, :3])
    assert np.degrees(turn) < 0.6
    assert off < 0.012
    assert found.verdict in ("good", "usable")
    assert solution.quality["mask_iou"] is None
    if right:
        assert found.quality["mask_iou"] > 0.8
    else:
        assert found.quality["mask_iou"] < 0.5
        assert np.array_equal(found.base_from_camera, solution.base_from_camera)


def test_masks_lead_from_pixels_off_by_themselves(clip):
    problem = problem_of(clip)
    renderer = RobotRasterizer(problem.robot, *problem.working_size)
    frames = FrameSet([problem], [diverse_steps(problem, problem.solving(), 24)], renderer)
    pose = displaced(clip.base_from_camera, np.radians(6), 0.05, np.random.default_rng(2))
    frames.ask(DegradedMasks(clip), clip.K, pose, 0.0, 24)
    led = refine(frames, Estimate(pose), clip.K, 0.0, _BY_MASKS, np.random.default_rng(0))
    assert judged(clip, pose, clip.K)["px"] > 10
    assert judged(clip, led.pose, clip.K)["px"] < 1.5


def test_our_network_sees_the_robot_beside_where_it_is_told_and_leads_there(clip):
    problem = problem_of(clip)
    renderer = RobotRasterizer(problem.robot, *problem.working_size)
    frames = FrameSet([problem], [diverse_steps(problem, problem.solving(), 12)], renderer)
    frames.set_late(clip.latency_s)
    every = np.arange(len(frames))
    true = frames.rendered(every, clip.K, clip.base_from_camera)[1]
    pose = displaced(clip.base_from_camera, np.radians(3), 0.03, np.random.default_rng(3))
    told = frames.rendered(every, clip.K, pose)[1]
    frames.ask(embedded_masks(), clip.K, pose, clip.latency_s, 6)
    asked = ~np.isnan(frames.shares).any((1, 2))
    assert asked.sum() == 6
    assert (np.isnan(frames.shares).all((1, 2)) == ~asked).all()
    frames.ask(embedded_masks(), clip.K, pose, clip.latency_s, 12)
    assert mask_iou(told.astype(np.float32).clip(0, 1), true) < 0.75
    assert mask_iou(frames.shares, true) > 0.85
    led = refine(frames, Estimate(pose), clip.K, 0.0, _BY_MASKS, np.random.default_rng(0))
    assert judged(clip, pose, clip.K)["px"] > 5
    assert judged(clip, led.pose, clip.K)["px"] < 1.5


def test_a_robot_that_does_not_move_is_not_guessed_at(clip):
    problem = problem_of(clip)
    still = np.zeros(len(problem), int)
    frozen = type(problem)(
        problem.robot,
        lambda steps: problem.decode(still[steps]),
        problem.size,
        problem.joints[still],
        problem.fingers[still],
        problem.time,
    )
    solution = solve_camera([frozen], clip.K)
    assert solution.verdict == "reject"
    assert solution.why


def test_a_single_measure_does_not_make_a_camera():
    sound = {
        "edge_share": 0.8,
        "flow_score": 0.6,
        "agreeing_starts": 3.0,
        "position_sd_m": 0.004,
        "rotation_sd_rad": 0.004,
        "swept_px": 30.0,
    }
    assert judge(sound)[0] == "good"
    assert judge(sound | {"position_sd_m": 0.009})[0] == "usable"
    assert judge(sound | {"rotation_sd_rad": 0.012})[0] == "usable"
    assert judge(sound | {"edge_share": 0.63, "flow_score": 0.7})[0] == "usable"
    for poor in (
        {"edge_share": 0.4},
        {"edge_share": 0.63, "flow_score": 0.4},
        {"flow_score": 0.1},
        {"position_sd_m": 0.1},
        {"agreeing_starts": 1.0},
        {"swept_px": 5.0},
        {"swept_px": None},
    ):
        assert judge(sound | poor)[0] == "reject"


@pytest.mark.parametrize(
    ("swept", "outline", "verdict", "why"),
    [
        (7.0, 0.8, "good", "starts agree"),
        (6.9, 0.84, "reject", "of which 85% are asked where it moves by 7 pixels only"),
        (6.9, 0.85, "good", "starts agree"),
        (None, 0.84, "reject", "its motion is unknown"),
    ],
)
def test_a_robot_that_hardly_moves_needs_a_clearer_outline(swept, outline, verdict, why):
    fit = {
        "edge_share": outline,
        "flow_score": 0.6,
        "agreeing_starts": 3.0,
        "position_sd_m": 0.004,
        "rotation_sd_rad": 0.004,
        "swept_px": swept,
    }
    assert judge(fit)[0] == verdict
    assert why in judge(fit)[1]
    # What fails for another reason is not told to have moved too little.
    assert "pixels only" not in judge(fit | {"flow_score": 0.1})[1]


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 15, 60), (0.1, 1.5, 6), (0.0, 0, 1e-6)])
def test_how_far_a_robot_moves_in_the_picture_is_measured(share, least, most):
    """About as far as its hand, of which the log and OpenCV tell; it scales with the motion."""
    robot = get_robot("panda_robotiq")
    joints = np.tile(np.asarray(robot.rest, float), (30, 1))
    joints[:, 0] += share * 0.9 * np.sin(np.arange(30) / 3)
    images = np.zeros((30, 180, 320, 3), np.uint8)
    problem = CameraProblem(
        robot, lambda steps: images[steps], (180, 320), joints, np.zeros(30), np.arange(30) / 15
    )
    pose, K = (
        look_at(np.array([1.6, 0, 0.6]), np.array([0.4, 0, 0.3]), 0.0),
        intrinsics(131, 131, 160, 90),
    )
    swept = score_pose([problem], K, pose)["swept_px"]
    seen = invert(pose)
    hand = ee_poses(robot, joints)[:, :3, 3]
    pixels = cv2.projectPoints(hand, seen[:3, :3], seen[:3, 3], K, None)[0][:, 0]
    told = np.sqrt(pixels.var(0).sum())
    assert swept == pytest.approx(told, rel=0.3, abs=1e-6)
    assert least <= swept <= most


@pytest.mark.parametrize(("steps", "size"), [(1, (180, 320)), (2, (180, 320)), (30, (4, 320))])
def test_clips_too_short_or_too_narrow_are_rejected_in_words(steps, size):
    robot = get_robot("panda_robotiq")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (steps, *size, 3)).astype(np.uint8)
    problem = CameraProblem(
        robot,
        lambda chosen: images[chosen],
        size,
        np.asarray(robot.rest, float) + np.cumsum(rng.normal(0, 0.05, (steps, 7)), 0),
        np.zeros(steps),
        np.arange(steps) / 15,
    )
    K = intrinsics(130, 130, size[1] / 2, size[0] / 2)
    solution = solve_camera([problem], K)
    assert solution.verdict == "reject"
    assert solution.why
    nowhere = score_pose([problem], K, np.eye(4))
    assert nowhere["edge_share"] == 0
    assert nowhere["swept_px"] is None


def test_an_unknown_deviation_is_not_a_small_one():
    sound = {"edge_share": 0.8, "flow_score": 0.6, "agreeing_starts": 3.0, "swept_px": 30.0}
    for position, turn in ((np.nan, 0.004), (0.004, np.nan), (None, 0.004)):
        assert judge(sound | {"position_sd_m": position, "rotation_sd_rad": turn})[0] == "reject"

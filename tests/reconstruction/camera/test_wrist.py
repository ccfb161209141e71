"""Cameras on the hand, found from points of a still scene that are projected independently."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from twin_files import read_twin

from reconstruction.camera import CameraProblem, solve_wrist
from reconstruction.camera.wrist import _liveliest, judge_mount
from reconstruction.camera.wrist_bundle import adjust, triangulate
from reconstruction.camera.wrist_hand import Hand, Mount
from reconstruction.camera.wrist_search import rays_of, search_mount, widest_pairs
from reconstruction.camera.wrist_tracks import Tracks, follow_points
from robo4d.geometry import intrinsics, invert, make_pose, rotation_angle
from robots.kinematics import ee_poses
from robots.models import get_robot
from simulation import droid

HEIGHT, WIDTH, FRAMES = 180, 320, 40
K = intrinsics(182, 182, WIDTH / 2, HEIGHT / 2)
ROBOT = get_robot("panda_robotiq")
# As no source has it: on the hand's left, turned by 130 degrees, tipped by 20.
MOUNT = make_pose(
    Rotation.from_euler("zx", [130, -20], degrees=True).as_matrix(), np.array([-0.03, 0.06, 0.02])
)


def path(turning: float = 1.0, seed: int = 0) -> np.ndarray:
    """(T, J) rad, smooth, about the posture of work; ``turning`` scales the wrist's share."""
    t = np.linspace(0, 2 * np.pi, FRAMES)[:, None]
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 7)
    size = np.array([0.3, 0.15, 0.2, 0.2, 0.3, 0.3, 0.5]) * turning
    return np.asarray(ROBOT.rest) + size * np.sin(t * [1, 2, 1, 2, 3, 2, 1] + phase)


def problem(joints: np.ndarray, size: tuple[int, int] = (HEIGHT, WIDTH)) -> CameraProblem:
    def blank(steps: np.ndarray) -> np.ndarray:
        return np.zeros((len(steps), *size, 3), np.uint8)

    time = np.arange(len(joints)) / 5.0
    return CameraProblem(ROBOT, blank, size, joints, np.ones(len(joints)), time)


def seen(ee: np.ndarray, noise: float, seed: int = 0, per_track: int = 8) -> Tracks:
    """Points of a table and of things on it, projected by OpenCV."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([0, -0.7, -0.05], [1.0, 0.7, 0.2], (1500, 3))
    tracks, frames, pixels, count = [], [], [], 0
    for start in range(0, len(ee) - per_track, per_track // 2):
        steps = np.arange(start, start + per_track)
        there = []
        for t in steps:
            pose = invert(ee[t] @ MOUNT)
            turn = cv2.Rodrigues(pose[:3, :3])[0]
            uv = cv2.projectPoints(points, turn, pose[:3, 3], K, None)[0][:, 0]
            depth = (points @ pose[:3, :3].T + pose[:3, 3])[:, 2]
            inside = (depth > 0.05) & (uv > 0).all(1) & (uv < [WIDTH, HEIGHT]).all(1)
            there.append(np.where(inside[:, None], uv, np.nan))
        for views in np.stack(there, 1)[rng.permutation(len(points))][:150]:
            kept = np.isfinite(views).all(1)
            if kept.sum() >= 3:
                tracks.append(np.full(kept.sum(), count))
                frames.append(steps[kept])
                pixels.append(views[kept] + rng.normal(0, noise, (kept.sum(), 2)))
                count += 1
    frame = np.concatenate(frames)
    held = np.zeros(len(frame), bool)
    return Tracks(np.concatenate(tracks), frame, np.concatenate(pixels), held)


def gap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Degrees and millimetres between two poses."""
    turn = float(np.degrees(rotation_angle(a[:3, :3], b[:3, :3])))
    return turn, 1000 * float(np.linalg.norm(a[:3, 3] - b[:3, 3]))


def test_a_mount_is_found_from_any_side_of_the_hand_without_a_start():
    ee = ee_poses(ROBOT, path())
    pairs = widest_pairs(seen(ee, 0.3), ee, K)
    poses, cost = search_mount(pairs, 182, np.random.default_rng(0))
    turn, shift = gap(poses[0], MOUNT)
    assert turn < 2.5
    assert shift < 40
    assert cost[0] < 0.2


def test_bundle_adjustment_finds_mount_lens_and_lateness_at_once():
    joints, late = path(), 0.03
    hand = Hand([problem(joints)])
    tracks = seen(hand.ee(late), 0.2)
    start = MOUNT @ make_pose(
        Rotation.from_rotvec([0.03, -0.02, 0.04]).as_matrix(), [0.02, 0, 0.03]
    )
    wide = intrinsics(182 * 1.04, 182 * 1.04, WIDTH / 2, HEIGHT / 2)
    bundle = adjust(tracks, hand, wide, 0.1, Mount(start), 2.0)
    assert bundle is not None
    turn, shift = gap(bundle.mount.pose, MOUNT)
    assert turn < 0.15
    assert shift < 4
    assert np.exp(bundle.mount.log_zoom) == pytest.approx(1 / 1.04, abs=0.003)
    assert bundle.mount.late == pytest.approx(late, abs=0.003)


def test_noisy_joints_do_not_draw_the_camera_away():
    joints = path()
    noisy = joints + np.random.default_rng(1).normal(0, 1e-3, joints.shape)
    bundle = adjust(
        seen(ee_poses(ROBOT, joints), 0.3), Hand([problem(noisy)]), K, 0, Mount(MOUNT), 2
    )
    assert bundle is not None
    error = invert(bundle.mount.pose) @ MOUNT
    turn, shift = gap(bundle.mount.pose, MOUNT)
    assert turn < 0.4
    assert shift < 12
    # The covariance owns up to it.
    away = np.concatenate([Rotation.from_matrix(error[:3, :3]).as_rotvec(), error[:3, 3]])
    assert away @ np.linalg.solve(bundle.covariance[:6, :6], away) < 6 * 3**2


def test_without_turns_the_covariance_says_that_the_place_is_open():
    ee = np.repeat(ee_poses(ROBOT, path()[:1]), FRAMES, 0)
    t = np.linspace(0, 2 * np.pi, FRAMES)
    ee[:, :3, 3] += 0.1 * np.stack([np.sin(t), np.cos(2 * t), np.sin(3 * t)], 1)

    class Sliding(Hand):
        def ee(self, late=0.0, offset=0.0):
            return ee

    hand = Sliding([problem(path())])
    bundle = adjust(seen(ee, 0.3), hand, K, 0, Mount(MOUNT), 2.0)
    assert bundle is not None
    assert np.sqrt(np.diag(bundle.covariance)[3:6]).max() > 0.03
    assert np.degrees(np.sqrt(np.diag(bundle.covariance)[:3])).max() < 1


class Moved(Hand):
    """The same hand before a base that stands elsewhere."""

    def __init__(self, problems: list[CameraProblem], base: np.ndarray) -> None:
        super().__init__(problems)
        self.base = base

    def ee(self, late=0.0, offset=0.0):
        return self.base @ super().ee(late, offset)

    def speeds(self, late, offset):
        return tuple(
            self.base @ speed @ invert(self.base) for speed in super().speeds(late, offset)
        )


@settings(max_examples=6, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-2, 2)] * 3), st.integers(0, 9))
def test_where_the_base_stands_does_not_matter(turn, shift, seed):
    joints = path(seed=seed)
    clip = problem(joints)
    tracks = seen(ee_poses(ROBOT, joints), 0.3, seed)
    tracks = tracks.where(tracks.track % 6 == 0)
    base = make_pose(Rotation.from_rotvec(turn).as_matrix(), np.array(shift))
    start = Mount(
        MOUNT @ make_pose(Rotation.from_rotvec([0.02, 0.01, 0]).as_matrix(), [0, 0.01, 0])
    )
    here, there = (
        adjust(tracks, hand, K, 0.05, start, 2.0) for hand in (Hand([clip]), Moved([clip], base))
    )
    assert np.abs(here.mount.pose - there.mount.pose).max() < 1e-4
    assert here.covariance[:6, :6] == pytest.approx(there.covariance[:6, :6], rel=0.02, abs=1e-9)


def test_triangulated_points_are_where_rays_meet():
    hand = Hand([problem(path())])
    tracks = seen(hand.ee(), 0.0)
    points = triangulate(tracks, hand, K, Mount(MOUNT), np.zeros(hand.shape))
    pose = invert(hand.ee()[tracks.frame] @ MOUNT)
    there = (pose[:, :3, :3] @ points[tracks.track][..., None])[..., 0] + pose[:, :3, 3]
    rays = rays_of(tracks.pixel, K)
    away = np.linalg.norm(np.cross(there, rays), axis=1)
    assert np.nanmax(away) < 1e-6


def test_what_cannot_tell_is_rejected_with_the_reason():
    still = np.repeat(path()[:1], FRAMES, 0)
    cases = {
        "turns by 0.0 degrees": problem(still),
        "64 pixels": problem(path(), (64, 64)),
        "5 frames": problem(path()[:5]),
        "0 points": problem(path()),  # the pictures are blank
    }
    for says, one in cases.items():
        solution = solve_wrist([one], K)
        assert (solution.verdict, solution.ee_from_camera) == ("reject", None)
        assert says in solution.why


def test_both_kinds_of_evidence_are_needed():
    good = {
        "track_share": 0.8,
        "edge_share": 0.9,
        "evidence_gap": 0.5,
        "scene_sd_m": 0.015,
        "position_sd_m": 0.001,
        "rotation_sd_rad": 0.005,
        "focal_spread": 0.0,
    }
    assert judge_mount(good)[0] == "good"
    assert judge_mount(good | {"focal_spread": 0.02})[0] == "usable"
    for worse, says in (
        ({"track_share": 0.1}, "confirm"),
        ({"edge_share": None}, "no hand"),
        ({"edge_share": 0.7, "scene_sd_m": 0.1}, "loose"),
        ({"evidence_gap": 4.0}, "disagree"),
        ({"position_sd_m": 0.05}, "loose"),
    ):
        verdict, why = judge_mount(good | worse)
        assert verdict == "reject"
        assert says in why


def test_points_that_ride_on_the_hand_are_left_out():
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 255, (800, 1400), np.uint8), (0, 0), 2)
    patch = cv2.GaussianBlur(rng.integers(0, 255, (60, 320), np.uint8), (0, 0), 2)

    def frames(steps: np.ndarray) -> np.ndarray:
        out = []
        for t in steps:
            image = wall[100 : 100 + HEIGHT, 100 + 12 * t : 100 + 12 * t + WIDTH].copy()
            image[120:] = patch
            out.append(np.repeat(image[..., None], 3, 2))
        return np.stack(out)

    joints = np.repeat(np.asarray(ROBOT.rest)[None], 12, 0)
    joints[:, 6] += 0.1 * np.arange(12)
    turning = replace(problem(joints), decode=frames)
    tracks = follow_points([turning], ee_poses(ROBOT, joints), 182)
    assert (tracks.pixel[:, 1] < 118).mean() > 0.97
    assert len(tracks) > 100


@pytest.mark.slow
def test_a_twins_mount_is_found_to_millimetres(droid_twin):
    episode = droid.draw_episode(0, 0)
    camera = episode.layout.cameras["wrist_image_left"]
    film = read_twin(droid_twin).film(0, "wrist_image_left")

    def decode(steps: np.ndarray) -> np.ndarray:
        files = (np.frombuffer(film.frames[t], np.uint8) for t in steps)
        return np.stack([cv2.imdecode(file, cv2.IMREAD_COLOR_RGB) for file in files])

    joints = episode.script.joints.astype(np.float64)
    clip = CameraProblem(
        ROBOT, decode, (HEIGHT, WIDTH), joints, episode.script.opening, np.arange(len(joints)) / 15
    )
    solution = solve_wrist([clip], camera.K)
    assert solution.verdict in ("good", "usable"), solution.why
    # Against MuJoCo's own camera, which `film` followed.
    base_from_ee = ee_poses(ROBOT, joints)
    turn, shift = gap(base_from_ee[10] @ solution.ee_from_camera, film.base_from_camera[10])
    assert turn < 0.6
    assert shift < 5


def test_of_a_long_clip_the_steps_are_kept_over_which_the_hand_turns():
    robot = get_robot("panda_robotiq")
    joints = np.repeat(np.asarray(robot.rest, float)[None], 600, 0)
    joints[:, 6] += np.interp(np.arange(600), [400, 500], [0, 1.5])  # still before and after
    problem = CameraProblem(
        robot, lambda steps: steps, (180, 320), joints, np.zeros(600), np.arange(600) / 15
    )
    part = _liveliest(problem)
    assert len(part) < 600
    assert part.time[0] * 15 <= 401
    assert part.time[-1] * 15 >= 499
    first = round(part.time[0] * 15)
    assert np.array_equal(part.decode(np.array([0, 7])), [first, first + 7])
    assert np.array_equal(part.joints, joints[first : first + len(part)])

"""Texture on links against simulator truth: a robot drawn with paint that its links carry."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reconstruction.camera.estimate import Estimate
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.link_bundle import adjust, with_tracks
from reconstruction.camera.link_tracks import follow_links
from reconstruction.camera.problem import CameraProblem
from robo4d.geometry import intrinsics, invert, make_pose, rotation_angle, transform
from robots.kinematics import link_poses
from robots.models import ROBOTS
from robots.rasterizer import RobotRasterizer

ROBOT = ROBOTS["panda_robotiq"]
SIZE, STEPS = (180, 320), 16
K = intrinsics(260.0, 260.0, 160.0, 90.0)
EYE, TARGET = np.array([1.4, 0.9, 0.8]), np.array([0.3, 0.0, 0.4])
# What the outline is told to claim: rad, m, logarithm of focal length, s.
CLAIM = np.diag(np.square([0.05] * 3 + [0.1] * 3 + [1e-6, 0.01]))


def camera_pose():
    forward = (TARGET - EYE) / np.linalg.norm(TARGET - EYE)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return make_pose(np.stack([right, np.cross(forward, right), forward], 1), EYE)


def painted(depth, part, links, pose):
    """(n, H, W, 3): grey values are waves in each link's own coordinates, background is flat."""
    row, column = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack([column, row, np.ones(SIZE)], -1) @ np.linalg.inv(K).T
    out = np.full((*part.shape, 3), 90.0)
    for frame, (d, p) in enumerate(zip(depth, part, strict=True)):
        for link in np.unique(p[p > 0]).astype(int) - 1:
            own = p == link + 1
            points = transform(invert(links[frame, link]) @ pose, rays[own] * d[own][:, None])
            waves = np.sin(points @ [[90, 50, -40], [-60, 80, 30], [40, 20, 100]])
            out[frame][own] = 128 + 35 * waves.sum(1, keepdims=True)
    return out.clip(0, 255).astype(np.uint8)


def filmed(reach):
    """A robot whose joints move by so many rad."""
    time = np.arange(STEPS) / 5
    waves = np.sin(time[:, None] * np.array([0.7, 0.9, 1.1, 0.8, 1.3, 1.0, 1.7]))
    joints = np.asarray(ROBOT.rest) + reach * waves
    fingers, pose = np.ones(STEPS), camera_pose()
    many = np.repeat(K[None], STEPS, 0), np.repeat(pose[None], STEPS, 0)
    draw = RobotRasterizer(ROBOT, *SIZE)
    images = painted(*draw(joints, fingers, *many), link_poses(ROBOT, joints, fingers), pose)
    problem = CameraProblem(ROBOT, lambda steps: images[steps], SIZE, joints, fingers, time)
    return FrameSet([problem], [np.arange(STEPS)], draw)


@pytest.fixture(scope="module")
def frames():
    return filmed(0.8)


def off(turn, shift):
    """The true camera, turned by rad and shifted by m in its own frame."""
    step = make_pose(Rotation.from_rotvec(turn).as_matrix(), shift)
    return Estimate(camera_pose() @ step, covariance=CLAIM)


def errors(estimate):
    turn = rotation_angle(estimate.pose[:3, :3], camera_pose()[:3, :3])
    return float(turn), float(np.linalg.norm(estimate.pose[:3, 3] - EYE))


def test_patches_are_found_where_their_links_carry_them(frames):
    tracks = follow_links(frames, K, off([0, 0, 0], [0, 0, 0]))
    assert len(tracks) > 50
    assert len(np.unique(tracks.link)) >= 4
    assert (np.diff(tracks.track) >= 0).all()
    placed = frames.links[tracks.frame, tracks.link[tracks.track]]
    points = np.column_stack([tracks.point, np.ones(len(tracks))])[tracks.track]
    seen = (invert(camera_pose()) @ placed @ points[..., None])[:, :3, 0]
    due = seen[:, :2] / seen[:, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
    away = np.linalg.norm(tracks.pixel - due, axis=1)
    assert np.median(away) < 0.1
    assert np.percentile(away, 90) < 0.5


def test_a_camera_that_is_off_comes_back(frames):
    begun = off([0.003, -0.004, 0.002], [0.006, 0.004, -0.008])
    ended = with_tracks(frames, begun, K)
    before, after = errors(begun), errors(ended)
    assert after[0] < 0.6 * before[0]
    assert after[1] < 0.6 * before[1]
    assert np.trace(ended.covariance) < np.trace(CLAIM)


def test_a_robot_that_rests_tells_nothing():
    begun = off([0.003, -0.004, 0.002], [0.006, 0.004, -0.008])
    claim = np.diag(np.square([0.01] * 6 + [1e-6, 0.01]))
    ended = with_tracks(filmed(0.0), replace(begun, covariance=claim), K)
    before, after = (np.sqrt(np.diag(c)[:6]) for c in (claim, ended.covariance))
    assert (after > 0.9 * before).all()


def test_what_is_certain_already_stays(frames):
    begun = replace(off([0.003, 0, 0], [0, 0.005, 0]), covariance=CLAIM * 1e-10)
    ended = with_tracks(frames, begun, K)
    np.testing.assert_allclose(ended.pose, begun.pose, atol=1e-5)


def test_a_robot_without_texture_changes_nothing(frames):
    bare = FrameSet(frames._problems, frames._steps, frames._render)
    bare.images = np.full_like(frames.images, 90.0)
    begun = off([0.003, 0, 0], [0, 0.005, 0])
    assert with_tracks(bare, begun, K) is begun


def test_an_edge_at_45_degrees_can_be_aligned(frames):
    bare = FrameSet(frames._problems, frames._steps, frames._render)
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    stripes = 128 + 100 * np.sign(np.sin((row + column) / 3))
    bare.images = np.broadcast_to(stripes[..., None], frames.images.shape).astype(np.float32)
    ended = with_tracks(bare, off([0, 0, 0], [0, 0, 0]), K)
    assert np.isfinite(ended.pose).all()


def test_an_estimate_without_covariance_is_refused(frames):
    begun = off([0, 0, 0], [0, 0, 0])
    tracks = follow_links(frames, K, begun)
    with pytest.raises(ValueError, match="no covariance"):
        adjust(tracks, frames, replace(begun, covariance=None), K)

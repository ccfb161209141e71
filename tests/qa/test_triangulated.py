"""Triangulated points against the exact depth of a textured table with a step."""

import cv2
import numpy as np
import pytest

from qa.triangulated import Pictures, SparseDepth, compare_points, triangulate
from robo4d.geometry import intrinsics, make_pose

H, W = 180, 240
K = intrinsics(220, 220, W / 2, H / 2)
TEXTURE = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8), (0, 0), 1.5
)
TEXTURE = cv2.normalize(TEXTURE, None, 0, 255, cv2.NORM_MINMAX)
# Beyond this x the table is higher, by as much.
STEP, HEIGHT = 0.55, 0.12


def picture(eye, target=(0.5, 0.0, 0.0)):
    forward = np.array(target) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 1, 0.2])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    pose = make_pose(np.stack([right, down, forward], 1), np.array(eye, float))
    row, column = np.indices((H, W)) + 0.5
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(K).T @ pose[:3, :3].T
    low, high = ((h - eye[2]) / rays[..., 2] for h in (0.0, HEIGHT))
    depth = np.where((eye[0] + high * rays[..., 0]) > STEP, high, low)
    x, y = (eye[i] + depth * rays[..., i] for i in (0, 1))
    u, v = (x * 400).astype(np.float32), (y * 400 + 200).astype(np.float32)
    rgb = cv2.remap(TEXTURE, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return rgb, depth, pose


@pytest.fixture(scope="module")
def views():
    """A camera that moves over the table, and one at rest beside its path."""
    eyes = [(0.35 + 0.06 * n, -0.1 + 0.04 * n, 0.75) for n in range(5)]
    moving = [np.stack(part) for part in zip(*(picture(eye) for eye in eyes), strict=True)]
    rests = [np.stack([part] * 5) for part in picture((0.45, 0.25, 0.8))]
    return [
        (Pictures(rgb, K, pose, np.zeros(depth.shape, bool)), depth)
        for rgb, depth, pose in (moving, rests)
    ]


def test_points_have_the_true_depth(views):
    for points, (_, depth) in zip(triangulate([view for view, _ in views]), views, strict=True):
        assert len(points.depth) > 100
        got = compare_points(depth, points)
        assert got.median < 0.01
        assert got.within_5 > 0.97
        assert np.median(points.spread) < 0.01
        # A table without the step is off, and a scale shows as what it is.
        assert compare_points(1.2 * depth, points).signed == pytest.approx(0.2, abs=0.01)


def test_points_of_some_frames_are_those_of_the_frames_cut_out(views):
    points, _ = triangulate([view for view, _ in views])
    some = points.of_frames(np.array([1, 4]))
    assert len(some.depth) == np.isin(points.frame, [1, 4]).sum()
    assert compare_points(views[0][1][[1, 4]], some).median < 0.01


def test_one_camera_at_rest_says_nothing(views):
    [points] = triangulate([views[1][0]])
    assert not len(points.depth)
    assert compare_points(views[1][1], points) is None


def test_robot_pixels_are_not_looked_at(views):
    view, _ = views[0]
    robot = np.zeros((5, H, W), bool)
    robot[:, :, : W // 2] = True
    [points] = triangulate([Pictures(view.rgb, K, view.base_from_camera, robot)])
    assert len(points.depth) > 20
    assert points.column.min() >= W // 2


def test_what_is_unknown_is_not_compared():
    at = np.arange(30)
    points = SparseDepth(np.zeros(30, int), at, at, np.ones(30), np.zeros(30))
    depth = np.zeros((1, 40, 40))
    depth[0, :19] = 1
    assert compare_points(depth, points) is None
    depth[0, :25] = 1.5
    assert compare_points(depth, points).pixels == 25

"""Stereo on textured planes, of which geometry tells the depth, and on rendered twin scenes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from reconstruction.depth.stereo import StereoDepth, StereoRig, rectified_rig
from robo4d import ShapeError
from robo4d.geometry import intrinsics, invert, make_pose, project, transform, unproject
from schemas.episode import Provenance
from schemas.reasons import EpisodeError, Reason

HEIGHT, WIDTH = 180, 320
K = intrinsics(260.0, 260.0, 158.0, 93.0)
BASELINE = 0.12
LEVEL = rectified_rig(K, BASELINE)


def turned_rig(K_left: np.ndarray) -> StereoRig:
    """A pair that is not quite parallel, of unlike lenses."""
    turn = Rotation.from_euler("xyz", [1.5, -2.0, 3.0], degrees=True).as_matrix()
    left_from_right = make_pose(turn, [BASELINE, 0.004, -0.006])
    return StereoRig(K_left, K_left @ np.diag([1.02, 1.01, 1.0]), invert(left_from_right))


RIGS = pytest.mark.parametrize("rig", [LEVEL, turned_rig(K)], ids=["level", "turned"])


@dataclass(frozen=True)
class Shown:
    """A `FrameSource` of frames in memory."""

    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def size(self) -> tuple[int, int]:
        return self.frames.shape[1:3]

    def decode(self, steps) -> np.ndarray:
        return self.frames[steps]


def plane(rig: StereoRig, distance: float, normal=(0.25, -0.4, 1.0)):
    """Left and right image and the left one's z-depth of a textured plane through (0, 0, z)."""
    rng = np.random.default_rng(0)
    left = np.zeros((HEIGHT, WIDTH, 3))
    for cells in (12, 40, 110):
        left += cv2.resize(rng.uniform(0, 85, (cells, 2 * cells, 3)), (WIDTH, HEIGHT))
    n = np.array(normal) / (distance * normal[2])  # n . X = 1 on the plane
    pose = rig.right_from_left
    # Pixel to pixel by way of the plane (Hartley and Zisserman 2003, 13.1).
    across = rig.K_right @ (pose[:3, :3] + np.outer(pose[:3, 3], n)) @ np.linalg.inv(rig.K_left)
    centre = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    right = cv2.warpPerspective(left, np.linalg.inv(centre) @ across @ centre, (WIDTH, HEIGHT))
    i, j = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([j, i, np.ones_like(i)], -1) @ np.linalg.inv(rig.K_left).T
    return left.astype(np.uint8), right.astype(np.uint8), 1 / (rays @ n)


def estimate(rig: StereoRig, left: np.ndarray, right: np.ndarray, **how):
    return StereoDepth(Shown(right[None]), np.array([0]), rig, **how)(left[None], None)


@RIGS
@pytest.mark.parametrize("distance", [0.5, 1.2])
def test_a_planes_depth_is_found_in_metres_on_the_left_cameras_pixels(rig, distance):
    left, right, truth = plane(rig, distance)
    found = estimate(rig, left, right)
    depth, sure = found.depth[0], found.confidence[0]
    known = depth > 0
    assert (found.kind, found.provenance) == ("metric", Provenance.ESTIMATED)
    np.testing.assert_array_equal(known, sure > 0)
    pixels, _ = project(transform(rig.right_from_left, unproject(truth, K)), rig.K_right)
    seen = (pixels > 2).all(-1) & (pixels < [WIDTH - 2, HEIGHT - 2]).all(-1)
    assert known[seen].mean() > 0.95
    error = np.abs(depth / truth - 1)[known]
    # An error of disparity of 0.2 pixels: OpenCV's are drawn to whole ones.
    assert np.median(error) < 0.2 * np.median(truth) / (rig.K_left[0, 0] * BASELINE)
    assert np.quantile(error, 0.99) < 0.03


def test_what_only_the_left_camera_sees_is_unknown():
    left, right, truth = plane(LEVEL, 0.6, (0.0, 0.0, 1.0))
    found = estimate(LEVEL, left, right)
    shift = round(K[0, 0] * BASELINE / 0.6)
    assert (found.depth[0, :, : shift - 3] > 0).mean() < 0.02
    assert np.ptp(truth) == pytest.approx(0)


def test_what_is_nearer_than_looked_for_is_unknown():
    left, right, _ = plane(LEVEL, 0.3, (0.0, 0.0, 1.0))
    assert (estimate(LEVEL, left, right, nearest=0.25).depth > 0).mean() > 0.5
    assert (estimate(LEVEL, left, right, nearest=0.8).depth > 0).mean() < 0.1


@RIGS
@pytest.mark.parametrize("shade", [0, 128])
def test_frames_that_show_nothing_have_no_depth(rig, shade):
    blank = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
    found = estimate(rig, blank, blank)
    assert not found.depth.any()
    assert not found.confidence.any()


def test_a_clip_is_what_its_frames_are_alone_at_the_steps_asked_for():
    near, far = plane(LEVEL, 0.7), plane(LEVEL, 1.4)
    source = Shown(np.stack([near[1], np.zeros_like(near[1]), far[1]]))
    clip = StereoDepth(source, np.array([2, 0]), LEVEL)(np.stack([far[0], near[0]]), None)
    for found, (left, right, _) in zip(clip.depth, (far, near), strict=True):
        np.testing.assert_array_equal(found, estimate(LEVEL, left, right).depth[0])


def test_views_of_two_sizes_are_refused():
    left, right, _ = plane(LEVEL, 1.0)
    with pytest.raises(EpisodeError, match=r"\(1, 180, 300, 3\)") as caught:
        estimate(LEVEL, left, right[:, :300])
    assert caught.value.reason == Reason.WRONG_SHAPE


@pytest.mark.parametrize(
    "left_from_right",
    [
        make_pose(np.eye(3), [0.0, 0.0, 0.0]),
        make_pose(np.eye(3), [-0.1, 0.0, 0.0]),
        make_pose(np.eye(3), [0.0, 0.1, 0.0]),
        make_pose(np.eye(3), [0.0, 0.0, 0.1]),
        make_pose(Rotation.from_euler("y", -50, degrees=True).as_matrix(), [0.1, 0.0, 0.0]),
    ],
    ids=["one place", "swapped", "one above the other", "behind", "turned away"],
)
def test_cameras_that_are_no_pair_side_by_side_are_refused(left_from_right):
    with pytest.raises(ShapeError, match="side by side"):
        StereoRig(K, K, invert(left_from_right))


small = st.floats(-0.15, 0.15)


@given(turn=st.tuples(small, small, small), move=st.tuples(st.floats(0.05, 0.3), small, small))
def test_after_rectifying_a_point_differs_between_views_by_the_baseline_along_x(turn, move):
    move = move[0] * np.array([1, *move[1:]])
    left_from_right = make_pose(Rotation.from_rotvec(turn).as_matrix(), move)
    rig = StereoRig(K, K, invert(left_from_right))
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    left = points @ rig.rect_from_left.T
    right = transform(invert(left_from_right), points) @ rig.rect_from_right.T
    np.testing.assert_allclose(
        left - right, np.tile([np.linalg.norm(move), 0, 0], (20, 1)), atol=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize("turned", [False, True], ids=["level", "turned"])
def test_a_rendered_robot_scene_is_measured_within_a_hundredth(turned):
    """A DROID twin's scene at half the size of DROID's recordings, its camera a ZED 2's width."""
    from robots.offscreen import OffscreenRenderer
    from simulation import droid
    from simulation._geoms import SCENE_GROUP
    from simulation.film import play_script
    from simulation.scene import build_scene

    height, width = 360, 640
    episode = droid.draw_episode(0, 0)
    camera = next(c for c in episode.layout.cameras.values() if not c.on_wrist)
    K_left = np.diag([2.0, 2.0, 1.0]) @ camera.K
    rig = turned_rig(K_left) if turned else rectified_rig(K_left, BASELINE)
    other = camera.mount @ invert(rig.right_from_left)
    model = build_scene(episode.layout, droid.ROBOT)
    state = play_script(model, episode.script, droid.ROBOT)[len(episode.script.joints) // 2]
    model.vis.quality.offsamples = 4
    exact = copy.copy(model)
    exact.vis.quality.offsamples = 0
    groups = (droid.ROBOT.visual_group, SCENE_GROUP)
    with OffscreenRenderer(model, height, width, groups) as renderer:
        left = renderer.rgb(state, K_left, camera.mount)
        right = renderer.rgb(state, rig.K_right, other)
    with OffscreenRenderer(exact, height, width, groups) as renderer:
        truth, _ = renderer.depth_and_geoms(state, K_left, camera.mount)
        opposite, _ = renderer.depth_and_geoms(state, rig.K_right, other)
    found = estimate(rig, left, right)
    depth = found.depth[0]
    pixels, z = project(transform(rig.right_from_left, unproject(truth, K_left)), rig.K_right)
    column, row = np.floor(pixels).astype(int).clip(0, [width - 1, height - 1]).transpose(2, 0, 1)
    inside = (pixels >= 0).all(-1) & (pixels < [width, height]).all(-1)
    seen = inside & (np.abs(opposite[row, column] / z - 1) < 0.02)
    known = depth > 0
    error = np.abs(depth / truth - 1)
    assert known[seen].mean() > 0.9
    assert known[~seen].mean() < 0.2
    assert np.median(error[known]) < 0.01
    assert np.quantile(error[known], 0.9) < 0.04
    # Where it is less sure it is farther off.
    sure = found.confidence[0] >= 200
    assert np.quantile(error[known & sure], 0.9) < 0.7 * np.quantile(error[known & ~sure], 0.9)

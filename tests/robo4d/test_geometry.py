"""Conventions, against scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robo4d import ShapeError, geometry


def rotations(seed: int, n: int = 16) -> np.ndarray:
    return Rotation.random(n, random_state=seed).as_matrix()


@given(st.integers(0, 2**31))
def test_quaternions_are_scipys_wxyz(seed):
    matrices = rotations(seed)
    theirs = Rotation.from_matrix(matrices).as_quat(scalar_first=True)
    theirs *= np.where(theirs[:, :1] < 0, -1, 1)
    np.testing.assert_allclose(geometry.quaternion_from_matrix(matrices), theirs, atol=1e-12)
    np.testing.assert_allclose(geometry.matrix_from_quaternion(theirs), matrices, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, np.pi - 1e-6, np.pi])
def test_rotation_angle_is_exact_from_zero_to_pi(angle):
    turned = Rotation.from_rotvec([0, angle, 0]).as_matrix()
    assert geometry.rotation_angle(np.eye(3), turned) == pytest.approx(angle, abs=1e-12)


@given(st.integers(0, 2**31))
def test_inverse_undoes_a_transform(seed):
    rng = np.random.default_rng(seed)
    pose = geometry.make_pose(rotations(seed, 3), rng.normal(size=(3, 3)))
    points = rng.normal(size=(3, 5, 3))
    there = geometry.transform(pose, points)
    np.testing.assert_allclose(geometry.transform(geometry.invert(pose), there), points, atol=1e-9)


def test_the_ray_of_a_pixel_goes_through_its_middle():
    K = geometry.intrinsics(100, 100, 2.0, 1.5)  # the image's centre, for 4 x 3 pixels
    points = geometry.unproject(np.full((1, 3, 4), 2.0, np.float32), K[None])[0]
    np.testing.assert_allclose(points[1, 1], [-0.5 / 100 * 2, 0, 2], atol=1e-7)
    np.testing.assert_allclose(points[0, 3], [1.5 / 100 * 2, -1 / 100 * 2, 2], atol=1e-7)


@given(st.integers(0, 2**31))
def test_projecting_an_unprojected_pixel_gives_its_centre(seed):
    rng = np.random.default_rng(seed)
    K = geometry.intrinsics(*rng.uniform(50, 500, 2), *rng.uniform(0, 40, 2))
    depth = rng.uniform(0.1, 5, (2, 7, 9)).astype(np.float32)
    uv, z = geometry.project(geometry.unproject(depth, np.stack([K, K])), K)
    j, i = np.meshgrid(np.arange(9) + 0.5, np.arange(7) + 0.5)
    np.testing.assert_allclose(uv[0], np.stack([j, i], -1), atol=1e-3)
    np.testing.assert_allclose(z, depth)


def test_unknown_depth_is_nan_and_points_behind_the_camera_have_no_pixel():
    assert np.isnan(geometry.unproject(np.zeros((1, 1)), np.eye(3))).all()
    uv, _ = geometry.project(np.array([0.0, 0, -1]), np.eye(3))
    assert np.isnan(uv).all()


def test_resizing_and_cropping_move_the_same_point_to_the_same_place():
    K, point = geometry.intrinsics(100, 90, 32, 20), np.array([0.1, -0.05, 1.0])
    (u, v), _ = geometry.project(point, K)
    (u2, v2), _ = geometry.project(point, geometry.resize_intrinsics(K, 0.5, 2))
    assert (u2, v2) == pytest.approx((u * 0.5, v * 2))
    (u3, v3), _ = geometry.project(point, geometry.crop_intrinsics(K, 3, 4))
    assert (u3, v3) == pytest.approx((u - 3, v - 4))


def test_errors_name_the_field_the_value_and_the_expectation():
    with pytest.raises(ShapeError, match=r"ee has shape \(2, 3\); expected \(T, 4, 4\)"):
        geometry.check_array("ee", np.zeros((2, 3)), ["T", 4, 4])
    with pytest.raises(ShapeError, match=r"time\[1\] is nan"):
        geometry.check_array("time", np.array([0, np.nan]), ["T"])
    with pytest.raises(ShapeError, match="no rotation"):
        geometry.check_poses("pose", np.diag([1.0, 1, -1, 1]), [])

"""The conventions of the data set, and the few formulas that follow from them.

Metres, radians, seconds; right-handed frames. Cameras are OpenCV's: x right, y down,
z forward. Pixel centres lie at integer + 0.5, and ``K`` maps to that: the ray through the
middle of pixel (column j, row i) is ``inv(K) @ (j + 0.5, i + 0.5, 1)``. Depth is z-depth, 0
where unknown. ``a_from_b`` (on paper ``T_a_b``) takes coordinates in b to coordinates in a.
Quaternions are wxyz.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo4d._errors import ShapeError

Floats = NDArray[np.floating]


def check_array(
    name: str, value: ArrayLike, shape: Sequence[int | str | None], kind: str = "f"
) -> NDArray:
    """Return ``value`` as an array after checking it against a shape and a dtype kind.

    Args:
        name: what the array is called in the error.
        shape: an int fixes an axis; a string or None leaves it free.
        kind: numpy dtype kinds allowed ("f" float, "iu" integer, "b" bool); floats must be finite.

    Raises:
        ShapeError: naming the field, what it was and what was expected.
    """
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(
        not isinstance(want, int) or have == want
        for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("*" if s is None else str(s) for s in shape) + ")"
        raise ShapeError(f"{name} has shape {array.shape}; expected {wanted}")
    if array.dtype.kind not in kind:
        raise ShapeError(f"{name} has dtype {array.dtype}; expected one of kind {kind!r}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ShapeError(f"{name}{list(where)} is {array[where]}; expected finite values")
    return array


def check_poses(name: str, value: ArrayLike, shape: Sequence[int | str | None]) -> NDArray:
    """Check an array of rigid transforms (..., 4, 4): last row, orthonormal, determinant +1."""
    poses = check_array(name, value, [*shape, 4, 4])
    rotation = poses[..., :3, :3]
    gap = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max(initial=0.0)
    if gap > 1e-4 or (np.linalg.det(rotation) < 0).any():
        raise ShapeError(f"{name} is no rotation: R R^T differs from 1 by {gap:.2g}, or it mirrors")
    if np.abs(poses[..., 3, :] - [0, 0, 0, 1]).max(initial=0.0) > 1e-6:
        raise ShapeError(f"{name} must have the last row [0, 0, 0, 1]")
    return poses


def make_pose(rotation: ArrayLike, translation: ArrayLike) -> Floats:
    """Rigid transforms (..., 4, 4) from rotations (..., 3, 3) and translations (..., 3) in m."""
    rotation, translation = np.asarray(rotation), np.asarray(translation)
    pose = np.zeros((*np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]), 4, 4))
    pose[..., :3, :3], pose[..., :3, 3], pose[..., 3, 3] = rotation, translation, 1.0
    return pose


def invert(pose: ArrayLike) -> Floats:
    """Inverse of rigid transforms (..., 4, 4): ``b_from_a`` of ``a_from_b``."""
    pose = np.asarray(pose)
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    return make_pose(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def transform(pose: ArrayLike, points: ArrayLike) -> Floats:
    """Apply rigid transforms (..., 4, 4) to points (..., *, 3); leading axes broadcast."""
    pose, points = np.asarray(pose), np.asarray(points)
    return points @ np.swapaxes(pose[..., :3, :3], -1, -2) + pose[..., None, :3, 3]


def quaternion_from_matrix(rotation: ArrayLike) -> Floats:
    """Unit quaternions wxyz (..., 4), w >= 0, from rotations (..., 3, 3).

    Shepperd's method: the largest of the four candidates is the well-conditioned one.
    """
    r = np.asarray(rotation, dtype=np.float64)
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    squares = np.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    wx, wy, wz = (r[..., i, j] - r[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    xy, yz, zx = (r[..., i, j] + r[..., j, i] for i, j in ((1, 0), (2, 1), (0, 2)))
    rows = np.stack(
        [
            np.stack([squares[..., 0], wx, wy, wz], -1),
            np.stack([wx, squares[..., 1], xy, zx], -1),
            np.stack([wy, xy, squares[..., 2], yz], -1),
            np.stack([wz, zx, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)
    q = np.take_along_axis(rows, best[..., None, None], -2)[..., 0, :]
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., :1] < 0, -q, q)


def matrix_from_quaternion(quaternion: ArrayLike) -> Floats:
    """Rotations (..., 3, 3) from quaternions wxyz (..., 4); they need not be unit length."""
    q = np.asarray(quaternion, dtype=np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> Floats:
    """K (3, 3) in pixels."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def resize_intrinsics(K: ArrayLike, scale_x: float, scale_y: float) -> Floats:
    """K after an image is resized; with centres at +0.5 this is a plain scaling."""
    return np.diag([scale_x, scale_y, 1.0]) @ np.asarray(K)


def crop_intrinsics(K: ArrayLike, left: float, top: float) -> Floats:
    """K after ``left`` columns and ``top`` rows are cut away."""
    out = np.array(K, dtype=np.float64)
    out[..., 0, 2] -= left
    out[..., 1, 2] -= top
    return out


def project(points: ArrayLike, K: ArrayLike) -> tuple[Floats, Floats]:
    """Camera-frame points (..., 3) to pixels (..., 2) and z-depth (...,) in m.

    Points at or behind the camera (z <= 0) get NaN pixels.
    """
    points = np.asarray(points, dtype=np.float64)
    z = points[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = np.where(z[..., None] > 0, points / z[..., None], np.nan)
    return (rays @ np.swapaxes(np.asarray(K), -1, -2))[..., :2], z


def unproject(depth: ArrayLike, K: ArrayLike) -> NDArray[np.float32]:
    """Z-depth (..., H, W) in m and K (..., 3, 3) to camera points (..., H, W, 3); NaN at holes."""
    depth = np.asarray(depth, dtype=np.float32)
    K = np.asarray(K, dtype=np.float64)
    height, width = depth.shape[-2:]
    j, i = np.arange(width) + 0.5, np.arange(height) + 0.5
    skew, fx, fy, cx, cy = (K[..., a, b] for a, b in ((0, 1), (0, 0), (1, 1), (0, 2), (1, 2)))
    y = np.broadcast_to(
        ((i - cy[..., None]) / fy[..., None])[..., :, None], (*K.shape[:-2], height, width)
    )
    x = (j - cx[..., None, None] - skew[..., None, None] * y) / fx[..., None, None]
    z = np.where(depth > 0, depth, np.float32(np.nan))
    return np.stack([x.astype(np.float32) * z, y.astype(np.float32) * z, z], -1)


def rotation_angle(a: ArrayLike, b: ArrayLike) -> Floats:
    """Angle in rad (...,) between rotations (..., 3, 3); exact near zero, where arccos is not."""
    relative = np.swapaxes(np.asarray(a), -1, -2) @ np.asarray(b)
    q = quaternion_from_matrix(relative)
    return 2 * np.arctan2(np.linalg.norm(q[..., 1:], axis=-1), np.abs(q[..., 0]))

"""The derivatives that least squares goes by, against finite differences of a projection."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reconstruction.camera.contours import Lines
from reconstruction.camera.estimate import zoomed
from reconstruction.camera.refine import _rows
from robo4d.geometry import intrinsics, invert, make_pose, project, transform

K = intrinsics(130, 140, 158, 92)
POSE = make_pose(Rotation.from_euler("xyz", [-2.0, 0.3, 1.0]).as_matrix(), [1.2, 0.4, 0.7])


def scene():
    rng = np.random.default_rng(0)
    camera = np.stack([*rng.uniform(-0.5, 0.5, (2, 40)), rng.uniform(0.6, 2, 40)], 1)
    pixels, depth = project(camera, K)
    angle = rng.uniform(0, 6, 40)
    normal = np.stack([np.cos(angle), np.sin(angle)], 1)
    speed = rng.normal(0, 0.5, (40, 3))  # of each point in the base frame, m/s
    velocity = np.zeros((1, 40, 4, 4))
    velocity[0, :, :3, 3] = speed
    lines = Lines(np.zeros(40, int), pixels, normal, depth, np.arange(40), np.zeros(40, bool))
    return lines, transform(POSE, camera), speed, velocity


def along(points, pose, lens, lines):
    return ((project(transform(invert(pose), points), lens)[0] - lines.point) * lines.normal).sum(1)


@pytest.mark.parametrize("column", range(9))
def test_rows_are_the_derivatives_of_the_projection(column):
    lines, points, speed, velocity = scene()
    h = 1e-5
    change = np.zeros(9)
    change[column] = h
    pose = POSE @ make_pose(Rotation.from_rotvec(change[:3]).as_matrix(), change[3:6])
    moved = points - change[7] * speed  # an image that is late shows an earlier state
    numeric = along(moved, pose, zoomed(K, change[6]), lines) / h + change[8] / h
    rows = _rows(lines, K, POSE, velocity)
    rows = np.column_stack([rows[:, :8], rows[:, 8:].sum(1)])  # of all links' insets a line's own
    np.testing.assert_allclose(rows[:, column], numeric, rtol=2e-3, atol=2e-2)

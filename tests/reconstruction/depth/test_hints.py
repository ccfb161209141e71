"""What the network is told of the robot: the base's plane is where geometry says, or nothing is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from reconstruction.depth.pointmap.hints import CHANNELS, STRIDE, robot_hints  # noqa: E402
from robo4d.geometry import intrinsics, transform, unproject  # noqa: E402
from simulation.layout import look_at  # noqa: E402

SIZE = (64, 96)
K = intrinsics(80, 70, 47, 33)
HALF = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)


def hints(pose, robot=None, posed=True):
    depth = torch.zeros(1, *HALF) if robot is None else torch.from_numpy(robot).float()[None]
    maps = robot_hints(
        depth,
        torch.from_numpy(pose).float()[None],
        torch.from_numpy(K).float()[None],
        torch.tensor([posed]),
        SIZE,
    )
    assert maps.shape == (1, CHANNELS, *HALF)
    return maps[0].numpy()


@given(st.floats(0.2, 1.5), st.floats(-0.6, 0.6), st.floats(0.2, 1.0))
def test_the_plane_is_where_the_base_stands(height, aside, away):
    pose = look_at(np.array([away, aside, height]), np.zeros(3), 0.1)
    seen, log_depth = hints(pose)[2:4]
    # The middle of a map's pixel is the corner of four of the picture's.
    lens = K.copy()
    lens[:2] /= STRIDE
    points = transform(pose, unproject(np.exp(log_depth).astype(float), lens).reshape(-1, 3))
    assert np.abs(points[seen.ravel() > 0][:, 2]).max() < 1e-3
    assert seen[HALF[0] // 2, HALF[1] // 2] == 1


def test_nothing_is_told_of_what_is_not_known():
    pose = look_at(np.array([0.6, 0.0, 0.7]), np.zeros(3), 0.0)
    assert not hints(pose, posed=False).any()
    above = hints(look_at(np.array([0.6, 0.0, 0.7]), np.array([-1.0, 0.0, 3.0]), 0.0))
    assert not above[2:4, : HALF[0] // 4].any()  # sky
    assert above[4, 0, 0] > 0  # its rays climb


def test_the_robot_is_told_where_it_is():
    robot = np.zeros(HALF)
    robot[4:9, 3:20] = 0.5
    there, log_depth = hints(np.eye(4), robot)[:2]
    np.testing.assert_array_equal(there > 0, robot > 0)
    np.testing.assert_allclose(np.exp(log_depth[there > 0]), 0.5, rtol=1e-6)
    assert not log_depth[there == 0].any()

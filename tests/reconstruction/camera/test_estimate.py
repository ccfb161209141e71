"""Changes of a camera, and how far one is from another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from reconstruction.camera.estimate import Estimate, away, between
from robo4d.geometry import make_pose

TURN = Rotation.from_euler("xyz", [-2.0, 0.3, 1.0]).as_matrix()
HERE = Estimate(make_pose(TURN, [1.2, 0.4, 0.7]), 0.01, 0.02)
SD = np.array([2e-3, 2e-3, 2e-3, 3e-3, 3e-3, 6e-3, 0.01, 0.01])


@given(arrays(float, 8, elements=st.floats(-1, 1)))
def test_a_change_is_found_again(change):
    np.testing.assert_allclose(between(HERE, HERE.moved(change)), change, atol=1e-9)


def test_a_camera_moves_in_its_own_frame():
    ahead = HERE.moved(np.array([0, 0, 0, 0, 0, 0.5, 0.1, 0.2]))
    np.testing.assert_allclose(ahead.pose[:3, 3], HERE.pose[:3, 3] + 0.5 * TURN[:, 2])
    assert (ahead.log_zoom, ahead.late) == pytest.approx((0.11, 0.22))


@pytest.mark.parametrize("column", range(6))
def test_away_is_in_standard_deviations(column):
    known = Estimate(HERE.pose, covariance=np.diag(SD**2))
    off = HERE.moved(3 * SD * (np.arange(8) == column))
    assert away(off, known) == pytest.approx(3 / np.sqrt(6))

"""Steps that fall short are made longer, and no longer than they can be told to need."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reconstruction.camera.estimate import Estimate, between
from reconstruction.camera.secant import Secants
from robo4d.geometry import make_pose

TURN = Rotation.from_euler("xyz", [-2.0, 0.3, 1.0]).as_matrix()
GOAL = Estimate(make_pose(TURN, [1.2, 0.4, 0.7]))
SD = np.array([2e-3, 2e-3, 2e-3, 3e-3, 3e-3, 6e-3, 0.01, 0.01])
# An orbit: turns and shifts that cancel in the picture are loose together.
LIKENESS = np.eye(8) + 0.9 * (np.eye(8, k=3) + np.eye(8, k=-3)) * (
    np.add.outer(*[range(8)] * 2) < 9
)
COVARIANCE = SD[:, None] * LIKENESS * SD
ROOT = np.linalg.cholesky(COVARIANCE)
# How much of the way steps go: a fifth along one direction, as on real views.
SHORT = np.diag([0.8, 0.2, 0.5, 0.7, 0.8, 0.75, 0.8, 0.8])
HASTE = 1.3


def left_after(
    steps: int, longer: bool, scatter: float = 0.0, seed: int = 0, covariance=COVARIANCE
) -> float:
    """Standard deviations from the goal (root mean square) after so many steps."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(covariance)
    now = begin = GOAL.moved(root @ [1, -2, 1, 3, -1, 2, -1, 1])
    secants = Secants(begin, covariance, HASTE)
    for _ in range(steps):
        off = np.linalg.solve(root, between(now, GOAL))
        told = root @ (SHORT @ off + scatter * rng.standard_normal(8))
        after = replace(now.moved(HASTE * told), covariance=covariance)
        now = secants.longer(now, after) if longer else after
    return float(np.sqrt((np.linalg.solve(root, between(now, GOAL)) ** 2).mean()))


def test_loose_directions_settle_sooner():
    assert left_after(8, longer=False) > 0.05
    assert left_after(8, longer=True) < 0.5 * left_after(8, longer=False)


def test_steps_that_scatter_do_not_lead_astray():
    plain, longer = (
        [left_after(8, way, 0.2, seed) for seed in range(100)] for way in (False, True)
    )
    assert np.mean(longer) < 1.3 * np.mean(plain)
    assert np.max(longer) < 1.5


def test_a_known_lens_stays_known():
    known = np.diag(np.r_[SD[:6], 1e-6, 0.01] ** 2)
    begin = GOAL.moved(np.r_[SD[:6], 0.0, 0.0])
    secants = Secants(begin, known, HASTE)
    now = begin
    for _ in range(6):
        told = between(now, GOAL) * np.diag(SHORT)
        now = secants.longer(now, replace(now.moved(told), covariance=known))
    assert abs(now.log_zoom) < 1e-9


def test_the_first_step_is_as_it_was():
    begin = GOAL.moved(ROOT @ np.full(8, 2.0))
    after = replace(begin.moved(SD), covariance=COVARIANCE)
    moved = Secants(begin, COVARIANCE, HASTE).longer(begin, after)
    np.testing.assert_allclose(moved.pose, after.pose, atol=1e-12)
    assert moved.covariance is COVARIANCE


@pytest.mark.parametrize("seed", range(5))
def test_no_step_is_more_than_four_times_as_long(seed):
    rng = np.random.default_rng(seed)
    now = GOAL
    secants = Secants(now, COVARIANCE, HASTE)
    for _ in range(8):  # there is no goal: steps lead anywhere
        step = ROOT @ rng.standard_normal(8)
        after = replace(now.moved(HASTE * step), covariance=COVARIANCE)
        moved = secants.longer(now, after)
        told, taken = (
            np.linalg.norm(np.linalg.solve(ROOT, v)) for v in (step, between(now, moved))
        )
        assert taken < 4.05 * told
        now = moved

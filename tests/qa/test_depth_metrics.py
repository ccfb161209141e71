"""Figures of depth, judged by brute force and by scenes whose normals and distances are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from scipy.spatial.distance import cdist

from qa.depth_metrics import (
    F_THRESHOLDS,
    abs_rel,
    compare_clouds,
    compare_edges,
    delta1,
    depth_edges,
    known_share,
    normal_error,
    rmse,
    robot_residual,
    surface_normals,
    temporal_error,
)
from robo4d.geometry import intrinsics

H, W = 48, 64
K = intrinsics(60, 60, W / 2, H / 2)
ROW, COLUMN = np.indices((H, W)) + 0.5
RAYS = np.stack([(COLUMN - W / 2) / 60, (ROW - H / 2) / 60, np.ones((H, W))], -1)


def plane(normal, distance):
    """(1, H, W) z-depth of the plane normal . p = distance."""
    return (distance / (RAYS @ np.asarray(normal)))[None]


def sphere(centre, radius):
    """(1, H, W) z-depth of a sphere, 0 beside it."""
    a, b = (RAYS**2).sum(-1), RAYS @ np.asarray(centre)
    root = b**2 - a * (np.dot(centre, centre) - radius**2)
    return np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, 0)[None]


def rough(seed=0, frames=2):
    return np.random.default_rng(seed).uniform(0.5, 2, (frames, H, W))


def test_figures_are_their_formulas_over_pixels_that_both_know():
    depth, truth = rough(1), rough(2)
    depth[:, :10], truth[:, :, 50:] = 0, 0
    pairs = [(d, t) for d, t in zip(depth.ravel(), truth.ravel(), strict=True) if d and t]
    relative = [abs(d - t) / t for d, t in pairs]
    close = [max(d / t, t / d) < 1.25 for d, t in pairs]
    assert abs_rel(depth, truth) == pytest.approx(sum(relative) / len(pairs))
    assert rmse(depth, truth) == pytest.approx(
        (sum((d - t) ** 2 for d, t in pairs) / len(pairs)) ** 0.5
    )
    assert delta1(depth, truth) == pytest.approx(sum(close) / len(pairs))
    assert known_share(depth, truth) == pytest.approx(38 / 48)
    assert known_share(depth, None) == pytest.approx(38 / 48)


def test_nothing_known_has_no_figure():
    nothing, truth = np.zeros((2, H, W)), rough()
    assert known_share(nothing, truth) == 0
    for figure in (abs_rel, rmse, delta1):
        assert figure(nothing, truth) is None
    assert compare_clouds(nothing, truth, K) is None
    assert normal_error(nothing, truth, K) is None
    assert temporal_error(nothing, np.ones((1, H, W), bool)) is None
    assert robot_residual(nothing, truth, truth > 0) is None


def test_clouds_are_as_far_apart_as_brute_force_says():
    # All points of a small image: no random subset.
    depth, truth = 1 + 0.1 * rough(3)[:, :20, :30], 1 + 0.1 * rough(4)[:, :20, :30]
    depth[0, 3:9] = 0
    there, back = [], []
    rays = RAYS[:20, :30].reshape(-1, 3)
    for d, t in zip(depth, truth, strict=True):
        ours, true = (rays[f.ravel() > 0] * f.reshape(-1, 1)[f.ravel() > 0] for f in (d, t))
        gaps = cdist(ours, true)
        there.append(gaps.min(1))
        back.append(gaps.min(0))
    there, back = np.concatenate(there), np.concatenate(back)
    got = compare_clouds(depth, truth, K)
    assert got.accuracy == pytest.approx(there.mean(), rel=1e-5)
    assert got.completeness == pytest.approx(back.mean(), rel=1e-5)
    assert got.chamfer_l1 == pytest.approx((there.mean() + back.mean()) / 2, rel=1e-5)
    assert got.chamfer_l2 == pytest.approx(((there**2).mean() + (back**2).mean()) / 2, rel=1e-5)
    for at, score in zip(F_THRESHOLDS, got.f_scores, strict=True):
        p, r = (there < at).mean(), (back < at).mean()
        assert score == pytest.approx(2 * p * r / (p + r))


def test_parallel_planes_are_their_distance_apart():
    got = compare_clouds(plane([0, 0, 1], 1.03), plane([0, 0, 1], 1), K)
    # Points are a pixel apart, 17 mm: the nearest one lies at most half its diagonal aside.
    assert 0.03 <= got.accuracy < np.hypot(0.03, 0.0125)
    assert 0.03 <= got.completeness < np.hypot(0.03, 0.0125)
    assert got.f_scores[:2] == (0, 0)
    assert got.f_scores[2] == 1


def test_what_an_estimate_leaves_out_shows_in_completeness_not_in_accuracy():
    truth = plane([0, 0, 1], 1)
    half = truth.copy()
    half[:, :, : W // 2] = 0
    got = compare_clouds(half, truth, K)
    assert got.accuracy == 0
    # The hidden half reaches 0.53 m aside: 0.27 m on average, of half of the points.
    assert got.completeness == pytest.approx(0.133, rel=0.05)


@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_normals_of_a_plane_are_its_own(a, b):
    normal = np.array([a, b, 1]) / np.linalg.norm([a, b, 1])
    got = surface_normals(plane(normal, 1), K)
    known = np.isfinite(got[..., 0])
    # At a slant, neighbours may be further apart than an edge.
    assert known[:, 5:-5, 5:-5].mean() > 0.5
    np.testing.assert_allclose(got[known], np.broadcast_to(-normal, got[known].shape), atol=1e-4)


def test_normals_of_a_sphere_point_from_its_centre():
    centre = np.array([0.05, -0.02, 1.0])
    depth = sphere(centre, 0.3)
    got = surface_normals(depth, K)
    known = np.isfinite(got[..., 0])
    outward = (RAYS * depth[0][..., None] - centre)[known[0]] / 0.3
    angle = np.degrees(np.arccos(np.clip((got[known] * outward).sum(-1), -1, 1)))
    assert known.sum() > 400
    assert np.median(angle) < 1


@pytest.mark.parametrize("degrees", [5, 20, 40])
def test_the_error_of_a_tilted_plane_is_its_tilt(degrees):
    tilt = np.radians(degrees)
    tilted, straight = plane([0, np.sin(tilt), np.cos(tilt)], 1), plane([0, 0, 1], 1)
    assert normal_error(tilted, straight, K) == pytest.approx(degrees, abs=0.01)


def box(left):
    depth = np.full((1, H, W), 1.0)
    depth[:, 10:30, left : left + 20] = 0.8
    return depth


def test_edges_lie_on_the_nearer_side_of_a_step():
    near = box(10)[0] < 1
    rim = near & binary_dilation(~near)
    np.testing.assert_array_equal(depth_edges(box(10))[0], rim)
    assert not depth_edges(np.where(box(10) < 1, 0.96, 1.0)).any(), "4 % is no edge"


def test_an_edge_counts_within_a_pixel():
    assert compare_edges(box(11), box(10)).f1 == 1
    far = compare_edges(box(14), box(10))
    # Of the sides above and below 16 pixels lie on the true ones and one beside; of those left and
    # right only the ends do, two a side.
    sides = (2 * 17 + 2) / (2 * 20 + 2 * 18)
    assert far.precision == pytest.approx(sides)
    assert far.recall == pytest.approx(sides)


def test_an_estimate_without_edges_finds_none():
    flat = np.ones((1, H, W))
    lost = compare_edges(flat, box(10))
    assert (lost.precision, lost.recall, lost.f1) == (None, 0, 0)
    none = compare_edges(flat, flat)
    assert (none.precision, none.recall, none.f1) == (None, None, None)


@given(st.floats(0.001, 0.2))
def test_flicker_is_the_relative_change_where_nothing_moves(step):
    depth = rough(5, 1) * np.array([1, 1 + step, 1])[:, None, None]
    still = np.zeros((2, H, W), bool)
    still[0, 5:9] = True
    assert temporal_error(depth, still) == pytest.approx(step)
    assert temporal_error(depth, ~still & False) is None


def test_a_robot_pixel_without_depth_is_as_wrong_as_can_be():
    robot = np.full((1, H, W), 1.0)
    depth = robot + 0.01
    judged = np.zeros(robot.shape, bool)
    judged[:, :4] = True
    assert robot_residual(depth, robot, judged) == pytest.approx(0.01)
    depth[:, :1] = 0
    assert robot_residual(depth, robot, judged) == pytest.approx(0.01)
    depth[:, :3] = 0
    assert robot_residual(depth, robot, judged) is None

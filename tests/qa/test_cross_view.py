"""Two cameras over a table with a box: what agrees, what is hidden, what contradicts."""

import numpy as np
import pytest

from qa.cross_view import PosedDepth, common_steps, compare_views
from reconstruction.depth import RobotView
from reconstruction.depth.baselines import BasePlane
from robo4d.geometry import intrinsics, make_pose

H, W = 120, 160
K = intrinsics(150, 150, W / 2, H / 2)
BOX = np.array([[-0.15, -0.1, 0.0], [0.15, 0.1, 0.4]])


def looks_at(eye, target=(0, 0, 0.1)):
    forward = np.array(target, float) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return make_pose(np.stack([right, np.cross(forward, right), forward], 1), np.array(eye, float))


def view(eye, box=BOX, scale=1.0, robot=None):
    """Exact depth of plane z = 0 and a box, by where each pixel's ray meets them."""
    pose = looks_at(eye)
    row, column = np.indices((H, W)) + 0.5
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(K).T @ pose[:3, :3].T
    origin = pose[:3, 3]
    z = -origin[2] / rays[..., 2]
    depth = np.where(z > 0, z, 0)
    if box is not None:
        hits = (box[:, None, None] - origin) / rays
        enter, leave = hits.min(0).max(-1), hits.max(0).min(-1)
        depth = np.where((enter < leave) & (enter > 0), enter, depth)
    nothing = np.zeros((1, H, W), bool) if robot is None else robot
    return PosedDepth((scale * depth)[None], K, pose[None], nothing)


LEFT, RIGHT, AHEAD, ABOVE = (0.8, -1.2, 0.9), (0.8, 1.2, 0.9), (1.4, 0.4, 0.8), (0.1, 0.5, 1.6)


@pytest.mark.parametrize(("a", "b"), [(LEFT, RIGHT), (RIGHT, LEFT), (LEFT, AHEAD), (AHEAD, RIGHT)])
def test_exact_depth_agrees_but_for_what_the_box_hides(a, b):
    got = compare_views(view(a), view(b))
    assert got.seen.median < 0.005
    assert got.seen.within_5 > 0.98
    assert abs(got.seen.signed) < 0.004
    assert 0.02 < got.hidden < 0.4
    # Pixels on the box's edge alone.
    assert got.before < 0.01
    # What the box hides is in the strict figure.
    assert got.strict.pixels - got.seen.pixels == round(got.hidden * got.strict.pixels)
    assert got.strict.within_10 < got.seen.within_10 - 0.8 * got.hidden


def test_without_anything_on_the_table_nothing_is_hidden():
    got = compare_views(view(LEFT, None), view(RIGHT, None))
    assert (got.hidden, got.before) == (0, 0)
    assert got.strict == got.seen
    assert got.strict.median < 0.005
    assert got.strict.within_5 == 1


@pytest.mark.parametrize("scale", [1.1, 0.9])
def test_a_scale_shows_as_what_it_is_from_one_place(scale):
    """From the same place the difference is the scale's, and being too far does not excuse it."""
    near = (LEFT[0] + 0.02, LEFT[1], LEFT[2])
    got = compare_views(view(LEFT, scale=scale), view(near))
    assert got.strict.median == pytest.approx(0.1, abs=0.01)
    assert got.strict.signed == pytest.approx(scale - 1, abs=0.01)
    assert got.strict.within_5 < 0.02
    assert got.seen.median == pytest.approx(0.1, abs=0.01)
    assert got.hidden < 0.02


@pytest.mark.parametrize("scale", [1.3, 0.75])
def test_a_scale_of_both_views_shows_where_their_heights_differ(scale):
    exact = compare_views(view(LEFT), view(ABOVE))
    got = compare_views(view(LEFT, scale=scale), view(ABOVE, scale=scale))
    assert exact.seen.within_10 > 0.98
    assert got.seen.within_10 < 0.4
    # At the same height the two planes are one, in the wrong place: nobody sees that.
    blind = compare_views(view(LEFT, None, scale), view(RIGHT, None, scale))
    assert blind.seen.within_5 == 1


def test_what_b_would_have_seen_is_a_contradiction_in_both_figures():
    """A says that the box is there, B that the table is bare."""
    got = compare_views(view(LEFT), view(RIGHT, None))
    bare = compare_views(view(LEFT, None), view(RIGHT, None))
    assert got.before > 0.05
    assert got.seen.within_10 < bare.seen.within_10 - 0.05
    # The other way round, A's bare table lies behind B's box, which A would have seen.
    turned = compare_views(view(LEFT, None), view(RIGHT))
    assert turned.strict.within_10 < 0.97
    assert turned.seen.within_10 < 0.97
    assert turned.hidden < 0.03


def test_robot_pixels_of_either_side_take_no_part():
    everywhere = np.ones((1, H, W), bool)
    half = everywhere.copy()
    half[..., W // 2 :] = False
    whole = compare_views(view(LEFT), view(RIGHT))
    for a, b in ((half, None), (None, half)):
        got = compare_views(view(LEFT, robot=a), view(RIGHT, robot=b))
        assert 0 < got.strict.pixels < 0.8 * whole.strict.pixels
    got = compare_views(view(LEFT, robot=everywhere), view(RIGHT))
    assert got.strict is None
    assert got.seen is None


def test_the_bases_plane_is_the_table():
    bare = view(LEFT, None)
    told = RobotView(np.zeros((1, H, W), np.float32), bare.base_from_camera)
    said = BasePlane()(np.zeros((1, H, W, 3), np.uint8), K, told)
    at = (bare.depth > 0) & (bare.depth < 10)
    np.testing.assert_allclose(said.depth[at], bare.depth[at], rtol=1e-5)
    assert (said.depth[~at] == 0).all()
    assert not BasePlane()(np.zeros((1, H, W, 3), np.uint8), K).depth.any()


def test_steps_are_those_of_all_views_from_the_middle():
    steps = [np.arange(2, 20), np.arange(5, 30), np.delete(np.arange(40), 11)]
    assert common_steps(steps, None).tolist() == [*range(5, 11), *range(12, 20)]
    assert common_steps(steps, 4).tolist() == [10, 12, 13, 14]

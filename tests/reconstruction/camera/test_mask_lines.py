"""Where masks end along lines across a contour, judged by discs whose radius is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reconstruction.camera.contours import Lines, contour_lines
from reconstruction.camera.mask_lines import add_masked, agreement, join_masks, mask_offsets

CENTRE = np.array([80.3, 60.7])


def share(radius: float, soft: float = 1.0) -> np.ndarray:
    """(120, 160) a soft mask of a disc: one half where its rim is."""
    y, x = np.mgrid[:120, :160] + 0.5
    away = np.hypot(x - CENTRE[0], y - CENTRE[1]) - radius
    return (1 / (1 + np.exp(away / soft))).astype(np.float32)


def lines_of(radius: float) -> Lines:
    part = (share(radius) > 0.5).astype(np.uint8)
    depth = np.where(part > 0, np.float32(1), np.float32(0))
    return contour_lines(depth[None], part[None], 400, np.random.default_rng(0))


@pytest.mark.parametrize("off", [-14.0, -2.5, 0.0, 0.4, 17.0])
def test_a_mask_is_found_pixels_away(off):
    lines = lines_of(30.0)
    offset, weight = mask_offsets(share(30.0 + off)[None], lines, 20)
    assert (weight > 0).all()
    assert np.median(offset) == pytest.approx(off, abs=0.15)
    assert np.abs(offset - off).max() < 1.5


def test_lines_that_cross_nothing_say_nothing():
    lines = lines_of(30.0)
    far, unknown = share(30.0 - 12)[None], np.full((1, 120, 160), np.nan, np.float32)
    for shares in (far, unknown, np.ones_like(far), np.zeros_like(far)):
        offset, weight = mask_offsets(shares, lines, 8)
        assert not weight.any()
        assert not offset.any()
    inside = replace(lines, inner=np.ones(len(lines), bool))
    assert not mask_offsets(share(30.0)[None], inside, 8)[1].any()


def test_a_mask_that_is_hardly_one_weighs_little():
    lines = lines_of(30.0)
    clear = mask_offsets(share(30.0)[None], lines, 8)[1]
    faint = 0.45 + 0.1 * share(30.0)[None]
    assert mask_offsets(faint, lines, 8)[1].max() < 0.15 * clear.min()


def test_joining_is_least_squares_on_both_and_wild_lines_are_left_out():
    lines, rng = lines_of(30.0), np.random.default_rng(0)
    shares = share(31.0)[None]
    offset, weight = rng.normal(0, 1, len(lines)), rng.uniform(0, 2, len(lines))
    rows = rng.normal(0, 1, (len(lines), 3))
    joined, both = join_masks(offset, weight, shares, lines, 8)
    power = both - weight
    assert (power >= 0).all()
    other, _ = mask_offsets(shares, lines, 8)
    stacked = np.concatenate([rows, rows]), np.concatenate([weight, power])
    root = np.sqrt(stacked[1])
    wanted = np.concatenate([offset, other]) * root
    least = np.linalg.lstsq(stacked[0] * root[:, None], wanted, rcond=None)[0]
    root = np.sqrt(both)
    found = np.linalg.lstsq(rows * root[:, None], joined * root, rcond=None)[0]
    np.testing.assert_allclose(found, least, atol=1e-9)
    # A bite out of the mask, deeper than anything else is off: those lines keep what images said.
    shares[0, 50:70, 98:] = 0
    bitten = mask_offsets(shares, lines, 20)[0] < -8
    assert bitten.sum() > 5
    same, _ = join_masks(offset, weight, shares, lines, 20)
    np.testing.assert_allclose(same[bitten], offset[bitten])


def test_without_a_mask_images_alone_speak():
    lines = lines_of(30.0)
    offset, weight = np.full(len(lines), 0.3), np.ones(len(lines))
    shares = np.full((1, 120, 160), np.nan, np.float32)
    assert join_masks(offset, weight, shares, lines, 8) == (offset, weight)


def test_an_edge_counts_by_how_near_it_lies_to_the_masks():
    offset = np.array([0.0, 1.0, 5.0, 5.0, 5.0])
    other = np.array([0.0, 0.0, 0.0, 0.0, 4.9])
    clear = np.array([1.0, 1.0, 1.0, 0.0, 1.0]) / 4  # as `mask_offsets` weighs
    left = agreement(offset, other, clear)
    assert left[0] == 1
    assert left[1] == pytest.approx(np.exp(-0.5))
    assert left[2] < 1e-4
    assert left[3] == 1  # the mask says nothing there
    assert left[4] > 0.99


def test_masks_join_as_lines_with_insets_of_their_own():
    rng = np.random.default_rng(0)
    rows, before = rng.normal(size=(5, 8 + 2)), rng.normal(size=(10, 8 + 4))
    offset, weight = rng.normal(size=10), rng.uniform(size=10)
    other, power = np.array([0.0, 1.0, -1.0, 3.9, 6.0]), np.full(5, 0.25)
    together = np.array([1, 1, 11, 1, 1])
    joined = add_masked((before, offset, weight), rows, other, power, together, 8)
    assert [len(part) for part in joined] == [15, 15, 15]
    assert np.array_equal(joined[0][:10, :12], before)
    assert not joined[0][:10, 12:].any()
    assert np.array_equal(joined[0][10:, :8], rows[:, :8])
    assert not joined[0][10:, 8:12].any()
    assert np.array_equal(joined[0][10:, 12:], rows[:, 8:])
    added = joined[2][10:]
    assert added[0] > added[1] > added[2] > added[3] > added[4] == 0  # nearer, alone, less far off
    assert added[1] / added[2] == pytest.approx(1 + 0.3 * 10)

"""Where masks end along lines across a contour, judged by discs whose radius is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reconstruction.camera.contours import Lines, contour_lines
from reconstruction.camera.mask_lines import join_masks, mask_offsets

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

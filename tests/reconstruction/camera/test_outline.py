"""Sub-pixel outlines, judged by discs whose radius is known."""

import numpy as np
import pytest

from reconstruction.camera.appearance import COARSE, FINE, matte_offsets, region_offsets
from reconstruction.camera.contours import contour_lines

CENTRE = np.array([80.3, 60.7])


def disc(radius: float, size: tuple[int, int] = (120, 160), over: int = 8) -> np.ndarray:
    """Coverage 0..1 of each pixel by a disc."""
    y, x = (np.mgrid[: size[0] * over, : size[1] * over] + 0.5) / over
    inside = np.hypot(x - CENTRE[0], y - CENTRE[1]) < radius
    return inside.reshape(size[0], over, size[1], over).mean((1, 3))


def picture(radius: float) -> np.ndarray:
    share = disc(radius)[..., None]
    return (share * [200.0, 190, 180] + (1 - share) * [60.0, 90, 40]).astype(np.float32)


def lines_of(radius: float):
    part = (disc(radius, over=1) > 0.5).astype(np.uint8)
    depth = np.where(part > 0, np.float32(1), np.float32(0))
    return contour_lines(depth[None], part[None], 400, np.random.default_rng(0))


def test_lines_lie_on_the_outline_and_point_outwards():
    lines = lines_of(30.0)
    away = lines.point - CENTRE
    # A mask of whole pixels puts a round outline out by some 0.05 (`refine` solves for it).
    assert abs(np.linalg.norm(away, axis=1).mean() - 30.0) < 0.08
    outwards = (away * lines.normal).sum(1) / np.linalg.norm(away, axis=1)
    assert outwards.min() > 0.97


@pytest.mark.parametrize("off", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("reach", [COARSE, FINE])
def test_matting_measures_a_fraction_of_a_pixel(off, reach):
    offset, weight = matte_offsets(picture(30.0 + off)[None], lines_of(30.0), reach)
    assert weight.min() > 0.9
    # The gain is that of blurred pictures; a sharp one answers up to 1 / 0.55 as strongly.
    assert np.average(offset, weights=weight) == pytest.approx(off, abs=0.06 + abs(off))
    assert np.sign(round(float(np.median(offset)), 1)) == np.sign(off)


@pytest.mark.parametrize("off", [-8.0, 6.0])
def test_colours_find_an_outline_pixels_away(off):
    image = picture(30.0 + off)
    bright, dark = image[60, 80], image[0, 0]
    from reconstruction.camera.appearance import _bin

    odds = np.zeros((1, 12**3), np.float32)
    odds[0, _bin(bright)], odds[0, _bin(dark)] = 2, -2
    mean, variance = region_offsets(image[None], lines_of(30.0), odds, 14)
    assert np.median(mean) == pytest.approx(off, abs=0.5)
    assert np.median(variance) < 1

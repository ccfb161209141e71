"""Sub-pixel outlines, judged by discs whose radius is known."""

import numpy as np
import pytest

from reconstruction.camera.appearance import (
    COARSE,
    FINE,
    _bin,
    matte_offsets,
    region_offsets,
)
from reconstruction.camera.backdrop import learn_backdrop
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
    shares = np.full((2, 1, 12**3), 0.05, np.float32)
    shares[0, 0, _bin(bright)], shares[1, 0, _bin(dark)] = 0.4, 0.4
    mean, variance = region_offsets(image[None], lines_of(30.0), shares, 14)
    assert np.median(mean) == pytest.approx(off, abs=0.5)
    assert np.median(variance) < 1


@pytest.mark.parametrize("off", [-8.0, 6.0])
def test_a_backdrop_tells_where_a_robot_ends_that_colours_do_not_tell(off):
    """Edges of stripes look like the outline; what other frames show there does not."""
    share = disc(30.0 + off)[..., None]
    y, x = np.mgrid[:120, :160]
    behind = np.where((x + y)[..., None] // 4 % 2 == 0, [20.0, 40, 90], [90.0, 60, 20])
    behind = behind.astype(np.float32)
    image = (share * [40.0, 120, 60] + (1 - share) * behind).astype(np.float32)
    images = np.stack([image, *[behind] * 4])
    robot = np.zeros(images.shape[:3], bool)
    robot[0] = disc(30.0, over=1) > 0.5
    backdrop = learn_backdrop(images, robot, margin=10)
    alike = np.full((2, 1, 12**3), 12.0**-3, np.float32)
    lines = lines_of(30.0)
    misled, _ = region_offsets(image[None], lines, alike, 14)
    mean, _ = region_offsets(image[None], lines, alike, 14, backdrop)
    assert np.abs(misled - off).mean() > 1.5
    assert np.abs(mean - off).mean() < 0.5


def test_inner_lines_follow_a_part_in_front_of_another():
    front = disc(20.0, over=1) > 0.5
    depth = np.where(front, np.float32(0.8), np.float32(1.0))[None]
    part = np.where(front, 2, 1).astype(np.uint8)[None]
    rng = np.random.default_rng(0)
    assert len(contour_lines(depth, part, 400, rng)) == 0  # the picture is all robot
    lines = contour_lines(depth, part, 400, rng, inner=True)
    assert len(lines) > 80
    assert lines.inner.all()
    assert (lines.link == 1).all()
    away = lines.point - CENTRE
    assert abs(np.linalg.norm(away, axis=1).mean() - 20.0) < 0.1
    assert ((away * lines.normal).sum(1) / np.linalg.norm(away, axis=1)).min() > 0.95


def test_the_backdrop_is_what_frames_without_the_robot_show():
    rng = np.random.default_rng(0)
    scene = rng.uniform(0, 255, (60, 80, 3)).astype(np.float32)
    images, robot = np.repeat(scene[None], 6, 0), np.zeros((6, 60, 80), bool)
    for i in range(6):
        robot[i, 20:40, 8 * i : 8 * i + 30] = True
        images[i, robot[i]] = 255
    backdrop = learn_backdrop(images, robot, margin=1)
    known = backdrop.known > 0
    assert np.array_equal(backdrop.colour[known], scene[known])
    shown = (~robot).sum(0)
    assert known[shown == 6].mean() > 0.9
    assert not known[shown < 3].any()


def test_a_backdrop_stands_in_where_background_does_not_run_on():
    """Stripes beside the robot: a straight line carried on from them is off, and pulls."""
    share = disc(30.0)[..., None]
    y, x = np.mgrid[:120, :160]
    behind = np.where((x + y)[..., None] // 3 % 2 == 0, [20.0, 40, 90], [90.0, 60, 20])
    image = (share * [40.0, 120, 60] + (1 - share) * behind).astype(np.float32)
    images = np.stack([image, *[behind.astype(np.float32)] * 4])
    robot = np.zeros(images.shape[:3], bool)
    robot[0] = disc(30.0, over=1) > 0.5
    lines = lines_of(30.0)
    pulled, _ = matte_offsets(image[None], lines, FINE)
    offset, _ = matte_offsets(image[None], lines, FINE, learn_backdrop(images, robot, margin=3))
    assert abs(pulled.mean()) > 0.15
    assert abs(offset.mean()) < 0.05

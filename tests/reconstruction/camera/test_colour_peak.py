"""Silhouettes of discs: where colours say, shifted, and before a background of their own colour."""

import numpy as np
import pytest

from reconstruction.camera.quality import colour_peak

SIZE = (120, 160)
PLACES = [(40 + 9 * i, 50 + 4 * (i % 3)) for i in range(8)]
SCORED = np.arange(8) % 2 == 1


def discs(shift=(0.0, 0.0), radius=22.0):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.stack([np.hypot(x - u - shift[0], y - v - shift[1]) < radius for u, v in PLACES])


def peak(images, mask):
    depth, part = mask.astype(np.float32), mask.astype(np.uint8)
    return colour_peak(images, depth, part, SCORED)


def film(disc, ground, noise=4.0):
    images = np.where(discs()[..., None], np.float32(disc), np.float32(ground))
    return (images + np.random.default_rng(0).normal(0, noise, images.shape)).astype(np.float32)


def test_a_silhouette_in_its_place_is_told_from_one_that_is_shifted():
    images = film([200, 190, 180], [60, 90, 40])
    assert peak(images, discs()) == 1
    assert peak(images, discs(shift=(0.8, 0))) == 1
    for shift in ((5, 0), (0, -4), (3, 3)):
        assert peak(images, discs(shift=shift)) == 0


@pytest.mark.parametrize("ground", [[200, 190, 180], [203, 188, 181]])
def test_colours_that_do_not_differ_confirm_nothing(ground):
    assert peak(film([200, 190, 180], ground), discs()) == 0


def test_no_silhouette_is_no_evidence():
    images = film([200, 190, 180], [60, 90, 40])
    assert peak(images, np.zeros_like(discs())) == 0

"""The hand-drawn masks are complete and sane, and polygons are filled as OpenCV judges points."""

from collections import Counter

import cv2
import numpy as np
import pytest

from benchmarks.hand_masks import HandMask, inside, load

MASKS = load()


def name(mask: HandMask) -> str:
    return f"{mask.episode.split('/')[-1]}-{mask.camera}-{mask.step}"


def test_every_exterior_view_of_the_six_episodes_has_three_frames() -> None:
    views = Counter((mask.episode, mask.camera) for mask in MASKS)
    assert len(MASKS) == 36
    assert len({mask.episode for mask in MASKS}) == 6
    assert set(views.values()) == {3}
    assert {camera for _, camera in views} == {"exterior_image_1_left", "exterior_image_2_left"}


def test_steps_are_those_that_a_solver_never_uses() -> None:
    assert all(mask.step % 5 == 2 for mask in MASKS)
    assert len({(mask.episode, mask.camera, mask.step) for mask in MASKS}) == 36


@pytest.mark.parametrize("mask", MASKS, ids=name)
def test_a_mask_is_well_formed(mask: HandMask) -> None:
    assert (mask.height, mask.width) == (180, 320)
    for polygon in (*mask.polygons, *mask.holes):
        assert polygon.shape[0] >= 3
        assert np.isfinite(polygon).all()
        assert (polygon >= 0).all()
        assert (polygon <= (mask.width, mask.height)).all()
    for polygon in mask.polygons:
        assert inside(polygon, mask.height, mask.width).any()
    assert 0.02 < mask.mask().mean() < 0.5  # the arm is neither a speck nor the whole picture


@pytest.mark.parametrize("mask", MASKS[::5], ids=name)
def test_filling_agrees_with_opencv_at_every_pixel_centre(mask: HandMask) -> None:
    def on(polygon: np.ndarray, x: int, y: int) -> float:
        return cv2.pointPolygonTest(polygon.astype(np.float32), (x + 0.5, y + 0.5), True)

    robot = mask.mask()
    for y in range(0, mask.height, 3):
        for x in range(0, mask.width, 3):
            signed = [on(polygon, x, y) for polygon in mask.polygons]
            cut = [on(polygon, x, y) for polygon in mask.holes]
            if min(map(abs, signed + cut)) < 1e-3:
                continue  # on an edge: either answer will do
            expected = max(signed) > 0 and max(cut, default=-1.0) < 0
            assert robot[y, x] == expected, (x, y)


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    box = np.array([[1.4, 0.6], [3.6, 0.6], [3.6, 2.6], [1.4, 2.6]])
    assert np.argwhere(inside(box, 4, 5)).tolist() == [
        [1, 1],
        [1, 2],
        [1, 3],
        [2, 1],
        [2, 2],
        [2, 3],
    ]

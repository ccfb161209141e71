"""Our mask network, as it comes: on a filmed twin, on other sizes, and what is no network."""

from __future__ import annotations

import numpy as np
import pytest

from reconstruction.camera.learned_masks import prompts_of
from reconstruction.camera.robot_masks import SIZE, embedded_masks, load_masks, masks_for
from schemas.reasons import UsageError


def test_only_robots_that_it_learned_have_one():
    assert masks_for("panda_robotiq") is embedded_masks()
    assert masks_for("widowx_250s") is None


@pytest.mark.parametrize("size", [(180, 320), (192, 256), (240, 320), (180, 400), (64, 64)])
def test_masks_are_of_the_frames_size(size):
    part = np.zeros((2, *size), np.uint8)
    part[:, 20:50, 10:60] = 3
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    shares = embedded_masks()(frames, prompts_of(part))
    assert shares.shape == part.shape
    assert shares.dtype == np.float32
    assert (shares >= 0).all()
    assert (shares <= 1).all()
    # One at a time or together, in whatever order.
    again = embedded_masks()(frames[::-1], prompts_of(part))[::-1]
    assert np.array_equal(shares, again)


def test_what_is_no_network_is_told(tmp_path):
    with pytest.raises(UsageError, match="no network"):
        load_masks(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network at all")
    with pytest.raises(UsageError, match=r"bad\.onnx is no network"):
        load_masks(tmp_path / "bad.onnx")
    assert SIZE == (192, 320)

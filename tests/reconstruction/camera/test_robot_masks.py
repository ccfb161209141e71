"""Our mask network: windows of any picture, the one that comes along, and what is no network.

On a filmed twin: test_solve.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from reconstruction.camera import robot_masks
from reconstruction.camera.learned_masks import prompts_of
from reconstruction.camera.robot_masks import (
    SIZE,
    RobotMasks,
    embedded_masks,
    load_masks,
    masks_for,
)
from schemas.reasons import UsageError


def two_robots(size: tuple[int, int]) -> np.ndarray:
    """(2, h, w) parts at two places, one at the border."""
    part = np.zeros((2, *size), np.uint8)
    height, width = size
    part[0, : height // 2, width // 3 : width // 2] = 3
    part[1, height // 4 : height // 3, : width // 4] = 1
    return part


class Agrees:
    """A network that takes for the robot what it is told."""

    def setInput(self, given):
        assert given.shape[:2] == (1, 5)
        assert not any(side % 32 for side in given.shape[2:])
        assert (given[:, 4] == 1).all()
        self.given = given

    def forward(self):
        return 20 * (2 * self.given[:, 3:4] - 1)


@pytest.mark.parametrize("size", [(180, 320), (192, 320), (192, 256), (64, 64), (33, 45)])
def test_what_the_network_says_lies_where_it_was_told(size):
    part = two_robots(size)
    frames = np.zeros((2, *size, 3), np.uint8)
    shares = RobotMasks(Agrees())(frames, prompts_of(part))
    assert shares.dtype == np.float32
    assert np.array_equal(shares > 0.5, part > 0)


@pytest.mark.parametrize("size", [(240, 320), (180, 400), (320, 400)])
def test_larger_pictures_are_looked_at_smaller(size):
    part = two_robots(size)
    shares = RobotMasks(Agrees())(np.zeros((2, *size, 3), np.uint8), prompts_of(part))
    seen, robot = shares > 0.5, part > 0
    assert ((seen & robot).sum((1, 2)) / (seen | robot).sum((1, 2)) > 0.9).all()


def test_only_robots_that_it_learned_have_one():
    assert masks_for("panda_robotiq") is embedded_masks()
    assert masks_for("widowx_250s") is None


def test_the_one_that_comes_along_gives_shares_whichever_frame_comes_first():
    part = two_robots((180, 320))
    frames = np.random.default_rng(0).integers(0, 256, (2, 180, 320, 3), np.uint8)
    shares = embedded_masks()(frames, prompts_of(part))
    assert (shares >= 0).all()
    assert (shares <= 1).all()
    again = embedded_masks()(frames[::-1], prompts_of(part[::-1]))[::-1]
    assert np.array_equal(shares, again)


def test_what_is_no_network_is_told(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no network"):
        load_masks(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network at all")
    with pytest.raises(UsageError, match=r"bad\.onnx is no network"):
        load_masks(tmp_path / "bad.onnx")
    monkeypatch.setattr(robot_masks, "_MOST_BYTES", 8)
    with pytest.raises(UsageError, match="has 17 bytes"):
        load_masks(tmp_path / "bad.onnx")


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_it_looks_at_pictures_as_it_learned():
    from pipeline.mask_training import network

    assert network.SIZE == SIZE

"""RGB in mp4."""

import cv2
import numpy as np
import pytest

from robo4d import FormatError, ShapeError
from robo4d._video import decode_rgb, encode_rgb, frame_rate


def moving_gradient(n: int, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    frames = [np.stack([x + 3 * t, y + 2 * t, x + y + t], -1) % 256 for t in range(n)]
    return np.stack(frames).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 51)])
def test_frames_come_back_in_size_count_and_colour(height, width):
    # Away from the wrap-around, whose hard edges 4:2:0 rightly blurs.
    frames = moving_gradient(7, height, width) // 4 + 90
    decoded = decode_rgb(encode_rgb(frames.astype(np.uint8), 15))
    assert decoded.shape == frames.shape
    difference = decoded.astype(float) - frames
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.7, "colours are shifted"
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 38


@pytest.mark.parametrize("fps", [5.0, 15.0, 4.8979])
def test_the_file_states_the_true_frame_rate(fps):
    assert frame_rate(encode_rgb(moving_gradient(5, 16, 16), fps)) == pytest.approx(fps, rel=1e-3)


def test_the_same_frames_give_the_same_bytes():
    # Texture that drifts and turns, as a wrist camera sees it: with x264's macroblock-tree on,
    # ten encodings of this gave several different files.
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (512, 512, 3)).astype(np.float32), (0, 0), 3)
    texture = np.clip((texture - 127) * 6 + 127, 0, 255).astype(np.uint8)
    frames = []
    for t in range(49):
        turn = cv2.getRotationMatrix2D((256, 256), 1.5 * t, 1 + 0.01 * t)
        frames.append(cv2.warpAffine(texture, turn, (512, 512))[150 + t : 330 + t, 100:420])
    encoded = {encode_rgb(np.stack(frames), 11.6) for _ in range(8)}
    assert len(encoded) == 1


def test_bad_input_is_named():
    with pytest.raises(ShapeError, match="expected uint8"):
        encode_rgb(np.zeros((2, 4, 4, 3)), 5)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="fps"):
        encode_rgb(np.zeros((2, 4, 4, 3), np.uint8), 0)
    with pytest.raises(FormatError, match="cannot be decoded"):
        decode_rgb(b"not an mp4")
    with pytest.raises(FormatError):
        decode_rgb(encode_rgb(moving_gradient(5, 48, 64), 5)[:400])

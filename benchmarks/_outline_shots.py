"""Other cameras for filmed twins: what firmware and encoders do to frames beside `degrade`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks._camera_film import degrade

Frame = NDArray[np.uint8]
Step = Callable[[Frame], Frame]
_DOWN = cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4
_UP = cv2.INTER_LINEAR, cv2.INTER_CUBIC


def shoot(frames: Frame, strength: float, rng: np.random.Generator) -> Frame:
    """Rendered frames (T, H, W, 3) through a camera and encoders; by `degrade` alone at 0."""
    before, after = _draw_steps(strength, rng) if strength else ([], [])
    seen = np.stack([_through(before, frame) for frame in frames])
    return np.stack([_through(after, frame) for frame in degrade(seen, rng)])


def _draw_steps(strength: float, rng: np.random.Generator) -> tuple[list[Step], list[Step]]:
    """What one camera does before its noise, and after it."""
    before: list[Step] = [_toned(strength, rng)]
    after: list[Step] = []

    def perhaps(share: float, step: Step, *places: list[Step]) -> None:
        if rng.uniform() < share * strength:
            places[int(rng.integers(len(places)))].append(step)

    amount, sigma = strength * rng.uniform(0.2, 1.5), rng.uniform(0.6, 2.0)
    perhaps(0.4, partial(_blurred, sigma=strength * rng.uniform(0.3, 1.1)), before)
    perhaps(
        0.3, partial(_coarser, scale=1 - 0.5 * strength * rng.uniform(), how=_ways(rng)), before
    )
    perhaps(0.6, partial(_sharpened, amount=amount, sigma=sigma), before, after)
    perhaps(0.3, partial(_smoothed, kind=int(rng.integers(3))), after)
    shift = 0.6 * strength * rng.uniform(-1, 1, (2, 2))
    perhaps(0.3, partial(_chroma_moved, shift=shift), before, after)
    perhaps(0.3, partial(_encoded, quality=int(rng.integers(25, 75))), after)
    return before, after


def _through(steps: list[Step], frame: Frame) -> Frame:
    for step in steps:
        frame = step(frame)
    return frame


def _toned(strength: float, rng: np.random.Generator) -> Step:
    """White balance, saturation, gamma, a flatter or steeper middle, haze."""
    gain = np.exp(strength * (0.2 * rng.uniform(-1, 1) + 0.12 * rng.uniform(-1, 1, 3)))
    saturation = np.exp(strength * rng.uniform(-0.9, 0.5))
    gamma = np.exp(0.35 * strength * rng.uniform(-1, 1))
    bend, haze = 0.35 * strength * rng.uniform(-1, 1), 0.15 * strength * rng.uniform() ** 2

    def step(frame: Frame) -> Frame:
        light = (frame / np.float32(255)) * gain.astype(np.float32)
        grey = light.mean(-1, keepdims=True)
        light = (grey + saturation * (light - grey)).clip(0, 1) ** np.float32(gamma)
        light = light + bend * np.sin(2 * np.pi * light) / -(2 * np.pi)
        return _rounded(255 * (haze + (1 - haze) * light))

    return step


def _blurred(frame: Frame, sigma: float) -> Frame:
    return cv2.GaussianBlur(frame, (0, 0), sigma)


def _sharpened(frame: Frame, amount: float, sigma: float) -> Frame:
    """An unsharp mask of the brightness, as firmware applies one."""
    grey = frame.astype(np.float32).mean(-1)
    return _rounded(frame + amount * (grey - cv2.GaussianBlur(grey, (0, 0), sigma))[..., None])


def _smoothed(frame: Frame, kind: int) -> Frame:
    """What denoisers leave: flat patches with sharp borders."""
    if kind == 0:
        return cv2.medianBlur(frame, 3)
    return cv2.bilateralFilter(frame, 5, 12.0 * kind, 2.0)


def _ways(rng: np.random.Generator) -> tuple[int, int]:
    return _DOWN[int(rng.integers(len(_DOWN)))], _UP[int(rng.integers(len(_UP)))]


def _coarser(frame: Frame, scale: float, how: tuple[int, int]) -> Frame:
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (round(scale * width), round(scale * height)), interpolation=how[0])
    return cv2.resize(small, (width, height), interpolation=how[1])


def _chroma_moved(frame: Frame, shift: NDArray[np.floating]) -> Frame:
    """Colour beside brightness by ``shift`` (2, 2) pixels of x and y, each of its two parts."""
    parts = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)
    for k, (dx, dy) in enumerate(shift, 1):
        move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        parts[..., k] = cv2.warpAffine(
            np.ascontiguousarray(parts[..., k]), move, frame.shape[1::-1], None,
            cv2.INTER_LINEAR, cv2.BORDER_REPLICATE,
        )  # fmt: skip
    return cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB)


def _encoded(frame: Frame, quality: int) -> Frame:
    """Coarsely, as video of few bits."""
    file = simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality, colorsubsampling="420")
    return np.asarray(simplejpeg.decode_jpeg(file))


def _rounded(values: NDArray[np.floating]) -> Frame:
    return (values + 0.5).clip(0, 255).astype(np.uint8)

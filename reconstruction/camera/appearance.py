"""Where along a line across the predicted outline the image's own outline lies."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from reconstruction.camera.contours import Lines, profiles

Floats = NDArray[np.floating]
_BINS = 12  # a colour channel
_RING = 12  # pixels around the robot whose colours count as its background
_STEP = 0.5
# Weights of a line's two cues, log odds of colours a pixel and strength of the edge, by how far it
# is looked: from afar colours lead, close by the edge does.
_COLOUR, _EDGE = 0.4, 4.0
_EDGE_HALF = 15.0  # grey levels over three channels at which an edge counts half
# Matting: the band on either side from which a colour is extrapolated, in pixels, and how far.
_NEAR, _FAR, _REACH, _FINE_STEP = 0.75, 2.75, 1.5, 0.25
# The bands reach into the edge when it is off the middle, so that offsets come out too short by
# this factor: measured by shifting lines by 0.4 pixels on twins.
_GAIN = 0.65
_NOISE = 200.0  # squared grey levels over three channels: JPEG's and the sensor's


def colour_odds(
    images: NDArray[np.float32], part: NDArray[np.uint8], links: int
) -> NDArray[np.float32]:
    """(links, bins) log odds that a colour near a link is the link's and not the background's.

    Histograms over all frames, after Tjaden et al. (2017) and Stoiber et al. (2020), who keep one
    a model: links differ in colour, and so does what is behind each.
    """
    size = _BINS**3
    own, other = np.zeros((links, size)), np.zeros((links, size))
    square = np.ones((3, 3), np.uint8)
    for image, parts in zip(images, part, strict=True):
        mask = (parts > 0).astype(np.uint8)
        if not mask.any():
            continue
        colours = _bin(image)
        core = cv2.erode(mask, square, iterations=2) > 0
        own += _count(parts[core].astype(np.int64) - 1, colours[core], links)
        away, nearest = cv2.distanceTransformWithLabels(
            1 - mask, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        link_of_label = np.zeros(nearest.max() + 1, np.int64)
        link_of_label[nearest[mask > 0]] = parts[mask > 0].astype(np.int64) - 1
        ring = (away > 2) & (away < _RING)
        other += _count(link_of_label[nearest[ring]], colours[ring], links)
    return np.asarray(np.log(_share(own)) - np.log(_share(other)), np.float32)


def region_offsets(
    images: NDArray[np.float32], lines: Lines, odds: NDArray[np.float32], reach: int
) -> tuple[Floats, Floats]:
    """Mean and variance (N,) in pixels of the outline's place, within ``reach`` of the predicted.

    The posterior of a step from the link's colours to the background's, and of an edge there.
    """
    offsets = np.arange(-reach - 2, reach + 2 + _STEP, _STEP)
    colours = profiles(images, lines, offsets)
    evidence = odds[lines.link[:, None], _bin(colours)].clip(-3, 3).astype(np.float64)
    inner = np.cumsum(evidence, 1) - evidence / 2
    region = (2 * inner - evidence.sum(1, keepdims=True)) * _STEP
    edge = np.zeros(colours.shape[:2])
    k = round(1 / _STEP)
    edge[:, k:-k] = np.linalg.norm(colours[:, 2 * k :] - colours[:, : -2 * k], axis=-1)
    within = np.abs(offsets) <= reach
    belief = (_COLOUR * region + _EDGE * edge / (edge + _EDGE_HALF))[:, within]
    weight = np.exp(belief - belief.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ offsets[within]
    variance = (weight * (offsets[within] - mean[:, None]) ** 2).sum(1)
    return mean, variance


def matte_offsets(images: NDArray[np.float32], lines: Lines) -> tuple[Floats, Floats]:
    """Offset (N,) of the image's outline in pixels, to a fraction of one, and its weight 0..1.

    A pixel across an edge mixes robot and background by the share that each covers. Both colours
    are extrapolated linearly from either side (shading runs on to the outline); the integral of
    the share along the line is where the edge is, blurred or not.
    """
    offsets = np.arange(-_FAR - 0.25, _FAR + 0.25 + 1e-6, _FINE_STEP)
    colours = profiles(images, lines, offsets)
    front, front_noise = _extrapolate(colours, offsets, (offsets <= -_NEAR) & (offsets >= -_FAR))
    back, back_noise = _extrapolate(colours, offsets, (offsets >= _NEAR) & (offsets <= _FAR))
    contrast = front - back
    power = (contrast**2).sum(-1)
    share = (((colours - back) * contrast).sum(-1) / np.maximum(power, 100.0)).clip(-0.5, 1.5)
    within = np.abs(offsets) <= _REACH
    share = share[:, within]
    place = (share[:, 1:] + share[:, :-1]).sum(1) / 2 * _FINE_STEP - _REACH
    place /= _GAIN
    clear = power[:, len(offsets) // 2] / (front_noise + back_noise + _NOISE)
    return place, clear / (clear + 3)


def _extrapolate(colours: Floats, offsets: Floats, band: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Colours (N, K, 3) of a straight line through those in a band, and their scatter (N,)."""
    x = offsets[band]
    design = np.stack([np.ones_like(x), x], 1)
    fit = np.einsum("ij,njc->nic", np.linalg.pinv(design), colours[:, band])
    scatter = ((colours[:, band] - np.einsum("ki,nic->nkc", design, fit)) ** 2).mean(1).sum(1)
    everywhere = np.stack([np.ones_like(offsets), offsets], 1)
    return np.einsum("ki,nic->nkc", everywhere, fit), scatter


def _bin(colours: Floats) -> NDArray[np.int64]:
    index = (colours * (_BINS / 256)).astype(np.int64).clip(0, _BINS - 1)
    return (index[..., 0] * _BINS + index[..., 1]) * _BINS + index[..., 2]


def _count(link: NDArray[np.int64], colour: NDArray[np.int64], links: int) -> Floats:
    size = _BINS**3
    return np.bincount(link * size + colour, minlength=links * size).reshape(links, size)


def _share(counts: Floats) -> Floats:
    """Smoothed, with a little of all links' colours for those of which little is seen."""
    cube = counts.reshape(-1, _BINS, _BINS, _BINS)
    for axis in (1, 2, 3):
        cube = gaussian_filter1d(cube, 0.7, axis=axis)
    flat = cube.reshape(len(counts), -1)
    everywhere = flat.sum(0)
    flat = flat + 0.05 * flat.sum(1, keepdims=True) * everywhere / max(everywhere.sum(), 1.0)
    return np.asarray(flat / (flat.sum(1, keepdims=True) + 1e-6) + 2e-4)

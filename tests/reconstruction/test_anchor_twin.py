"""Anchoring and visibility on a clip of a twin, judged by the simulator's truth."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks._anchor_films import Spoiling, occluded, relative_depth, true_clips
from reconstruction.anchor import anchor_depth
from reconstruction.mask import visible_robot

pytestmark = pytest.mark.slow

NETWORK = Spoiling("inverse", fixed=0.01, fresh=0.004, fine=0.004, blur=1.0)


@pytest.fixture(scope="module")
def clip(menagerie, made_once):
    def film(folder):
        list(true_clips(folder, "rt1", [5], 1))

    ((_, clip),) = true_clips(made_once("true-clips", film), "rt1", [5], 1)
    return clip


def anchored(clip, how, seed=1):
    relative = relative_depth(clip, how, seed)
    return anchor_depth(relative, how.kind, clip.robot_depth, clip.rgb, camera_rests=clip.static)


def errors(clip, depth):
    relative = np.abs(depth / clip.depth - 1)
    return relative[clip.robot_depth == 0].mean(), relative[clip.robot_visible].mean()


def flicker(clip, depth):
    return np.abs(np.diff(depth, axis=0))[clip.resting].mean()


@pytest.mark.parametrize("kind", ["depth", "inverse"])
def test_drift_of_scale_and_shift_is_undone(clip, kind):
    result = anchored(clip, Spoiling(kind))
    scene, robot = errors(clip, result.depth)
    assert scene <= 0.03
    assert robot <= 0.01
    # A scale that drifts by 4 % from frame to frame moves what rests by centimetres.
    assert flicker(clip, result.depth) < 0.001


@pytest.mark.parametrize("kind", ["depth", "inverse"])
def test_a_networks_errors_are_not_blown_up(clip, kind):
    how = replace(NETWORK, kind=kind)
    result = anchored(clip, how)
    scene, _ = errors(clip, result.depth)
    # Of 1 % at the robot; the kitchen behind it is three times as far.
    assert scene <= 0.05
    assert result.held_back.median_m < 0.01
    x = clip.depth if kind == "depth" else 1 / clip.depth
    values = relative_depth(clip, how, 1)
    known = np.polyval(np.polyfit(values.ravel().astype(float), x.ravel(), 1), values)
    before = flicker(clip, known if kind == "depth" else 1 / known)
    assert flicker(clip, result.depth) < before / 5


def test_the_robot_is_seen_where_the_simulator_shows_it(clip):
    for shown, least in ((clip, 0.99), (occluded(clip, 2), 0.97)):
        depth = anchored(shown, NETWORK)
        exact = visible_robot(shown.robot_depth, shown.depth)
        noisy = visible_robot(shown.robot_depth, depth.depth, noise=depth.noise, rgb=shown.rgb)
        for seen, bound in ((exact, 0.999), (noisy, least)):
            truth = shown.robot_visible
            assert (seen & truth).sum() / (seen | truth).sum() >= bound

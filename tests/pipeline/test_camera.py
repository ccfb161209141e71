"""Which camera a clip gets, where nothing is to be solved."""

import numpy as np
import pytest

from pipeline.camera import choose_camera
from robo4d.geometry import intrinsics
from schemas.config import CameraConfig
from schemas.episode import Calibration, CameraStream, Provenance

POSE = np.eye(4)
K = intrinsics(100, 100, 50, 50)


def choose(stream, exact=None, **config):
    return choose_camera(None, stream, exact, None, None, CameraConfig(**config))


def stream(name="exterior", provenance=None):
    shipped = None if provenance is None else Calibration(K, POSE, provenance)
    return CameraStream(name, [b""], shipped)


def test_the_simulators_camera_is_exact():
    exact = Calibration(K, POSE, Provenance.SIMULATED)
    assert choose(stream(), exact).verdict == "exact"
    assert choose(stream(provenance=Provenance.SIMULATED)).calibration is not None


def test_a_shipped_camera_is_taken_untested_only_where_the_configuration_says_so():
    choice = choose(stream(provenance=Provenance.POSTHOC), solve="never")
    assert (choice.verdict, choice.columns()["silhouette_iou"]) == ("shipped", None)
    assert choice.calibration is choice.shipped
    assert choice.describe()["shipped"]["provenance"] == "posthoc"


@pytest.mark.parametrize("name", ["wrist_image_left", "x"])
def test_a_camera_that_is_not_solved_is_absent_with_the_reason(name):
    choice = choose(stream(name), solve="never")
    assert (choice.calibration, choice.verdict) == (None, "unsolved")
    assert choice.why

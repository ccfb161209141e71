"""The real samples, as their README describes them."""

import numpy as np
import pytest

from converters import open_source


def episodes(source: str, data):
    opened = open_source(source, str(data))
    for split, refs in opened.refs(None).items():
        for ref in refs:
            yield opened.read(ref, split, None)


def test_droid_identity_outcome_rate_and_cameras(droid_data):
    found = list(episodes("droid", droid_data))
    assert [e.id.rsplit("/", 1)[1] for e in found] == [f"episode_{n}" for n in (0, 3, 4, 5, 6, 199)]
    assert [e.outcome for e in found] == ["success"] * 2 + ["failure"] * 4
    assert [len(e) for e in found] == [56, 80, 124, 62, 39, 33]
    assert {e.fps for e in found} == {5.0}
    assert [bool(e.instructions) for e in found] == [False, True, False, False, False, True]
    assert all(c.size() == (180, 320) for e in found for c in e.cameras.values())


def test_bridge_blank_views_are_told_by_their_pixels(bridge_data):
    found = list(episodes("bridge", bridge_data))
    assert len({e.id for e in found}) == 25
    assert all(list(e.cameras) == ["image_0", "image_1", "image_2"] for e in found)
    assert all("view image_3 is blank" in e.notes for e in found)
    assert all(len(e) == 10 and e.fps == 5 and e.robot.joints is None for e in found)
    assert all(e.instructions for e in found)


@pytest.mark.parametrize("source", ["droid", "bridge"])
def test_notes_name_what_is_not_here(source, request):
    data = request.getfixturevalue(f"{source}_data")
    notes = open_source(source, str(data)).dataset.notes
    assert any("split 'val'" in note for note in notes) == (source == "bridge")


def test_zero_euler_angles_point_the_widowx_fingers_down(bridge_data):
    from converters.bridge import ee_from_state

    pose = ee_from_state(np.array([[0.3, 0, 0.1, 0, 0, 0, 1.0]]))[0]
    np.testing.assert_allclose(pose[:3, 0], [0, 0, -1], atol=1e-12)  # ee x runs along the fingers

"""Defects that a twin shows when it is asked to: late and lost frames, said in the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import UsageError
from simulation.defects import Defects
from simulation.film import Film
from simulation.twin import make_twin


def film(steps: int) -> Film:
    """A film of which every part tells its step."""
    t = np.arange(steps)
    return Film(
        tuple(str(n).encode() for n in t),
        np.repeat(t, 4).reshape(-1, 2, 2).astype(np.float32),
        np.repeat(t, 4).reshape(-1, 2, 2).astype(np.uint8),
        np.eye(3),
        np.eye(4) * t[:, None, None],
    )


def moments(film: Film) -> list[int]:
    return [int(frame) for frame in film.frames]


@given(
    st.integers(1, 60),
    st.integers(0, 5),
    st.integers(0, 4),
    st.floats(0, 0.95),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_a_frame_is_the_last_that_came_and_facts_tell_which(steps, least, more, share, seed, index):
    defects = Defects((least, least + more), share)
    whole = {"a": film(steps), "b": film(steps)}
    shown, facts = defects.spoil(whole, seed, index)
    for name, view in shown.items():
        seen = moments(view)
        said = facts.get(name, {"latency_steps": 0, "dropped_steps": []})
        assert said["latency_steps"] == facts.get("a", said)["latency_steps"]
        assert least <= said["latency_steps"] <= least + more
        assert len(seen) == steps
        for t, moment in enumerate(seen):
            expected = seen[t - 1] if t in said["dropped_steps"] else t - said["latency_steps"]
            assert moment == max(expected, 0)
        # The truth is of what the frame shows.
        np.testing.assert_array_equal(view.depth[:, 0, 0], seen)
        np.testing.assert_array_equal(view.robot_part[:, 1, 1], seen)
        np.testing.assert_array_equal(view.base_from_camera[:, 0, 0], seen)
    assert defects.spoil(whole, seed, index)[1] == facts


def test_views_lose_frames_of_their_own_and_episodes_have_a_latency_of_their_own():
    defects = Defects((0, 4), 0.2)
    facts = [defects.spoil({"a": film(200), "b": film(200)}, 0, index)[1] for index in range(40)]
    assert {fact["a"]["latency_steps"] for fact in facts} == {0, 1, 2, 3, 4}
    assert all(fact["a"]["dropped_steps"] != fact["b"]["dropped_steps"] for fact in facts)
    lost = np.mean([len(fact["a"]["dropped_steps"]) for fact in facts]) / 200
    assert abs(lost - 0.2) < 0.02  # 40 x 200 draws: one sigma is 0.0045


def test_nothing_is_changed_or_said_where_nothing_is_asked_for():
    films = {"a": film(9)}
    assert Defects().spoil(films, 0, 0) == (films, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latency": (-1, 2)}, "latency is -1"),
        ({"latency": (3, 2)}, "from 3 to 2"),
        ({"dropped": 1.0}, "dropped is 1.0"),
        ({"dropped": -0.1}, "dropped is -0.1"),
    ],
)
def test_what_cannot_be_is_refused(values, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        make_twin("rt1", tmp_path / "twin", **values)
    assert not (tmp_path / "twin").exists()


@pytest.mark.slow
def test_a_twin_with_defects_is_the_same_twin_with_other_frames(rt1_twin, spoilt_rt1_twin):
    bad = spoilt_rt1_twin
    lost = 0
    for k in range(2):
        good = rt1_twin.images(k, "image")
        ident = _rt1_id(rt1_twin, k)
        truth, spoilt = rt1_twin.truth_of(ident, "image"), bad.truth_of(ident, "image")
        assert "latency_steps" not in truth.attrs
        late, dropped = spoilt.attrs["latency_steps"], spoilt.attrs["dropped_steps"]
        assert 1 <= late <= 3
        lost += len(dropped)
        came = [max(t for t in range(n + 1) if t not in dropped) for n in range(len(good))]
        seen = [max(t - late, 0) for t in came]
        assert bad.images(k, "image") == [good[t] for t in seen]
        np.testing.assert_array_equal(spoilt["depth"][:], truth["depth"][:][seen])
        # The log is not touched.
        np.testing.assert_array_equal(spoilt["joints"][:], truth["joints"][:])
        for feature in ("observation/base_pose_tool_reached", "action/world_vector"):
            np.testing.assert_array_equal(bad.floats(k, feature), rt1_twin.floats(k, feature))
    assert lost > 0


def _rt1_id(twin, episode: int) -> str:
    from converters import rt1
    from converters.rlds import decode_record, open_rlds

    dataset = open_rlds(str(twin.folder), rt1.REQUIRED)
    payload = twin.records[episode].SerializeToString()
    record = decode_record(payload, dataset.features, "train", "file", episode)
    return rt1.convert(record, dataset, None).id

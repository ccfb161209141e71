"""What stands around a scene that depth is learned from."""

import mujoco
import numpy as np
import pytest

from simulation.depth_scenes.surroundings import Ground, add_surroundings, draw_surroundings

TABLE, ROOM = 1, 0


@pytest.fixture
def model() -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    for name, z in (("floor", 0.0), ("table", 0.7)):
        spec.worldbody.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.5, 0.5, 0.01], pos=[0, 0, z], group=1
        )
    add_surroundings(spec)
    return spec.compile()


def drawn(model, kind, seed=0):
    ground = Ground(np.array([0.4, 0.1]), 0.71, 0.01, np.array([ROOM]), np.array([TABLE]))
    return draw_surroundings(model, np.random.default_rng(seed), ground, kind)


def test_the_same_number_draws_the_same_surroundings(model):
    first, second = drawn(model, "other"), drawn(model, "other")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[n], p) for n, p in drawn(model, "other", 1).items())


@pytest.mark.parametrize(
    ("kind", "room", "table"), [("native", 1, 1), ("other", 0, 1), ("bare", 0, 0)]
)
def test_a_kind_leaves_out_what_it_says(model, kind, room, table):
    poses = drawn(model, kind)
    assert model.geom_group[ROOM] == room
    assert model.geom_group[TABLE] == table
    ground = poses["around_ground"]
    top = ground[2] + model.geom("around_ground").size[2]
    if kind == "native":
        assert ground[2] < -10  # its own floor is there
    else:
        assert top == pytest.approx(0.71 if kind == "bare" else 0.01)


def test_nothing_stands_where_the_robot_works(model):
    for seed in range(20):
        poses = drawn(model, "native", seed)
        for name, pose in poses.items():
            if pose[2] > -10 and name.startswith(("around_standing", "around_lying")):
                away = np.linalg.norm(pose[:2] - [0.4, 0.1])
                half = model.geom(name).size[:2].max()
                assert away - half > 0.1 or away > 0.2
                assert np.linalg.norm(pose[3:]) == pytest.approx(1)

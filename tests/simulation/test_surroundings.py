"""What stands around a scene that depth is learned from."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.depth_scenes.assemblies import draw_assembly
from simulation.depth_scenes.surroundings import (
    Ground,
    add_surroundings,
    draw_surroundings,
    find_walls,
)

TABLE, ROOM = 1, 0
INSIDE = np.array([[0.0, 0.0], [0.9, 1.0]])  # the robot and a camera
GROUND = Ground(np.array([0.4, 0.1]), 0.71, 0.01, np.array([ROOM]), np.array([TABLE]), INSIDE)


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
    return draw_surroundings(model, np.random.default_rng(seed), GROUND, kind)


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
        assert top == pytest.approx(0.709 if kind == "bare" else 0.01)


def corners(model, data, geom) -> np.ndarray:
    """(8, 3) m, of the box around a geom, in the world."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    middle, half = np.split(model.geom_aabb[geom], 2)
    return (middle + signs * half) @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def test_nothing_stands_where_the_robot_works_nor_hangs_through_the_table(model):
    for seed in range(20):
        poses = drawn(model, "native", seed)
        data = mujoco.MjData(model)
        for name, pose in poses.items():
            assert np.linalg.norm(pose[3:]) == pytest.approx(1)
            mocap = model.body(name).mocapid[0]
            data.mocap_pos[mocap], data.mocap_quat[mocap] = pose[:3], pose[3:]
        mujoco.mj_kinematics(model, data)
        for geom in range(model.ngeom):
            body = model.body(model.geom_bodyid[geom]).name
            if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_BOX:
                continue
            if not body.startswith(("around_standing", "around_lying")) or poses[body][2] < -10:
                continue
            box = corners(model, data, geom)
            assert np.linalg.norm(box[:, :2] - [0.4, 0.1], axis=1).min() > 0.1
            assert box[:, 2].min() > (0.71 if "lying" in body else 0.01) - 1e-6


@given(st.integers(0, 10_000), st.tuples(*[st.floats(0.01, 0.9)] * 3))
def test_what_is_made_of_boxes_keeps_its_size(seed, half):
    centres, sizes = draw_assembly(np.random.default_rng(seed), np.array(half))
    assert (sizes > 0).all()
    assert (np.abs(centres) + sizes <= np.array(half) * 1.05 + 0.01).all()


def test_cupboards_hang_on_the_walls_of_other_rooms(model):
    hung = 0
    for seed in range(10):
        poses = drawn(model, "other", seed)
        walls = [poses[f"around_wall{k}"][:3] for k in range(4)]
        for name, pose in poses.items():
            if not name.startswith("around_hung") or pose[2] < -10:
                continue
            hung += 1
            half = model.geom_size[model.geom(name).id]
            turn = 2 * np.arctan2(pose[6], pose[3])
            outward = np.array([np.cos(turn), np.sin(turn), 0])
            assert min(abs((wall - pose[:3]) @ outward - half[0]) for wall in walls) < 1e-6
            assert pose[2] - half[2] >= 0.01 - 1e-6  # the floor's z
    assert hung > 10
    assert all(p[2] < -10 for n, p in drawn(model, "native").items() if "hung" in n)


def test_walls_of_other_rooms_are_near_or_far_and_stand_before_nothing(model):
    away = []
    for seed in range(60):
        poses = drawn(model, "other", seed)
        walls = find_walls(model, GROUND, poses)
        there = [pose for name, pose in poses.items() if "wall" in name and pose[2] > -10]
        assert len(walls) == len(there)
        for wall, pose in zip(walls, there, strict=True):
            assert wall[:2] @ pose[:2] - wall[2] == pytest.approx(0.02)  # half its thickness
            assert (wall[2] - INSIDE @ wall[:2]).min() > 0.2
        away.extend(walls[:, 2] - walls[:, :2] @ GROUND.centre)
    assert min(away) < 0.75
    assert max(away) > 3

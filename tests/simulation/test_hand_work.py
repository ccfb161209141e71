"""What a hand at work holds and stands over, in a scene of a few boxes."""

import mujoco
import numpy as np
import pytest

from robo4d.geometry import make_pose
from simulation.depth_scenes.hand_work import OPEN, hold_something, move_under
from simulation.depth_scenes.libero_state import draw_state
from simulation.film import body_pose

# Half sizes in m: narrow enough in two directions and short, or in one alone, or too long.
SCENE = """
<mujoco><worldbody>
  <body name="extra0" mocap="true"><geom type="box" size=".01 .02 .1" group="1"/></body>
  <body name="extra1" mocap="true"><geom type="box" size=".01 .06 .1" group="1"/></body>
  <body name="extra2" mocap="true"><geom type="box" size=".01 .02 .14" group="1"/></body>
  <body name="extra3" mocap="true"><geom type="box" size=".01 .02 .1" group="0"/></body>
  <body name="around_lying0" mocap="true"><geom type="box" size=".01 .02 .1" group="1"/></body>
  <body name="around_lying1" mocap="true"><geom type="box" size=".1 .1 .1" group="1"/></body>
  <body name="around_standing0" mocap="true"><geom type="box" size=".1 .1 .1" group="1"/></body>
  <body name="jar"><freejoint name="jar_joint0"/>
    <geom type="box" size=".02 .02 .03" pos="0 0 -.03" group="1"/>
    <body pos="0 0 .01"><geom type="box" size=".01 .01 .02" pos="0 0 .01" group="1"/></body>
    <geom type="box" size=".2 .2 .2" group="0"/>
  </body>
  <body name="basket"><freejoint name="basket_joint0"/>
    <geom type="box" size=".003 .04 .05" group="1" pos=".08 0 0"/>
    <geom type="box" size=".003 .04 .05" group="1" pos="-.08 0 0"/>
  </body>
  <body name="pan"><freejoint name="pan_joint0"/>
    <geom type="box" size=".01 .01 .05" group="1"/>
    <body pos="0 0 -.05"><geom type="box" size=".06 .06 .01" group="1"/></body>
  </body>
</worldbody></mujoco>
"""
FITTING = {"extra0", "jar_joint0"}
TOO_LARGE = ("extra1", "extra2", "basket_joint0", "pan_joint0")
UPRIGHT = np.array([0.3, 0.1, 0.9, 1.0, 0.0, 0.0, 0.0])
DOWN = make_pose(np.diag([1.0, -1.0, -1.0]), [0.5, -0.2, 1.3])  # a hand


@pytest.fixture(scope="module")
def data() -> mujoco.MjData:
    """The scene, its bodies turned, so that their frames are not the world's."""
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    turned = np.array([0.8, 0.0, 0.6, 0.0])
    data.mocap_quat[:] = turned
    for name in ("jar_joint0", "basket_joint0", "pan_joint0"):
        data.joint(name).qpos[3:] = turned
    mujoco.mj_kinematics(model, data)
    return data


def holds(data: mujoco.MjData, names, hand=DOWN, tries: int = 200) -> list:
    """What a hand holds, each time drawn anew, among the named things."""
    layout, rng = {name: UPRIGHT for name in names}, np.random.default_rng(0)
    return [hold_something(data, layout, hand, rng) for _ in range(tries)]


def test_a_held_thing_is_on_the_hand_s_axis_about_the_fingertips(data):
    hand = make_pose(
        DOWN[:3, :3] @ np.array([[0.0, -1, 0], [0.8, 0, 0.6], [-0.6, 0, 0.8]]), [1, 2, 3]
    )
    held = holds(data, FITTING, hand)
    there = [h for h in held if h is not None]
    assert {h.name for h in there} == FITTING
    assert 0.5 < len(there) / len(held) < 0.7
    place = (np.array([h.pose[:3] for h in there]) - hand[:3, 3]) @ hand[:3, :3]
    assert np.allclose(place[:, :2], 0)
    along = place[:, 2] - 0.103  # to a Panda's fingertips
    assert along.min() >= -0.01
    assert along.max() <= 0.07
    assert np.ptp(along) > 0.06
    assert np.allclose([np.linalg.norm(h.pose[3:]) for h in there], 1)
    assert np.array_equal(UPRIGHT, [0.3, 0.1, 0.9, 1, 0, 0, 0])


def test_fingers_are_open_as_far_as_the_thing_reaches(data):
    for held in holds(data, ["extra0"]):
        if held is None:
            continue
        turn = np.empty(9)
        mujoco.mju_quat2Mat(turn, held.pose[3:])
        corners = np.stack(np.meshgrid(*([-1, 1],) * 3), -1).reshape(-1, 3) * [0.01, 0.02, 0.1]
        across = (corners @ turn.reshape(3, 3).T) @ DOWN[:3, 1]
        assert held.opening == pytest.approx(min(across.max(), OPEN))
        assert 0.01 * 0.9 < held.opening <= OPEN


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_for_the_fingers_is_not_held(name, data):
    """Of a basket no slab is, but the whole of it; a pan has a handle."""
    assert set(holds(data, [name])) == {None}


def test_nothing_is_held_where_nothing_fits(data):
    assert set(holds(data, [])) == {None}
    assert set(holds(data, ["extra3"])) == {None}  # it is not shown
    assert set(holds(data, ["around_lying0"])) == {None}  # it stays where it is
    assert set(holds(data, [*TOO_LARGE, "extra3", "around_lying0"])) == {None}


def test_only_what_is_there_is_moved_under_a_hand_and_keeps_its_height():
    away = np.array([0.0, 0.0, -60.0, 1.0, 0.0, 0.0, 0.0])
    around = {"around_lying0": UPRIGHT, "around_lying1": away, "around_standing0": UPRIGHT}
    centre, spread, rng = np.array([2.0, 3.0]), np.array([0.3, 0.1]), np.random.default_rng(0)
    moved = [move_under(around, centre, spread, rng) for _ in range(200)]
    assert {name for some in moved for name in some} == {"around_lying0"}
    poses = np.array([some["around_lying0"] for some in moved if some])
    assert 0.4 < len(poses) / len(moved) < 0.6
    assert (abs(poses[:, :2] - centre) <= spread).all()
    assert np.ptp(poses[:, :2], 0) == pytest.approx(2 * spread, rel=0.1)
    assert np.array_equal(poses[:, 2:], np.broadcast_to(UPRIGHT[2:], (len(poses), 5)))
    assert np.array_equal(around["around_lying0"], [0.3, 0.1, 0.9, 1, 0, 0, 0])


def robot_scene() -> mujoco.MjModel:
    """An arm of LIBERO's names, its hand at the bottom of it, and a narrow thing."""
    spec = mujoco.MjSpec()
    world = spec.worldbody
    body = world.add_body(name="robot0_base", pos=[0, 0, 0.5])
    for j in range(1, 8):
        body = body.add_body(pos=[0.05, 0, 0.1 if j < 4 else 0])
        body.mass, body.inertia = 1, [1, 1, 1]
        body.add_joint(name=f"robot0_joint{j}", axis=[0, j % 2 == 0, j % 2], range=[-3, 3])
    hand = body.add_body(name="robot0_right_hand", quat=[0, 1, 0, 0])
    for k, (low, high) in enumerate(((0, OPEN), (-OPEN, 0)), 1):
        finger = hand.add_body()
        finger.mass, finger.inertia = 1, [1, 1, 1]
        finger.add_joint(
            name=f"gripper0_finger_joint{k}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, 1, 0],
            range=[low, high],
        )
    thing = world.add_body(name="extra0", mocap=True)
    thing.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.03, 0.03], group=1)
    return spec.compile()


def test_a_working_hand_holds_something_in_some_frames_and_a_hand_that_does_not_work_in_none():
    model, rng = robot_scene(), np.random.default_rng(0)
    start = {f"robot0_joint{j}": [0.0] for j in range(1, 8)}

    def held(working: bool) -> float:
        count = 0
        for _ in range(60):
            state = draw_state(model, {"extra0": UPRIGHT}, start, rng, working)
            hand = body_pose(state, "robot0_right_hand")
            place = (state.body("extra0").xpos - hand[:3, 3]) @ hand[:3, :3]
            if np.allclose(place[:2], 0):
                count += 1
                left, right = (state.joint(f"gripper0_finger_joint{k}").qpos[0] for k in (1, 2))
                assert left == -right
                assert 0.03 <= left <= OPEN  # the thing's half width at least
        return count / 60

    assert 0.4 < held(True) < 0.8
    assert held(False) == 0

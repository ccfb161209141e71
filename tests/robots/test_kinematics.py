"""Kinematics against the robots' own logs, published facts and MuJoCo."""

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from converters import open_source
from converters.bridge import DEFAULT_ROTATION, ee_from_state
from converters.rlds import decode_record
from converters.tfrecord import RecordReader, index_file
from robo4d.geometry import invert, make_pose, rotation_angle
from robots.kinematics import ee_poses, link_poses, solve_joints
from robots.models import ROBOTS


def records(source, data):
    dataset = open_source(source, str(data)).dataset
    for split, file, _ in dataset.files:
        with RecordReader(dataset.url(file)) as reader:
            for n, span in enumerate(index_file(dataset.url(file)).records):
                yield decode_record(reader.read(span), dataset.features, split, file, n)


def test_panda_reproduces_the_pose_that_real_droid_logs(droid_data):
    steps = 0
    for record in records("droid", droid_data):
        ee = ee_poses(ROBOTS["panda_robotiq"], record["steps/observation/joint_position"])
        logged = record["steps/observation/cartesian_position"]
        assert np.abs(ee[:, :3, 3] - logged[:, :3]).max() < 1e-4
        rotation = Rotation.from_euler("xyz", logged[:, 3:]).as_matrix()
        assert rotation_angle(ee[:, :3, :3], rotation).max() < 1e-3
        steps += len(ee)
    assert steps == 394


def test_widowx_zero_and_neutral_postures_are_the_published_ones(menagerie):
    robot = ROBOTS["widowx_250s"]
    zero = ee_poses(robot, np.zeros((1, 6)))[0]
    np.testing.assert_allclose(zero[:3, 3], [0.458325, 0, 0.36065], atol=1e-6)
    np.testing.assert_allclose(zero[:3, :3], np.eye(3), atol=1e-12)
    # rail-berkeley/bridge_data_robot's neutral posture looks down: small Euler angles by its own
    # convention, which a wrong default rotation would turn into 90 degrees.
    neutral = ee_poses(robot, [[-0.13192, -0.76239, 0.44485, -0.01994, 1.75641, -0.15953]])[0]
    euler = Rotation.from_matrix(neutral[:3, :3] @ DEFAULT_ROTATION.T).as_euler("xyz")
    assert np.abs(euler).max() < 0.2


def test_widowx_joints_solved_from_real_bridge_states(bridge_data, menagerie):
    robot = ROBOTS["widowx_250s"]
    lower, upper = robot.limits.T
    good = total = 0
    for record in records("bridge", bridge_data):
        ee = ee_from_state(np.asarray(record["steps/observation/state"], float))
        found = solve_joints(robot, ee, np.arange(len(ee)) / 5)
        assert (found.joints >= lower).all()
        assert (found.joints <= upper).all()
        fine = (found.position_error < 1e-3) & (found.rotation_error < np.radians(0.5))
        assert (fine | found.flagged).all(), "a missed step must be flagged"
        speed = np.abs(np.diff(found.joints, axis=0)).max() * 5
        assert speed < np.pi
        # Independent of our own forward pass: MuJoCo places the ee for the solved joints.
        np.testing.assert_allclose(mujoco_ee(robot, found.joints), ee, atol=2e-3)
        good += int((fine & ~found.flagged).sum())
        total += len(ee)
    assert total == 250
    assert good / total >= 0.99


def mujoco_ee(robot, joints):
    model = robot.compile()
    data = mujoco.MjData(model)
    body, base = model.body(robot.ee_body).id, model.body(robot.base).id
    out = []
    for q in robot.qpos(joints, np.ones(len(joints))):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        world = [make_pose(data.xmat[b].reshape(3, 3), data.xpos[b]) for b in (base, body)]
        out.append(invert(world[0]) @ world[1] @ robot.body_from_ee)
    return np.stack(out)


@pytest.mark.parametrize("name", sorted(ROBOTS))
def test_links_are_where_mujoco_puts_them(name, request):
    if not name.startswith("panda"):
        request.getfixturevalue("menagerie")
    robot = ROBOTS[name]
    rng = np.random.default_rng(0)
    joints, gripper = rng.uniform(*robot.limits.T, (6, len(robot.joint_names))), rng.random(6)
    ours = link_poses(robot, joints, gripper)
    model = robot.compile()
    data = mujoco.MjData(model)
    base = model.body(robot.base).id
    for t, q in enumerate(robot.qpos(joints, gripper)):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        world = make_pose(data.xmat.reshape(-1, 3, 3), data.xpos)
        np.testing.assert_allclose(ours[t], invert(world[base]) @ world[1:], atol=1e-12)


def test_inverse_kinematics_recovers_a_path_and_flags_what_is_out_of_reach():
    robot = ROBOTS["panda_robotiq"]
    path = np.repeat([robot.rest], 20, 0)
    path[:, 0] += np.linspace(0, 0.5, 20)
    path[:, 3] += np.linspace(0, 0.3, 20)
    ee = ee_poses(robot, path)
    found = solve_joints(robot, ee, np.arange(20) / 15)
    assert not found.flagged.any()
    assert found.position_error.max() < 1e-4
    far = ee.copy()
    far[10:, 0, 3] += 1.0
    flagged = solve_joints(robot, far, np.arange(20) / 15).flagged
    assert flagged[10:].all()
    assert not flagged[:9].any()


def test_the_robotiq_fingers_meet_when_closed_and_part_by_85_mm_when_open():
    robot = ROBOTS["panda_robotiq"]
    poses = link_poses(robot, np.repeat([robot.rest], 2, 0), [0.0, 1.0])
    # Centre of the rubber pad in its finger (robosuite robotiq_gripper_85.xml, fingerpad box).
    pad = np.array([0, -0.0245203, 0.03242, 1])
    fingers = [robot.link_names.index(f"{side}_inner_finger") for side in ("left", "right")]
    gap = [
        np.linalg.norm((p[fingers[0]] - p[fingers[1]] @ np.diag([1, 1, 1, 1])) @ pad) for p in poses
    ]
    assert gap[0] < 0.012
    assert gap[1] == pytest.approx(0.085, abs=0.01)

"""Robot rendering against geometry that is known without it."""

import importlib.util
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from robo4d.geometry import intrinsics, invert, make_pose, project, transform, unproject
from robots.kinematics import link_poses
from robots.models import ROBOTS
from robots.offscreen import OffscreenRenderer
from robots.render import RobotRenderer


def look_at(eye, target):
    z = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    return make_pose(np.stack([x, np.cross(z, x), z], 1), np.array(eye, float))


def test_a_sphere_has_the_depth_and_outline_that_geometry_gives():
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><visual><quality offsamples="0" numslices="200" numstacks="200"/></visual>'
        '<worldbody><geom type="sphere" size="0.3" pos="0.1 0.2 2"/></worldbody></mujoco>'
    )
    model.vis.map.znear = 0.01 / model.stat.extent
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    K = intrinsics(200, 190, 70.3, 41.7)  # off centre, with two focal lengths
    with OffscreenRenderer(model, 96, 128) as renderer:
        depth, geoms = renderer.depth_and_geoms(data, K, np.eye(4))
    rays = unproject(np.ones((1, 96, 128)), K[None])[0].astype(float)
    # |t r - c| = 0.3 for the nearer t: the exact z-depth of the sphere along each pixel's ray.
    centre = np.array([0.1, 0.2, 2.0])
    a, b = (rays**2).sum(-1), rays @ centre
    inside = b**2 - a * (centre @ centre - 0.09)
    exact = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0)
    assert ((geoms >= 0) == (inside > 0)).mean() > 0.99
    well_inside = inside > 0.05 * inside.max()
    np.testing.assert_allclose(depth[well_inside], exact[well_inside], atol=1e-3)  # facets


@pytest.mark.parametrize("name", sorted(ROBOTS))
def test_links_appear_where_kinematics_puts_them(name, request):
    if not name.startswith("panda"):
        request.getfixturevalue("menagerie")
    robot = ROBOTS[name]
    pose = look_at([1.8, -1.2, 1.0], [0.2, 0, 0.4])
    K = intrinsics(150, 150, 80, 60)
    joints = np.asarray(robot.rest)[None]
    with RobotRenderer(robot, 120, 160) as render:
        depth, part = render(joints, [0.5], K[None], pose[None])
        again, _ = render(joints, [0.5], K[None], pose[None])
    np.testing.assert_array_equal(depth, again)
    assert ((depth > 0) == (part > 0)).all()
    assert 0.2 < depth[depth > 0].min() < depth.max() < 4
    # Every rendered pixel, lifted to the base, lies near the link that its part id names.
    origins = link_poses(robot, joints, [0.5])[0, :, :3, 3]
    points = transform(pose, unproject(depth, K[None]).reshape(1, -1, 3))[0]
    seen = part.reshape(-1) > 0
    distance = np.linalg.norm(points[seen] - origins[part.reshape(-1)[seen] - 1], axis=-1)
    assert np.median(distance) < 0.25
    # And the arm's wrist, projected, falls on or beside the robot.
    uv, _ = project(transform(invert(pose), origins[robot.link_names.index(robot.ee_body)]), K)
    u, v = uv.ravel().astype(int)
    assert (part[0, max(v - 3, 0) : v + 4, max(u - 3, 0) : u + 4] > 0).any()


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="PyTorch without Triton")
def test_triton_loads_in_a_process_that_renders():
    """Each brings an LLVM; loaded after the other's, Triton's would end the process."""
    code = """
import robots, mujoco
from robots.offscreen import OffscreenRenderer
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
model.vis.quality.offsamples = 0
with OffscreenRenderer(model, 32, 32):
    import triton.knobs
print("both")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "both"), ran.stderr[-500:]

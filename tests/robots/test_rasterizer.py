"""The rasteriser against MuJoCo's OpenGL, which draws the meshes themselves."""

import mujoco
import numpy as np
import pytest
import warp as wp
from scipy.ndimage import maximum_filter, minimum_filter

from robo4d import depth_bound
from robo4d.geometry import intrinsics, invert, make_pose, transform, unproject
from robots.kinematics import ee_poses, link_poses
from robots.models import ROBOTS
from robots.rasterizer import RobotRasterizer
from robots.render import RobotRenderer
from robots.surface import surface_points
from robots.triangles import geom_corners, robot_triangles
from schemas.reasons import UsageError

HEIGHT, WIDTH = 180, 320


@pytest.fixture(params=sorted(ROBOTS))
def robot(request):
    if not request.param.startswith("panda"):
        request.getfixturevalue("menagerie")
    return ROBOTS[request.param]


def look_at(eye, target):
    z = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    return make_pose(np.stack([x, np.cross(z, x), z], 1), np.array(eye, float))


def postures(robot, count, seed=0):
    """Random joints around rest, fingers, and cameras around the arm's hand, not far from it."""
    rng = np.random.default_rng(seed)
    joints = np.asarray(robot.rest) + rng.normal(0, 0.4, (count, len(robot.rest)))
    joints = np.clip(joints, *robot.limits.T)
    reach = 1.5 if robot.name == "google_robot" else 0.9
    cameras = []
    for hand in ee_poses(robot, joints)[:, :3, 3]:
        way = rng.normal(size=3) * [1, 1, 0.5]
        cameras.append(look_at(hand + reach * way / np.linalg.norm(way), hand * [0.5, 0.5, 0.8]))
    return joints, rng.uniform(size=count), np.stack(cameras)


LENSES = {
    "wide": intrinsics(200, 200, 160, 90),
    "unequal focal lengths": intrinsics(260, 310, 160, 90),
    "off centre": intrinsics(420, 400, 70.3, 131.8),
}


@pytest.mark.parametrize("lens", LENSES)
def test_parts_and_depth_are_those_of_mujoco(robot, lens):
    joints, gripper, poses = postures(robot, 6)
    K = np.repeat(LENSES[lens][None], 6, 0)
    with RobotRenderer(robot, HEIGHT, WIDTH) as render:
        true_depth, true_part = render(joints, gripper, K, poses)
    depth, part = RobotRasterizer(robot, HEIGHT, WIDTH)(joints, gripper, K, poses)
    assert depth.dtype == np.float32
    assert part.dtype == np.uint8
    assert (part > 0).sum() > 5000
    np.testing.assert_array_equal(depth > 0, part > 0)
    assert_same(depth, part, true_depth, true_part)


def assert_same(depth, part, true_depth, true_part):
    differs = part != true_part
    edge = np.stack([maximum_filter(p, 3) != minimum_filter(p, 3) for p in true_part])
    robot_pixels = (true_part > 0).sum()
    assert differs.sum() < 0.003 * robot_pixels
    assert (differs & ~edge).sum() < 0.0003 * robot_pixels
    same = (part == true_part) & (part > 0)
    error = np.abs(depth - true_depth)[same]
    assert np.median(error) < 1e-4
    assert np.quantile(error, 0.99) < 5e-4


def test_what_crosses_the_near_plane_is_cut_as_mujoco_does(robot):
    """Cameras a finger's breadth from the surface, looking anywhere, as wrist cameras may."""
    count = 12
    joints, gripper, _ = postures(robot, count, seed=1)
    rng = np.random.default_rng(2)
    turns = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    turns *= np.sign(np.linalg.det(turns))[:, None, None]
    surface = surface_points(robot.name, count)
    at, outward = (f(link_poses(robot, joints, gripper)) for f in (surface.placed, surface.facing))
    eyes = (at + 0.01 * outward)[np.arange(count), np.arange(count)]
    poses = make_pose(turns, eyes)
    K = np.repeat(intrinsics(150, 140, 150.0, 95.0)[None], count, 0)
    with RobotRenderer(robot, HEIGHT, WIDTH) as render:
        true_depth, true_part = render(joints, gripper, K, poses)
    depth, part = RobotRasterizer(robot, HEIGHT, WIDTH)(joints, gripper, K, poses)
    assert ((true_depth > 0) & (true_depth < 0.012)).sum() > 1000  # the near plane is met indeed
    # 0.3 mm, which thinning may move an edge by, are 4 pixels at 1 cm.
    assert (part != true_part).sum() < 0.01 * (true_part > 0).sum()
    assert depth[depth > 0].min() > 0.00999


def test_out_of_view_is_nothing(robot):
    joints, gripper, poses = postures(robot, 2)
    away = poses @ make_pose(np.diag([-1.0, 1.0, -1.0]), np.zeros(3))  # facing the other way
    K = np.repeat(intrinsics(260, 260, 160, 90)[None], 2, 0)
    drawer = RobotRasterizer(robot, HEIGHT, WIDTH)
    away[:, :3, 3] -= 2 * poses[:, :3, 2]
    depth, part = drawer(joints, gripper, K, away)
    assert not depth.any()
    assert not part.any()
    assert (drawer.triangles(joints, gripper, K, away)[1] == -1).all()


def test_a_batch_is_its_frames_one_by_one(robot):
    count = 19  # more than one launch
    joints, gripper, poses = postures(robot, count)
    K = np.stack([intrinsics(200 + 5 * t, 210, 160 - t, 90 + t) for t in range(count)])
    drawer = RobotRasterizer(robot, 45, 80)
    whole = drawer.triangles(joints, gripper, K, poses)
    for t in range(count):
        one = slice(t, t + 1)
        alone = drawer.triangles(joints[one], gripper[one], K[one], poses[one])
        np.testing.assert_array_equal(alone[0][0], whole[0][t])
        np.testing.assert_array_equal(alone[1][0], whole[1][t])
    assert drawer(joints[:0], gripper[:0], K[:0], poses[:0])[0].shape == (0, 45, 80)


def test_whole_meshes_have_the_depth_that_mujoco_draws(robot):
    """As builds publish it: within what the codec of depth may add."""
    joints, gripper, poses = postures(robot, 3, seed=5)
    K = np.repeat(intrinsics(260, 250, 150.3, 95.7)[None], 3, 0)
    with RobotRenderer(robot, HEIGHT, WIDTH) as render:
        depth, part = render(joints, gripper, K, poses)
    drawer = RobotRasterizer(robot, HEIGHT, WIDTH, thinned=False)
    drawn, drawn_part = drawer(joints, gripper, K, poses)
    seen = part > 0
    within = np.abs(drawn - depth) <= depth_bound(depth.astype(float)) + 1e-6
    assert within[seen].mean() > 0.999
    assert (drawn_part != part).sum() / seen.sum() < 0.001


def test_says_what_to_do_where_kernels_cannot_be_kept(monkeypatch):
    def fails():
        raise FileNotFoundError("/proc/kernels")

    monkeypatch.setattr(wp, "init", fails)
    with pytest.raises(UsageError, match=r"/proc/kernels.*WARP_CACHE_PATH"):
        RobotRasterizer(ROBOTS["panda_hand"], 45, 80)


def test_few_large_frames_are_drawn_at_once():
    drawer = RobotRasterizer(ROBOTS["panda_hand"], 720, 1280)
    pixels = sum(drawn.size for drawn in drawer._out)
    assert pixels == 3 * 720 * 1280


def test_outlines_are_those_of_mujoco_to_a_hundredth_of_a_pixel(robot):
    """Drawn eight times as large; area and centroid in pixels of the size that is solved at."""
    joints, gripper, poses = postures(robot, 3, seed=3)
    K = np.repeat((np.diag([8, 8, 1]) @ intrinsics(260, 250, 150.3, 95.7))[None], 3, 0)
    with RobotRenderer(robot, 8 * HEIGHT, 8 * WIDTH) as render:
        true = render(joints, gripper, K, poses)[1] > 0
    drawn = RobotRasterizer(robot, 8 * HEIGHT, 8 * WIDTH)(joints, gripper, K, poses)[1] > 0
    for mask, expected in zip(drawn, true, strict=True):
        area, wanted = mask.sum() / 64, expected.sum() / 64
        outline = (expected & (minimum_filter(expected, 3) == 0)).sum() / 8
        # Area over outline: by how much the outline lies outside MuJoCo's, on average.
        assert abs(area - wanted) / outline < 0.01
        centre = np.argwhere(mask).mean(0) / 8
        np.testing.assert_allclose(centre, np.argwhere(expected).mean(0) / 8, atol=0.01)


def test_normals_point_out_of_what_mujoco_draws(robot):
    """Against the slope of MuJoCo's depth, inside parts."""
    joints, gripper, poses = postures(robot, 4, seed=4)
    K = np.repeat(intrinsics(1040, 1040, 640, 360)[None], 4, 0)
    with RobotRenderer(robot, 720, 1280) as render:
        true_depth, true_part = render(joints, gripper, K, poses)
    drawer = RobotRasterizer(robot, 720, 1280)
    _, triangle = drawer.triangles(joints, gripper, K, poses)
    points = unproject(true_depth, K).astype(float)
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    slope = np.cross(down, across)  # x right, y down: towards the camera
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
    inner = np.stack([(maximum_filter(p, 3) == minimum_filter(p, 3)) & (p > 0) for p in true_part])[
        :, 1:-1, 1:-1
    ]
    inner &= triangle[:, 1:-1, 1:-1] >= 0
    frame = np.nonzero(inner)[0]
    seen = triangle[:, 1:-1, 1:-1][inner]
    camera_from_link = invert(poses)[:, None] @ link_poses(robot, joints, gripper)
    turned = camera_from_link[frame, drawer.link[seen], :3, :3] @ drawer.normal[seen][..., None]
    cosine = (turned[..., 0] * slope[inner]).sum(-1)
    assert np.median(cosine) > 0.999
    assert (cosine > 0).mean() > 0.995


@wp.kernel(enable_backward=False)
def distance_kernel(mesh: wp.uint64, point: wp.array(dtype=wp.vec3), out: wp.array(dtype=float)):
    i = wp.tid()
    found = wp.mesh_query_point_no_sign(mesh, point[i], 1.0)
    out[i] = wp.length(point[i] - wp.mesh_eval_position(mesh, found.face, found.u, found.v))


def distances(corners, other):
    """m from points of the triangles (F, 3, 3), their corners and two more each, to others."""
    share = np.random.default_rng(0).dirichlet([1, 1, 1], (len(corners), 2))
    points = np.concatenate([corners.reshape(-1, 3), (share @ corners).reshape(-1, 3)])
    mesh = wp.Mesh(
        wp.array(other.reshape(-1, 3), dtype=wp.vec3, device="cpu"),
        wp.array(np.arange(3 * len(other)), dtype=int, device="cpu"),
    )
    out = wp.empty(len(points), dtype=float, device="cpu")
    inputs = [mesh.id, wp.array(points, dtype=wp.vec3, device="cpu"), out]
    wp.launch(distance_kernel, len(points), inputs, device="cpu")
    return out.numpy()


def test_thinned_surfaces_are_the_meshes_within_a_third_of_a_millimetre(robot):
    triangles = robot_triangles(robot.name)
    model = robot.compile()
    shown = np.flatnonzero(model.geom_group == robot.visual_group)
    np.testing.assert_array_equal(
        np.unique(triangles.link) + 1, np.unique(model.geom_bodyid[shown])
    )
    there, back, full = [], [], 0
    for link in np.unique(triangles.link):
        thin = triangles.vertex[triangles.corner[triangles.link == link]]
        geoms = shown[model.geom_bodyid[shown] == link + 1]
        meshes = np.concatenate([geom_corners(model, int(geom)) for geom in geoms])
        there.append(distances(meshes, thin))
        back.append(distances(thin, meshes))
        full += len(meshes)
    assert len(triangles.link) < min(full, 50_000)
    for distance in (np.concatenate(there), np.concatenate(back)):
        assert np.quantile(distance, 0.999) < 0.3e-3
        assert distance.max() < 1.6e-3  # single corners: the Panda's foot, the Google robot's wrist


def test_boxes_have_six_sides_facing_out():
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body><geom type="box" size="0.1 0.2 0.3" pos="1 2 3" '
        'quat="0.9 0.1 0.3 0.2"/></body></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    corners = geom_corners(model, 0)
    pose = make_pose(data.geom_xmat[0].reshape(3, 3), data.geom_xpos[0])
    local = transform(invert(pose), corners.reshape(-1, 3)).reshape(-1, 3, 3)
    np.testing.assert_allclose(np.abs(local), np.broadcast_to([0.1, 0.2, 0.3], local.shape))
    normal = np.cross(local[:, 1] - local[:, 0], local[:, 2] - local[:, 0])
    assert ((normal * local.mean(1)).sum(1) > 0).all()
    assert np.linalg.norm(normal, axis=1).sum() / 2 == pytest.approx(
        8 * (0.1 * 0.2 + 0.2 * 0.3 + 0.3 * 0.1)
    )

"""The score of poses, on flow that is made from a known one without the kernel."""

import numpy as np
import pytest

from reconstruction.camera.flow_score import FlowPairs, FlowScorer, dense_flow
from reconstruction.camera.search import Lens, moved, random_poses, search_pose
from robo4d.geometry import intrinsics, invert, project, transform
from robots.kinematics import link_poses
from robots.models import ROBOTS
from robots.surface import surface_points

K = intrinsics(131, 131, 160, 90)
SIZE = (180, 320)
CENTRE = np.array([0.4, 0.0, 0.4])


def pairs_seen_from(pose: np.ndarray) -> FlowPairs:
    """Flow drawn point by point, the nearest last."""
    robot = ROBOTS["panda_robotiq"]
    surface = surface_points(robot.name, 3000)
    rng = np.random.default_rng(0)
    joints = np.asarray(robot.rest) + rng.uniform(-0.5, 0.5, (6, 7))
    then = joints + rng.uniform(0.02, 0.06, (6, 7)) * rng.choice([-1, 1], (6, 7))
    open_ = np.ones(6)
    links = link_poses(robot, joints, open_)
    a, b = surface.placed(links), surface.placed(link_poses(robot, then, open_))
    flow = np.zeros((6, *SIZE, 2), np.float32)
    front = np.zeros((6, *SIZE), np.float32)
    for i in range(6):
        here, z = project(transform(invert(pose), a[i]), K)
        there, _ = project(transform(invert(pose), b[i]), K)
        for n in np.argsort(-z):
            if z[n] > 0.1 and (here[n] >= 3).all() and (here[n] < [317, 177]).all():
                c, r = here[n].astype(int)
                flow[i, r - 2 : r + 3, c - 2 : c + 3] = there[n] - here[n]
                front[i, r - 2 : r + 3, c - 2 : c + 3] = 1
    edges = np.zeros((6, 90, 160, 3), np.float32)
    return FlowPairs(a, b, surface.facing(links), flow, front, edges, surface.area)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    poses = random_poses(np.random.default_rng(5), CENTRE, 100)
    away = np.linalg.norm(poses[:, :3, 3] - CENTRE, axis=1)
    return poses[np.argmin(np.abs(away - 1.2))]


@pytest.fixture(scope="module")
def pairs(truth) -> FlowPairs:
    return pairs_seen_from(truth)


def test_the_true_pose_explains_its_flow(truth, pairs):
    flow, overlap, _ = FlowScorer(pairs, 4).parts(truth[None], Lens(K).vectors(np.zeros(1)))[0]
    assert flow > 0.75
    assert overlap > 0.6


def test_poses_further_off_score_less(truth, pairs):
    rng = np.random.default_rng(1)
    scorer = FlowScorer(pairs, 4)
    medians = []
    for size in (0.0, 0.05, 0.15, 0.5):
        turn, shift = rng.normal(0, size, (2, 40, 3))
        poses = moved(np.repeat(truth[None], 40, 0), turn, shift)
        medians.append(np.median(scorer(poses, Lens(K).vectors(np.zeros(40)))))
    assert medians == sorted(medians, reverse=True)


@pytest.mark.parametrize("afar", [False, True])
def test_what_was_scored_before_leaves_no_trace(truth, pairs, afar):
    poses = random_poses(np.random.default_rng(3), CENTRE, 20)
    poses[4], poses[5, :3, 3] = truth, [50, 0, 0]  # one that sees all, then one that sees nothing
    lens = Lens(K).vectors(np.zeros(20))
    scorer = FlowScorer(pairs, 8, afar)
    together = scorer.parts(poses, lens)
    alone = [FlowScorer(pairs, 8, afar).parts(one[None], lens[:1])[0] for one in poses]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(scorer.parts(poses[::-1], lens), together[::-1])
    assert together[4, 0] > 0.6
    np.testing.assert_array_equal(together[5], 0)


@pytest.mark.slow
def test_the_search_finds_the_pose_from_nothing(truth, pairs):
    found = search_pose(pairs, Lens(K), CENTRE, [], np.random.default_rng(0))
    points = pairs.now[:, ::10].reshape(-1, 3)
    at, shown = (project(transform(invert(p), points), K)[0] for p in (found.poses[0], truth))
    inside = (shown > 0).all(1) & (shown < [320, 180]).all(1)
    assert np.nanmedian(np.linalg.norm(at - shown, axis=1)[inside]) < 6


def test_dense_flow_follows_a_shift():
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (30, 50, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    flow = dense_flow(texture[None, :, 4:], texture[None, :, :-4])
    np.testing.assert_allclose(np.median(flow[0], axis=(0, 1)), [4, 0], atol=0.3)

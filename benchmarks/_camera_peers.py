"""What one would otherwise find a camera's pose with, from a start: ICP on depth, and silhouettes.

Both are given more than a source holds: ICP gets the simulator's exact depth and robot mask (no
published exterior camera has either), both get the true K.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from benchmarks._camera_clips import CameraClip
from robo4d.geometry import make_pose, resize_intrinsics, transform
from robots.kinematics import link_poses
from robots.models import get_robot
from robots.render import RobotRenderer
from robots.surface import surface_points

Floats = NDArray[np.floating]
_ICP_FRAMES, _ICP_PIXELS, _ICP_SURFACE = 16, 300, 4000
_ICP_ROUNDS, _ICP_STILL = 60, 1e-5  # m and rad of the last step
# Distances that count shrink from the first to the last, m.
_ICP_FAR, _ICP_NEAR = 0.4, 0.01
_ICP_STEP = 0.1  # m and rad at most in a round; without a limit it diverges from 10 deg
_MASK_FRAMES, _MASK_WIDTH = 6, 160
_FOREGROUND = 30.0  # grey levels, of three channels together, off the temporal median
_ALWAYS = 0.7  # share of frames that cover a pixel whose background was never seen
# Softness of masks in pixels, width of the first simplex (rad and m), evaluations.
_STAGES = ((8.0, 0.12, 120), (3.0, 0.05, 100), (1.0, 0.02, 80))


def icp_pose(clip: CameraClip, start: Floats) -> Floats:
    """base_from_camera by point-to-plane ICP (Chen and Medioni 1992) over all frames at once.

    Points of the robot's true pixels at their true depth are matched with the nearest of the
    robot's surface by forward kinematics of the same step, if it faces the camera.
    """
    steps = _spread(len(clip), _ICP_FRAMES)
    robot = get_robot(clip.robot)
    links = link_poses(robot, clip.joints[steps], clip.gripper[steps])
    surface = surface_points(robot.name, _ICP_SURFACE)
    placed, normals = surface.placed(links), surface.facing(links)
    trees = [cKDTree(points) for points in placed]
    clouds = [_robot_points(clip, t) for t in steps]
    middle = placed.reshape(-1, 3).mean(0)
    pose = np.asarray(start, float)
    for turn in range(_ICP_ROUNDS):
        reach = _ICP_FAR * (_ICP_NEAR / _ICP_FAR) ** (turn / (_ICP_ROUNDS - 1))
        rows, gaps = [], []
        for i, cloud in enumerate(clouds):
            at = transform(pose, cloud)
            distance, nearest = trees[i].query(at, distance_upper_bound=reach)
            found = np.flatnonzero(np.isfinite(distance))
            normal, point = normals[i][nearest[found]], placed[i][nearest[found]]
            seen = ((pose[:3, 3] - point) * normal).sum(1) > 0
            at, normal, point = at[found][seen], normal[seen], point[seen]
            # Turns are about the robot's middle, so that limiting a step limits what it moves.
            rows.append(np.concatenate([np.cross(at - middle, normal), normal], axis=1))
            gaps.append(((point - at) * normal).sum(1))
        a, b = np.concatenate(rows), np.concatenate(gaps)
        if len(a) < 50:
            return pose
        change = np.linalg.solve(a.T @ a + 1e-6 * len(a) * np.eye(6), a.T @ b)
        change *= min(1.0, _ICP_STEP / max(np.abs(change).max(), 1e-12))
        rotation = Rotation.from_rotvec(change[:3]).as_matrix()
        pose = make_pose(rotation, middle + change[3:] - rotation @ middle) @ pose
        if turn > _ICP_ROUNDS / 2 and np.abs(change).max() < _ICP_STILL:
            break
    return pose


def silhouette_pose(clip: CameraClip, start: Floats, *, true_masks: bool = False) -> Floats:
    """base_from_camera by Nelder-Mead on the overlap of rendered and observed robots, soft masks.

    Args:
        true_masks: observe the robot's true pixels, as a segmenter without fault would. Else what
            differs from the clip's temporal median; what is rendered in most frames alike has no
            known background then, and does not count.
    """
    steps = _spread(len(clip), _MASK_FRAMES)
    height, width = clip.size
    small = (round(height * _MASK_WIDTH / width), _MASK_WIDTH)
    K = resize_intrinsics(clip.K, small[1] / width, small[0] / height)
    observed = np.stack(
        [
            cv2.resize(mask.astype(np.float32), small[::-1], interpolation=cv2.INTER_AREA)
            for mask in (clip.robot_visible if true_masks else moving_masks(clip.rgb))[steps]
        ]
    )
    pose = np.asarray(start, float)
    many = np.repeat(K[None], len(steps), 0)
    with RobotRenderer(get_robot(clip.robot), *small) as render:
        for softness, step, evaluations in _STAGES:
            soft = _softened(observed, softness)

            def cost(
                x: Floats, pose: Floats = pose, soft: Floats = soft, softness: float = softness
            ) -> float:
                tried = np.repeat(_moved(pose, x)[None], len(steps), 0)
                part = render(clip.joints[steps], clip.gripper[steps], many, tried)[1]
                mask = (part > 0).astype(np.float32)
                if not true_masks:
                    mask[:, mask.mean(0) > _ALWAYS] = 0
                rendered = _softened(mask, softness)
                both = np.minimum(rendered, soft).sum()
                return 1 - float(both / max(np.maximum(rendered, soft).sum(), 1e-6))

            simplex = np.concatenate([np.zeros((1, 6)), step * np.eye(6)])
            found = minimize(
                cost,
                np.zeros(6),
                method="Nelder-Mead",
                options={"initial_simplex": simplex, "maxfev": evaluations},
            )
            pose = _moved(pose, found.x)
    return pose


def moving_masks(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(T, H, W) pixels that differ from the temporal median, without specks."""
    background = np.median(rgb, axis=0)
    masks = []
    for frame in rgb:
        mask = np.linalg.norm(frame - background, axis=-1) > _FOREGROUND
        opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        masks.append(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0)
    return np.stack(masks)


def _moved(pose: Floats, x: Floats) -> Floats:
    """Turned by a rotation vector x[:3] rad and shifted by x[3:] m in the camera's own frame."""
    return np.asarray(pose @ make_pose(Rotation.from_rotvec(x[:3]).as_matrix(), x[3:]))


def _softened(masks: Floats, sigma: float) -> Floats:
    return np.stack([cv2.GaussianBlur(mask, (0, 0), sigma) for mask in masks])


def _spread(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def _robot_points(clip: CameraClip, step: int) -> Floats:
    """Camera-frame points (n, 3) m of the robot's true pixels, at most `_ICP_PIXELS`."""
    rows, columns = np.nonzero(clip.robot_visible[step])
    chosen = np.random.default_rng(step).permutation(len(rows))[:_ICP_PIXELS]
    rows, columns = rows[chosen], columns[chosen]
    homogeneous = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    rays = np.linalg.inv(clip.K) @ homogeneous
    return (rays * clip.depth[step, rows, columns]).T

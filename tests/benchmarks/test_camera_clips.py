from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks._camera_clips import CameraClip, clip_path, get_clip, shortened, shrunk
from benchmarks._camera_film import FilmOptions, film_clip
from benchmarks._camera_peers import icp_pose, silhouette_pose
from benchmarks._camera_trials import displaced, judged
from robo4d.geometry import invert, project, transform
from robots.kinematics import ee_poses
from robots.models import get_robot
from robots.render import RobotRenderer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(session_folder: Path) -> CameraClip:
    return get_clip("bridge", 4, FilmOptions(), session_folder / "clips")


def _rendered(clip: CameraClip, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(clip)
    many = (np.repeat(x[None], count, 0) for x in (clip.K, clip.base_from_camera))
    with RobotRenderer(get_robot(clip.robot), *clip.size) as render:
        return render(joints, clip.gripper, *many)


def test_truth_is_where_the_robot_renders_from_its_log(clip: CameraClip) -> None:
    depth, part = _rendered(clip, clip.joints)
    # Joints in the log are noisy, and things may hide the robot.
    assert (clip.robot_visible & (part > 0)).sum() > 0.97 * clip.robot_visible.sum()
    assert clip.robot_visible.sum() > 0.8 * (part > 0).sum()
    both = clip.robot_visible & (part > 0)
    assert np.percentile(np.abs(clip.depth - depth)[both], 90) < 0.005


def test_images_lag_behind_the_log_by_the_latency(clip: CameraClip) -> None:
    """The rendered outline lies on image edges when joints are taken that much earlier."""
    step = np.diff(clip.time).mean()
    lags = np.arange(-0.6, 1.21, 0.1) * step
    edges = np.stack([cv2.GaussianBlur(_gradient(frame), (0, 0), 1.0) for frame in clip.rgb])
    strength = []
    for lag in lags:
        at = np.clip(clip.time - lag, clip.time[0], clip.time[-1])
        joints = np.stack([np.interp(at, clip.time, q) for q in clip.joints.T], 1)
        mask = (_rendered(clip, joints)[1] > 0).astype(np.uint8)
        outline = np.stack([cv2.morphologyEx(m, cv2.MORPH_GRADIENT, np.ones((3, 3))) for m in mask])
        strength.append(edges[outline > 0].mean())
    assert lags[np.argmax(strength)] == pytest.approx(clip.latency_s, abs=0.15 * step)
    assert clip.latency_s > 0


def _gradient(frame: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))


def test_the_same_seed_gives_the_same_clip(clip: CameraClip, tmp_path) -> None:
    again = film_clip("bridge", 4, FilmOptions())
    assert np.array_equal(again["rgb"], clip.rgb)
    assert np.array_equal(again["joints"], clip.joints)


def test_a_clip_in_the_cache_is_not_filmed_again(clip: CameraClip, tmp_path, monkeypatch) -> None:
    path = clip_path("bridge", 5, FilmOptions(motion=0.1), tmp_path)
    made = {field: getattr(clip, field) for field in vars(clip) if field != "name"}
    monkeypatch.setattr("benchmarks._camera_clips.film_clip", lambda *args: made)
    assert get_clip("bridge", 5, FilmOptions(motion=0.1), tmp_path).name == "bridge-0005-m0100"
    monkeypatch.delattr("benchmarks._camera_clips.film_clip")
    again = get_clip("bridge", 5, FilmOptions(motion=0.1), tmp_path)
    assert np.array_equal(again.depth, clip.depth)
    assert [file.name for file in tmp_path.glob("*.npz")] == [path.name]


def test_without_motion_only_noise_and_one_pushed_thing_change(tmp_path) -> None:
    still = film_clip("bridge", 4, FilmOptions(motion=0.0, ideal_lens=True))
    assert np.ptp(still["joints"], axis=0).max() < 0.01
    assert np.ptp(still["gripper"]) == 0
    assert not np.ptp(still["robot_visible"].astype(int), axis=0).any()
    assert still["rgb"].shape[1:] == (192, 256, 3)
    f = still["K"][0, 0]
    assert np.array_equal(still["K"], [[f, 0, 128], [0, f, 96], [0, 0, 1]])


def test_a_smaller_clip_shows_the_same_in_fewer_pixels(clip: CameraClip) -> None:
    small = shortened(shrunk(clip, 64), 9)
    assert small.rgb.shape == (9, 64, 64, 3)
    first = (len(clip) - 9) // 2
    assert np.array_equal(small.time, clip.time[first : first + 9])
    camera = invert(clip.base_from_camera)
    hand = ee_poses(get_robot(clip.robot), small.joints)[:, :3, 3]
    at, _ = project(transform(camera, hand), clip.K)
    assert project(transform(camera, hand), small.K)[0] == pytest.approx(at / 4)
    whole = clip.robot_visible[first : first + 9].mean()
    assert small.robot_visible.mean() == pytest.approx(whole, rel=0.1)


def test_peers_come_nearer_from_a_near_start(clip: CameraClip) -> None:
    start = displaced(clip.base_from_camera, np.radians(4), 0.03, np.random.default_rng(1))
    before = judged(clip, start, clip.K)
    icp = judged(clip, icp_pose(clip, start), clip.K)
    assert icp["found"]
    assert icp["px"] < 1
    masks = judged(clip, silhouette_pose(clip, start, true_masks=True), clip.K)
    assert masks["px"] < before["px"] / 3
    assert masks["mm"] < before["mm"]

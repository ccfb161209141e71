"""Sheets of points: what stands where, and in which colour."""

import numpy as np
import pytest

from qa.depth_clips import DepthClip
from qa.point_pictures import point_sheet, scatter
from robo4d.geometry import intrinsics, make_pose

H, W = 90, 160


@pytest.mark.parametrize("known", [True, False])
def test_a_sheet_has_its_rows_and_shows_the_robot_in_red(known):
    # Looks straight down from 1 m.
    pose = make_pose(np.diag([1.0, -1.0, -1.0]), [0.4, 0.0, 1.0])
    robot = np.zeros((3, H, W), np.float32)
    robot[:, 30:60, 60:100] = 0.7
    clip = DepthClip(
        key="k",
        name="left",
        rgb=np.full((3, H, W, 3), [0, 200, 0], np.uint8),
        K=intrinsics(150, 150, W / 2, H / 2),
        depth=None,
        robot_depth=robot,
        robot_visible=None,
        base_from_camera=np.repeat(pose[None], 3, 0),
    )
    depth = np.full((3, H, W), 1.0 if known else 0.0, np.float32)
    sheet = point_sheet(clip, depth, "a title")
    tile_width = sheet.shape[1] // 3
    assert sheet.shape[1] <= 1600
    assert (sheet.shape[0] - 24) / 4 == round(tile_width * H / W)
    red = (sheet == [255, 40, 40]).all(-1)
    assert red[:, tile_width:].any()
    assert not red[:, :tile_width].any()


def test_what_is_nearest_to_the_eye_is_seen():
    low, high = [0.5, 0.0, 0.0], [0.5, 0.0, 0.3]
    colours = np.array([[0, 0, 255], [0, 255, 0]], np.uint8)
    for order in ([0, 1], [1, 0]):
        points = np.array([low, high])[order]
        image = scatter(points, colours[order], np.zeros((0, 3)), "from above", (80, 120))
        assert (image == [0, 255, 0]).all(-1).any()
        assert not (image == [0, 0, 255]).all(-1).any()
    # From -y the higher one is higher, and both are seen.
    image = scatter(np.array([low, high]), colours, np.zeros((0, 3)), "from -y", (80, 120))
    rows = [np.argwhere((image == c).all(-1))[:, 0].mean() for c in colours]
    assert rows[1] < rows[0]

"""Scenes in which a robot's silhouette is known."""

import cv2
import numpy as np
import pytest

from robo4d.geometry import intrinsics
from schemas.reasons import UsageError
from simulation.depth_scenes import FIRST_SEED
from simulation.depth_scenes.take import FRAMES, HEIGHT, ROBOT_GROUP, TAKES, WIDTH
from simulation.depth_scenes.twins import SOURCES, part_robot
from simulation.mask_scenes.collect import collect, shown
from simulation.mask_scenes.film import MaskTake, film_masks, room_of
from simulation.mask_scenes.photographs import (
    PANORAMA_SIZE,
    Photographs,
    draw_patch,
    draw_texels,
    open_photographs,
    view_of_panorama,
)
from simulation.scene import build_scene

NUMBER = 17  # of the scenes below


def jpeg(picture: np.ndarray) -> np.ndarray:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]


@pytest.fixture(scope="session")
def photographs_file(tmp_path_factory):
    """One texture of noise, and one panorama: red to the east, blue above."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (384, 384, 3)).astype(np.uint8)
    panorama = np.full((*PANORAMA_SIZE, 3), 90, np.uint8)
    panorama[:, 480:544] = [220, 20, 20]
    panorama[:100] = [20, 20, 220]
    out = tmp_path_factory.mktemp("photographs") / "photos.npz"
    np.savez(out, t0=jpeg(texture), p0=jpeg(panorama))
    return out


@pytest.fixture(scope="session")
def photographs(photographs_file) -> Photographs:
    return open_photographs(photographs_file)


def test_photographs_are_read_as_red_green_blue(photographs):
    assert len(photographs.textures) == len(photographs.panoramas) == 1
    assert np.allclose(photographs.panoramas[0][50, 10], [20, 20, 220], atol=6)


@pytest.mark.parametrize(
    ("kept", "said"), [({}, "no textures"), ({"t0": 300}, "no panoramas"), ({"p0": 300}, "pixels")]
)
def test_a_file_without_photographs_is_refused(tmp_path, kept, said):
    pictures = {name: jpeg(np.zeros((side, side, 3), np.uint8)) for name, side in kept.items()}
    if "p0" in pictures:
        pictures["t0"] = pictures["p0"]
    np.savez(tmp_path / "photos.npz", **pictures)
    with pytest.raises(UsageError, match=said):
        open_photographs(tmp_path / "photos.npz")
    with pytest.raises(UsageError, match="no file of photographs"):
        open_photographs(tmp_path / "none.npz")


def test_patches_have_the_size_that_is_asked_for(photographs):
    rng = np.random.default_rng(1)
    for height, width in ((64, 64), (30, 256), (256, 30)):
        assert draw_patch(photographs, rng, height, width).shape == (height, width, 3)
    faces = draw_texels(photographs, rng, 768, 128).reshape(6, 128, 128, 3)
    assert (faces == faces[0]).all()


def test_a_panorama_is_seen_where_its_directions_are(photographs):
    """The middle column is the world's +x; OpenCV's cameras look along z, with y downwards."""
    K = intrinsics(100.0, 100.0, 50.0, 40.0)
    east = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)  # world_from_camera
    up = np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1]], float)
    view = view_of_panorama(photographs.panoramas[0], K, east, (80, 100))
    assert view.shape == (80, 100, 3)
    assert view[40, 50, 0] > 180
    assert np.allclose(view[40, 5], 90, atol=6)
    above = view_of_panorama(photographs.panoramas[0], K, up, (80, 100))
    assert above[40, 50, 2] > 180


def test_textures_are_collected_from_folders(tmp_path):
    folder = tmp_path / "textures"
    folder.mkdir()
    picture = np.zeros((500, 700, 3), np.uint8)
    picture[..., 2] = 200  # OpenCV writes blue first
    cv2.imwrite(str(folder / "red.png"), picture)
    (folder / "notes.txt").write_text("no picture")
    assert collect(None, None, [folder], tmp_path / "photos.npz")["textures"] == 1
    with np.load(tmp_path / "photos.npz") as file:
        stored = cv2.imdecode(file["t0"], cv2.IMREAD_COLOR)
    assert stored.shape == (384, 384, 3)
    assert stored[200, 200, 2] > 190
    with pytest.raises(UsageError, match=r"no hdri/\*\.exr\.js"):
        collect(folder, None, [], tmp_path / "photos.npz")


def test_panoramas_are_exposed_by_what_most_of_them_show():
    light = np.full((64, 128, 3), 8.0, np.float32)
    light[:8] = 8000.0  # the sun
    picture = shown(light)
    assert picture.shape == (*PANORAMA_SIZE, 3)
    # 0.5 / (1 + 0.175) x 1.2, by the displays' gamma.
    assert np.allclose(picture[300], 255 * (0.6 / 1.175) ** (1 / 2.2), atol=1)
    assert (picture[10] == 255).all()


def test_panoramas_are_collected_out_of_both_packages(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    import base64

    light = np.random.default_rng(0).uniform(0, 3, (32, 64, 3)).astype(np.float32)
    debian, npm = tmp_path / "usr/studiolights/world", tmp_path / "package/hdri"
    debian.mkdir(parents=True)
    npm.mkdir(parents=True)
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(header, {"RGB": light}).write(str(debian / "one.exr"))
    text = base64.b64encode((debian / "one.exr").read_bytes()).decode()
    (npm / "two.exr.js").write_text(f'export default "data:image/exr;base64,{text}"')
    found = collect(npm.parent, debian.parents[1], [], tmp_path / "photos.npz")
    assert found == {"panoramas": 2, "textures": 0}
    with np.load(tmp_path / "photos.npz") as file:
        assert np.array_equal(file["p0"], file["p1"])
        stored = cv2.imdecode(file["p0"], cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(stored.astype(float) - shown(light)).mean() < 8  # JPEG's


@pytest.mark.parametrize("source", ["droid", "libero"])
def test_no_part_of_a_robot_is_taken_for_a_wall(source):
    rig = SOURCES[source].RIG
    model = build_scene(SOURCES[source].draw_episode(FIRST_SEED, 0).layout, rig.robot)
    part_robot(model, rig.robot.visual_group)
    wall, floor = room_of(model)
    robot = np.append(model.geom_group == ROBOT_GROUP, False)
    assert robot.sum() > 10
    assert not (robot & (wall | floor)).any()
    for name in ("wall_left", "left_0", "right_1"):
        assert wall[model.geom(name).id]
    assert floor[model.geom("floor").id]


@pytest.fixture(scope="module")
def scene(photographs) -> list[MaskTake]:
    return list(film_masks("libero", NUMBER, photographs))


@pytest.mark.slow
def test_what_is_seen_of_a_robot_is_part_of_the_whole(scene):
    assert len(scene) >= TAKES / 2
    for take in scene:
        assert take.rgb.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert take.visible.shape == take.whole.shape == (FRAMES, HEIGHT, WIDTH)
        # Where surfaces touch, one that is behind may win by rounding.
        assert (take.visible > take.whole + 1.0).mean() < 1e-3
    seen = np.concatenate([take.visible for take in scene])
    whole = np.concatenate([take.whole for take in scene])
    assert (whole > 127).any((1, 2)).mean() > 0.5
    assert (seen > 127).sum() > 0.4 * (whole > 127).sum()
    assert (seen > 127).sum() < (whole > 127).sum()


@pytest.mark.slow
def test_the_same_number_films_the_same_frames(scene, photographs):
    again = next(film_masks("libero", NUMBER, photographs))
    for name, array in vars(again).items():
        assert np.array_equal(array, getattr(scene[0], name))


@pytest.mark.slow
def test_photographs_change_what_is_seen_not_what_is_there(scene):
    plain = next(film_masks("libero", NUMBER, None))
    assert not np.array_equal(plain.rgb, scene[0].rgb)
    assert (plain.visible <= plain.whole + 1.0).mean() > 0.999

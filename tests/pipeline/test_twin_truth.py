"""A twin built end to end, judged by the simulator's truth: depth, robot depth, masks, poses."""

import numpy as np
import pytest

import robo4d
from reconstruction.depth.simulator import open_truth
from robo4d.geometry import invert, project, transform

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(droid_twin, built_droid_twin, run_cli_session):
    """(samples of a built twin, the twin's folder)."""
    said = (built_droid_twin.parent / "stderr.txt").read_text()
    assert "a simulated TWIN, not published data" in said
    assert run_cli_session("verify", built_droid_twin).returncode == 0
    return list(robo4d.open(built_droid_twin)), droid_twin


def truth_of(sample, folder):
    return open_truth(str(folder), sample.meta["id"], sample.meta["camera"])


def test_every_quantity_is_there_and_said_to_be_simulated(built):
    samples, _ = built
    assert len(samples) == 6
    for sample in samples:
        said = {k: v["provenance"] for k, v in sample.meta["fields"].items()}
        assert said.pop("time") == "estimated"
        assert set(said.values()) == {"simulated"}
        assert sample.meta["twin"] is True
        assert sample.rgb.shape[1:] == (180, 320, 3)


def test_scene_depth_is_the_truth_within_the_codecs_bound(built):
    samples, folder = built
    for sample in samples:
        truth = truth_of(sample, folder).depth(sample.step)
        np.testing.assert_array_equal(sample.depth == 0, truth == 0)
        assert (np.abs(sample.depth - truth.astype(float)) <= robo4d.depth_bound(truth)).all()


def test_robot_depth_from_joints_is_the_truth_on_visible_robot_pixels(built):
    samples, folder = built
    good = total = 0
    for sample in samples:
        camera = truth_of(sample, folder)
        depth = camera.depth(sample.step).astype(float)
        visible = camera.robot_part(sample.step) > 0
        # What the codec may add, and a micrometre of float32 rendering.
        within = np.abs(sample.robot_depth - depth) <= robo4d.depth_bound(depth) + 1e-6
        good += int(within[visible].sum())
        total += int(visible.sum())
    assert total > 100_000
    assert good / total >= 0.999


def test_the_robots_surface_lies_on_the_scene_where_the_camera_is_exact(built):
    samples, _ = built
    for sample in samples:
        assert sample.meta["quality"]["robot_residual_m"] < 1e-3


def test_robot_mask_is_the_truth(built):
    samples, folder = built
    for sample in samples:
        truth = truth_of(sample, folder).robot_part(sample.step) > 0
        both, either = (truth & sample.robot_visible).sum(), (truth | sample.robot_visible).sum()
        assert both / either >= 0.99, (sample.meta["id"], sample.meta["camera"])
        same = (truth_of(sample, folder).robot_part(sample.step) == sample.robot_part)[truth]
        assert same.mean() >= 0.99


def test_two_views_agree_on_where_the_robot_is(built):
    """The robot's points of one exterior view, in the base frame, seen from the other."""
    samples, _ = built
    views = {(s.meta["id"], s.meta["camera"]): s for s in samples}
    checked = 0
    for (episode, camera), sample in views.items():
        if camera != "exterior_image_1_left":
            continue
        other = views[episode, "exterior_image_2_left"]
        np.testing.assert_array_equal(sample.step, other.step)
        points = sample.robot_pointmap("base")[0].reshape(-1, 3)
        points = points[np.isfinite(points[:, 0])]
        uv, z = project(transform(invert(other.base_from_camera[0]), points), other.K[0])
        inside = np.isfinite(uv).all(1) & (uv >= 0).all(1) & (uv < [320, 180]).all(1)
        column, row = uv[inside].astype(int).T
        surface = other.robot_depth[0][row, column]
        # No point of the robot lies in front of the robot's surface; many lie on it.
        gap = z[inside] - surface
        assert np.quantile(gap[surface > 0], 0.02) > -0.02
        assert (np.abs(gap[surface > 0]) < 0.02).mean() > 0.02  # the views are from either side
        assert (surface > 0).mean() > 0.9
        checked += 1
    assert checked == 2


def test_a_twin_without_its_truth_is_quarantined(droid_twin, tmp_path, run_cli):
    import shutil

    copy = tmp_path / "droid" / "1.0.0"
    shutil.copytree(droid_twin, copy, ignore=shutil.ignore_patterns("truth.zarr"))
    done = run_cli("build", "-s", "droid", "-d", copy, "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    assert '"bad_truth": 2' in done.stdout


def test_rendered_shards_do_not_depend_on_the_number_of_workers(
    droid_twin, tmp_path, run_cli, sha256_of_files
):
    for workers in (1, 2):
        done = run_cli(
            *("build", "-s", "droid", "-d", droid_twin, "-o", tmp_path / str(workers)),
            *("-w", workers, "--set", "shard.episodes=1", "--set", "clip.frames=9"),
        )
        assert done.returncode == 0, done.stderr
    one, two = (sha256_of_files(tmp_path / str(workers)) for workers in (1, 2))
    assert len([name for name in one if name.endswith(".tar")]) == 2
    assert one == two


@pytest.mark.parametrize(("source", "episodes"), [("bridge", 1), ("rt1", 2)])
def test_sources_without_logged_joints_build_from_their_twins(
    source, episodes, menagerie, tmp_path, run_cli, cli_twin
):
    twin = cli_twin(source, episodes)
    done = run_cli(
        *("build", "-s", source, "-d", twin, "-o", tmp_path / "out"),
        *("--set", "source.max_episodes=1"),
    )
    assert done.returncode == 0, done.stderr
    assert run_cli("verify", tmp_path / "out").returncode == 0
    for sample in robo4d.open(tmp_path / "out"):
        assert sample.meta["fields"]["joints"]["provenance"] == "estimated"
        assert not sample.joints_flagged.any()
        truth = truth_of(sample, twin).robot_part(sample.step) > 0
        both, either = (truth & sample.robot_visible).sum(), (truth | sample.robot_visible).sum()
        assert both / either >= 0.99

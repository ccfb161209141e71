"""The board: alignments undo what they say they undo, truth scores full, rows say what they are."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

import robo4d
from jobs._bench_inputs import bench_folder
from qa.depth_alignment import ALIGNMENTS, align_depth, applies, check_alignments
from qa.depth_backends import Oracle, open_backends
from qa.depth_board import Score, run_board
from qa.depth_clips import DepthClip, choose_samples, read_clip, read_clips
from qa.depth_pictures import depth_sheet
from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.depth.baselines import ConstantDepth, PlaneDepth, fit_plane
from robo4d.geometry import intrinsics, make_pose, unproject
from robo4d.sample import encode_sample
from robo4d.shard import ShardWriter
from schemas.episode import Provenance
from schemas.reasons import UsageError

T, H, W = 3, 96, 128
K = intrinsics(120, 120, W / 2, H / 2)
RESTS = np.repeat(np.eye(4)[None], T, 0)
ROW, COLUMN = np.indices((H, W)) + 0.5


def scene():
    """A tilted wall, and before it a robot's arm that moves and has depth of its own."""
    wall = 1.5 + 0.004 * COLUMN + 0.003 * ROW
    depth = np.repeat(wall[None], T, 0)
    robot = np.zeros((T, H, W))
    for t in range(T):
        arm = np.s_[t, 20:80, 10 + 4 * t : 70 + 4 * t]
        robot[arm] = (0.6 + 0.0015 * ROW + 0.0008 * COLUMN)[20:80, 10:70]
        depth[arm] = robot[arm]
    rgb = np.clip(depth[..., None] * [60, 80, 100], 0, 255).astype(np.uint8)
    return DepthClip(
        key="k",
        name="left",
        rgb=rgb,
        K=K,
        depth=depth.astype(np.float32),
        robot_depth=robot.astype(np.float32),
        robot_visible=robot > 0,
        base_from_camera=RESTS,
    )


CLIP = scene()
REAL = replace(CLIP, depth=None, robot_visible=None)


def estimate(values, kind):
    values = np.asarray(values, np.float32)
    return DepthEstimate(values, np.full(values.shape, 255, np.uint8), kind, Provenance.ESTIMATED)


def shifted(kind, scale, shift):
    x = 1 / CLIP.depth if kind == "inverse" else CLIP.depth
    return estimate((x.astype(float) - shift) / scale, kind)


scales = st.floats(0.2, 5)


@given(scales)
def test_a_clips_scale_is_recovered(scale):
    off = estimate(CLIP.depth / scale, "scaled")
    np.testing.assert_allclose(align_depth(off, CLIP, "scale_clip"), CLIP.depth, rtol=1e-5)


@given(st.lists(scales, min_size=T, max_size=T))
def test_each_frames_scale_is_recovered(each):
    off = estimate(CLIP.depth / np.array(each)[:, None, None], "scaled")
    np.testing.assert_allclose(align_depth(off, CLIP, "scale_frame"), CLIP.depth, rtol=1e-5)


@pytest.mark.parametrize("how", ["scale_shift_clip", "scale_shift_frame"])
@pytest.mark.parametrize("kind", ["inverse", "scaled"])
@given(scale=scales, shift=st.floats(-0.4, 0.4))
def test_scale_and_shift_are_recovered(how, kind, scale, shift):
    got = align_depth(shifted(kind, scale, shift), CLIP, how)
    np.testing.assert_allclose(got, CLIP.depth, rtol=1e-4)


@pytest.mark.parametrize("kind", ["inverse", "scaled"])
def test_scale_and_shift_are_scipys_least_squares(kind):
    rng = np.random.default_rng(0)
    off = shifted(kind, 2.0, 0.1)
    off = estimate(off.depth + rng.normal(0, 0.02, off.depth.shape), kind)
    x = (1 / CLIP.depth if kind == "inverse" else CLIP.depth).ravel().astype(float)
    columns = np.stack([off.depth.ravel().astype(float), np.ones(x.size)], 1)
    line = columns @ lsq_linear(columns, x, bounds=([0, -np.inf], np.inf)).x
    want = (1 / line if kind == "inverse" else line).reshape(CLIP.depth.shape)
    got = align_depth(off, CLIP, "scale_shift_clip")
    near, far = CLIP.depth.min(), CLIP.depth.max()
    inside = (want > near / 2) & (want < 2 * far)
    assert inside.mean() > 0.99
    np.testing.assert_allclose(got[inside], want[inside], rtol=1e-4)


def test_depth_that_runs_the_wrong_way_is_not_turned_round():
    got = align_depth(estimate(3 - CLIP.depth, "scaled"), CLIP, "scale_shift_clip")
    np.testing.assert_allclose(got, CLIP.depth.mean(), rtol=1e-5)


def test_the_robot_gives_scale_and_shift_without_the_truth():
    blind = replace(CLIP, depth=None)
    got = align_depth(shifted("inverse", 2.0, 0.2), blind, "robot")
    np.testing.assert_allclose(got, CLIP.depth, rtol=0.01)


def test_unknown_depth_stays_unknown_however_it_is_aligned():
    for kind in ("inverse", "scaled"):
        holed = shifted(kind, 2.0, 0.1).depth.copy()
        holed[:, :5] = 0
        for how in ALIGNMENTS:
            if applies(how, estimate(holed, kind), CLIP):
                got = align_depth(estimate(holed, kind), CLIP, how)
                assert (got[:, :5] == 0).all()
                assert (got[:, 6:] > 0).all()


def test_alignments_that_mean_nothing_do_not_apply():
    inverse, metric = shifted("inverse", 1, 0), estimate(CLIP.depth, "metric")
    assert [how for how in ALIGNMENTS if applies(how, inverse, CLIP)] == [
        "scale_shift_clip",
        "scale_shift_frame",
        "robot",
    ]
    assert [how for how in ALIGNMENTS if applies(how, metric, CLIP)] == list(ALIGNMENTS)
    assert [how for how in ALIGNMENTS if applies(how, metric, REAL)] == ["metric", "robot"]
    with pytest.raises(UsageError, match="did you mean 'scale_clip'"):
        check_alignments(["scale_clp"])


def test_the_truth_scores_full_marks():
    [metric, *others] = run_board("made", [CLIP], open_backends(["simulator"]), ALIGNMENTS)
    score = metric.score
    zero = ("abs_rel", "rmse", "accuracy", "completeness", "chamfer_l1", "chamfer_l2")
    for name in (*zero, "temporal", "normal_deg", "robot_residual"):
        assert getattr(score, name) == pytest.approx(0, abs=1e-9), name
    one = ("known", "delta1", "f_score_1cm", "f_score", "f_score_5cm")
    for name in (*one, "edge_precision", "edge_recall", "edge_f1"):
        assert getattr(score, name) == 1, name
    for row in others:
        assert row.score.abs_rel < 0.01, row.alignment


def test_known_is_reported_and_what_is_unknown_is_not_judged():
    holed = CLIP.depth.copy()
    holed[:, :24] = 0
    [row] = run_board(
        "made", [CLIP], {"holed": lambda clip: Oracle(holed, Provenance.ESTIMATED)}, ["metric"]
    )
    assert row.score.known == pytest.approx(0.75)
    assert row.score.abs_rel == 0
    assert row.score.completeness > 0


def test_rows_are_means_over_clips_and_name_the_worst():
    def off(clip):
        share = 1.1 if clip.key == "a" else 1.3
        return Oracle(clip.depth * share, Provenance.ESTIMATED)

    clips = [replace(CLIP, key="a"), replace(CLIP, key="b")]
    [row] = run_board("made", clips, {"off": off}, ["metric"])
    assert row.score.abs_rel == pytest.approx(0.2, rel=1e-4)
    assert row.score.delta1 == pytest.approx(0.5)
    assert (row.clips, row.failed, row.frames) == (2, 0, 2 * T)
    assert row.worst_clip.startswith("b ")
    assert row.worst_abs_rel == pytest.approx(0.3, rel=1e-4)


def test_where_the_robot_says_nothing_the_clip_counts_as_failed():
    unseen = replace(CLIP, robot_depth=np.zeros_like(CLIP.robot_depth))
    [row] = run_board("made", [unseen], open_backends(["constant"]), ["robot"])
    assert (row.clips, row.failed) == (1, 1)
    assert row.score == Score(0.0)


def test_real_frames_are_judged_by_the_robot_alone():
    off = lambda clip: Oracle(CLIP.depth + 0.03 * (CLIP.robot_depth > 0), Provenance.ESTIMATED)  # noqa: E731
    [row] = run_board("real", [REAL], {"off": off}, ["metric", "scale_clip"])
    assert row.alignment == "metric"
    assert row.score.robot_residual == pytest.approx(0.03, rel=1e-3)
    assert row.score.abs_rel is None
    assert run_board("real", [REAL], open_backends(["simulator", "plane_fit"]), ["metric"]) == []


def test_a_network_can_be_judged_without_what_the_robot_tells_it():
    pytest.importorskip("timm")
    told = open_backends(["pointmap", "pointmap_alone"])
    with_robot, alone = (
        told[name](CLIP)(CLIP.rgb, CLIP.K, CLIP.robot()) for name in ("pointmap", "pointmap_alone")
    )
    assert with_robot.told
    assert not alone.told
    plain = told["pointmap"](CLIP)(CLIP.rgb, CLIP.K)
    np.testing.assert_array_equal(alone.depth, plain.depth)
    assert not np.array_equal(alone.depth, with_robot.depth)


def test_a_network_can_be_judged_frame_by_frame():
    pytest.importorskip("timm")
    told = open_backends(["pointmap", "pointmap_single"])
    pair, single = (told[name](CLIP) for name in told)
    both, each = (one(CLIP.rgb, CLIP.K, CLIP.robot()) for one in (pair, single))
    assert each.told
    assert each.depth.shape == each.confidence.shape == both.depth.shape
    # The first frame is its own reference either way; batches of other sizes round differently.
    np.testing.assert_allclose(each.depth[0], both.depth[0], rtol=1e-3)
    for t in range(1, T):
        robot = RobotView(CLIP.robot_depth[t:][:1], RESTS[t:][:1])
        alone = pair(CLIP.rgb[t:][:1], CLIP.K, robot)
        np.testing.assert_array_equal(each.depth[t], alone.depth[0])
        assert not np.allclose(each.depth[t], both.depth[t], rtol=1e-3)
    assert not single(CLIP.rgb, CLIP.K).told


def test_a_network_can_be_judged_before_it_was_trained():
    pytest.importorskip("timm")
    import torch

    def opened():
        return open_backends(["pointmap_untrained"])["pointmap_untrained"](CLIP)

    drawn = torch.get_rng_state()
    first, again = (opened()(CLIP.rgb, CLIP.K, CLIP.robot()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert first.told
    np.testing.assert_array_equal(first.depth, again.depth)
    trained = open_backends(["pointmap"])["pointmap"](CLIP)
    assert opened().network.config == trained.network.config
    assert not np.allclose(first.depth, trained(CLIP.rgb, CLIP.K, CLIP.robot()).depth, rtol=0.01)


def test_only_what_rests_counts_as_still():
    still = CLIP.still()
    assert still.shape == (T - 1, H, W)
    assert not (still & ((CLIP.robot_depth[:-1] > 0) | (CLIP.robot_depth[1:] > 0))).any()
    assert still[:, :15].all()
    assert replace(CLIP, base_from_camera=RESTS + np.arange(T)[:, None, None]).still() is None


def test_the_plane_is_level_below_a_camera_that_looks_down():
    tilt = np.radians(30)
    depth = PlaneDepth(pitch=tilt)(CLIP.rgb, K).depth
    down = np.array([0, np.cos(tilt), np.sin(tilt)])
    height = unproject(depth, K) @ down
    lower = height[:, H // 2 :]
    np.testing.assert_allclose(lower, np.sin(tilt), rtol=2e-2)


def test_a_plane_is_found_by_its_fit_and_a_constant_is_one():
    rays = unproject(np.ones((H, W)), K)
    plane = np.repeat((1 / (rays @ [0.2, 0.5, 0.8]))[None], 2, 0)
    plane[0, :9] = 0
    seen = plane.copy()
    seen[:, 40:60, 30:60] *= 0.5  # something stands before it
    got = fit_plane(seen, K)
    np.testing.assert_allclose(got[1], plane[1], rtol=0.02)
    assert np.ptp(ConstantDepth()(CLIP.rgb, None).depth) == 0


def test_unknown_backends_and_useless_models_are_refused():
    with pytest.raises(UsageError, match="did you mean 'constant'"):
        open_backends(["constnt"])
    with pytest.raises(UsageError, match="takes a model"):
        open_backends(["constant"], "somewhere")


def test_a_sheet_shows_truth_and_error_where_there_is_truth():
    with_truth, without = depth_sheet(CLIP, CLIP.depth), depth_sheet(REAL, CLIP.depth)
    assert with_truth.shape == (6 * H, T * W, 3)
    assert without.shape == (3 * H, T * W, 3)
    error = with_truth[3 * H + 20 : 4 * H]
    assert error.max() < 16, "no error is dark"


@pytest.fixture
def shard(tmp_path):
    """Two samples: one whose depth a simulator made, one whose depth was estimated."""
    pose = np.repeat(make_pose(np.eye(3), np.zeros(3))[None], T, 0)
    fields = {
        "rgb": CLIP.rgb,
        "depth": CLIP.depth,
        "robot_depth": CLIP.robot_depth,
        "robot_visible": CLIP.robot_visible,
        "K": np.repeat(K[None], T, 0),
        "base_from_camera": pose,
    }
    path = tmp_path / "s.tar"
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for key, made in (("a", "simulated"), ("b", "estimated")):
            meta = {"fields": {"depth": {"provenance": made}}, "camera": "left", "id": key}
            writer.add(key, encode_sample(fields, meta, 10.0))
        bare = {"camera": "top", "fields": {"K": {"provenance": "absent"}}}
        writer.add("c", encode_sample({"rgb": CLIP.rgb}, bare, 10.0))
        writer.finish(path.name)
    return path


def test_only_a_simulators_depth_is_truth(shard):
    simulated, estimated = read_clips(choose_samples(robo4d.open(shard)))
    np.testing.assert_allclose(simulated.depth, CLIP.depth, rtol=1e-3)
    assert simulated.camera_rests
    assert estimated.depth is None
    assert estimated.robot_depth is not None
    with pytest.raises(UsageError, match="left"):
        choose_samples(robo4d.open(shard), camera="wrist")
    assert read_clip(robo4d.open(shard)["a"], frames=2).depth.shape == (2, H, W)


def test_a_data_set_that_can_judge_nothing_is_refused_with_the_reason(tmp_path):
    with (tmp_path / "n.tar").open("wb") as file:
        writer = ShardWriter(file)
        meta = {"fields": {"K": {"provenance": "absent", "reason": "no solver"}}}
        writer.add("c", encode_sample({"rgb": CLIP.rgb}, meta, 10.0))
        writer.finish("n.tar")
    with pytest.raises(UsageError, match="no solver"):
        choose_samples(robo4d.open(tmp_path / "n.tar"))


def test_the_command_prints_a_list_of_rows_and_draws_sheets(run_cli, shard, tmp_path):
    looks = tmp_path / "looks"
    said = ("--backend", "simulator", "--backend", "constant", "--alignment", "scale_clip")
    done = run_cli("bench", "depth", "--data", shard, *said, "--json", "--pictures", looks)
    assert done.returncode == 0, done.stderr
    exact, constant = json.loads(done.stdout)
    asked = {"data", "backend", "alignment", "abs_rel", "delta1", "chamfer_l1", "f_score"}
    for row in (exact, constant):
        assert asked | {"temporal", "known"} <= set(row)
        assert row["data"] == str(shard)
        assert row["alignment"] == "scale_clip"
    assert (exact["backend"], constant["backend"]) == ("simulator", "constant")
    assert exact["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert constant["abs_rel"] > 0.05
    # The other sample has no truth, and these backends no robot to be judged by in this alignment.
    assert exact["clips"] == 1
    sheets = sorted(looks.iterdir())
    assert len(sheets) == 2
    assert cv2.imread(str(sheets[0])).shape == (6 * H, T * W, 3)


def test_data_is_named_by_place_or_by_source_and_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("/some/build", "s3://bucket/run=3/out", "s.tar"):
        assert bench_folder(place) == place
    with pytest.raises(UsageError, match="droid=DIR, or take twin:droid"):
        bench_folder("droid")
    with pytest.raises(UsageError, match="unknown"):
        bench_folder("twin:drod")
    Path("droid").mkdir()
    assert bench_folder("droid") == "droid"


def test_the_command_refuses_what_it_does_not_know(run_cli, shard):
    for wrong in (("--alignment", "scal"), ("--backend", "constnt"), ("--model", "x")):
        done = run_cli("bench", "depth", "--data", shard, *wrong)
        assert done.returncode == 2, done.stderr
        assert "error:" in done.stderr
    assert run_cli("bench", "depth", "--data", "/nowhere").returncode != 0


@pytest.mark.slow
def test_a_twin_by_name_is_built_once_and_judged(run_cli_session, droid_twin):
    said = ("bench", "depth", "-d", f"twin:droid={droid_twin}", "-b", "simulator", "--max-clips", 3)
    for _ in range(2):
        done = run_cli_session(*said, "--frames", 6, "--alignment", "metric", "--json")
        assert done.returncode == 0, done.stderr
        [row] = json.loads(done.stdout)
        assert row["data"].startswith("twin:droid")
        assert (row["clips"], row["frames"], row["abs_rel"]) == (3, 18, 0)
        assert row["f_score"] == row["delta1"] == 1

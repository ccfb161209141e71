"""What a view gets whose camera, or whose robot, is moved on the way."""

from types import SimpleNamespace

import numpy as np
import pytest
from records import droid_values, example_bytes, write_droid

import pipeline.build
import pipeline.samples
import reconstruction.camera.moved
import reconstruction.camera.sections
import robo4d
from pipeline.base import base_motion
from pipeline.camera import CameraChoice, choose_camera, known_part
from pipeline.plan import make_plan
from pipeline.store import Store
from reconstruction.camera import CameraSolution
from reconstruction.camera.moved import Stillness
from robo4d.geometry import intrinsics
from schemas.config import BuildConfig, CameraConfig
from schemas.episode import Calibration, Provenance
from schemas.plan import ClipPlan

K = intrinsics(130, 130, 160, 90)
STEPS = 60
TIME = np.arange(STEPS) / 15


def pose(x: float) -> np.ndarray:
    out = np.eye(4)
    out[0, 3] = x
    return out


def solved(verdict="good", x=0.0, f=130.0):
    lens = intrinsics(f, f, 160, 90)
    if verdict == "reject":
        return CameraSolution(None, None, None, 0.0, "reject", "as told")
    return CameraSolution(
        pose(x), lens, np.eye(6), 0.01 * x, verdict, "as told", {"flow_score": 0.5}
    )


def episode(source="droid", drive=()):
    shift, turn = np.zeros((STEPS, 2), np.float32), np.zeros((STEPS, 1), np.float32)
    for step in drive:
        shift[step] = [0.03, -0.04]
        turn[step] = -0.1
    actions = {
        "base_displacement_vector": shift,
        "base_displacement_vertical_rotation": turn,
    }
    columns = {
        "base_displacement_vector": ("base_dx", "base_dy"),
        "base_displacement_vertical_rotation": ("base_dyaw",),
    }
    return SimpleNamespace(
        source=source,
        time=np.arange(STEPS) / 15,
        actions=actions if source == "rt1" else {},
        action_columns=columns,
    )


@pytest.fixture
def choose(monkeypatch):
    """Choose with a camera that is told to stand still in sections, and solves that end as told."""

    def run(stillness, solutions, **how):
        calls = []

        def solve(problems, K, *, spread, starts=(), seed=0, masks=None):
            (problem,) = problems
            steps = problem.decode(np.arange(len(problem)))
            calls.append((int(steps[0]), int(steps[-1]) + 1, K[0, 0], spread))
            return solutions[len(calls) - 1]

        monkeypatch.setattr(reconstruction.camera.moved, "still_sections", lambda _: stillness)
        monkeypatch.setattr(reconstruction.camera.sections, "solve_camera", solve)
        monkeypatch.setattr(reconstruction.camera, "solve_camera", solve)
        stream = SimpleNamespace(
            name="exterior", calibration=None, decode=lambda s: s, size=lambda: (180, 320)
        )
        motion = SimpleNamespace(joints=np.zeros((STEPS, 7)), fingers=np.zeros(STEPS))
        robot = SimpleNamespace(name="stub")
        choice = choose_camera(episode(**how), stream, None, motion, robot, CameraConfig())
        return choice, calls

    return run


def test_each_place_of_a_moved_camera_is_solved_with_the_lens_of_the_longest(choose):
    still = Stillness(((0, 20), (23, 60)), (4.25,))
    choice, calls = choose(still, [solved(x=2.0, f=128.0), solved("usable", x=1.0, f=128.0)])
    assert [call[:2] for call in calls] == [(23, 60), (0, 20)]
    assert calls[0][3] > 0  # guessed
    assert calls[1][2:] == (128.0, 0.0)
    assert (choice.verdict, choice.late) == ("usable", 0.02)
    assert choice.known.nonzero()[0].tolist() == [*range(20), *range(23, 60)]
    assert choice.calibration.base_from_camera.shape == (STEPS, 4, 4)
    assert choice.calibration.base_from_camera[choice.known, 0, 3].tolist() == [1.0] * 20 + (
        [2.0] * 37
    )
    assert "4.2 pixels or more before step 23" in choice.why
    told = choice.describe()["sections"]
    assert [(s["first"], s["past"], s["jump_px"]) for s in told] == [(0, 20, 0.0), (23, 60, 4.25)]


def test_a_place_too_short_or_rejected_has_no_camera_and_leaves_the_others_theirs(choose):
    still = Stillness(((0, 5), (5, 30), (30, 60)), (3.0, np.inf))
    choice, calls = choose(still, [solved("reject"), solved(x=1.0)])
    assert [call[:2] for call in calls] == [(30, 60), (5, 30)]
    assert choice.known.nonzero()[0].tolist() == list(range(5, 30))
    assert choice.describe()["sections"][2]["jump_px"] is None
    nowhere, _ = choose(still, [solved("reject"), solved("reject")])
    assert (nowhere.verdict, nowhere.calibration) == ("reject", None)
    assert "5 steps are too few" in nowhere.why


def moved_choice(*spans):
    known = np.zeros(STEPS, bool)
    for first, past in spans:
        known[first:past] = True
    calibration = Calibration(K, np.repeat(pose(0)[None], STEPS, 0), Provenance.ESTIMATED)
    return CameraChoice(calibration, "good", "told", known=known)


def plan(steps):
    steps = np.asarray(steps)
    return ClipPlan(steps=steps, fps=7.5, moving=(int(steps[0]), int(steps[-1])), idle_share=0.0)


def test_a_clip_leaves_out_the_steps_at_which_its_camera_was_on_the_way():
    clip, choice = known_part(plan(range(0, 60, 2)), moved_choice((0, 21), (24, 60)), TIME, 2)
    assert (len(clip.steps), clip.steps[0], clip.steps[-1]) == (30, 0, 58)
    assert not set(clip.steps.tolist()) & {21, 22, 23}
    assert clip.fps == pytest.approx(29 / (58 / 15))
    assert "56 of the clip's 59 steps" in choice.why


def test_a_thinned_clip_of_a_moved_camera_is_filled_up_again_from_where_it_is_known():
    clip, _ = known_part(
        plan(range(0, 60, 6)),
        moved_choice(
            (0, 30),
        ),
        TIME,
        8,
    )
    assert clip.steps.tolist() == np.linspace(0, 29, 10).round().tolist()
    assert clip.fps == pytest.approx(9 / (29 / 15))


def test_a_clip_ends_where_its_camera_is_unknown_for_longer():
    clip, _ = known_part(plan(range(60)), moved_choice((0, 10), (20, 60)), TIME, 2)
    assert clip.steps.tolist() == list(range(20, 60))


def test_a_clip_of_too_few_known_steps_has_no_camera_and_stays_whole():
    whole = plan(range(60))
    clip, choice = known_part(whole, moved_choice((3, 7)), TIME, 5)
    assert clip is whole
    assert (choice.calibration, choice.verdict) == (None, "reject")
    beside, choice = known_part(plan(range(10)), moved_choice((20, 60)), TIME, 2)
    assert (len(beside.steps), choice.verdict) == (10, "reject")


def test_a_clip_inside_one_place_is_not_touched():
    clip = plan(range(20, 50))
    choice = moved_choice((10, 60))
    assert known_part(clip, choice, TIME, 2) == (clip, choice)


def test_a_camera_on_a_driven_base_is_solved_where_the_base_stands_and_holds_throughout(choose):
    choice, calls = choose(
        Stillness(((0, 4), (8, 60)), (9.0,)), [solved(x=1.0)], source="rt1", drive=[2, 5, 30]
    )
    # Told to move from step 30 to step 31: those are two places, whatever the images show.
    assert [call[:2] for call in calls] == [(31, 60)]
    assert choice.calibration.base_from_camera.shape == (4, 4)
    assert choice.known is None
    assert "the base moves" in choice.why


def test_a_base_that_never_stands_long_enough_leaves_no_camera(choose):
    choice, calls = choose(Stillness(((0, 60),), ()), [], source="rt1", drive=range(0, 60, 5))
    assert calls == []
    assert (choice.verdict, choice.calibration) == ("reject", None)
    assert "stands still for 5 steps" in choice.why


def test_a_moved_camera_on_a_base_that_was_not_driven_is_a_moved_camera(choose):
    still = Stillness(((0, 30), (30, 60)), (3.0,))
    choice, calls = choose(still, [solved(), solved(x=1.0)], source="rt1")
    assert len(calls) == 2
    assert choice.known.all()


def test_what_a_base_was_told_adds_up_in_metres_and_radians():
    base = base_motion(episode("rt1", drive=[3, 4, 9]))
    told = base.describe()
    assert told["base_moved"]
    assert told["metres"] == pytest.approx(0.15, abs=1e-6)
    assert told["radians"] == pytest.approx(0.3, abs=1e-6)
    assert base.standing([(0, 4), (4, 12)]) == [(0, 4), (4, 5), (5, 10), (10, 12)]
    assert not base_motion(episode("rt1")).moved
    assert base_motion(episode("droid")) is None


def test_a_build_gives_a_moved_view_its_poses_and_the_others_all_steps(tmp_path, monkeypatch):
    steps, moved = 30, "exterior_image_1_left"
    known = np.ones(steps, bool)
    known[12:15] = False
    poses = np.stack([pose(0.5 + 0.01 * (t >= 15)) for t in range(steps)])
    lens = intrinsics(26, 26, 32, 18)
    section = {"first": 15, "past": 30, "jump_px": 3.0}

    def choose(episode, stream, *_):
        if stream.name != moved:
            return CameraChoice(None, "unsolved", "told")
        calibration = Calibration(lens, poses, Provenance.ESTIMATED)
        return CameraChoice(calibration, "good", "told", known=known, sections=(section,))

    monkeypatch.setattr(pipeline.samples, "choose_camera", choose)
    write_droid(tmp_path / "data", [example_bytes(droid_values(steps))])
    plan = make_plan({"droid": str(tmp_path / "data")}, BuildConfig())
    build = pipeline.build.ShardBuilder.of(plan, Store.at(tmp_path / "out"))
    index = build(plan.shards[0])
    rows = {row["camera"]: row for row in index.build["rows"]}
    assert [rows[name]["frames"] for name in sorted(rows)] == [27, 30, 30]
    sample = robo4d.open(tmp_path / "out")[rows[moved]["key"]]
    assert sample.step.tolist() == [*range(12), *range(15, 30)]
    assert (len(sample.rgb), len(sample.robot_depth)) == (27, 27)
    assert np.array_equal(sample.base_from_camera, poses[known])
    assert sample.meta["camera_solution"]["sections"] == [section]
    assert "27 of the clip's 30 steps" in sample.meta["camera_solution"]["why"]

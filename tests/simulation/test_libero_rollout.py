"""LIBERO rollouts: the script's pieces here, whole episodes against LIBERO's own code."""

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from schemas.reasons import UsageError
from simulation import rollout
from simulation.libero_worker import policy
from simulation.libero_worker.noise import STRENGTHS, Disturbance, Noise, draw_noise
from simulation.libero_worker.outcome import LIFTED, NEAR, Outcome
from simulation.libero_worker.policy import OPEN, Phase, Thing
from simulation.rollout import (
    PYTHON_VARIABLE,
    Rollout,
    RolloutFailed,
    default_rollouts,
    roll_out,
)

JUDGE = Path(__file__).parent.parent / "helpers" / "libero_judge.py"
DOWN = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
PHASE = Phase("carry", np.array([0.3, 0.0, 1.0]), 0.0, policy.CLOSE, (5, 50))


def box(name, centre, half, yaw=0.0):
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    turn = Rotation.from_euler("z", yaw).as_matrix()
    return Thing(name, np.array(centre), signs * half @ turn.T + centre)


def bowl(centre, radius=0.05, height=0.05):
    angles = np.arange(0, 2 * np.pi, np.pi / 12)
    ring = np.stack([np.cos(angles) * radius, np.sin(angles) * radius, 0 * angles], 1)
    rings = np.concatenate([0.6 * ring, ring + [0, 0, height]]) + centre
    return Thing("bowl", np.array(centre), rings)


# The command


coordinate = st.floats(-0.5, 0.5)


@given(st.tuples(coordinate, coordinate, coordinate), st.floats(-1.4, 1.4))
def test_a_command_points_at_the_target_and_stays_in_range(offset, yaw):
    phase = Phase("x", np.array(offset), yaw, OPEN, (1, 1))
    action = policy.command(phase, np.zeros(3), DOWN)
    assert np.abs(action).max() <= 1
    assert np.allclose(np.cross(action[:3], offset), 0, atol=1e-9)
    assert action[:3] @ offset >= 0


@given(st.floats(-0.25, 0.25), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_the_turn_is_the_rotation_that_is_missing(yaw, roll, pitch):
    now = Rotation.from_euler("xyz", [roll, pitch, 0]).as_matrix() @ DOWN
    action = policy.command(Phase("x", np.zeros(3), yaw, OPEN, (1, 1)), np.zeros(3), now)
    turned = Rotation.from_rotvec(action[3:6] * policy.RADIANS).as_matrix() @ now
    assert np.allclose(turned, Rotation.from_euler("z", yaw).as_matrix() @ DOWN, atol=1e-9)


def test_a_phase_ends_when_reached_or_late_but_not_at_once():
    there, away = PHASE.target, PHASE.target + [0, 0, 0.2]
    assert not policy.reached(PHASE, there, 4)
    assert policy.reached(PHASE, there, 5)
    assert not policy.reached(PHASE, away, 49)
    assert policy.reached(PHASE, away, 50)


# Grasps


@given(st.floats(-3.1, 3.1))
def test_a_box_is_grasped_across_its_narrow_side(yaw):
    grasp = policy.grasp_across(box("box", [0.1, 0.2, 0.5], [0.02, 0.05, 0.05], yaw), [])
    narrow = np.array([np.cos(yaw), np.sin(yaw)])
    # Yaws are tried every 15 degrees, and a little turning is preferred.
    assert abs(policy.closing_direction(grasp.yaw) @ narrow) >= np.cos(np.radians(15))
    assert grasp.position == pytest.approx([0.1, 0.2, 0.51])


def test_what_is_wider_than_the_gripper_is_refused():
    with pytest.raises(ValueError, match="wider than"):
        policy.grasp_across(box("plate", [0, 0, 0], [0.07, 0.07, 0.01]), [])


@pytest.mark.parametrize("side", [-1, 1])
def test_a_bowl_is_grasped_on_its_rim_away_from_a_neighbour(side):
    neighbour = box("wall", [0.0, side * 0.12, 0.5], [0.2, 0.03, 0.2])
    grasp = policy.grasp_rim(bowl([0.0, 0.0, 0.5]), [neighbour])
    outward = grasp.position[:2]
    assert np.linalg.norm(outward) == pytest.approx(0.05, abs=0.002)
    assert outward[1] * side < 0
    # It closes along the radius.
    assert abs(policy.closing_direction(grasp.yaw) @ outward) == pytest.approx(0.05, abs=0.002)


def test_the_held_thing_not_the_grip_goes_to_its_place():
    grip, held, rest = np.array([0, 0, 1.0]), np.array([0, 0.05, 0.9]), np.array([0.3, 0.3, 0.9])
    lower = next(p for p in policy.plan_place(grip, 0.0, held, rest) if p.name == "lower")
    assert lower.target - grip == pytest.approx(rest - held)


# Noise


@given(st.integers(0, 9999), st.integers(0, 40))
def test_of_four_episodes_one_is_clean_and_the_others_differ_in_kind(seed, index):
    four = [draw_noise(seed, 4 * index + k) for k in range(4)]
    assert four == [draw_noise(seed, 4 * index + k) for k in range(4)]
    assert [noise.strength for noise in four[:1]] == [0]
    assert len({noise.kind for noise in four}) == 4
    for level, noise in enumerate(four[1:]):
        assert noise.strength == STRENGTHS[noise.kind][level]


def disturb(noise, grippers, grip=PHASE.target):
    disturbance = Disturbance(noise)
    actions = [np.array([0.5] * 6 + [g]) for g in grippers]
    return np.array([disturbance.disturb(action, PHASE, grip) for action in actions])


def test_a_late_gripper_lags_by_its_strength():
    sent = disturb(Noise("late_gripper", 2, (0,)), [-1, -1, 1, 1, 1])
    assert sent[:, 6].tolist() == [-1, -1, -1, -1, 1]


def test_dropped_commands_stop_the_motion_and_not_the_gripper():
    sent = disturb(Noise("dropped_commands", 0.5, (0,)), [1] * 400)
    moved = np.abs(sent[:, :6]).max(1) > 0
    assert 0.4 < moved.mean() < 0.6
    assert np.all(sent[:, 6] == 1)


@pytest.mark.parametrize(("away", "opens"), [(0.03, True), (0.05, False)])
def test_an_early_release_opens_before_the_place(away, opens):
    grip = PHASE.target + [away, 0, 0.2]
    sent = disturb(Noise("early_release", 0.04, (0,)), [1, 1], grip)
    assert sent[-1, 6] == (-1 if opens else 1)


def test_a_bias_is_as_long_as_its_strength_and_of_its_kind_only():
    disturbance = Disturbance(Noise("grasp_bias", 0.025, (3, 1)))
    assert np.linalg.norm(disturbance.offset("grasp_bias")) == pytest.approx(0.025)
    assert not disturbance.offset("place_bias").any()


@given(st.integers(0, 999), st.sampled_from(sorted(STRENGTHS)))
def test_sent_actions_stay_in_range_and_repeat(seed, kind):
    noise = Noise(kind, STRENGTHS[kind][2], (seed, 1))
    sent = disturb(noise, [-1, 1, 1])
    assert np.abs(sent).max() <= 1
    assert np.array_equal(sent, disturb(noise, [-1, 1, 1]))


@pytest.mark.parametrize(
    ("success", "distance", "lifted", "result"),
    [
        (True, 0.5, 0.0, "success"),  # the environment's check decides, not the distance
        (False, NEAR - 0.01, LIFTED + 0.01, "near_miss"),
        (False, NEAR - 0.01, LIFTED - 0.01, "failure"),
        (False, NEAR + 0.01, LIFTED + 0.01, "failure"),
    ],
)
def test_results(success, distance, lifted, result):
    assert Outcome(success, distance, lifted).result == result


# Wrong use


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "libero_spatal"}, "did you mean 'libero_spatial'"),
        ({"task": 4}, "does not know task 4 .*\n  0  pick_up_the_black_bowl_between"),
        ({"episodes": 0}, "at least 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_are_refused(change, message, tmp_path):
    wanted = {"suite": "libero_spatial", "task": 0, "episodes": 1, "seed": 0} | change
    with pytest.raises(UsageError, match=message):
        roll_out(wanted.pop("suite"), wanted.pop("task"), tmp_path, **wanted)
    assert not list(tmp_path.iterdir())


def test_without_libero_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nowhere"))
    for make in (
        lambda: roll_out("libero_spatial", 0, tmp_path),
        lambda: default_rollouts(tmp_path),
    ):
        with pytest.raises(UsageError, match="make libero-env"):
            make()
    assert not list(tmp_path.iterdir())


def test_a_file_in_use_is_not_overwritten(tmp_path):
    there = tmp_path / "libero_goal" / "put_the_bowl_on_the_plate_demo.hdf5"
    there.parent.mkdir()
    there.write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        roll_out("libero_goal", 8, tmp_path)
    assert there.read_text() == "mine"


def test_a_dying_worker_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho no such suite >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(fake))
    with pytest.raises(RolloutFailed, match="exit code 3.*\nno such suite"):
        default_rollouts(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_the_command_answers_an_unknown_task_with_the_known_ones(run_cli, tmp_path):
    done = run_cli("rollout", "--suite", "libero_object", "--task", 77, "--out", tmp_path)
    assert done.returncode == 2
    assert "pick_up_the_ketchup_and_place_it_in_the_basket" in done.stderr


# Whole episodes


@pytest.fixture(scope="module")
def libero():
    python = Path(os.environ.get(PYTHON_VARIABLE, rollout.Path(".venv-libero/bin/python")))
    if not python.is_file():
        pytest.skip(f"needs LIBERO's environment (make libero-env); no {python}")
    return python.absolute()


@pytest.fixture(scope="module")
def made(libero, made_once):
    """A clean and a disturbed episode, each by a worker of its own."""

    def make(folder):
        made = roll_out("libero_spatial", 0, folder, episodes=2)
        told = {"path": str(made.path), "episodes": made.episodes}
        (folder / "told.json").write_text(json.dumps(told))

    told = json.loads((made_once("rollout", make) / "told.json").read_text())
    return Rollout(Path(told["path"]), told["episodes"])


@pytest.mark.slow
def test_the_file_is_laid_out_as_published(made):
    with h5py.File(made.path) as file:
        data = file["data"]
        assert set(data.attrs) >= {
            *("env_name", "problem_info", "env_args", "bddl_file_name", "bddl_file_content"),
            *("macros_image_convention", "num_demos", "total", "tag"),
        }
        assert data.attrs["num_demos"] == len(data) == 2
        assert data.attrs["total"] == sum(len(demo["actions"]) for demo in data.values())
        for k in range(2):
            demo = data[f"demo_{k}"]
            said = json.loads(demo.attrs["robo4d_rollout"])
            steps = demo.attrs["num_samples"]
            shapes = {
                name: (demo[name].shape, demo[name].dtype.str) for name in demo if name != "obs"
            }
            size = demo["states"].shape[1]
            assert shapes == {
                "actions": ((steps, 7), "<f8"),
                "states": ((steps, size), "<f8"),
                "robot_states": ((steps, 9), "<f8"),
                "rewards": ((steps,), "|u1"),
                "dones": ((steps,), "|u1"),
            }
            obs = {name: values.shape for name, values in demo["obs"].items()}
            assert obs == {
                "agentview_rgb": (steps, 128, 128, 3),
                "eye_in_hand_rgb": (steps, 128, 128, 3),
                "ee_pos": (steps, 3),
                "ee_ori": (steps, 3),
                "ee_states": (steps, 6),
                "gripper_states": (steps, 2),
                "joint_states": (steps, 7),
            }
            assert np.array_equal(demo.attrs["init_state"], demo["states"][0])
            assert demo["dones"][()].tolist() == [0] * (steps - 1) + [int(said["success"])]
            assert said["result"] == made.episodes[k]["result"]


@pytest.mark.slow
def test_the_clean_episode_succeeds_and_noise_is_recorded(made):
    first = made.episodes[0]
    assert (first["noise_type"], first["result"]) == ("none", "success")
    assert [e["noise_type"] for e in made.episodes] == [draw_noise(0, k).kind for k in range(2)]
    assert sum(made.counts().values()) == 2


@pytest.mark.slow
def test_liberos_own_code_reads_the_file_and_agrees(made, libero):
    done = subprocess.run(
        [libero, JUDGE, made.path, "libero_spatial", "0"],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["first_state"] == 0
    # Our renderer shows what LIBERO's own cameras show, at the same substep.
    assert all(gap == 0 for gap in told["obs"].values()), told["obs"]
    assert told["played_back_success"]
    with h5py.File(made.path) as file:
        assert told["model_state_size"] == file["data/demo_0/states"].shape[1]
    # An observation is of the state after its action, within a substep (2 ms).
    assert told["joints_to_next_state"] < 0.01 < told["joints_to_own_state"]
    assert told["image_to_next_state"] < 1 < told["image_flipped"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_episodes_whoever_makes_them(
    made, libero, tmp_path, monkeypatch
):
    monkeypatch.setattr(rollout, "_MAX_WORKERS", 1)
    again = roll_out("libero_spatial", 0, tmp_path, episodes=2)
    with h5py.File(made.path) as first, h5py.File(again.path) as second:
        for k in range(2):
            ours, theirs = first[f"data/demo_{k}"], second[f"data/demo_{k}"]
            assert ours.attrs["robo4d_rollout"] == theirs.attrs["robo4d_rollout"]
            for name in ("states", "actions", "obs/agentview_rgb", "obs/eye_in_hand_rgb"):
                assert np.array_equal(ours[name], theirs[name]), (k, name)

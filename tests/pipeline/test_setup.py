"""Which episodes share a camera, and what becomes of those whose camera was elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest

import reconstruction.camera
import reconstruction.camera.moved
from pipeline.setup import POOL, pools, setup_of, solve_pool
from reconstruction.camera import CameraSolution
from reconstruction.camera.moved import Stillness
from robo4d.geometry import intrinsics
from schemas.config import CameraConfig
from schemas.episode import Calibration, CameraStream, Provenance

CONFIG = CameraConfig()
K = intrinsics(130, 130, 160, 90)
STEPS = 20


def stream(name="exterior_image_1_left", setup="", calibrated=False, shown=0):
    calibration = Calibration(K, np.eye(4), Provenance.POSTHOC) if calibrated else None

    class Frames:
        def __len__(self):
            return STEPS

        def size(self):
            return 180, 320

        def decode(self, steps):
            return np.full((len(steps), 180, 320, 3), shown, np.uint8)

    return CameraStream(name, Frames(), calibration, setup=setup)


def episode(identity, *streams, source="droid", twin=False):
    return SimpleNamespace(
        id=identity,
        source=source,
        twin=twin,
        simulated=False,
        time=np.arange(STEPS) / 15,
        cameras={one.name: one for one in streams or [stream()]},
    )


def prepared(*streams, **facts):
    motion = SimpleNamespace(joints=np.zeros((STEPS, 7)), fingers=np.zeros(STEPS))
    whose = {"robot": SimpleNamespace(name="stub"), "motion": motion}
    return SimpleNamespace(episode=episode("droid/x", *streams, **facts), **whose)


def test_bridges_episodes_share_their_folder_as_rlds_and_raw():
    rlds = "bridge/bridge_data_v1/berkeley/sink/lift/val/out.npy"
    assert setup_of(episode(f"{rlds}#3", source="bridge"), CONFIG) == rlds
    raw = "bridge/bridge_data_v2/a/b/01/2023-01-05_10-20-30"
    first, other = (f"{raw}/raw/traj_group{g}/traj{n}" for g, n in ((0, 3), (1, 0)))
    assert setup_of(episode(first, source="bridge"), CONFIG) == raw
    assert setup_of(episode(other, source="bridge"), CONFIG) == raw


def test_droids_raw_episodes_share_lab_day_and_serials_and_rlds_nothing():
    one = stream("exterior_image_1_left", "IRIS/2023-03-07/11")
    two = stream("exterior_image_2_left", "IRIS/2023-03-07/22")
    swapped = [
        stream("exterior_image_1_left", "IRIS/2023-03-07/22"),
        stream("exterior_image_2_left", "IRIS/2023-03-07/11"),
    ]
    setup = setup_of(episode("droid/a", one, two), CONFIG)
    assert setup
    assert setup_of(episode("droid/b", *swapped), CONFIG) == setup
    next_day = stream("exterior_image_1_left", "IRIS/2023-03-08/11")
    assert setup_of(episode("droid/c", next_day, two), CONFIG) not in (setup, None)
    assert setup_of(episode("droid/d", stream()), CONFIG) is None
    calibrated = stream(setup="IRIS/2023-03-07/11", calibrated=True)
    assert setup_of(episode("droid/e", calibrated), CONFIG) is None
    assert setup_of(episode("droid/f", one, two, twin=True), CONFIG) is None


def test_a_pool_is_closed_at_its_size_and_the_rest_at_the_end():
    shared = [(f"ref{i}", prepared(stream(setup="a"))) for i in range(POOL + 2)]
    alone = ("alone", prepared(stream()))
    found = [[ref for ref, _ in pool] for pool in pools([*shared[:3], alone, *shared[3:]], CONFIG)]
    assert found == [["alone"], [f"ref{i}" for i in range(POOL)], ["ref8", "ref9"]]


@pytest.fixture
def solve(monkeypatch):
    """Solve a pool whose pictures' grey level stands for the camera's place.

    A pose is the place of most clips; a clip confirms it if it is its own. Places apart by less
    than 10 look alike to the background.
    """

    def run(pool, still=lambda _: True, rejected=(), loose=(), mixes=True, own=(0.7, 0.5)):
        asked = []

        def place(problem):
            return int(problem.decode(np.arange(1))[0, 0, 0, 0])

        def solve_camera(problems, K, *, spread, seed, masks):
            places = [place(problem) for problem in problems]
            asked.append(places)
            most = max(places, key=places.count)
            pose = np.eye(4)
            pose[0, 3] = most
            if most in rejected or (np.ptp(places) >= 10 and not mixes):
                return CameraSolution(None, None, None, 0.0, "reject", "as told")
            verdict = "reject" if most in loose else "good"
            fit = {"edge_share": 0.8, "flow_score": 0.5, "rotation_sd_rad": 0.004}
            fit["swept_px"] = 30.0
            fit["position_sd_m"] = 0.05 if most in loose else 0.004
            return CameraSolution(pose, K, np.eye(6), 0.0, verdict, "as told", fit)

        def score_pose(problems, K, pose, late, masks):
            outline = own[0] if place(problems[0]) == pose[0, 3] else 0.2
            return {"edge_share": outline, "flow_score": own[1], "swept_px": 1.0}

        monkeypatch.setattr(reconstruction.camera, "solve_camera", solve_camera)
        monkeypatch.setattr(reconstruction.camera, "score_pose", score_pose)
        monkeypatch.setattr(reconstruction.camera.moved, "_corners", lambda picture: picture)
        monkeypatch.setattr(
            reconstruction.camera.moved,
            "background_shift",
            lambda a, b: 0.0 if abs(int(a[0, 0]) - int(b[0, 0])) < 10 else np.inf,
        )
        monkeypatch.setattr(
            reconstruction.camera.moved,
            "still_sections",
            lambda problem: (
                Stillness(((0, STEPS),), ())
                if still(place(problem))
                else Stillness(((0, 9), (9, STEPS)), (3.0,))
            ),
        )
        return solve_pool(pool, CONFIG), asked

    return run


def places_of(cameras, name="exterior_image_1_left"):
    return [
        None if name not in one else one[name].calibration.base_from_camera[0, 3] for one in cameras
    ]


def test_a_moved_background_alone_parts_no_pool(solve):
    # Bridge's toy kitchens stand elsewhere in each episode, its cameras do not.
    found, asked = solve([prepared(stream(shown=s)) for s in (50, 50, 50, 90)])
    assert asked == [[50, 50, 50, 90]]
    assert places_of(found) == [50, 50, 50, None]


def test_a_pool_that_is_rejected_is_parted_by_background(solve):
    pool = [prepared(stream(shown=s)) for s in (50, 90, 50, 90, 200)]
    found, asked = solve(pool, mixes=False)
    assert asked == [[50, 90, 50, 90, 200], [50, 50], [90, 90]]
    assert places_of(found) == [50, 90, 50, 90, None]


def test_a_pool_whose_pose_is_only_loose_is_not_parted_as_parts_would_be_looser(solve):
    pool = [prepared(stream(shown=s)) for s in (50, 50, 50, 90, 90)]
    found, asked = solve(pool, loose=(50,))
    assert asked == [[50, 50, 50, 90, 90]]
    assert all(one["exterior_image_1_left"].verdict == "reject" for one in found)


def test_those_left_over_whose_pose_is_loose_are_solved_alone(solve):
    pool = [prepared(stream(shown=s)) for s in (50, 50, 50, 90, 90)]
    found, asked = solve(pool, loose=(90,))
    assert asked == [[50, 50, 50, 90, 90], [90, 90]]
    assert places_of(found) == [50, 50, 50, None, None]


def test_a_pool_that_is_accepted_is_kept_whatever_each_clip_says_by_itself(solve):
    pool = [prepared(stream(shown=s)) for s in (50, 50, 90, 90)]
    found, _ = solve(pool, own=(0.62, 0.3))
    assert all(one["exterior_image_1_left"].verdict == "good" for one in found[:2])
    # Whose pose rests on how all robots move, and not on how its own does.
    assert {one["exterior_image_1_left"].quality["swept_px"] for one in found} == {30.0}


def test_those_that_do_not_confirm_a_pose_are_solved_again_among_themselves(solve):
    found, asked = solve([prepared(stream(shown=s)) for s in (50, 51, 50, 52, 51, 50)])
    assert asked == [[50, 51, 50, 52, 51, 50], [51, 52, 51]]
    # The last one is left to be solved alone.
    assert places_of(found) == [50, 51, 50, None, 51, 50]


def test_where_not_two_confirm_a_pose_each_is_solved_alone(solve):
    found, asked = solve([prepared(stream(shown=s)) for s in (50, 51, 52)])
    assert asked == [[50, 51, 52]]
    assert places_of(found) == [None] * 3


def test_a_split_that_is_rejected_is_solved_alone_and_a_whole_place_is_not_tried_again(solve):
    pool = [prepared(stream(shown=s)) for s in (50, 50, 50, 51, 51)]
    found, asked = solve(pool, rejected=[51])
    assert asked == [[50, 50, 50, 51, 51], [51, 51]]
    assert places_of(found) == [50, 50, 50, None, None]
    whole, _ = solve(pool[3:], rejected=[51])
    assert {one["exterior_image_1_left"].verdict for one in whole} == {"reject"}


def test_an_episode_within_which_the_camera_moved_is_left_out(solve):
    found, asked = solve([prepared(stream(shown=s)) for s in (50, 53, 50)], lambda p: p != 53)
    assert asked == [[50, 50]]
    assert places_of(found) == [50, None, 50]


def test_cameras_that_changed_places_are_told_by_their_serials(solve):
    left, right = "exterior_image_1_left", "exterior_image_2_left"
    pool = [
        prepared(stream(left, "11", shown=50), stream(right, "22", shown=90)),
        prepared(stream(left, "22", shown=90), stream(right, "11", shown=50)),
    ]
    found, asked = solve(pool)
    assert asked == [[50, 50], [90, 90]]
    assert (places_of(found, left), places_of(found, right)) == ([50, 90], [90, 50])


def test_wrist_and_calibrated_cameras_are_not_shared(solve):
    pool = [
        prepared(stream("wrist_image_left"), stream(setup="a", calibrated=True)) for _ in range(3)
    ]
    assert solve(pool) == ([{}, {}, {}], [])

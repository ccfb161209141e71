"""The twin of BridgeData V2's raw release: the episodes of `simulation.bridge`, a folder each.

::

    out/bridge_data_raw/bridge_data_v2/twin/<scene>/<task>/<nn>/<date>_<time>/
        config.json, collection_metadata.json     the latter says that it is a twin
        raw/traj_group0/traj<n>/obs_dict.pkl, policy_out.pkl, agent_data.pkl, lang.txt
                                images<i>/im_<t>.jpg
    out/bridge_data_raw/truth.zarr                `schemas.truth`, at the steps that have an action

Pickles hold numpy arrays and plain containers only. Images have the film's 256x256, not 640x480.
Bridge's defects are here: T observations have T - 1 actions; the second episode is of before
2021-07-23, when an action stood one step before the observation it was taken at; of the third, one
view is blank and nobody wrote a text.
"""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import zarr
from numpy.typing import NDArray

from robots.kinematics import ee_poses
from schemas.truth import TRUTH_STORE, TWIN_MARK
from simulation._store import write_truth
from simulation.bridge import (
    RATE,
    RIG,
    SIDE,
    BridgeEpisode,
    draw_episode,
    encode_episode,
    film_episode,
)
from simulation.film import Film

LAYOUT = "bridge_data_raw"
VIEWS = {"image_0": "images0", "image_1": "images1", "image_2": "images2"}
# Numbers of the episodes with a defect, and the view that is blank.
_LATE, _BLANK, _BLANK_VIEW = 1, 2, "image_2"
# "Data collected prior to 7-23 has a delay of 1" (bridge_data_v2, bridgedata_raw_to_numpy.py).
_DAY, _LATE_DAY = datetime(2022, 3, 1, 10), datetime(2021, 7, 22, 10)
_TOPICS = ("/D435/color/image_raw", "/blue/image_raw", "/yellow/image_raw")
_PROTOCOL = 4  # stated, as the default is another with every Python


def write_bridge_raw_twin(out: Path, episodes: int, seed: int) -> Path:
    """Make the twin under ``out``; the same episodes and seed give the same bytes.

    Returns:
        The folder that a converter opens: ``out/bridge_data_raw``.
    """
    root = out / LAYOUT
    root.mkdir(parents=True)
    zarr.open_group(root / TRUTH_STORE, mode="w")
    for index in range(episodes):
        episode = draw_episode(seed, index)
        write_episode(root, episode, film_episode(episode), seed, index)
    return root


def write_episode(
    root: Path, episode: BridgeEpisode, films: dict[str, Film], seed: int, index: int
) -> str:
    """One trajectory's folder and its truth; returns its id, as `converters` will name it."""
    rng = np.random.default_rng([seed, index, 7])
    late = index == _LATE
    start = _LATE_DAY - timedelta(days=seed) if late else _DAY + timedelta(days=seed)
    start += timedelta(minutes=3 * index)
    dated = f"bridge_data_v2/twin/{episode.folder}/{start:%Y-%m-%d_%H-%M-%S}"
    path = f"{dated}/raw/traj_group0/traj{index}"
    folder = root / path
    folder.mkdir(parents=True)
    steps = encode_episode(episode, films)["steps"]
    # The simulator's step that each observation shows; late ones begin with a stale one.
    shown = np.arange(len(steps))
    if late:
        shown = np.concatenate([[0], shown])
    actions = [step["action"].astype(np.float64) for step in steps[: len(shown) - 1]]
    blank = _BLANK_VIEW if index == _BLANK else None
    _write_pickle(folder / "obs_dict.pkl", _observations(episode, steps, shown, start, rng))
    _write_pickle(
        folder / "policy_out.pkl",
        [{"actions": action, "policy_type": "robo4d-twin script"} for action in actions],
    )
    _write_pickle(folder / "agent_data.pkl", {"traj_ok": True, "term_t": len(shown) - 1})
    for name, view in VIEWS.items():
        _write_images(folder / view, films[name], shown, blank=name == blank)
    if blank is None:
        (folder / "lang.txt").write_text(f"{episode.instruction}\nconfidence: 1.0\n")
    _write_collection(root / dated, episode, seed)
    # What a reader keeps: steps that have an action and an observation. Joints are in the log.
    kept = np.arange(len(steps) - 1)
    seen = {VIEWS[name]: film.showing(kept) for name, film in films.items() if name != blank}
    write_truth(root / TRUTH_STORE, f"bridge/{path}", seen)
    return f"bridge/{path}"


def _observations(
    episode: BridgeEpisode,
    steps: list[dict[str, Any]],
    shown: NDArray[np.int64],
    start: datetime,
    rng: np.random.Generator,
) -> dict[str, NDArray]:
    """``obs_dict``: RobotBaseEnv.current_obs of bridge_data_robot, stacked over time."""
    joints = episode.script.joints.astype(np.float64)
    state = np.stack([step["observation"]["state"] for step in steps]).astype(np.float64)
    clock = (start - datetime(1970, 1, 1)).total_seconds()
    time = clock + np.arange(len(shown)) / RATE + rng.uniform(0, 0.02, len(shown))
    return {
        "qpos": joints[shown],
        "qvel": np.gradient(joints, 1 / RATE, axis=0)[shown],
        "joint_effort": np.zeros((len(shown), joints.shape[1])),
        "full_state": state[shown],
        "state": state[shown],
        "desired_state": state[np.minimum(shown + 1, len(state) - 1)],
        "eef_transform": ee_poses(RIG.robot, joints)[shown],
        "time_stamp": time,
        "env_done": shown == len(steps) - 1,
        "t_get_obs": np.full(len(shown), 0.03),
    }


def _write_images(folder: Path, film: Film, shown: NDArray[np.int64], *, blank: bool) -> None:
    folder.mkdir()
    black = simplejpeg.encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8), quality=92)
    for t, step in enumerate(shown):
        (folder / f"im_{t}.jpg").write_bytes(black if blank else film.frames[step])


def _write_collection(folder: Path, episode: BridgeEpisode, seed: int) -> None:
    topics = [{"name": name, "flip": False} for name in _TOPICS]
    config = {
        "agent": {"T": len(episode.script.joints), "env": ["twin", {"camera_topics": topics}]}
    }
    metadata = {
        "environment": f"{TWIN_MARK}: simulated {episode.layout.furniture} (seed {seed}); not "
        "Bridge's data",
        "policy_desc": "scripted pick-and-place",
        "robot": "wx250s",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "collection_metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


def _write_pickle(file: Path, tree: Any) -> None:
    file.write_bytes(pickle.dumps(tree, protocol=_PROTOCOL))

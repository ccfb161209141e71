"""What LIBERO's own code makes of a rollout; run by LIBERO's interpreter, prints JSON.

``libero_judge.py FILE SUITE TASK``: reads the file with LIBERO's reader, acts the first demo out
again in an environment with LIBERO's own cameras, sets its stored states from its stored model.
"""

import json
import os
import sys

import h5py
import mujoco
import numpy as np
from robosuite.controllers.base_controller import Controller

update = Controller.update
from libero.libero import benchmark  # noqa: E402
from libero.libero.envs.env_wrapper import ControlEnv  # noqa: E402
from libero.libero.utils.dataset_utils import get_dataset_info  # noqa: E402

if tuple(map(int, mujoco.__version__.split(".")[:2])) < (3, 10):
    Controller.update = update  # see simulation/libero_worker/stage.py


def judge(path, suite_name, task):
    get_dataset_info(path)  # raises where LIBERO could not read the file
    suite = benchmark.get_benchmark_dict()[suite_name]()
    env = ControlEnv(
        bddl_file_name=suite.get_task_bddl_file_path(task),
        camera_heights=128,
        camera_widths=128,
        hard_reset=False,
    )
    told = {"reader": True}
    with h5py.File(path) as file:
        demo = file["data/demo_0"]
        actions, states = demo["actions"][()], demo["states"][()]
        start = json.loads(demo.attrs["robo4d_rollout"])["initial_state"]

        # From the published initial state, as LIBERO's evaluation begins.
        env.seed(start)
        env.reset()
        env.set_init_state(suite.get_task_init_states(task)[start])
        for _ in range(10):
            env.step([0.0] * 6 + [-1.0])
        told["first_state"] = float(np.abs(env.get_sim_state() - states[0]).max())
        worst = {}
        for i in range(3):
            obs = env.step(actions[i])[0]
            pairs = {
                "agentview_rgb": "agentview_image",
                "eye_in_hand_rgb": "robot0_eye_in_hand_image",
                "joint_states": "robot0_joint_pos",
                "gripper_states": "robot0_gripper_qpos",
                "ee_pos": "robot0_eef_pos",
            }
            for ours, theirs in pairs.items():
                gap = np.abs(demo["obs"][ours][i].astype(float) - obs[theirs]).max()
                worst[ours] = max(worst.get(ours, 0.0), float(gap))
        told["obs"] = worst

        # Cameras off: the rest is physics.
        for name in ("agentview_image", "robot0_eye_in_hand_image"):
            env.env.modify_observable(name, "enabled", False)
        for action in actions[3:]:
            env.step(action)
        told["played_back_success"] = bool(env.check_success())

        # Stored states in the stored model, which stands alone.
        model = mujoco.MjModel.from_xml_string(demo.attrs["model_file"])
        data = mujoco.MjData(model)
        told["model_state_size"] = 1 + model.nq + model.nv
        arm = [model.joint(f"robot0_joint{k}").qposadr[0] for k in range(1, 8)]
        joints = states[:, 1 + np.array(arm)]
        seen = demo["obs/joint_states"][()]
        told["joints_to_next_state"] = float(np.abs(seen[:-1] - joints[1:]).max())
        told["joints_to_own_state"] = float(np.abs(seen[:-1] - joints[:-1]).max())
        renderer = mujoco.Renderer(model, 128, 128, max_geom=2000)
        visible = mujoco.MjvOption()
        visible.geomgroup[0] = 0
        k = len(states) // 2
        data.qpos, data.qvel = states[k + 1][1 : 1 + model.nq], states[k + 1][1 + model.nq :]
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, "agentview", scene_option=visible)
        again = renderer.render()[::-1].astype(float)
        told["image_to_next_state"] = float(np.abs(again - demo["obs/agentview_rgb"][k]).mean())
        told["image_flipped"] = float(np.abs(again[::-1] - demo["obs/agentview_rgb"][k]).mean())
    return told


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)  # LIBERO prints as it pleases
    os.write(out, json.dumps(judge(sys.argv[1], sys.argv[2], int(sys.argv[3]))).encode())

"""Every field that a source publishes, and what becomes of it; ``docs/sources.md`` is made of this.

``python -m converters.fields > docs/sources.md`` writes the page; a test holds both together, and
holds the RLDS tables against the published features and against what the converters really touch.
Names are as published; ``*`` stands for any name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One published layout.

    Attributes:
        source, name: as `converters.open_source` knows them.
        module: where it is read.
        kept: published field -> what of an `Episode` it becomes.
        dropped: published field -> why nothing takes it.
        proof: the test that judges the reading by something other than ourselves.
    """

    source: str
    name: str
    module: str
    kept: Mapping[str, str]
    dropped: Mapping[str, str]
    proof: str


_FLAG = "follows from the number of steps"
_REWARD = "says again what the outcome says"
_EMBEDDING = "made from the instruction by a fixed model; whoever wants it can make it again"

_DROID_RLDS = Layout(
    "droid",
    "RLDS",
    "converters/droid.py",
    {
        "episode_metadata/file_path": "id, outcome, groups.lab; joins the annotations",
        "steps/action": "actions.action",
        "steps/action_dict/cartesian_position": "actions.cartesian_position",
        "steps/action_dict/cartesian_velocity": "actions.cartesian_velocity",
        "steps/action_dict/gripper_position": "actions.gripper_position",
        "steps/action_dict/gripper_velocity": "actions.gripper_velocity",
        "steps/action_dict/joint_position": "actions.joint_position",
        "steps/action_dict/joint_velocity": "actions.joint_velocity",
        "steps/language_instruction": "instructions",
        "steps/language_instruction_2": "instructions",
        "steps/language_instruction_3": "instructions",
        "steps/observation/cartesian_position": "robot.ee",
        "steps/observation/exterior_image_1_left": "cameras",
        "steps/observation/exterior_image_2_left": "cameras",
        "steps/observation/gripper_position": "robot.gripper, as 1 - position",
        "steps/observation/joint_position": "robot.joints",
        "steps/observation/wrist_image_left": "cameras",
    },
    {
        "episode_metadata/recording_folderpath": "the same folder as file_path's",
        "steps/discount": "always 1",
        "steps/is_first": _FLAG,
        "steps/is_last": _FLAG,
        "steps/is_terminal": _FLAG,
        "steps/reward": _REWARD,
    },
    "tests/converters/test_reference.py (TFDS), test_real.py, tests/robots/test_kinematics.py",
)

_DROID_RAW = Layout(
    "droid",
    "raw",
    "converters/droid_raw.py",
    {
        "metadata: uuid": "aliases; joins the annotations",
        "metadata: {wrist,ext1,ext2}_cam_serial": "cameras: which video and calibration is whose",
        "metadata: success": "a note where it contradicts the folder",
        "metadata: current_task": "instructions, where no annotation is given",
        "metadata: hdf5_path": "checked against the folder",
        "action/cartesian_position": "actions.cartesian_position",
        "action/cartesian_velocity": "actions.cartesian_velocity",
        "action/gripper_position": "actions.gripper_position",
        "action/gripper_velocity": "actions.gripper_velocity",
        "action/joint_position": "actions.joint_position",
        "action/joint_velocity": "actions.joint_velocity",
        "action/target_cartesian_position": "actions.target_cartesian_position",
        "action/target_gripper_position": "actions.target_gripper_position",
        "observation/robot_state/joint_positions": "robot.joints",
        "observation/robot_state/cartesian_position": "robot.ee",
        "observation/robot_state/gripper_position": "robot.gripper, as 1 - position",
        "observation/timestamp/robot_state/read_start": "time",
        "observation/timestamp/control/step_start": "time, where read_start is not there",
        "observation/timestamp/cameras/*_frame_received": "cameras: which frame is which step's",
        "observation/timestamp/skip_action": "a note",
        "observation/controller_info/movement_enabled": "a note, where skip_action is not there",
        "observation/camera_type/*": "checked against the metadata",
        "observation/camera_extrinsics/*": "starts for a solver (`start_poses`), never trusted",
        "observation/camera_intrinsics/*": "starts for a solver, likewise",
        "recordings/MP4/<serial>.mp4": "cameras",
        "recordings/MP4/<serial>_timestamps.json": "cameras: which frame is which step's",
        "recordings/MP4/<serial>-stereo.mp4": "cameras.right, where asked for; else a note",
        "annotations: episode_id_to_path.json": "joins uuid and path",
        "annotations: camera_serials.json": "joins cameras",
        "annotations: intrinsics.json": "cameras.calibration.K; all-zero is absent",
        "annotations: cam2base_extrinsics.json": "cameras.calibration.base_from_camera",
        "annotations: cam2base_extrinsic_superset.json": "likewise, where the former has none",
        "annotations: cam2cam_extrinsics.json": "starts for a solver (`read_relative_poses`)",
        "annotations: droid_language_annotations.json": "instructions",
        "annotations: keep_ranges_*.json": "keep; bounds the clip",
    },
    {
        "metadata: lab, user, user_id, date, timestamp, building, scene_id, robot_serial, "
        "r2d2_version, trajectory_length": "the id holds lab and time; persons are not kept",
        "metadata: {wrist,ext1,ext2}_cam_extrinsics": "the log's own first row again",
        "metadata: *_mp4_path, *_svo_path": "paths of a stranger are never followed",
        "action/robot_state/*": "the state again",
        "observation/robot_state/joint_velocities": "a difference of joint_positions",
        "observation/robot_state/joint_torques_*, motor_torques_measured": "no field for forces",
        "observation/robot_state/prev_*": "the controller's memory of the step before",
        "observation/controller_info/*": "but movement_enabled: buttons of the operator",
        "observation/timestamp/*": "but the above: stages of the same step",
        "observation/image": "frames are read from the recordings",
        "recordings/SVO": "needs the vendor's SDK",
    },
    "tests/converters/test_droid_raw.py, test_droid_calibration.py, test_wrong_join.py",
)

_BRIDGE_RLDS = Layout(
    "bridge",
    "RLDS",
    "converters/bridge.py",
    {
        "episode_metadata/file_path": "id, groups",
        "episode_metadata/episode_id": "id: the episode's number in that file",
        "steps/action": "actions.action",
        "steps/language_instruction": "instructions",
        "steps/observation/image_0": "cameras, where it is not blank",
        "steps/observation/image_1": "likewise",
        "steps/observation/image_2": "likewise",
        "steps/observation/image_3": "likewise",
        "steps/observation/state": "robot.ee, robot.gripper",
    },
    {
        **{
            f"episode_metadata/has_image_{n}": "false throughout, in real builds: the pixels decide"
            for n in range(4)
        },
        "episode_metadata/has_language": "the instruction itself says it",
        "steps/discount": "always 1",
        "steps/is_first": _FLAG,
        "steps/is_last": _FLAG,
        "steps/is_terminal": _FLAG,
        "steps/language_embedding": _EMBEDDING,
        "steps/reward": "no outcome in it: zero throughout in real builds",
    },
    "tests/converters/test_reference.py (TFDS), test_real.py, tests/robots/test_kinematics.py",
)

_BRIDGE_RAW = Layout(
    "bridge",
    "raw",
    "converters/bridge_raw.py",
    {
        "<date>_<time>/": "the one-step shift before 2021-07-23",
        "obs_dict.pkl: full_state": "robot.ee, robot.gripper",
        "obs_dict.pkl: state": "likewise, where full_state is not there",
        "obs_dict.pkl: qpos": "robot.joints, the first six",
        "obs_dict.pkl: time_stamp": "time",
        "policy_out.pkl: actions": "actions.action",
        "images*/im_*.jpg": "cameras, where they are not blank",
        "lang.txt": "instructions",
        "config.json: camera_topics": "notes: which camera is which",
        "collection_metadata.json: environment, policy_desc": "notes",
    },
    {
        "agent_data.pkl": "the collector's bookkeeping, with classes of ROS; never opened",
        "obs_dict.pkl: eef_transform, transform_pose, xyz": "the state again",
        "obs_dict.pkl: qvel, joint_effort": "no field for velocities and forces",
        "obs_dict.pkl: desired_state, high_bound, low_bound, env_done, t_get_obs, imu, mic": (
            "the collector's settings and clocks"
        ),
        "policy_out.pkl: others": "the teleoperator's device",
        "depth_images*": "no published scale; a note",
        "diagnostics.png": "a plot",
        "config.json: others": "the collector's settings",
    },
    "tests/converters/test_bridge_raw.py, test_pickle.py",
)

_RT1 = Layout(
    "rt1",
    "RLDS",
    "converters/rt1.py",
    {
        "aspects/already_success": "a note",
        "aspects/feasible": "a note, where it is false",
        "aspects/has_aspects": "outcome: unknown without",
        "aspects/success": "outcome",
        "aspects/undesirable": "a note",
        "attributes/env_name": "groups.scene",
        "attributes/location_name": "groups.scene",
        "attributes/task_family_name": "groups.task",
        "steps/action/base_displacement_vector": "actions; a note where the base moves",
        "steps/action/base_displacement_vertical_rotation": "likewise",
        "steps/action/gripper_closedness_action": "actions",
        "steps/action/rotation_delta": "actions",
        "steps/action/terminate_episode": "actions",
        "steps/action/world_vector": "actions",
        "steps/observation/base_pose_tool_reached": "robot.ee; joints are solved from it",
        "steps/observation/gripper_closed": "robot.gripper, as 1 - closed",
        "steps/observation/image": "cameras",
        "steps/observation/natural_language_instruction": "instructions, id",
    },
    {
        **{
            f"attributes/{name}": "the number of the name beside it"
            for name in (
                "collection_mode",
                "data_type",
                "env",
                "location",
                "objects_family",
                "task_family",
            )
        },
        "attributes/collection_mode_name": "how the collector drove; no field takes it",
        "attributes/data_type_name": "likewise",
        "attributes/objects_family_name": "likewise",
        "steps/is_first": _FLAG,
        "steps/is_last": _FLAG,
        "steps/is_terminal": _FLAG,
        "steps/observation/gripper_closedness_commanded": "the target behind the gripper's actions",
        "steps/observation/height_to_bottom": "the tool's height again, over another zero",
        "steps/observation/natural_language_embedding": _EMBEDDING,
        "steps/observation/orientation_box": "not a number in real records",
        "steps/observation/orientation_start": "the tool's first orientation again",
        "steps/observation/robot_orientation_positions_box": "nobody says what it holds",
        "steps/observation/rotation_delta_to_go": "to a target that the collector set afterwards",
        "steps/observation/src_rotation": "the tool's orientation again",
        "steps/observation/vector_to_go": "to a target that the collector set afterwards",
        "steps/observation/workspace_bounds": "nobody says in which frame",
        "steps/reward": _REWARD,
    },
    "tests/converters/test_rt1.py, tests/robots/test_google_robot.py",
)

_LIBERO_DEMO = Layout(
    "libero",
    "demo",
    "converters/libero_demo.py",
    {
        "<suite>/<task>_demo.hdf5": "id, groups",
        "data: problem_info": "instructions; groups.scene, where the task's name has none",
        "data: env_args": "fps, of control_freq",
        "data: bddl_file_name": "id: the suite; never opened",
        "data: robo4d_rollout": "rollouts of ours only: twin, notes",
        "demo_<i>: model_file": "the simulator: cameras with calibration and depth",
        "demo_<i>: robo4d_rollout": "rollouts of ours only: outcome, notes",
        "demo_<i>: num_samples": "checked against actions",
        "demo_<i>/actions": "actions.action",
        "demo_<i>/dones": "outcome",
        "demo_<i>/rewards": "outcome",
        "demo_<i>/states": "time, all of robot, and what the cameras see",
    },
    {
        "data: env_name, bddl_file_content, tag": "says again what model_file and problem_info say",
        "data: num_demos, total": "counted",
        "data: macros_image_convention": "frames are rendered, not read",
        "demo_<i>: init_state": "the state before the first kept one",
        "demo_<i>/obs/*_rgb": "small, upside down and of the step after; rendered from the states",
        "demo_<i>/obs/ee_*, gripper_states, joint_states": "of the step after; exact in the states",
        "demo_<i>/robot_states": "in the states",
    },
    "tests/converters/test_libero_simulator.py (LIBERO's own simulator)",
)

_LIBERO_RLDS = Layout(
    "libero",
    "RLDS",
    "converters/libero_rlds.py",
    {
        "episode_metadata/file_path": "id, groups",
        "steps/action": "actions.action, id",
        "steps/language_instruction": "instructions, id",
        "steps/observation/image": "cameras, columns reversed back",
        "steps/observation/joint_state": "robot.joints, id",
        "steps/observation/state": "robot.ee, moved to the base; robot.gripper, robot.fingers, id",
        "steps/observation/wrist_image": "cameras, columns reversed back",
        "steps/reward": "outcome: 1 at the end is a success",
    },
    {
        "steps/discount": "always 1",
        "steps/is_first": _FLAG,
        "steps/is_last": _FLAG,
        "steps/is_terminal": _FLAG,
    },
    "tests/converters/test_libero_rlds.py, test_libero_simulator.py (LIBERO's own simulator)",
)

LAYOUTS: tuple[Layout, ...] = (
    _DROID_RLDS,
    _DROID_RAW,
    _BRIDGE_RLDS,
    _BRIDGE_RAW,
    _RT1,
    _LIBERO_DEMO,
    _LIBERO_RLDS,
)


def page() -> str:
    """``docs/sources.md``."""
    lines = [
        "# What is read of each source",
        "",
        "Made by `python -m converters.fields`; names are as published. What an `Episode` is:",
        "`schemas/episode.py`. A field that a copy lacks is absent in the sample, which says so.",
        "",
        "| source | layout | read by | kept | dropped | judged by |",
        "|---|---|---|---:|---:|---|",
    ]
    lines += [
        f"| {at.source} | {at.name} | `{at.module}` | {len(at.kept)} | {len(at.dropped)} | "
        f"{at.proof} |"
        for at in LAYOUTS
    ]
    for at in LAYOUTS:
        lines += ["", f"## {at.source}, {at.name}", "", "| field | in the `Episode` |", "|---|---|"]
        lines += [f"| `{name}` | {where} |" for name, where in sorted(at.kept.items())]
        lines += ["", "| dropped | why |", "|---|---|"]
        lines += [f"| `{name}` | {why} |" for name, why in sorted(at.dropped.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")

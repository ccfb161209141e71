"""Takes of LIBERO's scenes, without the things that are held out, and with others beside them."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import cv2
import mujoco
import numpy as np

from robots.offscreen import OffscreenRenderer
from simulation.depth_scenes import HELD_OUT_THINGS
from simulation.depth_scenes.hand_work import hold_something, move_under, working_joints
from simulation.depth_scenes.libero_place import ground, has, table, workplace
from simulation.depth_scenes.surroundings import (
    Kind,
    add_surroundings,
    cover,
    draw_surroundings,
    find_walls,
    set_size,
)
from simulation.depth_scenes.take import (
    FRAMES,
    RENDERED,
    ROBOT_GROUP,
    TAKES,
    Take,
    draw_views,
    film_take,
)
from simulation.film import body_pose

_EXTRA = 7
_KINDS: tuple[Kind, ...] = ("native", "other", "bare")
_SHARES = (0.6, 0.18, 0.22)
# Things are thrown about on the table: half its size in m, and what they may be turned by.
_SPREAD = (0.3, 0.35)
_JOINT_SPREAD = np.array([0.5, 0.4, 0.3, 0.4, 0.4, 0.4, 0.9])
_DROPPED = ("actuator", "sensor", "contact", "equality", "tendon", "keyframe", "option", "size")


@dataclass(frozen=True, eq=False)  # hashed by identity, so that it can key a cache
class Bank:
    """What `libero_bank` wrote.

    Attributes:
        scenes: each {"name", "model", "placements"}.
        site: folder of installed packages that the models' files are in.
    """

    scenes: tuple[dict, ...]
    site: Path


@lru_cache(maxsize=1)
def open_bank(path: Path, site: Path) -> Bank:
    """Read a bank."""
    tree = json.loads(gzip.decompress(Path(path).read_bytes()))
    return Bank(tuple(tree["scenes"]), Path(site).resolve())


def film_libero(bank: Bank, scene: int, number: int, hand_work: float = 0.0) -> Iterator[Take]:
    """Takes of one look of a scene; ``number`` chooses colours, light, placements and cameras.

    Args:
        hand_work: share of the takes that are of a hand at work, from the camera on it.
    """
    rng = np.random.default_rng([7919, scene, number])
    model = copy.copy(compile_scene(bank, scene))
    model.vis.quality.offsamples = 0
    _repaint(model, rng)
    _relight(model, rng)
    kind = _KINDS[int(rng.choice(3, p=_SHARES))]
    site = ground(model)
    around = draw_surroundings(model, rng, site, kind)
    placements = bank.scenes[scene]["placements"]
    place = workplace(model, find_walls(model, site, around))
    with OffscreenRenderer(model, *RENDERED) as renderer:
        for _ in range(TAKES):
            start = placements[rng.integers(len(placements))]
            layout = _throw(model, start, rng)
            layout |= around
            working = hand_work > 0 and rng.uniform() < hand_work  # 0 draws nothing
            if working:
                layout |= move_under(around, table(model)[0], np.array(_SPREAD), rng)
            states = [_state(model, layout, start, rng, working) for _ in range(FRAMES)]
            hands = [body_pose(state, "robot0_right_hand") for state in states]
            views, K = draw_views(rng, place, hands, "hand" if working else None)
            take = film_take(renderer, place, states, views, K, rng)
            if take is not None:
                yield take


@lru_cache(maxsize=2)
def compile_scene(bank: Bank, scene: int) -> mujoco.MjModel:
    """A scene without what is held out, with strange things beside; kept, so not to be changed."""
    root = ElementTree.fromstring(bank.scenes[scene]["model"].replace("SITE", str(bank.site)))
    for tag in _DROPPED:
        for element in root.findall(tag):
            root.remove(element)
    world, assets = root.find("worldbody"), root.find("asset")
    assert world is not None
    assert assets is not None
    for body in list(world.findall("body")):
        if body.get("name", "").startswith(HELD_OUT_THINGS):
            world.remove(body)
    _keep_used(world, assets)
    for k in range(_EXTRA):
        _add_extra(world, assets, k)
    for visual in root.iter("quality"):
        visual.set("shadowsize", "1024")
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    add_surroundings(spec)
    model = spec.compile()
    # As of twins. LIBERO's are shares of the scene's extent: what waits far below makes it large.
    model.vis.map.znear, model.vis.map.zfar = np.array([0.01, 20.0]) / model.stat.extent
    for geom in np.flatnonzero(model.geom_group == 1):
        # Not the pedestal, which no robot model of `robots` has.
        if model.body(model.geom_bodyid[geom]).name.startswith(("robot0_", "gripper0_")):
            model.geom_group[geom] = ROBOT_GROUP
    return model


def _keep_used(world: ElementTree.Element, assets: ElementTree.Element) -> None:
    """Without meshes, materials and textures that no geom shows."""
    used = {(tag, e.get(tag)) for e in world.iter() for tag in ("mesh", "material") if e.get(tag)}
    for kind in ("mesh", "material"):
        for element in assets.findall(kind):
            if (kind, element.get("name")) not in used:
                assets.remove(element)
    textures = {material.get("texture") for material in assets.findall("material")}
    for element in assets.findall("texture"):
        if element.get("type") != "skybox" and element.get("name") not in textures:
            assets.remove(element)


def _add_extra(world: ElementTree.Element, assets: ElementTree.Element, k: int) -> None:
    """A thing of random shape, which is given its pose and colour later."""
    rng = np.random.default_rng([104729, k])
    shape = ("box", "cylinder", "box", "ellipsoid", "capsule", "box", "cylinder")[k % 7]
    half = rng.uniform(0.015, 0.06, 3)
    if shape == "capsule":
        half[0] = min(half[0], 0.03)
    ElementTree.SubElement(
        assets,
        "texture",
        name=f"extra{k}",
        type="cube",
        builtin="flat",
        width="128",
        height="768",
        rgb1="0.5 0.5 0.5",
    )
    ElementTree.SubElement(assets, "material", name=f"extra{k}", texture=f"extra{k}")
    body = ElementTree.SubElement(world, "body", name=f"extra{k}", mocap="true")
    ElementTree.SubElement(
        body,
        "geom",
        name=f"extra{k}",
        type=shape,
        size=" ".join(f"{x:.4f}" for x in half),
        group="1",
        material=f"extra{k}",
        contype="0",
        conaffinity="0",
    )


def _repaint(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Other colours and patterns, on most surfaces."""
    for k in range(model.ntex):
        name = model.texture(k).name
        height, width, channels = model.tex_height[k], model.tex_width[k], model.tex_nchannel[k]
        first = model.tex_adr[k]
        texels = model.tex_data[first : first + height * width * channels]
        texels = texels.reshape(height, width, channels)
        if name.startswith("around_"):
            continue
        extra = name.startswith("extra")
        if extra or rng.uniform() < 0.3:
            texels[..., :3] = cover(rng, height, width)
        elif rng.uniform() < 0.7:
            gain, level = rng.uniform(0.5, 1.4, 3), rng.uniform(-40, 40)
            order = rng.permutation(3) if rng.uniform() < 0.4 else np.arange(3)
            texels[..., :3] = np.clip(texels[..., order] * gain + level, 0, 255)
    for k in range(_EXTRA):
        geom = model.geom(f"extra{k}").id
        set_size(model, geom, model.geom_size[geom] * rng.uniform(0.6, 1.5))
    model.mat_specular[:] = rng.uniform(0, 0.8, model.nmat)
    model.mat_reflectance[:] = 0


def _relight(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    model.vis.headlight.ambient[:] = rng.uniform(0.05, 0.4)
    model.vis.headlight.diffuse[:] = rng.uniform(0.1, 0.6)
    model.light_diffuse[:] *= rng.uniform(0.3, 1.3, (model.nlight, 1)) * rng.uniform(
        0.85, 1.0, (model.nlight, 3)
    )
    turn, _ = cv2.Rodrigues(rng.normal(0, 0.4, 3))
    model.light_dir[:] = model.light_dir @ turn.T
    if model.nlight and rng.uniform() < 0.4:
        model.light_castshadow[rng.integers(model.nlight)] = 1


def _throw(model: mujoco.MjModel, start: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Where loose things lie: some as LIBERO puts them, some anywhere, some away."""
    centre, top = table(model)
    out: dict[str, np.ndarray] = {}
    for name, values in start.items():
        if len(values) != 7 or not has(model, mujoco.mjtObj.mjOBJ_JOINT, name):
            continue
        pose = np.array(values)
        chance = rng.uniform()
        if chance < 0.55:
            pose[:2] = centre + rng.uniform(-1, 1, 2) * _SPREAD
            pose[3:] = _turned(pose[3:], rng.uniform(-np.pi, np.pi))
        elif chance < 0.65:
            pose[2] = -5.0
        out[name] = pose
    for k in range(_EXTRA):
        pose = np.zeros(7)
        half = model.geom_size[model.geom(f"extra{k}").id]
        shown = rng.uniform() < 0.6
        pose[:2] = centre + rng.uniform(-1, 1, 2) * _SPREAD
        pose[2] = top + half.max() * rng.uniform(0.5, 1.1) if shown else -5.0
        tilt, _ = cv2.Rodrigues(rng.normal(0, 0.1 if rng.uniform() < 0.7 else 1.5, 3))
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, tilt.ravel())
        pose[3:] = _turned(quat, rng.uniform(-np.pi, np.pi))
        out[f"extra{k}"] = pose
    return out


def _state(
    model: mujoco.MjModel,
    layout: dict[str, np.ndarray],
    start: dict,
    rng: np.random.Generator,
    working: bool,
) -> mujoco.MjData:
    """The scene with the robot somewhere, and one thing perhaps moved or lifted.

    Args:
        working: whether the hand points down, and perhaps holds a thing.
    """
    data = mujoco.MjData(model)
    loose = [name for name in layout if not name.startswith("around_")]
    carried = str(rng.choice(loose)) if rng.uniform() < 0.6 else ""
    for name, pose in layout.items():
        pose = pose.copy()
        if name == carried:
            pose[:3] += rng.uniform([-0.1, -0.1, 0.0], [0.1, 0.1, 0.2])
        _put(model, data, name, pose)
    _, top = table(model)
    for name, values in start.items():
        if len(values) == 1 and has(model, mujoco.mjtObj.mjOBJ_JOINT, name):
            low, high = model.joint(name).range
            free = not name.startswith("robot0") and rng.uniform() < 0.3
            # Drawers and doors open and close.
            data.joint(name).qpos[:] = rng.uniform(low, high) if free else values
    opening = rng.uniform(0, 0.04)
    data.joint("gripper0_finger_joint1").qpos[:] = opening
    data.joint("gripper0_finger_joint2").qpos[:] = -opening
    rest = np.concatenate([start[f"robot0_joint{j}"] for j in range(1, 8)])
    for _ in range(20):
        joints = working_joints(rng, rest) if working else rest + rng.normal(0, _JOINT_SPREAD)
        for j, value in enumerate(joints):
            joint = model.joint(f"robot0_joint{j + 1}")
            data.joint(joint.id).qpos[:] = np.clip(value, *joint.range)
        mujoco.mj_kinematics(model, data)
        hand = body_pose(data, "robot0_right_hand")
        if (hand @ [0, 0, 0.1, 1])[2] > top and hand[2, 3] > top + 0.03:
            break
    if working:
        for name, pose in hold_something(model, layout, hand, rng).items():
            _put(model, data, name, pose)
        mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    return data


def _put(model: mujoco.MjModel, data: mujoco.MjData, name: str, pose: np.ndarray) -> None:
    if name.startswith(("extra", "around_")):
        mocap = model.body(name).mocapid[0]
        data.mocap_pos[mocap], data.mocap_quat[mocap] = pose[:3], pose[3:]
    else:
        data.joint(name).qpos[:] = pose


def _turned(quat: np.ndarray, yaw: float) -> np.ndarray:
    out = np.empty(4)
    mujoco.mju_mulQuat(out, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]), np.asarray(quat))
    return out

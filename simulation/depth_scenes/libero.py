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
from simulation.depth_scenes.hand_work import move_under
from simulation.depth_scenes.libero_place import ground, table, workplace
from simulation.depth_scenes.libero_state import EXTRA, SPREAD, draw_state, throw_things
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

_KINDS: tuple[Kind, ...] = ("native", "other", "bare")
_SHARES = (0.6, 0.18, 0.22)
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
        hand_work: share of the takes that are of a hand at work, from the camera on it. What
            that holds, if anything, each frame draws anew.
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
            layout = throw_things(model, start, rng)
            layout |= around
            working = hand_work > 0 and rng.uniform() < hand_work  # 0 draws nothing
            if working:
                layout |= move_under(around, table(model)[0], SPREAD, rng)
            states = [draw_state(model, layout, start, rng, working) for _ in range(FRAMES)]
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
    for k in range(EXTRA):
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
    for k in range(EXTRA):
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

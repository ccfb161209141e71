"""Takes of twins' scenes: drawn as an episode's, filmed at moments of its script."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np

from robots.offscreen import OffscreenRenderer
from simulation import bridge, droid, libero_rlds, rt1
from simulation._geoms import SCENE_GROUP
from simulation.depth_scenes import FIRST_SEED
from simulation.depth_scenes.surroundings import (
    Ground,
    Kind,
    add_surroundings,
    draw_surroundings,
    find_walls,
)
from simulation.depth_scenes.take import (
    FRAMES,
    RENDERED,
    ROBOT_GROUP,
    TAKES,
    Take,
    Workplace,
    draw_views,
    film_take,
    held_lens,
)
from simulation.film import body_pose, play_script
from simulation.layout import Layout
from simulation.scene import build_scene

KINDS: tuple[Kind, ...] = ("native", "other", "bare")
SHARES = (0.6, 0.22, 0.18)
# Of `simulation.furniture`: the room with what hangs on its walls, and what a robot works on.
_ROOM = ("floor", "wall_", "front_", "left_", "back_", "right_")
_TABLES = ("table", "leg_", "desk", "stand", "counter", "doors", "splash")

SOURCES = {"droid": droid, "bridge": bridge, "rt1": rt1, "libero": libero_rlds}


def film_twin(source: str, number: int) -> Iterator[Take]:
    """Takes of one scene of a source's twin; ``number`` is the scene."""
    module = SOURCES[source]
    rng = np.random.default_rng([FIRST_SEED, number])
    episode = module.draw_episode(FIRST_SEED + number // 1000, number % 1000)
    layout: Layout = episode.layout
    robot = module.RIG.robot
    model = build_scene(layout, robot, add_surroundings)
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] *= rng.uniform() < 0.6
    model.vis.headlight.ambient[:] *= rng.uniform(0.6, 1.5)
    model.light_diffuse[:] *= rng.uniform(0.4, 1.6, (model.nlight, 1))
    kind = KINDS[int(rng.choice(3, p=SHARES))]
    ground = ground_of(model, layout)
    around = draw_surroundings(model, rng, ground, kind)
    states = play_script(model, episode.script, robot)
    for state in states:
        for name, pose in around.items():
            mocap = model.body(name).mocapid[0]
            state.mocap_pos[mocap], state.mocap_quat[mocap] = pose[:3], pose[3:]
        mujoco.mj_kinematics(model, state)
    place = workplace_of(layout, find_walls(model, ground, around))
    part_robot(model, robot.visual_group)
    with OffscreenRenderer(model, *RENDERED) as renderer:
        for _ in range(TAKES):
            chosen = [states[t] for t in rng.integers(0, len(states), FRAMES)]
            hands = [body_pose(state, robot.ee_body) @ robot.body_from_ee for state in chosen]
            views, K = draw_views(rng, place, hands)
            take = film_take(renderer, place, chosen, views, K, rng)
            if take is not None:
                yield take


def ground_of(model: mujoco.MjModel, layout: Layout) -> Ground:
    """Where things stand in a twin's scene."""
    (x0, y0), (x1, y1) = layout.room
    room, table = [], []
    for geom in np.flatnonzero(model.geom_group == SCENE_GROUP):
        name = model.geom(geom).name
        if name.startswith(_ROOM):
            room.append(geom)
        elif name.startswith(_TABLES):
            table.append(geom)
    floor = model.geom("floor").id
    cameras = [c.mount[:2, 3] for c in layout.cameras.values() if not c.on_wrist]
    return Ground(
        centre=np.array([(x0 + x1) / 2, (y0 + y1) / 2]),
        table=layout.table,
        floor=float(model.geom_pos[floor, 2] + model.geom_size[floor, 2]),
        own=np.array(room, int),
        own_table=np.array(table, int),
        inside=np.array([np.zeros(2), *cameras]),
    )


def part_robot(model: mujoco.MjModel, group: int) -> None:
    """Its visual geoms to a group of their own: some robots share the scene's."""
    body = model.geom_bodyid
    loose = model.body_mocapid[body] >= 0
    model.geom_group[(model.geom_group == group) & (body > 0) & ~loose] = ROBOT_GROUP


def workplace_of(layout: Layout, walls: np.ndarray) -> Workplace:
    """Where cameras look in a twin's scene; ``walls`` (N, 3) as of `find_walls`."""
    (x0, y0), (x1, y1) = layout.room
    cameras = layout.cameras.values()
    own = [(c.mount, held_lens(c.K, layout.size), c.on_wrist) for c in cameras]
    return Workplace(
        world_from_base=np.eye(4),
        groups=(SCENE_GROUP,),
        low=np.array([x0 - 0.15, y0, layout.table]),
        high=np.array([x1, y1, layout.table + 0.3]),
        room=(np.array([-0.7, -0.95, layout.table + 0.05]), np.array([1.6, 0.95, 1.7])),
        own=tuple((mount, lens) for mount, lens, hand in own if not hand),
        own_hand=tuple((mount, lens) for mount, lens, hand in own if hand),
        walls=walls,
    )

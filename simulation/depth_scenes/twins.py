"""Takes of twins' scenes: drawn as an episode's, filmed at moments of its script."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robots.offscreen import OffscreenRenderer
from simulation import bridge, droid, libero_rlds, rt1
from simulation._geoms import SCENE_GROUP
from simulation.depth_scenes import FIRST_SEED
from simulation.depth_scenes.take import (
    FRAMES,
    RENDERED,
    TAKES,
    Take,
    Workplace,
    draw_views,
    film_take,
)
from simulation.film import body_pose, play_script
from simulation.layout import Layout
from simulation.scene import build_scene

SOURCES = {"droid": droid, "bridge": bridge, "rt1": rt1, "libero": libero_rlds}


def film_twin(source: str, number: int) -> Iterator[Take]:
    """Takes of one scene of a source's twin; ``number`` is the scene."""
    module = SOURCES[source]
    rng = np.random.default_rng([FIRST_SEED, number])
    episode = module.draw_episode(FIRST_SEED + number // 1000, number % 1000)
    layout: Layout = episode.layout
    robot = module.RIG.robot
    model = build_scene(layout, robot)
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] *= rng.uniform() < 0.6
    model.vis.headlight.ambient[:] *= rng.uniform(0.6, 1.5)
    model.light_diffuse[:] *= rng.uniform(0.4, 1.6, (model.nlight, 1))
    states = play_script(model, episode.script, robot)
    place = _workplace(layout)
    with OffscreenRenderer(model, *RENDERED, (robot.visual_group, SCENE_GROUP)) as renderer:
        for _ in range(TAKES):
            chosen = [states[t] for t in rng.integers(0, len(states), FRAMES)]
            hands = [body_pose(state, robot.ee_body) @ robot.body_from_ee for state in chosen]
            views, K = draw_views(rng, place, hands)
            take = film_take(renderer, chosen, views, K, rng)
            if take is not None:
                yield take


def _workplace(layout: Layout) -> Workplace:
    (x0, y0), (x1, y1) = layout.room
    cameras = layout.cameras.values()
    own = [(c.mount, c.K / layout.size[1], c.on_wrist) for c in cameras]
    return Workplace(
        low=np.array([x0 - 0.15, y0, layout.table]),
        high=np.array([x1, y1, layout.table + 0.3]),
        room=(np.array([-0.7, -0.95, layout.table + 0.05]), np.array([1.6, 0.95, 1.7])),
        own=tuple((mount, lens) for mount, lens, hand in own if not hand),
        own_hand=tuple((mount, lens) for mount, lens, hand in own if hand),
    )

"""Draws a scene and a motion that fit together: what every twin's episode begins with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulation.layout import Camera, Furniture, Layout, Workspace, draw_layout
from simulation.rig import Rig
from simulation.script import Plan, Script, draw_plan, write_script

_ATTEMPTS = 200


def draw_scripted(
    seed: int,
    index: int,
    rig: Rig,
    space: Workspace,
    furniture: Furniture,
    size: tuple[int, int],
    draw_cameras: Callable[[np.random.Generator, float], dict[str, Camera]],
    covered: Callable[[Layout, Script], bool],
) -> tuple[Layout, Plan, Script]:
    """Scene and motion of episode ``index``: every third fails, by a miss and a drop in turn.

    Scenes in which the arm cannot follow its script, or which the cameras do not cover, are drawn
    anew.

    Args:
        draw_cameras, size: as `draw_layout` takes them.
        covered: whether the views show what they must.
    """
    plan = draw_plan(seed, index)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, index, attempt])
        layout = draw_layout(rng, space, furniture, size, draw_cameras)
        script = write_script(layout, plan, rng, rig)
        if script is not None and covered(layout, script):
            return layout, plan, script
    raise RuntimeError(
        f"no scene for episode {index} of seed {seed} in {_ATTEMPTS} attempts: the {rig.robot_name}"
        " cannot work in what is drawn for it"
    )

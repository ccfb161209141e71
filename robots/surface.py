"""Points on a robot's visual meshes, fixed to its links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from robots.models import ROBOTS
from robots.triangles import geom_corners

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class SurfacePoints:
    """Points spread evenly over the surface.

    Attributes:
        link: (N,) index into the robot's ``link_names``.
        point: (N, 3) m in that link's frame.
        normal: (N, 3) unit, outward, in that link's frame.
        area: m^2 of the whole surface, its hidden parts too; ``area / N`` is a point's share.
    """

    link: NDArray[np.int64]
    point: Floats
    normal: Floats
    area: float

    def placed(self, base_from_link: Floats) -> Floats:
        """(T, N, 3) m in the base frame, of link poses (T, L, 4, 4)."""
        poses = base_from_link[:, self.link]
        return np.einsum("tnij,nj->tni", poses[..., :3, :3], self.point) + poses[..., :3, 3]

    def facing(self, base_from_link: Floats) -> Floats:
        """(T, N, 3) unit normals in the base frame, of link poses (T, L, 4, 4)."""
        return np.einsum("tnij,nj->tni", base_from_link[:, self.link, :3, :3], self.normal)


@lru_cache(maxsize=8)
def surface_points(robot_name: str, count: int) -> SurfacePoints:
    """``count`` points drawn evenly by area; always the same ones."""
    robot = ROBOTS[robot_name]
    model = robot.compile()
    triangles, links = [], []
    for geom in np.flatnonzero(model.geom_group == robot.visual_group):
        if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        triangles.append(geom_corners(model, int(geom)))
        links.append(np.full(len(triangles[-1]), model.geom_bodyid[geom] - 1))
    corners, link = np.concatenate(triangles), np.concatenate(links).astype(np.int64)
    sides = corners[:, 1:] - corners[:, :1]
    across = np.cross(sides[:, 0], sides[:, 1])
    area = np.linalg.norm(across, axis=1) / 2
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(area), count, p=area / area.sum())
    share = rng.uniform(size=(count, 2))
    share = np.where(share.sum(1, keepdims=True) > 1, 1 - share, share)
    point = corners[drawn, 0] + np.einsum("nk,nkc->nc", share, sides[drawn])
    normal = across[drawn] / (2 * area[drawn, None])
    return SurfacePoints(link[drawn], point, normal, float(area.sum()))

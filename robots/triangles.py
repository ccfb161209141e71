"""A robot's visual surface as few triangles, fixed to its links."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import fast_simplification
import mujoco
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import matrix_from_quaternion
from robots.models import ROBOTS

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
# Corners nearer than this are one: a link's meshes are cut at borders of colour, and MuJoCo moves
# each into a frame of its own and back.
_WELD = 2e-6  # m
# fast_simplification merges while the sum of squared distances from the planes that met there is
# at most 1e-9 (i + 3)^agg in its hundred rounds i: at aggressiveness 4, up to 0.11 of its units
# squared. Of 1.4 mm that keeps 99.9 % of every robot's surface within 0.3 mm (single corners of the
# Panda's foot and the Google robot's wrist move by 1.1 and 1.5), and a third of the Panda's faces.
_UNIT, _AGGRESSIVENESS = 1.4e-3, 4.0  # m
_LEAST_AREA = 1e-14  # m^2; less has no direction


@dataclass(frozen=True)
class RobotTriangles:
    """Triangles of all links; corners run anticlockwise as seen from outside.

    Attributes:
        vertex: (V, 3) m in the frame of its link.
        vertex_link: (V,) index into the robot's ``link_names``.
        corner: (F, 3) indices into ``vertex``.
        link: (F,) index into ``link_names``.
        normal: (F, 3) unit, outward, in the link's frame.
    """

    vertex: Floats
    vertex_link: Ints
    corner: Ints
    link: Ints
    normal: Floats


def geom_corners(model: mujoco.MjModel, geom: int) -> Floats:
    """(F, 3, 3) m in the body's frame: corners of a mesh's or a box's triangles.

    Raises:
        NotImplementedError: another type of geom.
    """
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        faces = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    elif kind == mujoco.mjtGeom.mjGEOM_BOX:
        vertices = np.array(list(itertools.product((-1, 1), repeat=3))) * model.geom_size[geom]
        sides = np.array([[0, 1, 3, 2], [0, 4, 5, 1], [0, 2, 6, 4]])
        sides = np.concatenate([sides, 7 - sides[:, ::-1]])
        faces = np.concatenate([sides[:, :3], sides[:, [0, 2, 3]]])
    else:
        raise NotImplementedError(f"geom {geom} of body {model.geom_bodyid[geom]} has type {kind}")
    turn = matrix_from_quaternion(model.geom_quat[geom])
    return np.asarray((vertices @ turn.T + model.geom_pos[geom])[faces])


@lru_cache(maxsize=8)
def robot_triangles(robot_name: str, thinned: bool = True) -> RobotTriangles:
    """The robot's visual geoms, welded and, if so, thinned out."""
    robot = ROBOTS[robot_name]
    model = robot.compile()
    shown = np.flatnonzero(model.geom_group == robot.visual_group)
    vertices, vertex_links, corners, links, count = [], [], [], [], 0
    for body in np.unique(model.geom_bodyid[shown]):
        geoms = shown[model.geom_bodyid[shown] == body]
        whole = np.concatenate([geom_corners(model, int(geom)) for geom in geoms])
        vertex, corner = _welded(whole)
        if thinned:
            vertex, corner = _thinned(vertex, corner)
        vertices.append(vertex)
        vertex_links.append(np.full(len(vertex), body - 1, np.int64))
        corners.append(corner + count)
        links.append(np.full(len(corner), body - 1, np.int64))
        count += len(vertex)
    vertex, corner = np.concatenate(vertices), np.concatenate(corners)
    sides = vertex[corner[:, 1:]] - vertex[corner[:, :1]]
    across = np.cross(sides[:, 0], sides[:, 1])
    size = np.linalg.norm(across, axis=1)
    kept = size > 2 * _LEAST_AREA
    return RobotTriangles(
        vertex=vertex,
        vertex_link=np.concatenate(vertex_links),
        corner=corner[kept],
        link=np.concatenate(links)[kept],
        normal=across[kept] / size[kept, None],
    )


def _welded(corners: Floats) -> tuple[Floats, Ints]:
    """Vertices (V, 3) and their indices (F, 3), of corners (F, 3, 3)."""
    points = corners.reshape(-1, 3)
    cells = np.round(points / _WELD).astype(np.int64)
    _, first, index = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = index.reshape(-1, 3)
    proper = (faces != np.roll(faces, 1, axis=1)).all(1)
    return points[first], faces[proper]


def _thinned(vertex: Floats, corner: Ints) -> tuple[Floats, Ints]:
    """The same surface of fewer triangles; its open borders stay as they are."""
    points, faces = fast_simplification.simplify(
        vertex / _UNIT,
        corner.astype(np.int32),
        target_count=1,  # as few as the distance allows
        agg=_AGGRESSIVENESS,
        preserve_border=True,
    )
    return points * _UNIT, faces.astype(np.int64)

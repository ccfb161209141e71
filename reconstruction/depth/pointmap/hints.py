"""What a solved camera tells the network of its pictures: the robot's depth, and its base's plane.

Maps of half the pictures' size, five of them: whether the robot is known there, the logarithm of
its depth (m); whether the plane z = 0 of the base is seen, the logarithm of its depth; and how much
the pixel's ray of depth 1 climbs, which tells up from down above the horizon too. Tables and floors
that robots work on lie near that plane, or parallel to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHANNELS = 5
# Of pictures, what one pixel of the maps stands for.
STRIDE = 2
# m; where the plane is farther it is as good as not there.
_FARTHEST = 10.0
_NEAREST = 0.05


def robot_hints(
    robot_depth: Tensor, base_from_camera: Tensor, K: Tensor, posed: Tensor, size: tuple[int, int]
) -> Tensor:
    """Maps (B, 5, H / 2, W / 2), all 0 where nothing is known.

    Args:
        robot_depth: (B, H / 2, W / 2) m, 0 where the robot is not, or is not to be told.
        base_from_camera: (B, 4, 4).
        K: (B, 3, 3) pixels of pictures of ``size``.
        posed: (B,) bool, whether base_from_camera is known.
        size: (H, W) of the pictures.
    """
    height, width = size[0] // STRIDE, size[1] // STRIDE
    y = (torch.arange(height, device=K.device) + 0.5) * STRIDE
    x = (torch.arange(width, device=K.device) + 0.5) * STRIDE
    v, u = torch.meshgrid(y, x, indexing="ij")
    rays = torch.stack(
        [
            (u - K[:, None, None, 0, 2]) / K[:, None, None, 0, 0],
            (v - K[:, None, None, 1, 2]) / K[:, None, None, 1, 1],
            torch.ones(len(K), height, width, device=K.device),
        ],
        -1,
    )
    told = posed[:, None, None]
    # No matrix product, which autocast would round to half precision.
    climb = (rays * base_from_camera[:, None, None, 2, :3]).sum(-1)
    # The ray meets z = 0 where its start's height and its climb have opposite signs.
    plane = -base_from_camera[:, 2, 3, None, None] / torch.where(climb == 0, torch.inf, climb)
    seen = told & (plane > _NEAREST) & (plane < _FARTHEST)
    there = robot_depth > 0
    return torch.stack(
        [
            there.float(),
            torch.where(there, robot_depth, 1.0).log(),
            seen.float(),
            torch.where(seen, plane, 1.0).log(),
            torch.where(told, climb.clamp(-2, 2), 0.0),
        ],
        1,
    )

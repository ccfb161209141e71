"""Masks of the visible robot, drawn by hand on real DROID frames: truth for a robot-camera solver.

``masks/droid.json`` holds 36: the six episodes of the team's DROID sample, both exterior cameras,
three steps each, all with step % 5 == 2, which a solver that is to be judged must not use.

How they were drawn: by looking at frames enlarged 5 to 14 times (cubic) under a grid of pixel
coordinates, dark places also brightened; vertices were written down, drawn over the frame, looked
at and corrected. No robot model, no solved camera and no segmenter took part; other frames of the
same view were looked at to tell the robot from what stands behind it. The frames are not here.

Robot is what is seen of the Panda, its base included, and of the Robotiq gripper. Not robot: table
and mount, cameras with their plates and holders, objects held or in front, and loose cables across
the arm (holes) wherever they are about 2 px wide or wider and can be told from the arm. Straps
wound tightly round the arm and cables tied along it where no edge shows count as arm.

Known uncertainty: edges are about 1 px off where the contrast is good. Worse, by some pixels: black
gripper or black rims before black things (episodes 3 and 6, and fingers in 0 and 5), the rear of
the base in the second view of episode 0, frames blurred by motion. Each mask's note says so. Three
frames drawn a second time, from other enlargements, agree with the first drawing to an IoU of 0.98
(episode 4, second camera, step 87), 0.96 (199, second, 22) and 0.95 (6, first, 12, arm and hand).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("masks") / "droid.json"
Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class HandMask:
    """The robot in one frame.

    Attributes:
        episode: id of the episode.
        file: record file, beside ``features.json``; ``record`` counts within it.
        camera: name of the camera stream.
        step: the episode's step, as `CameraStream.decode` takes it.
        height: of the frame, pixels; ``width`` likewise.
        polygons: (n,2) vertices x, y in pixels, pixel centres at +0.5; the robot is their union...
        holes: ... less these.
        note: what is left out or uncertain.
    """

    episode: str
    file: str
    record: int
    camera: str
    step: int
    height: int
    width: int
    polygons: tuple[Polygon, ...]
    holes: tuple[Polygon, ...]
    note: str

    def mask(self) -> NDArray[np.bool_]:
        """(height, width), true where a pixel's centre is on the robot."""
        robot = np.zeros((self.height, self.width), bool)
        for polygon in self.polygons:
            robot |= inside(polygon, self.height, self.width)
        for polygon in self.holes:
            robot &= ~inside(polygon, self.height, self.width)
        return robot


def load(path: Path = FILE) -> list[HandMask]:
    """Every mask of a file, in its order."""
    rows = json.loads(path.read_text())
    return [
        HandMask(
            **{
                **row,
                "polygons": tuple(np.array(polygon, float) for polygon in row["polygons"]),
                "holes": tuple(np.array(polygon, float) for polygon in row["holes"]),
            }
        )
        for row in rows
    ]


def inside(polygon: Polygon, height: int, width: int) -> NDArray[np.bool_]:
    """(height, width), true where a pixel's centre lies in a polygon (even-odd rule).

    Args:
        polygon: (n,2) vertices x, y in pixels; closed from the last to the first.
    """
    x = np.arange(width) + 0.5
    y = np.arange(height) + 0.5
    odd = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        rows = (y0 > y) != (y1 > y)
        crossing = x0 + (y[rows] - y0) * (x1 - x0) / (y1 - y0)
        odd[rows] ^= x < crossing[:, None]
    return odd

"""Masks of the visible robot, drawn by hand on real DROID frames: truth for a robot-camera solver.

``masks/droid.json`` holds 36: the six episodes of the team's DROID sample, both exterior cameras,
three steps each, all with step % 5 == 2, which a solver that is to be judged must not use.

How they were drawn: by looking at frames enlarged 5 to 14 times (cubic) under a grid of pixel
coordinates, dark places also brightened; vertices were written down, drawn over the frame, looked
at and corrected. No robot model in any pose, no solved camera and no segmenter took part; other
frames of the same view were looked at, and subtracted, to tell the robot from what stands behind.

Robot is what is seen of the Panda, its base included, and of the Robotiq gripper. The pale box with
a dark window on the flange is the Panda's pilot grip, which the description has in link 7 (seen in
its mesh alone): robot. Not robot: table and mount, cameras with their plates and holders, objects
held or in front, and cables across the arm (holes) about 2 px wide or wider. Straps wound tightly
round the arm count as arm.

Known uncertainty: edges are about 1 px off where the contrast is good. Worse, by some pixels: black
gripper or rims before black things, arm before a floor or curtain of its own brightness, fingers
round what they hold; each mask's note says where. 14 of these frames were drawn twice,
independently: intersection over union is 0.885 on average (0.776 to 0.953). Without the places
where the drawings are more than 4 px apart (the other left out the pilot grip and the foot of a
base, and took some background for arm) it is 0.936 (0.904 to 0.955): above about 0.94 these masks
cannot tell a good camera from a perfect one. That the pale shape at the lower left of episode 5's
second view is the foot of the base is a judgement.
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

"""A small sketch of an episode, by which `pipeline.duplicates` finds it again under another id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from robo4d.geometry import Floats
from schemas.episode import Episode
from schemas.manifest import EpisodeSketch

POINTS = 16
# The path is sampled between leaving its start by this much (m) and coming this near its end, so
# that copies with more or less idling at either end give the same points. Ten times the noise of 1
# mm, at which a threshold on speed would call a resting arm moving.
_AWAY = 0.02
# Levels of gray. A view as flat as this says nothing, and its hash would be JPEG noise.
_FLAT = 4


def sketch_episode(
    episode: Episode, ee: Floats, first_frames: Mapping[str, NDArray[np.uint8]]
) -> EpisodeSketch:
    """Sketch an episode.

    Args:
        ee: (T, 4, 4) base_from_ee by forward kinematics, taken where the log has none.
        first_frames: {camera: (H, W, 3)} the first frame of its clip.
    """
    log = episode.robot
    path = ee if log.ee is None else log.ee
    digest = hashlib.sha256()
    for values in (log.gripper, log.joints, log.ee):
        # RLDS stores float32; None is told from an empty array by the separator alone.
        digest.update(b"-" if values is None else values.astype("<f4").tobytes())
    for frame in first_frames.values():
        digest.update(f"{frame.shape}".encode() + frame.tobytes())
    hashes = {name: frame_hash(frame) for name, frame in first_frames.items()}
    return EpisodeSketch(
        episode_id=episode.id,
        split=episode.split,
        content=digest.hexdigest()[:32],
        path=_to_text(path_points(path[:, :3, 3], episode.time)),
        frames={name: found for name, found in hashes.items() if found is not None},
    )


def path_points(positions: Floats, time: Floats) -> Floats:
    """(16, 3) points of a path (T, 3), in m, even in time over the part that is on its way.

    A path that stays within 2 cm of its start gives the start, 16 times.
    """
    first = _left(positions, time)
    if first is None:
        return np.repeat(positions[:1], POINTS, axis=0)
    back = _left(positions[::-1], -time[::-1])
    last = time[-1] if back is None or -back <= first else -back
    moments = np.linspace(first, last, POINTS)
    return np.stack([np.interp(moments, time, axis) for axis in positions.T], axis=1)


def _left(positions: Floats, time: Floats) -> float | None:
    """When the path is first `_AWAY` from its start, between steps by interpolation."""
    distance = np.linalg.norm(positions - positions[0], axis=1)
    step = int(np.argmax(distance >= _AWAY))
    if step == 0:
        return None
    before, after = distance[step - 1], distance[step]
    return float(np.interp(_AWAY, [before, after], time[step - 1 : step + 1]))


def frame_hash(frame: NDArray[np.uint8]) -> str | None:
    """dHash (Krawetz 2013) in 16 hex digits: which of 9 x 8 gray means are brighter than their left
    neighbour; None for a flat frame (H, W, 3).
    """
    small = cv2.resize(
        cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA
    )
    if int(np.ptp(small)) <= _FLAT:
        return None
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def _to_text(points: Floats) -> str:
    """Whole mm as hex of little-endian int16; what is past 32 m is no robot's path."""
    return np.clip((points * 1000).round(), -32768, 32767).astype("<i2").tobytes().hex()

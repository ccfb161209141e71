"""Where a twin keeps its ground truth, and what is in it.

``truth.zarr`` lies beside ``features.json``, one group a camera of an episode, named by
`truth_group`: arrays ``depth`` (T,H,W float32 m), ``robot_part`` (T,H,W uint8, visible pixels
only), ``K`` (3,3), ``base_from_camera`` (T,4,4). Where the layout logs no joints (Bridge, RT-1)
also ``joints`` (T,J) rad and ``gripper`` (T,) opening, and the attribute ``success``. The published
layout itself holds none of it. Where a twin was asked for defects, truth is of what each frame
shows, and the attributes ``latency_steps`` and ``dropped_steps`` say how it departs from the log.
"""

from __future__ import annotations

import hashlib

TRUTH_STORE = "truth.zarr"
# dataset_info.json of a twin says so in its description, so that no build can mistake it.
TWIN_MARK = "robo4d-twin"


def truth_group(episode_id: str, camera: str) -> str:
    """Name of the group for one camera; ids hold slashes, so the id is hashed."""
    return f"{hashlib.sha256(episode_id.encode()).hexdigest()[:16]}/{camera}"

"""Whether the frames of a take see one scene: judged by projection, not by who filmed them."""

import numpy as np

from robo4d.geometry import invert, project, transform, unproject
from simulation.depth_scenes.take import FRAMES, HEIGHT, WIDTH, Take


def share_that_agrees(take: Take) -> list[float]:
    """Of frame 0's points in each other frame's view: how many lie on the surface seen there.

    The rest is hidden from there, or moved.
    """
    z, K, pose = take.depth.astype(float), take.K, take.base_from_camera.astype(float)
    points = unproject(z[0], K[0])[z[0] > 0]
    shares = []
    for other in range(1, FRAMES):
        pixels, depth = project(transform(invert(pose[other]) @ pose[0], points), K[other])
        inside = (pixels >= 0).all(-1) & (pixels < [WIDTH, HEIGHT]).all(-1) & (depth > 0)
        at = pixels[inside].astype(int)
        found = z[other][at[:, 1], at[:, 0]]
        agree = np.abs(found - depth[inside]) < 0.01 * depth[inside]
        shares.append(float(agree.mean()) if inside.mean() > 0.1 else np.nan)
    return shares

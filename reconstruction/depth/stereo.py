"""Depth from two views side by side: rectified, matched (semi-global), checked from either side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruction.depth import DepthEstimate, RobotView
from robo4d import ShapeError
from robo4d.geometry import Floats, check_array, check_poses, intrinsics, make_pose
from schemas.episode import FrameSource, Provenance
from schemas.reasons import EpisodeError, Reason

# Views that are turned against each other by more have little in common.
_LEAST_ALIGNED = math.cos(math.radians(30))
# Pixels compared at once, and what a step of one disparity and of more costs (P1 and P2 of
# Hirschmueller 2008). On rendered pairs an eighth less error than by the 8 and 32 of OpenCV's
# example; with strong noise (3 grey levels) a twelfth more.
_BLOCK = 5
_SMALL_STEP, _LARGE_STEP = 5 * _BLOCK**2, 20 * _BLOCK**2
# The best disparity must beat all others but its neighbours by so many percent.
_UNIQUE = 10
# A patch of fewer pixels, apart from all around it by more than 2 pixels, is a mismatch.
_SPECKLE, _APART = 100, 2
# Pixels that the disparity may differ by, seen from the other view.
_AGREE = 0.5
# Below this disparity the error is more than a tenth of the depth: OpenCV's fraction of a pixel is
# drawn to whole ones, by up to 0.25 and by 0.15 at the median. Refining by Lucas and Kanade (1981)
# was tried: better on planes full of texture, no better on rendered scenes, worse in noise.
_LEAST = 1.0
_SCALE = 16  # OpenCV counts disparities in sixteenths of a pixel


@dataclass(frozen=True)
class StereoRig:
    """Two cameras, the right one to the right of the left one.

    Attributes:
        K_left, K_right: (3, 3) pixels.
        right_from_left: (4, 4) m.
    """

    K_left: Floats
    K_right: Floats
    right_from_left: Floats

    def __post_init__(self) -> None:
        for name in ("K_left", "K_right"):
            check_array(f"StereoRig.{name}", getattr(self, name), [3, 3])
        pose = check_poses("StereoRig.right_from_left", self.right_from_left, [])
        turn = pose[:3, :3]
        across = -turn.T @ pose[:3, 3]
        # x of either camera against the line between them, and z of one against the other's.
        aligned = min(across[0], turn[0] @ across, self.baseline * turn[2, 2])
        if aligned <= _LEAST_ALIGNED * self.baseline:
            raise ShapeError(
                f"StereoRig has its right camera at {across} m in the left one's frame, turned by\n"
                f"{turn}; expected a pair side by side, the right one at positive x, within 30 "
                "degrees"
            )

    @property
    def baseline(self) -> float:
        """m between the two."""
        return float(np.linalg.norm(self.right_from_left[:3, 3]))

    @property
    def rect_from_left(self) -> Floats:
        """(3, 3) turn of the left camera after which rows of both views match."""
        turn = self.right_from_left[:3, :3]
        across = -turn.T @ self.right_from_left[:3, 3]
        x = across / np.linalg.norm(across)
        y = np.cross(turn[2] + [0.0, 0.0, 1.0], x)  # of the middle between their optical axes
        y /= np.linalg.norm(y)
        return np.stack([x, y, np.cross(x, y)])

    @property
    def rect_from_right(self) -> Floats:
        """(3, 3) likewise of the right camera."""
        return self.rect_from_left @ self.right_from_left[:3, :3].T


def rectified_rig(K: Floats, baseline: float) -> StereoRig:
    """Of a pair whose rows match already: one K (3, 3), ``baseline`` m apart along x."""
    return StereoRig(K, K, make_pose(np.eye(3), [-baseline, 0.0, 0.0]))


@dataclass(frozen=True)
class StereoDepth:
    """A `DepthEstimator` for the left view of a rig, which has its own K: the call's is not used.

    Confidence falls from 255, where the disparity seen from the right view is the same, to 1, where
    it differs by half a pixel. Unknown is what one view alone sees, what looks alike in several
    places, and what is nearer than ``nearest``.

    Attributes:
        right: the right view's frames.
        steps: (T,) of ``right``, those of the frames that the call gets.
        rig: of both views at the frames' size.
        nearest: m; the search takes time by its inverse.
    """

    right: FrameSource
    steps: NDArray[np.int64]
    rig: StereoRig
    nearest: float = 0.3

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """See `DepthEstimator`.

        Raises:
            EpisodeError: the right view cannot be decoded (its reason), or is of another size.
        """
        right = self.right.decode(self.steps)
        if right.shape != rgb.shape:
            raise EpisodeError(
                Reason.WRONG_SHAPE,
                f"the right view's frames are {right.shape}; the left one's {rgb.shape}",
                stage="reconstruct",
            )
        matcher = _Matcher(self.rig, rgb.shape[1:3], self.nearest)
        depth = np.empty(rgb.shape[:3], np.float32)
        confidence = np.empty(rgb.shape[:3], np.uint8)
        for t in range(len(rgb)):
            depth[t], confidence[t] = matcher.match(rgb[t], right[t])
        return DepthEstimate(depth, confidence, "metric", Provenance.ESTIMATED)


class _Matcher:
    """Matches frames of one rig and size.

    Both are drawn on one grid: the left image, turned, with as many columns beside it on either
    side as disparities are tried, since OpenCV tries none whose match would lie off the grid.
    """

    def __init__(self, rig: StereoRig, size: tuple[int, int], nearest: float) -> None:
        height, width = size
        # OpenCV wants a multiple of 16.
        tried = 16 * math.ceil(rig.K_left[0, 0] * rig.baseline / nearest / 16)
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
        seen = corners @ (rig.K_left @ rig.rect_from_left @ np.linalg.inv(rig.K_left)).T
        seen = seen[:, :2] / seen[:, 2:]
        low, high = np.floor(seen.min(0) + 1e-6), np.ceil(seen.max(0) - 1e-6)
        shift = low - [tried, 0]
        across, down = (high - low + [2 * tried, 0]).astype(int)
        K = rig.K_left
        K = intrinsics(K[0, 0], K[1, 1], K[0, 2] - shift[0], K[1, 2] - shift[1])
        self._left = _lookup(rig.K_left, rig.rect_from_left.T @ np.linalg.inv(K), (down, across))
        self._right = _lookup(rig.K_right, rig.rect_from_right.T @ np.linalg.inv(K), (down, across))
        # Where the right view has nothing, an edge repeated would match.
        x, y = self._right
        self._beyond = (x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)
        self._back = _lookup(K, rig.rect_from_left @ np.linalg.inv(rig.K_left), size)
        self._focal_baseline = K[0, 0] * rig.baseline
        # z on the grid to z in the left view, of a point on a pixel's ray.
        i, j = np.mgrid[:height, :width] + 0.5
        rays = np.stack([j, i, np.ones(size)], -1) @ np.linalg.inv(rig.K_left).T
        self._flatten = (1 / (rays @ rig.rect_from_left[2])).astype(np.float32)
        self._sgbm = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=tried,
            blockSize=_BLOCK,
            P1=_SMALL_STEP,
            P2=_LARGE_STEP,
            uniquenessRatio=_UNIQUE,
            speckleWindowSize=_SPECKLE,
            speckleRange=_APART,
            mode=cv2.StereoSGBM_MODE_SGBM_3WAY,
        )

    def match(
        self, left: NDArray[np.uint8], right: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """z-depth (H, W) in m and confidence of the left frame; 0 where unknown."""
        one, other = (
            cv2.remap(
                cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY),
                *where,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for frame, where in ((left, self._left), (right, self._right))
        )
        disparity = self._sgbm.compute(one, other).astype(np.float32) / _SCALE
        # Mirrored, the right view is a left one.
        mirrored = self._sgbm.compute(*(np.ascontiguousarray(v[:, ::-1]) for v in (other, one)))
        back = mirrored[:, ::-1].astype(np.float32) / _SCALE
        rows, columns = np.indices(disparity.shape)
        there = np.clip(np.rint(columns - disparity).astype(int), 0, columns[0, -1])
        gap = np.abs(disparity - back[rows, there])
        known = (disparity >= _LEAST) & (gap <= _AGREE) & ~self._beyond[rows, there]
        depth = np.where(known, self._focal_baseline / np.maximum(disparity, _LEAST), 0)
        confidence = np.where(known, np.rint(255 - 254 * np.minimum(gap, _AGREE) / _AGREE), 0)
        # Nearest: what lies between two surfaces is on neither.
        depth, confidence = (
            cv2.remap(values.astype(np.float32), *self._back, cv2.INTER_NEAREST)
            for values in (depth, confidence)
        )
        return depth * self._flatten, confidence.astype(np.uint8)


def _lookup(
    K: Floats, camera_from_pixel: Floats, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each pixel of a grid (H, W), where a camera of ``K`` sees it: x and y as `cv2.remap`
    takes them, with pixel centres at whole numbers.

    Args:
        camera_from_pixel: (3, 3), the grid's pixels to rays of the camera.
    """
    i, j = np.mgrid[: size[0], : size[1]] + 0.5
    seen = np.stack([j, i, np.ones(size)], -1) @ (K @ camera_from_pixel).T
    x, y = np.moveaxis(seen[..., :2] / seen[..., 2:] - 0.5, -1, 0)
    return x.astype(np.float32), y.astype(np.float32)

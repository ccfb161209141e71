"""Camera pose by least squares on the robot's outline: from some ten pixels off to a fraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reconstruction.camera.appearance import colour_shares, matte_offsets, region_offsets
from reconstruction.camera.backdrop import Backdrop
from reconstruction.camera.contours import Lines, at_one_place, contour_lines
from reconstruction.camera.estimate import Estimate, away, between, zoomed
from reconstruction.camera.frames import FrameSet
from reconstruction.camera.mask_lines import (
    NEAR,
    add_masked,
    agreement,
    join_masks,
    mask_offsets,
)
from reconstruction.camera.secant import Secants
from reconstruction.camera.strips import take_strips
from reconstruction.camera.two_ways import LEARNED_INSET, join_learned
from robo4d.geometry import transform

Floats = NDArray[np.floating]
# Columns of the least squares: turn (rad), shift (m), logarithm of focal length, lateness (s), and
# of each link how far its contours lie outside the model's (pixels): shading and blur, which differ
# from link to link, and not geometry.
_TURN, _SHIFT, _ZOOM, _LATE = slice(0, 3), slice(3, 6), 6, 7
_COLUMNS = 8  # before the links'
_INSET_SPREAD = 0.3
_FEWEST = 27  # lines
# Of covariances, by the true errors of 36 twins (seeds 0 to 11), their first 12 frames, and at 96
# pixels: lines along one contour err together, this many times what independent lines would have
# (more in images that were made larger); and in each frame each link is where its joints say to so
# many m only, which few frames do not average out.
_CORRELATION, _LINK_ERROR = 3.0, 0.003
_LINK_FRAMES = 24  # over which links' errors average out at most: those were measured on so many
# A link that rests shows the same contour in all frames, shadows at its foot and all: lines at one
# place share so much of their variance. Of 0.1, 0.3 and 1 (and lines of the base taken
# for a quarter) the first left twins' cameras nearest the truth; with none, a base's shadow held
# one 1.2 degrees off.
_SAME_PLACE = 0.1
# Of a gripper that rides along no joint errs, only what its model says of it: by so much, places of
# the same mount in six real DROID setups scatter (2.8 mm) about as much as they claim.
_GRIPPER_ERROR = 0.0004
# Of a step: what `reconstruction.timing` leaves open. More is another trajectory's business.
LATE_SPREAD, LATEST = 0.25, 0.6
# s, by which a frame's time scatters about its log's. Twins' do not; with 0.02 halves of a real
# view's frames end nearer together, and twins' cameras no further off.
_JITTER = 0.02
_TUKEY = 3.0  # in standard deviations
# Lines that cannot tell pull an offset to zero, and robust weights fall for lines that move: steps
# from afar and by matting go about half the way (measured on twins), and are made longer.
_FAR, _HASTE = 5.0, {"colours": 1.6, "matte": 1.5, "both": 1.3}
_MATTE_MARGIN = 3  # pixels off at most when matting begins, for the backdrop
# Steps after which it is asked whether the camera still moves, by more than so many standard
# deviations, and before which it is not.
_CHECKED, _LEAST, _STILL = 4, 8, 0.3


@dataclass(frozen=True)
class Known:
    """What other evidence says of the pose: (4, 4), and (6, 6) inverse covariance in its frame."""

    pose: Floats
    information: Floats


@dataclass(frozen=True)
class Round:
    """One step of least squares, or some.

    Attributes:
        reach: pixels that are searched across the outline.
        frames: how many.
        lines: a frame.
        by: what tells where the outline lies: link colours against the background's; or, of what
            is near already, matting, ``reach`` being `COARSE` or `FINE`; or matting and the
            learned localiser (`two_ways`).
        most: steps; it is over earlier once four in a row moved the camera by less than can be
            known of it, after eight.
        images: what images say is taken, and not only learned masks.
    """

    reach: float
    frames: int
    lines: int
    by: Literal["colours", "matte", "both"] = "colours"
    most: int = 1
    images: bool = True

    @property
    def matte(self) -> bool:
        """Whether the outline is near: contours inside the robot count, a backdrop is close."""
        return self.by != "colours"

    @property
    def haste(self) -> float:
        """What its steps are made longer by."""
        return _HASTE[self.by] if self.matte or self.reach > _FAR else 1.0


def refine(
    frames: FrameSet,
    estimate: Estimate,
    K: Floats,
    spread: float,
    rounds: Sequence[Round],
    rng: np.random.Generator,
    known: Known | None = None,
) -> Estimate:
    """Gauss-Newton steps.

    Args:
        K: (3, 3) the guess at the working size, whose focal lengths ``log_zoom`` scales.
        spread: standard deviation of ``log_zoom``; 0 holds it.
        known: evidence beside the outline.
    """
    backdrop: Backdrop | None = None
    by_matte = False
    secants: Secants | None = None
    for turn in rounds:
        before = estimate
        for step in range(1, turn.most + 1):
            frames.set_late(estimate.late)
            lens = zoomed(K, estimate.log_zoom)
            # Once from afar and once for matting: some pixels more or less make no difference.
            if turn.images and not frames.on_hand and (backdrop is None or turn.matte > by_matte):
                margin = _MATTE_MARGIN if turn.matte else round(turn.reach)
                backdrop, by_matte = frames.backdrop(lens, estimate.pose, margin), turn.matte
            stepped = _stepped(frames, estimate, lens, spread, turn, rng, known, backdrop)
            if stepped.covariance is None:
                return stepped
            if turn.by == "both":
                secants = secants or Secants(estimate, stepped.covariance, turn.haste)
                stepped = secants.longer(estimate, stepped)
            estimate = _no_later(stepped, frames.dt)
            if step % _CHECKED == 0:
                if step >= _LEAST and away(before, estimate) < _STILL:
                    break
                before = estimate
    return estimate


def _stepped(
    frames: FrameSet,
    estimate: Estimate,
    lens: Floats,
    spread: float,
    turn: Round,
    rng: np.random.Generator,
    known: Known | None,
    backdrop: Backdrop | None,
) -> Estimate:
    evenly = np.linspace(0, len(frames) - 1, min(turn.frames, len(frames)))
    chosen = np.unique(evenly.round().astype(int))
    depth, part = frames.rendered(chosen, lens, estimate.pose)
    lines = contour_lines(depth, part, turn.lines, rng, inner=turn.matte)
    if len(lines) < _FEWEST:
        return replace(estimate, covariance=None)
    images = frames.images[chosen]
    offset: Floats = np.zeros(len(lines))
    weight: Floats = np.zeros(len(lines))  # stays so where masks alone tell
    if turn.images and turn.matte:
        offset, weight = matte_offsets(images, lines, turn.reach, backdrop)
        weight = 4 * weight**2 * _tukey(offset, turn.reach)
    elif turn.images:
        shares = colour_shares(images, part, frames.velocity.shape[1])
        offset, variance = region_offsets(images, lines, shares, turn.reach, backdrop)
        scale = _TUKEY * max(1.4826 * float(np.median(np.abs(offset))), 0.7)
        weight = _tukey(offset, scale) / (variance + 0.3)
    masked = None
    if frames.shares is not None:
        if turn.by == "both":
            masked = mask_offsets(frames.shares[chosen], lines, NEAR)
            weight = weight * agreement(offset, *masked)
        else:
            offset, weight = join_masks(offset, weight, frames.shares[chosen], lines, turn.reach)
    weight /= _CORRELATION**2
    together = at_one_place(lines)
    if not frames.on_hand:
        weight /= 1 + _SAME_PLACE * (together - 1)
    if weight.sum() < 1e-6:
        return replace(estimate, covariance=None)
    rows = _rows(lines, lens, estimate.pose, frames.velocity[chosen])
    spreads = np.full(rows.shape[1], _INSET_SPREAD)
    # On the hand a link's error is the same in all frames.
    moment, link, error = lines.frame, lines.link, _LINK_ERROR
    if frames.on_hand:
        moment, error = np.zeros_like(lines.frame), _GRIPPER_ERROR
    if turn.by == "both":
        strips = take_strips(images, lines, depth, part, lens[0, 0], estimate.pose, backdrop)
        matted = rows
        rows, offset, weight = join_learned(
            rows, offset, weight, strips, lines, together, _COLUMNS, turn.reach, masked
        )
        if masked is not None:
            rows, offset, weight = add_masked(
                (rows, offset, weight), matted, *masked, together, _COLUMNS
            )
        ways = len(rows) // len(lines)
        moment, link = np.tile(moment, ways), np.tile(link, ways)
        spreads = np.append(spreads, np.full(rows.shape[1] - len(spreads), LEARNED_INSET))
        if weight.sum() < 1e-6:
            return replace(estimate, covariance=None)
        rows = np.hstack([rows, _own_times(rows, moment)])
        spreads = np.append(spreads, np.full(rows.shape[1] - len(spreads), _JITTER))
    spreads[[_ZOOM, _LATE]] = spread or 1e-6, LATE_SPREAD * frames.dt
    spreads[:_ZOOM] = np.inf
    estimate, inverse = _step(estimate, rows, offset, weight, spreads, frames.dt, turn.haste, known)
    moved = _moved(moment, link, rows, weight)
    error *= np.sqrt(max(1.0, len(np.unique(moment)) / _LINK_FRAMES))
    covariance = frames.enlarged**2 * inverse + error**2 * inverse @ moved @ inverse
    return replace(estimate, covariance=covariance[:_COLUMNS, :_COLUMNS])


def _tukey(offset: Floats, scale: float) -> Floats:
    """(N,) robust weights of offsets (N,), 0 from ``scale`` on."""
    return np.where(np.abs(offset) < scale, (1 - (offset / scale) ** 2) ** 2, 0)


def _own_times(rows: Floats, moment: NDArray[np.int64]) -> Floats:
    """(N, n) change of the outline along the normal by how late each frame alone is."""
    own = np.zeros((len(rows), moment.max() + 1))
    own[np.arange(len(rows)), moment] = rows[:, _LATE]
    return own


def _moved(
    moment: NDArray[np.int64], link: NDArray[np.int64], rows: Floats, weight: Floats
) -> Floats:
    """(C, C) what links that are shifted, each by a metre at random at each moment, add up to."""
    pulls = weight[:, None, None] * rows[:, :, None] * rows[:, None, _SHIFT]
    links, group = np.unique(moment * (link.max() + 1) + link, return_inverse=True)
    by_link = np.zeros((len(links), rows.shape[1], 3))
    np.add.at(by_link, group, pulls)
    return np.asarray(np.einsum("gij,gkj->ik", by_link, by_link))


def _rows(lines: Lines, K: Floats, pose: Floats, velocity: Floats) -> Floats:
    """(N, C) change of the outline along the normal by each unknown.

    The pose is turned and shifted in the camera's own frame: a point X of the camera becomes
    X - shift - turn x X. The outline is taken as fixed to the surface, which is true to first
    order (a smooth outline slides along the line of sight).
    """
    fx, fy = K[0, 0], K[1, 1]
    z = lines.depth
    x, y = ((lines.point - K[:2, 2]) / [fx, fy] * z[:, None]).T
    # Of (u, v) along the normal by the point: (N, 3).
    n = lines.normal * [fx, fy] / z[:, None]
    by_point = np.stack([n[:, 0], n[:, 1], -(n[:, 0] * x + n[:, 1] * y) / z], 1)
    point = np.stack([x, y, z], 1)
    moves = velocity[lines.frame, lines.link]
    speed = np.einsum("nij,nj->ni", moves[:, :3, :3], transform(pose, point)) + moves[:, :3, 3]
    links, index = np.unique(lines.link, return_inverse=True)
    rows = np.zeros((len(lines), _COLUMNS + len(links)))
    rows[:, _TURN] = np.cross(by_point, point)
    rows[:, _SHIFT] = -by_point
    rows[:, _ZOOM] = (lines.normal * (lines.point - K[:2, 2])).sum(1)
    rows[:, _LATE] = -(by_point * (speed @ pose[:3, :3])).sum(1)
    rows[np.arange(len(lines)), _COLUMNS + index] = 1.0
    return rows


def _no_later(estimate: Estimate, dt: float) -> Estimate:
    return replace(estimate, late=float(np.clip(estimate.late, -LATEST * dt, LATEST * dt)))


def _step(
    estimate: Estimate,
    rows: Floats,
    offset: Floats,
    weight: Floats,
    spread: Floats,
    dt: float,
    haste: float,
    known: Known | None,
) -> tuple[Estimate, Floats]:
    """``haste`` times a step of weighted least squares with priors of ``spread`` (C,) about 0.

    Also the inverse (C, C) of its information.
    """
    columns = rows.shape[1]
    now = np.zeros(columns)
    now[_ZOOM], now[_LATE] = estimate.log_zoom, estimate.late
    information = rows.T @ (weight[:, None] * rows) + np.diag(spread**-2.0)
    right = rows.T @ (weight * offset) - now * spread**-2.0
    if known is not None:
        gap = between(estimate, Estimate(known.pose))[:6]
        information[:6, :6] += known.information
        right[:6] += known.information @ gap
    # Damped a little, absolutely too: a few lines in one place leave some directions open.
    damped = information + np.diag(np.diag(information) * 1e-5 + 1e-6)
    change = haste * np.linalg.solve(damped, right)
    stepped = _no_later(estimate.moved(change[:_COLUMNS]), dt)
    return stepped, np.linalg.inv(information + 1e-6 * np.eye(columns))

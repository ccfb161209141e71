"""The accuracy board: clips and depth estimators in, a row for each estimator and alignment out.

Anything that speaks `reconstruction.depth.DepthEstimator` can enter: `run_board` takes a function
that opens one for a clip, and `qa.depth_backends` knows those that go by a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qa import depth_metrics as metrics
from qa.depth_alignment import align_depth, applies
from qa.depth_backends import Backend
from qa.depth_clips import DepthClip
from reconstruction.anchor import held_back_pixels
from robo4d.geometry import check_array

Depths = NDArray[np.floating]
Look = Callable[[DepthClip, str, str, Depths], None]
"""Takes clip, backend, alignment and aligned depth."""


@dataclass(frozen=True)
class Score:
    """Figures of one clip, or their means over clips; None: nothing to judge by.

    Attributes:
        known: share of the pixels with a true depth (all, of real frames) that the estimate knows.
        abs_rel, rmse, delta1: relative error, m, and the share within a factor of 1.25.
        accuracy, completeness, chamfer_l1, chamfer_l2: of point clouds, m, m^2 the last.
        f_score: at 2 cm; the others as they say.
        normal_deg: mean angle between normals.
        edge_precision, edge_recall, edge_f1: steps of more than 5 % within a pixel.
        temporal: relative change from frame to frame where nothing moves.
        robot_residual: m, median at visible robot pixels that anchoring was not fitted to.
    """

    known: float
    abs_rel: float | None = None
    rmse: float | None = None
    delta1: float | None = None
    accuracy: float | None = None
    completeness: float | None = None
    chamfer_l1: float | None = None
    chamfer_l2: float | None = None
    f_score_1cm: float | None = None
    f_score: float | None = None
    f_score_5cm: float | None = None
    normal_deg: float | None = None
    edge_precision: float | None = None
    edge_recall: float | None = None
    edge_f1: float | None = None
    temporal: float | None = None
    robot_residual: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the board.

    Attributes:
        data, backend, alignment: what was judged, on what, and how it was brought to metres.
        clips: judged; each weighs the same.
        failed: of these, where there is no depth at all after aligning: in `Score.known` alone.
        frames: in all clips.
        score: means over the clips that have a figure.
        worst_clip, worst_abs_rel: where the relative error is largest; None without truth.
    """

    data: str
    backend: str
    alignment: str
    clips: int
    failed: int
    frames: int
    score: Score
    worst_clip: str | None
    worst_abs_rel: float | None

    def describe(self) -> dict[str, Any]:
        """For JSON: one flat object, figures to six digits."""
        row = asdict(self)
        flat = row | row.pop("score")
        return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in flat.items()}


def run_board(
    data: str,
    clips: Iterable[DepthClip],
    backends: Mapping[str, Backend],
    alignments: Sequence[str],
    look: Look | None = None,
) -> list[Row]:
    """Judge every backend on every clip, in each alignment that means anything there.

    Args:
        data: what the rows call it.
        alignments: of `qa.depth_alignment.ALIGNMENTS`.
        look: called once a clip and backend, with the first alignment that means anything.

    Returns:
        By backend, then by alignment, in the orders given; none where nothing was judged.

    Raises:
        ShapeError: an estimator returned depth of another shape than its frames.
    """
    found: dict[tuple[str, str], list[_Judged]] = {}
    for clip in clips:
        for name, backend in backends.items():
            estimator = backend(clip)
            if estimator is None:
                continue
            estimate = estimator(clip.rgb, clip.K, clip.robot())
            check_array(f"depth of {name}", estimate.depth, clip.rgb.shape[:3])
            ways = [how for how in alignments if applies(how, estimate, clip)]
            for how in ways:
                depth = align_depth(estimate, clip, how)
                found.setdefault((name, how), []).append(
                    _Judged(f"{clip.key} {clip.name}".strip(), len(clip.rgb), judge(depth, clip))
                )
                if look is not None and how == ways[0]:
                    look(clip, name, how, depth)
    keys = [(name, how) for name in backends for how in alignments if (name, how) in found]
    return [_row(data, *key, found[key]) for key in keys]


def judge(depth: Depths, clip: DepthClip) -> Score:
    """Every figure that the clip allows, of depth (T, H, W) in m, 0 unknown."""
    known = metrics.known_share(depth, clip.depth)
    residual = None
    if clip.robot_depth is not None:
        judged = held_back_pixels(clip.robot_depth)
        if clip.robot_visible is not None:
            judged &= clip.robot_visible
        residual = metrics.robot_residual(depth, clip.robot_depth, judged)
    truth = clip.depth
    if truth is None or known == 0:
        return Score(known, robot_residual=residual)
    cloud = metrics.compare_clouds(depth, truth, clip.K)
    edges = metrics.compare_edges(depth, truth)
    still = clip.still()
    f_scores = cloud.f_scores if cloud else (None, None, None)
    return Score(
        known=known,
        abs_rel=metrics.abs_rel(depth, truth),
        rmse=metrics.rmse(depth, truth),
        delta1=metrics.delta1(depth, truth),
        accuracy=cloud.accuracy if cloud else None,
        completeness=cloud.completeness if cloud else None,
        chamfer_l1=cloud.chamfer_l1 if cloud else None,
        chamfer_l2=cloud.chamfer_l2 if cloud else None,
        f_score_1cm=f_scores[0],
        f_score=f_scores[1],
        f_score_5cm=f_scores[2],
        normal_deg=metrics.normal_error(depth, truth, clip.K),
        edge_precision=edges.precision,
        edge_recall=edges.recall,
        edge_f1=edges.f1,
        temporal=None if still is None else metrics.temporal_error(depth, still),
        robot_residual=residual,
    )


@dataclass(frozen=True)
class _Judged:
    """A clip's score, without its pixels, some 20 MB."""

    clip: str
    frames: int
    score: Score


def _row(data: str, backend: str, alignment: str, judged: list[_Judged]) -> Row:
    known = float(np.mean([one.score.known for one in judged]))
    means: dict[str, float | None] = {}
    for name in (field.name for field in fields(Score) if field.name != "known"):
        there = [value for one in judged if (value := getattr(one.score, name)) is not None]
        means[name] = float(np.mean(there)) if there else None
    errors = {one.clip: one.score.abs_rel for one in judged if one.score.abs_rel is not None}
    worst = max(errors, key=errors.__getitem__, default=None)
    return Row(
        data=data,
        backend=backend,
        alignment=alignment,
        clips=len(judged),
        failed=sum(one.score.known == 0 for one in judged),
        frames=sum(one.frames for one in judged),
        score=Score(known, **means),
        worst_clip=worst,
        worst_abs_rel=None if worst is None else errors[worst],
    )

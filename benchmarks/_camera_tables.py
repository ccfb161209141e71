"""What results of camera trials amount to: shares found, verdicts against truth, ROC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks._camera_trials import LEVELS
from benchmarks._charts import Chart

Row = dict[str, Any]
VERDICTS = ("good", "usable", "reject")
# What a shipped pose can be scored by; the last is how the solver ranks its own candidates.
SCORES: dict[str, Callable[[dict[str, float | None]], float]] = {
    "silhouette_iou": lambda s: s.get("silhouette_iou") or 0.0,
    "flow_score": lambda s: s.get("flow_score") or 0.0,
    "edge_share": lambda s: s.get("edge_share") or 0.0,
    "edge_share x flow_score": lambda s: (
        (s.get("edge_share") or 0.0) * (s.get("flow_score") or 0.0)
    ),
}


def summary(rows: list[Row]) -> Row:
    """Of trials with a pose: share found, accepted, medians and 90th percentiles of errors.

    What has no pose counts as infinitely wrong; so a median may be inf.
    """
    out: Row = {"runs": len(rows), "found": _mean(row["found"] for row in rows)}
    for name in ("deg", "mm", "px"):
        values = [np.inf if row[name] is None else row[name] for row in rows]
        # "higher": a percentile between a number and infinity is infinity, not nan.
        out[name] = float(np.median(values))
        out[f"{name}_90"] = float(np.percentile(values, 90, method="higher"))
    focal = [np.inf if row["focal"] is None else abs(row["focal"]) for row in rows]
    out["focal"] = float(np.median(focal))
    out["seconds"] = float(np.median([row["seconds"] for row in rows]))
    return out


def confusion(rows: list[Row]) -> Row:
    """Counts of each verdict where the camera was found and where not; and the false ones.

    A false accept is one that is not rejected and is not `FOUND`; a false reject the converse.
    """
    out: Row = {"runs": len(rows)}
    for verdict in VERDICTS:
        for found in (True, False):
            name = f"{verdict}, {'found' if found else 'wrong'}"
            out[name] = sum(r["verdict"] == verdict and r["found"] == found for r in rows)
    accepted = [row for row in rows if row["verdict"] != "reject"]
    out["false accepts"] = sum(not row["found"] for row in accepted)
    out["false rejects"] = sum(row["found"] for row in rows if row["verdict"] == "reject")
    out["false among accepted"] = out["false accepts"] / len(accepted) if accepted else 0.0
    return out


def auc(right: list[float], stale: list[float]) -> float:
    """Share of (right, stale) pairs in which the right pose scores higher; ties count half."""
    ranks = rankdata(np.concatenate([right, stale]))
    n, m = len(right), len(stale)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def roc(right: list[float], stale: list[float]) -> list[tuple[float, float]]:
    """(share of stale poses kept, share of right ones kept) as the threshold falls."""
    limits = np.unique(np.concatenate([right, stale]))[::-1]
    kept = [
        (float(np.mean(np.array(stale) >= limit)), float(np.mean(np.array(right) >= limit)))
        for limit in limits
    ]
    return [(0.0, 0.0), *kept]


def shipped_scores(rows: list[Row], score: str) -> tuple[list[float], list[float], list[float]]:
    """Scores of right and of stale poses, and the stale ones' turns in deg."""
    poses = [pose for row in rows if row["setting"] == "shipped" for pose in row["poses"]]
    right = [SCORES[score](pose["scores"]) for pose in poses if not pose["stale"]]
    stale = [pose for pose in poses if pose["stale"]]
    return right, [SCORES[score](pose["scores"]) for pose in stale], [p["deg"] for p in stale]


def of(rows: list[Row], **wanted: Any) -> list[Row]:
    """Rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def charts(rows: list[Row]) -> list[Chart]:
    """A chart of each setting that has results."""
    drawn = []
    methods = sorted({row["method"] for row in of(rows, setting="start")}, reverse=True)
    lines = {m: _curve(of(rows, setting="start", method=m), "found") for m in methods}
    if lines:
        drawn.append(Chart("Found, by the start's error", "deg", lines))
    titles = {"frames": "frames", "motion": "scale of motion", "width": "pixels across"}
    for setting, label in titles.items():
        own = of(rows, setting=setting)
        if not own:
            continue
        lines = {f"{s}: found": _curve(of(own, source=s), "found") for s in _sources(own)}
        lines["all: accepted"] = _curve(own, "accepted")
        drawn.append(Chart(f"Cold start, by {label}", label, lines))
    lines = {}
    for score in SCORES:
        right, stale, _ = shipped_scores(rows, score)
        if right and stale:
            lines[f"{score} ({auc(right, stale):.3f})"] = roc(right, stale)
    if lines:
        drawn.append(Chart("Shipped poses: right kept", "stale kept", lines, even=False))
    return drawn


def _curve(rows: list[Row], what: str) -> list[tuple[float, float]]:
    points = []
    for level in LEVELS[rows[0]["setting"]] if rows else ():
        own = of(rows, level=level)
        if own:
            share = _mean(r["found"] if what == "found" else r["verdict"] != "reject" for r in own)
            points.append((level, share))
    return points


def _sources(rows: list[Row]) -> list[str]:
    return sorted({row["source"] for row in rows})


def _mean(flags: Iterable[bool]) -> float:
    return float(np.mean(list(flags)))

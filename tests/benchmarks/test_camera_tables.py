import json
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from benchmarks import _camera_workers, camera
from benchmarks._camera_tables import auc, charts, confusion, roc, summary
from benchmarks._camera_trials import Trial, displaced, trials
from benchmarks._charts import write_charts
from robo4d.geometry import rotation_angle

_SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=20)


def _row(found: bool, verdict: str = "good", **more: object) -> dict:
    errors = {"deg": 0.1, "mm": 1.0, "px": 0.2, "focal": 0.0, "seconds": 2.0}
    return {"found": found, "verdict": verdict, **errors, **more}


@given(_SCORES, _SCORES)
def test_auc_is_that_of_mann_and_whitney(right: list[float], stale: list[float]) -> None:
    expected = mannwhitneyu(right, stale).statistic / (len(right) * len(stale))
    assert auc(right, stale) == pytest.approx(expected)


@given(_SCORES, _SCORES)
def test_area_under_the_drawn_curve_is_the_auc(right: list[float], stale: list[float]) -> None:
    x, y = np.transpose(roc(right, stale))
    assert (x[-1], y[-1]) == (1, 1)
    assert np.trapezoid(y, x) == pytest.approx(auc(right, stale))


def test_what_is_accepted_and_wrong_is_a_false_accept() -> None:
    rows = [_row(True), _row(False, "usable"), _row(False, "reject"), _row(True, "reject")]
    counts = confusion(rows)
    assert (counts["false accepts"], counts["false rejects"]) == (1, 1)
    assert counts["good, found"] == counts["usable, wrong"] == counts["reject, wrong"] == 1
    assert counts["false among accepted"] == 0.5


def test_a_run_without_a_pose_counts_as_infinitely_wrong() -> None:
    nothing = _row(False, "reject") | dict.fromkeys(("deg", "mm", "px", "focal"))
    figures = summary([_row(True), _row(True), nothing])
    assert figures["found"] == pytest.approx(2 / 3)
    assert figures["deg"] == pytest.approx(0.1)
    assert figures["mm_90"] == np.inf


def test_peers_run_where_they_have_a_start() -> None:
    wanted = list(trials(("start", "cold"), ("solver", "icp"), ("rt1",), [1000]))
    assert {t.setting for t in wanted if t.method == "icp"} == {"start"}
    assert len({t.key for t in wanted}) == len(wanted) == 11


def test_a_displaced_pose_is_as_wrong_as_asked() -> None:
    pose = displaced(np.eye(4), np.radians(20), 0.15, np.random.default_rng(0))
    assert np.degrees(rotation_angle(pose[:3, :3], np.eye(3))) == pytest.approx(20)
    assert np.linalg.norm(pose[:3, 3]) == pytest.approx(0.15)


def test_a_run_that_was_broken_off_goes_on_where_it_was(tmp_path, monkeypatch) -> None:
    ran: list[Trial] = []

    def run(trial: Trial, cache: object) -> dict:
        ran.append(trial)
        told = {"setting": trial.setting, "level": trial.level, "method": trial.method}
        return _row(True, key=trial.key, source=trial.source, seed=trial.seed, **told)

    monkeypatch.setattr(_camera_workers, "run_trial", run)
    results, numbers, plot = (tmp_path / name for name in ("r.jsonl", "n.json", "p.png"))
    command = f"camera --seeds 1 --sources rt1 --settings start frames --results {results}"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--limit", "20"])
    camera.main()
    with results.open("a") as file:
        file.write('{"key": "cut off')
    monkeypatch.setattr(
        sys, "argv", [*command.split(), "--json", f"{numbers}", "--plot", f"{plot}"]
    )
    camera.main()
    assert len(ran) == len(set(ran)) == 26  # 5 starts by 4 methods, and 6 lengths
    assert len(json.loads(numbers.read_text())["trials"]) == 26
    assert cv2.imread(str(plot)) is not None
    monkeypatch.setattr(sys, "argv", ["camera", "--table", "--results", f"{results}"])
    camera.main()
    assert len(ran) == 26


def test_charts_show_each_setting_that_was_run(tmp_path) -> None:
    poses = [
        {"stale": stale, "deg": 9.0, "scores": {"silhouette_iou": score, "flow_score": None}}
        for stale, score in ((False, 0.9), (True, 0.2))
    ]
    more = {"level": 5.0, "source": "rt1", "seed": 0}
    rows = [
        _row(True, setting="start", method="icp", **more),
        _row(False, setting="motion", method="solver", **more | {"level": 0.1}),
        {"setting": "shipped", "poses": poses, "method": "solver", **more},
    ]
    drawn = charts(rows)
    assert [chart.title.split(",")[0] for chart in drawn] == ["Found", "Cold start", drawn[2].title]
    assert drawn[0].lines == {"icp": [(5.0, 1.0)]}
    assert drawn[2].lines["silhouette_iou (1.000)"][1] == (0.0, 1.0)
    write_charts(tmp_path / "charts.png", drawn)
    assert cv2.imread(str(tmp_path / "charts.png")).std() > 0

"""Draw how trainings of the depth network went, from the curves that they wrote.

    python -m benchmarks.depth_curves [RUN.jsonl ...] --out docs/images/depth-training.png

Without arguments: the embedded checkpoint's, whose parts in benchmarks/depth_training follow one
another at their last logged step, each judged on scenes of its own set; the recipes before it are
in folders there. A network that can be told of the robot has a second line, of not being told.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks._charts import Chart, write_charts

_HERE = Path(__file__).parent / "depth_training"
_ALONE = "alone_"
# Charts run from 0 to 1.
_STRETCH = 4


def main() -> None:
    """Two charts of the validation, and the last figures as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/depth-training.png"))
    options = parser.parse_args()
    judged = {}
    for name, points in _runs(options.runs).items():
        judged[name] = points
        if any(_ALONE + "abs_rel" in said for _, said in points):
            judged[f"{name}, not told"] = [(step, _alone(said)) for step, said in points]
    charts = []
    for name, title, stretch in (
        ("delta1", "validation: share within a factor of 1.25", 1),
        ("abs_rel", f"validation: AbsRel of each picture scaled, times {_STRETCH}", _STRETCH),
    ):
        lines = {
            run: [(step / 1000, min(1.0, stretch * said[name])) for step, said in points]
            for run, points in judged.items()
        }
        charts.append(Chart(title, "thousand steps", lines))
    write_charts(options.out, charts)
    for run, points in judged.items():
        step, said = points[-1]
        print(f"{run:22} step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in said.items()))


def _runs(files: list[Path]) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """Looks at the validation, by the name of the run; without files, of all parts as one."""
    if files:
        return {file.stem.replace("_", " "): _judged(file) for file in files}
    whole, before = [], 0
    for part in sorted(_HERE.glob("part_*.jsonl"), key=lambda path: int(path.stem[5:])):
        whole += [(before + step, said) for step, said in _judged(part)]
        before += json.loads(part.read_text().splitlines()[-1])["step"]
    return {"embedded": whole}


def _judged(run: Path) -> list[tuple[int, dict[str, float]]]:
    lines = (json.loads(line) for line in run.read_text().splitlines())
    return [(line["step"], line["validation"]) for line in lines if "validation" in line]


def _alone(said: dict[str, float]) -> dict[str, float]:
    return {k.removeprefix(_ALONE): v for k, v in said.items() if k.startswith(_ALONE)}


if __name__ == "__main__":
    main()

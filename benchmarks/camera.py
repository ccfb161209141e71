"""How well the camera solver finds cameras, where they are known; beside ICP and silhouettes.

Clips are films of the twins made as a real camera would (`benchmarks._camera_film`). Settings:

start    all methods from starts wrong by 0 to 20 deg and 0 to 15 cm, K known
cold     no start, K known
masks    likewise, beside degraded masks of the truth (`benchmarks._degraded_masks`)
focal    no start, focal length guessed with 10 % error
frames, motion, width
         cold, of shorter clips, of less motion and of smaller pictures
shipped  score given poses, half of them stale by up to 20 deg and 30 cm

Every result is added to a file at once; what it holds already, for the same code, is not run
again. A trial that fails is named at the end, and the others are kept. Give --table to tabulate
the file as it is. All settings of twelve seeds take hours of one core: give --workers.

    python -m benchmarks.camera --seeds 1000 1001 --results out/camera.jsonl --plot out/camera.png
"""

from __future__ import annotations

import os

# Software OpenGL would start a thread a core; set before anything makes a context.
os.environ.setdefault("LP_NUM_THREADS", "1")

import itertools
import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from benchmarks._camera_clips import CACHE, REPORTED, SOURCES
from benchmarks._camera_tables import (
    SCORES,
    Row,
    auc,
    charts,
    confusion,
    of,
    shipped_scores,
    summary,
)
from benchmarks._camera_trials import LEVELS, PEERS, STARTS, trials
from benchmarks._camera_workers import outcomes
from benchmarks._charts import write_charts
from benchmarks._common import parser, print_header, print_table, write_json

_FIGURES = ("runs", "found", "deg", "mm", "px", "deg_90", "mm_90", "px_90", "seconds")
_BANDS = (0, 3, 7, 13, 21)  # deg of stale poses


def main() -> None:
    parse = parser(__doc__)
    methods = ("solver", *PEERS)
    parse.add_argument("--settings", nargs="+", choices=tuple(LEVELS), default=list(LEVELS))
    parse.add_argument("--methods", nargs="+", choices=methods, default=list(methods))
    parse.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parse.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(range(REPORTED, REPORTED + 12)),
        help=f"of clips; those below {REPORTED} are for tuning, and of 100 to 999 the solver's "
        f"network learned (12 from {REPORTED})",
    )
    parse.add_argument(
        "--starts",
        type=float,
        nargs="+",
        choices=LEVELS["start"],
        default=list(LEVELS["start"]),
        help="errors of the setting start, deg",
    )
    parse.add_argument("--workers", type=int, default=1, help="processes of one thread each (1)")
    parse.add_argument("--gpus", type=int, default=1, help="that they share, with MUJOCO_GL=egl")
    parse.add_argument("--results", type=Path, default=Path("out/camera.jsonl"))
    parse.add_argument("--limit", type=int, help="run at most so many trials that are new")
    parse.add_argument("--table", action="store_true", help="run nothing: what the file holds")
    parse.add_argument("--cache", type=Path, default=CACHE, help=f"folder of clips ({CACHE})")
    parse.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the curves")
    args = parse.parse_args()
    machine = print_header("Cameras from robot motion")
    rows = _latest(args.results) if args.table else _run(args)
    report = {"machine": machine, **_report(rows)}
    if args.plot and rows:
        write_charts(args.plot, charts(rows))
        print(f"curves drawn to {args.plot}")
    write_json(args.json, report)


def _run(args: Any) -> list[Row]:
    """Results of the wanted trials: those in the file, and those that are added to it."""
    done = {row["key"]: row for row in read_results(args.results)}
    wanted = list(
        trials(
            tuple(args.settings),
            tuple(args.methods),
            tuple(args.sources),
            args.seeds,
            tuple(args.starts),
        )
    )
    new = [trial for trial in wanted if trial.key not in done][: args.limit]
    args.results.parent.mkdir(parents=True, exist_ok=True)
    failed: list[Exception] = []
    number = 0
    try:
        for trial, row in outcomes(new, args.cache, args.workers, args.gpus):
            number += 1
            told = f"[{number}/{len(new)}] {trial}:"
            if isinstance(row, Exception):
                row.add_note(f"in the trial {trial}")
                failed.append(row)
                print(f"{told} failed: {row}", flush=True)
                continue
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            done[trial.key] = row
            found = f"found {row['found']} {row.get('verdict', '')}" if "found" in row else ""
            print(f"{told} {found} {row['seconds']:.1f} s", flush=True)
    except BrokenProcessPool as death:
        raise ExceptionGroup(
            f"a worker died after {number} of {len(new)} trials, {len(failed)} of which failed; "
            f"{args.results} holds the others: run the same command again",
            [death, *failed],
        ) from None
    if failed:
        raise ExceptionGroup(
            f"{len(failed)} of {len(new)} trials failed; {args.results} holds the others", failed
        )
    missing = sum(trial.key not in done for trial in wanted)
    if missing:
        print(f"{missing} of {len(wanted)} trials are not run yet: run the same command again")
    return [done[trial.key] for trial in wanted if trial.key in done]


def read_results(path: Path) -> list[Row]:
    """Rows of a results file; a last line that was cut off is dropped, and cut from the file."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _latest(path: Path) -> list[Row]:
    """The last result of each trial, whatever code it is of."""
    names = ("setting", "level", "method", "source", "seed")
    return list({tuple(row[name] for name in names): row for row in read_results(path)}.values())


def _report(rows: list[Row]) -> dict[str, Any]:
    report: dict[str, Any] = {"trials": rows}
    sources = [source for source in SOURCES if of(rows, source=source)]
    for setting in LEVELS:
        own = of(rows, setting=setting)
        if setting == "shipped" or not own:
            continue
        figures = []
        for method in ("solver", *PEERS):
            for level in LEVELS[setting]:
                for source in (*sources, "all") if len(sources) > 1 else sources:
                    some = of(own, method=method, level=level)
                    some = some if source == "all" else of(some, source=source)
                    if some:
                        figures.append(
                            {"method": method, "level": level, "source": source, **summary(some)}
                        )
        _print_setting(setting, figures)
        report[setting] = figures
    report["verdicts"] = _verdicts(rows)
    report["shipped"] = _shipped(rows)
    return report


def _print_setting(setting: str, figures: list[Row]) -> None:
    print(f"{setting}: errors are medians and 90th percentiles\n")
    columns = (*_FIGURES, "focal") if setting == "focal" else _FIGURES
    shifts = dict(STARTS)
    rows = []
    for row in figures:
        level = f"{row['level']:g}"
        if setting == "start":
            level = f"{level} deg {100 * shifts[int(row['level'])]:g} cm"
        rows.append([row["method"], level, row["source"], *(row[name] for name in columns)])
    print_table(("method", setting, "source", *columns), rows)


def _verdicts(rows: list[Row]) -> list[Row]:
    """The solver's verdicts against the truth, by setting and altogether."""
    own = [row for row in of(rows, method="solver") if row["setting"] != "shipped"]
    table = [
        {"setting": setting, **confusion(some)}
        for setting in (*LEVELS, "all")
        if (some := own if setting == "all" else of(own, setting=setting))
    ]
    if table:
        print("Verdicts: a camera is found within 0.6 deg and 8 mm\n")
        print_table(tuple(table[0]), [list(row.values()) for row in table])
    return table


def _shipped(rows: list[Row]) -> list[Row]:
    """AUC of each score, of all stale poses and by how stale they are."""
    table = []
    for score in SCORES:
        right, stale, turns = shipped_scores(rows, score)
        if not right or not stale:
            return []
        row: Row = {"score": score, "right": len(right), "stale": len(stale)}
        row["AUC"] = auc(right, stale)
        for low, high in itertools.pairwise(_BANDS):
            band = [s for s, turn in zip(stale, turns, strict=True) if low <= turn < high]
            row[f"{low}-{high} deg"] = auc(right, band) if band else ""
        table.append(row)
    print("Shipped poses, right within 0.25 deg and 4 mm or stale: area under the ROC curve\n")
    print_table(tuple(table[0]), [list(row.values()) for row in table])
    return table


if __name__ == "__main__":
    main()

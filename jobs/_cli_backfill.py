"""The command that makes one column of a build anew."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from jobs import _show
from jobs._cli_build import drive, run_options
from jobs._options import (
    FAILED,
    Column,
    EngineName,
    Json,
    MetricsPort,
    Out,
    Overrides,
    Workers,
    explained,
    fail,
)


def backfill(
    out: Out,
    column: Annotated[Column, typer.Option("--field", "-f", help="the column that is made anew")],
    overrides: Overrides = None,
    workers: Workers = None,
    engine: EngineName = None,
    metrics_port: MetricsPort = None,
    as_json: Json = False,
) -> None:
    """Make one column of a build anew, and take everything else from its staging folder.

    OUT was built with `--set staging.path=FOLDER`. Then

        robo4d backfill OUT --field depth --set depth.backend=none

    writes its shards again with another depth, without solving a camera or drawing a robot: those
    come from FOLDER, and RGB, state and actions from the source, as in any build. A view that is
    not in FOLDER, or that other code put there, is reconstructed.

    --set takes keys of the column (depth.*), of staging and of run. What changed is told by member;
    with depth go depth, confidence, robot_visible and meta.json, which says where they came from.
    Should another member differ, the exit code is 1: code or packages changed since, or an episode
    was set aside.
    Interrupted, the same command goes on.
    """
    from jobs.backfill import compare, plan_backfill
    from jobs.build import unfinished
    from pipeline.build import find_finished
    from pipeline.store import Store
    from pipeline.verify import read_plan
    from schemas.config import override

    with explained():
        target = Store.at(out)
        plan = read_plan(target)
        settings = run_options(overrides, engine, workers)
        before = find_finished(plan.shards, target)
        made = plan_backfill(plan, column, settings, unfinished(plan, target))
        run = override(plan.config, settings).run
        drive(made, target, run, metrics_port)
        after = find_finished(made.shards, target)
    changes = compare(list(before.values()), list(after.values()))
    beyond = changes.beyond(column)
    if as_json:
        told = {"field": str(column), "out": str(target), "staging": made.config.staging.path}
        print(json.dumps({**told, "shards": len(after), **changes.to_json(), "beyond": beyond}))
    else:
        for name, count in sorted((changes.changed + changes.added + changes.removed).items()):
            _show.say.print(f"{name}: differs in {count} of {changes.samples} samples")
        equal = sorted(changes.same.keys() - changes.changed.keys())
        _show.say.print(f"as before in all {changes.samples} samples: {', '.join(equal)}")
    if beyond:
        fail(
            f"{', '.join(beyond)} differ too: episodes were set aside that were not before (see "
            f"`robo4d stats {out}`), or code or packages are others than those that built {out}, "
            "and gave another result for what staging did not hold",
            FAILED,
        )

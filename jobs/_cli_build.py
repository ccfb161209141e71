"""Commands that plan, build and check a data set."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jobs import _show
from jobs._inputs import earlier_plan, plan_inputs
from jobs._options import (
    FAILED,
    INTERRUPTED,
    STOPPED,
    TOO_MUCH_QUARANTINE,
    Config,
    Data,
    EngineName,
    Json,
    MetricsPort,
    Out,
    Overrides,
    Replan,
    Sources,
    Workers,
    explained,
    fail,
)
from schemas.reasons import Reason, UsageError

if TYPE_CHECKING:
    from pipeline.store import Store
    from schemas.config import RunConfig
    from schemas.plan import BuildPlan


def plan(
    sources: Sources,
    data: Data = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="plan as a build there would go on")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="of --dry-run; default 1")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="what building takes and costs, by source")
    ] = False,
    replan: Replan = False,
    as_json: Json = False,
) -> None:
    """Show which records go into which shard, without building anything.

    With --dry-run: shards, clips, bytes, hours and money, at the prices of cost.prices, and the
    measured rates behind them (cost.rates). A source without a measured rate is unknown.
    """
    from jobs._plan import cost_json, print_cost, print_shards
    from pipeline.cost import estimate, load_prices, load_rates
    from pipeline.store import Store

    said = [] if workers is None else [f"run.workers={workers}"]
    with explained():
        previous = None if out is None or replan else earlier_plan(Store.at(out))
        made, run = plan_inputs(sources, data, config, [*(overrides or ()), *said], previous)
        if dry_run:
            rates, prices = load_rates(made.config.cost.rates), load_prices(made.config.cost.prices)
            cost = estimate(made, rates, prices, run.workers, previous)
    if dry_run and as_json:
        print(json.dumps(cost_json(cost)))
    elif dry_run:
        print_cost(cost)
    elif as_json:
        print(made.to_json().decode())
    else:
        print_shards(made)
    _show.announce(made, previous)


def build(
    sources: Sources,
    data: Data = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="folder or URL; default out/<source>")
    ] = None,
    workers: Workers = None,
    engine: EngineName = None,
    config: Config = None,
    overrides: Overrides = None,
    replan: Replan = False,
    part: Annotated[
        str | None,
        typer.Option(help="I/N, as 3/100: every N-th shard from I on, and no tables"),
    ] = None,
    metrics_port: MetricsPort = None,
    as_json: Json = False,
) -> None:
    """Build shards. Finished ones are kept, so an interrupted build goes on where it was.

    Where OUT holds a plan, its shards stay as far as their records, the configuration and the code
    are the same, and what is new gets shards of its own.

    The bytes are the same on every engine and for any number of workers. Beam and Ray run on this
    machine as they are; elsewhere with `--set run.beam.options=[...]`, `--set run.ray.address=...`.
    An array of jobs builds with --part; the same command without it writes the tables.
    """
    from pipeline.store import Store

    with explained():
        target = Store.at(out or "out/" + "-".join(name.partition("=")[0] for name in sources))
        previous = None if replan else earlier_plan(target)
        said = run_options(overrides, engine, workers)
        made, run = plan_inputs(sources, data, config, said, previous)
        _show.announce(made, previous)
        share = None if part is None else _part(part)
        _run(made, target, run, metrics_port, as_json, part=share)


def retry(
    out: Out,
    reasons: Annotated[
        list[Reason], typer.Option("--reason", "-r", help="of the quarantine; may be repeated")
    ],
    workers: Workers = None,
    engine: EngineName = None,
    config: Config = None,
    overrides: Overrides = None,
    metrics_port: MetricsPort = None,
    as_json: Json = False,
) -> None:
    """Build again only the shards with an episode that was set aside for a reason.

    For after the cause was mended: a file that could not be read, or code. Other shards stay as
    they are, also where the code is another now; every shard's lineage says which code built it.
    Records that changed in the source are seen by `robo4d build` itself. --config and --set may say
    where it runs (`run`); the rest is as OUT was built.
    """
    from jobs.build import set_aside_for, unfinished
    from pipeline.plan import renew
    from pipeline.store import Store
    from pipeline.verify import read_plan
    from schemas.config import load_config

    with explained():
        run = load_config(config, run_options(overrides, engine, workers)).run
        target = Store.at(out)
        made = read_plan(target)
        touched = set_aside_for(reasons, made, target)
        left = unfinished(made, target)  # by an earlier retry that was interrupted, for one
        if not touched | left:
            raise UsageError(f"no shard of {out} has an episode set aside for {', '.join(reasons)}")
        _show.say.print(f"{len(touched)} of {len(made.shards)} shards are built again")
        # It may not end early for the very reason that it is to mend.
        made = renew(made, touched | left)
        patient = made.config.quarantine.model_copy(update={"stop_after": None})
        made = replace(made, config=made.config.model_copy(update={"quarantine": patient}))
        _run(made, target, run, metrics_port, as_json, again=touched)


def run_options(overrides: list[str] | None, engine: str | None, workers: int | None) -> list[str]:
    chosen = {"run.engine": engine, "run.workers": workers}
    said = [f"{key}={value}" for key, value in chosen.items() if value is not None]
    return [*(overrides or ()), *said]


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise UsageError(f"--part is {text!r}; expected I/N with I from 0 to N - 1, as 3/100")


def _run(
    made: BuildPlan,
    target: Store,
    run: RunConfig,
    port: int | None,
    as_json: bool,
    *,
    part: tuple[int, int] | None = None,
    again: frozenset[str] = frozenset(),
) -> None:
    """Build with a bar and a summary; how it ends becomes the exit code."""
    began = time.monotonic()
    stats, skipped = drive(made, target, run, port, part=part, again=again)
    summary = _show.summary(made, stats, skipped, time.monotonic() - began, target)
    if as_json:
        print(json.dumps(summary))
    else:
        _show.print_summary(summary)
    share = summary["episodes_quarantined"] / max(summary["episodes_planned"], 1)
    if share > made.config.quarantine.max_share:
        _show.say.print(
            f"[red]{share:.0%} of the episodes are in quarantine; quarantine.max_share allows "
            f"{made.config.quarantine.max_share:.0%}"
        )
        raise typer.Exit(TOO_MUCH_QUARANTINE)


def drive(
    made: BuildPlan,
    target: Store,
    run: RunConfig,
    port: int | None,
    *,
    part: tuple[int, int] | None = None,
    again: frozenset[str] = frozenset(),
) -> tuple[dict[str, Any], int]:
    """Build with a bar: what `run_build` returns, and how many shards were there already. How a
    build ends early becomes the exit code.
    """
    from jobs._status import build_bar, stopping
    from jobs.build import TooMuchQuarantine, WorkerLost, run_build
    from jobs.monitor import Stopped

    skipped = 0

    def tell(status: dict[str, Any]) -> None:
        nonlocal skipped
        skipped = status["shards_skipped"]
        show(status)

    try:
        with build_bar() as show, stopping():
            stats = run_build(made, target, run, tell, port, part=part, again=again)
    except WorkerLost as error:
        fail(str(error), FAILED)
    except TooMuchQuarantine as error:
        fail(str(error), TOO_MUCH_QUARANTINE)
    except (Stopped, KeyboardInterrupt) as error:
        asked = STOPPED if isinstance(error, Stopped) else INTERRUPTED
        fail("stopped; the same command goes on from what is there", asked)
    return stats, skipped


def status(out: Out, as_json: Json = False) -> None:
    """How a build is, from any machine that sees OUT: shards, rate, time left, quarantine."""
    from jobs._status import print_status, read_status

    with explained():
        found = read_status(out)
    if as_json:
        print(json.dumps(found))
    else:
        print_status(found)


def verify(out: Out, as_json: Json = False) -> None:
    """Check a finished build: hash every shard, decode every sample, account for every episode."""
    from pipeline.store import Store
    from pipeline.verify import verify as run

    with explained(), _show.progress() as progress:
        bar = progress.add_task("verify", total=None)
        verdict = run(
            Store.at(out), lambda n, total: progress.update(bar, completed=n, total=total)
        )
    if as_json:
        print(json.dumps({"ok": not verdict.problems, **vars(verdict)}))
    else:
        for problem in verdict.problems:
            _show.say.print(f"[red]{escape(problem)}")
        _show.say.print(
            f"{verdict.shards} shards, {verdict.samples} samples, "
            f"{_show.human_bytes(verdict.bytes)}; "
            f"{verdict.episodes_planned} episodes planned = {verdict.episodes_built} built + "
            f"{verdict.episodes_quarantined} quarantined: "
            + (f"[red]{len(verdict.problems)} problems" if verdict.problems else "[green]sound")
        )
    if verdict.problems:
        raise typer.Exit(FAILED)


def stats(
    out: Out,
    top: Annotated[int, typer.Option(min=1, help="rows a table shows at most")] = 10,
    as_json: Json = False,
) -> None:
    """Count what a build holds: by source, split, outcome, task, scene, provenance, reason."""
    from jobs._stats import print_stats, read_stats

    with explained():
        found = read_stats(out)
    if as_json:
        print(json.dumps(found))
    else:
        print_stats(found, top)

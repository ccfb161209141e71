"""The `robo4d` command line.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 built, but with more in quarantine
than `quarantine.max_share` allows, 143 ended by SIGTERM, 130 by Ctrl-C.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from jobs import _show
from jobs._inputs import InputError, earlier_plan, plan_inputs
from schemas.reasons import UsageError

if TYPE_CHECKING:
    from robo4d import Dataset

FAILED, USAGE, TOO_MUCH_QUARANTINE = 1, 2, 3
INTERRUPTED, STOPPED = 130, 143  # 128 + the signal, as a shell says it

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Build metric 4D robot clips from published data sets. Start with `robo4d build "
    "--source droid`: with no data at hand it builds from a simulated twin.",
)
Sources = Annotated[
    list[str],
    typer.Option("--source", "-s", help="NAME, or NAME=DATA; several make one data set"),
]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="folder or URL of the published data; none: a twin"),
]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML; see configs/")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="override a key: --set clip.frames=25")
]
Replan = Annotated[
    bool, typer.Option("--replan", help="lay out all shards anew, whatever plan OUT holds")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output")]


@app.command()
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
    with _explain():
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


@app.command()
def build(
    sources: Sources,
    data: Data = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="folder or URL; default out/<source>")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="shards built at once; default 1")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", "-e", help="local (default), beam or ray")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    replan: Replan = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="loopback port where Prometheus may ask"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build shards. Finished ones are kept, so an interrupted build goes on where it was.

    Where OUT holds a plan, its shards stay as far as their records, the configuration and the code
    are the same, and what is new gets shards of its own.

    The bytes are the same on every engine and for any number of workers. Beam and Ray run on this
    machine as they are; elsewhere with `--set run.beam.options=[...]`, `--set run.ray.address=...`.
    """
    from jobs._status import build_bar, stopping
    from jobs.build import TooMuchQuarantine, WorkerLost, run_build
    from jobs.monitor import Stopped
    from pipeline.store import Store

    with _explain():
        chosen = {"run.engine": engine, "run.workers": workers}
        said = [f"{key}={value}" for key, value in chosen.items() if value is not None]
        target = Store.at(out or "out/" + "-".join(name.partition("=")[0] for name in sources))
        previous = None if replan else earlier_plan(target)
        made, run = plan_inputs(sources, data, config, [*(overrides or ()), *said], previous)
        _show.announce(made, previous)
        began = time.monotonic()
        skipped = 0

        def tell(status: dict[str, Any]) -> None:
            nonlocal skipped
            skipped = status["shards_skipped"]
            show(status)

        try:
            with build_bar() as show, stopping():
                indexes = run_build(made, target, run, tell, metrics_port)
        except WorkerLost as error:
            _fail(str(error), FAILED)
        except TooMuchQuarantine as error:
            _fail(str(error), TOO_MUCH_QUARANTINE)
        except (Stopped, KeyboardInterrupt) as error:
            asked = STOPPED if isinstance(error, Stopped) else INTERRUPTED
            _fail("stopped; the same command goes on from what is there", asked)
    summary = _show.summary(made, indexes, skipped, time.monotonic() - began, target)
    if as_json:
        print(json.dumps(summary))
    else:
        _show.print_summary(summary)
    share = summary["episodes_quarantined"] / made.episodes
    if share > made.config.quarantine.max_share:
        _show.say.print(
            f"[red]{share:.0%} of the episodes are in quarantine; quarantine.max_share allows "
            f"{made.config.quarantine.max_share:.0%}"
        )
        raise typer.Exit(TOO_MUCH_QUARANTINE)


@app.command()
def status(
    out: Annotated[str, typer.Argument(help="a build's folder or URL")], as_json: Json = False
) -> None:
    """How a build is, from any machine that sees OUT: shards, rate, time left, quarantine."""
    from jobs._status import print_status, read_status

    with _explain():
        found = read_status(out)
    if as_json:
        print(json.dumps(found))
    else:
        print_status(found)


@app.command()
def verify(
    out: Annotated[str, typer.Argument(help="a build's folder or URL")], as_json: Json = False
) -> None:
    """Check a finished build: hash every shard, decode every sample, account for every episode."""
    from pipeline.store import Store
    from pipeline.verify import verify as run

    with _explain(), _show.progress() as progress:
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


@app.command()
def stats(
    out: Annotated[str, typer.Argument(help="a build's folder or URL")],
    top: Annotated[int, typer.Option(min=1, help="rows a table shows at most")] = 10,
    as_json: Json = False,
) -> None:
    """Count what a build holds: by source, split, outcome, task, scene, provenance, reason."""
    from jobs._stats import print_stats, read_stats

    with _explain():
        found = read_stats(out)
    if as_json:
        print(json.dumps(found))
    else:
        print_stats(found, top)


@app.command()
def inspect(
    where: Annotated[str, typer.Argument(help="a build, a shard (.tar), or their URL")],
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="one sample; default: list")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="draw RGB, depth, robot to a PNG")
    ] = None,
    as_json: Json = False,
) -> None:
    """List samples, or show one: its fields, where each came from, and a picture of it."""
    with _explain(where):
        data = _open(where, key)
        if key is None and png is None:
            _show.list_samples(data, as_json)
            return
        sample = data[key if key is not None else 0]
        if as_json:
            print(json.dumps(sample.meta))
        else:
            _show.print_sample(sample)
        if png is not None:
            from qa.picture import save_picture

            save_picture(sample, png)
            _show.say.print(f"wrote {png}")


@app.command()
def explain(
    where: Annotated[str, typer.Argument(help="a build, a shard (.tar), or their URL")],
    key: Annotated[str, typer.Argument(help="a sample's key, an episode's id, or FILE#RECORD")],
    check: Annotated[
        bool, typer.Option("--check", help="read the record and hash the shard again")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", help="with --check: where the published data lies now"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say where a sample came from: record, checks, clip, camera, configuration, code, packages.

    Of an episode that was set aside: why, and the chain as far as it went.
    """
    from jobs._explain import explain_key, holds, print_chains

    with _explain(where):
        found = explain_key(where, key, check=check, source_data=data)
    if as_json:
        print(json.dumps(found))
    else:
        print_chains(found)
    if not holds(found):
        raise typer.Exit(FAILED)


@app.command()
def overlay(
    where: Annotated[str, typer.Argument(help="a build, a shard (.tar), or their URL")],
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="one sample; default: all, up to --limit")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder")] = Path("out/overlay"),
    limit: Annotated[int, typer.Option(min=1, help="samples drawn at most")] = 12,
    as_json: Json = False,
) -> None:
    """Draw the robot over a sample's frames, to see whether its camera is right.

    Each sample gives OUT/KEY.png (frames spread over the clip) and OUT/KEY.mp4 (all of it). The
    outline must lie on the robot in every frame, whatever its posture; a constant gap is a wrong
    camera, one that comes and goes with motion is late images. Colours tell links apart; they are
    faint where something hides the robot. Where the source shipped a camera that was not taken as
    it is, "before" shows that one and "after" the sample's own. A sample without a camera is named
    with the reason and gets no picture. Keys: `robo4d inspect WHERE`.
    """
    from jobs._overlay import draw_samples, print_drawn

    with _explain(where), _show.progress() as progress:
        data = _open(where, key)
        bar = progress.add_task("samples", total=min(limit, len(data)) if key is None else 1)
        done = draw_samples(data, key, out, limit, lambda n: progress.update(bar, completed=n))
    if as_json:
        print(json.dumps(done))
    else:
        print_drawn(done)


@app.command()
def twin(
    source: Annotated[str, typer.Option("--source", "-s", help="whose layout to imitate")],
    out: Annotated[Path, typer.Option("--out", "-o", help="new folder for the data set")],
    episodes: Annotated[int, typer.Option(min=1)] = 3,
    seed: int = 0,
) -> None:
    """Simulate a small data set in a source's published layout, with ground truth beside it."""
    from simulation.twin import make_twin

    with _explain(), _show.progress() as progress:
        bar = progress.add_task("episodes", total=episodes)
        path = make_twin(
            source,
            out,
            episodes=episodes,
            seed=seed,
            progress=lambda n, total: progress.update(bar, completed=n, total=total),
        )
    print(path)


@app.command()
def rollout(
    task: Annotated[int, typer.Option("--task", "-t", help="its number in the suite")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the data set")],
    suite: Annotated[
        str, typer.Option(help="libero_spatial, libero_object or libero_goal")
    ] = "libero_spatial",
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="chooses initial states and noise")] = 0,
    as_json: Json = False,
) -> None:
    """Make LIBERO episodes, successes and failures, in the layout of its demonstrations.

    A scripted policy acts in LIBERO's own simulator, with noise of several kinds and strengths;
    the simulator's own check says what became of it. The file is OUT/SUITE/TASK_demo.hdf5;
    `robo4d build --source libero --data OUT` builds shards from it. An unknown task is answered
    with the known ones. LIBERO needs an environment of its own: `make libero-env`.
    """
    from simulation.rollout import RolloutFailed, roll_out

    with _explain(), _show.progress() as progress:
        bar = progress.add_task("episodes", total=episodes)
        try:
            made = roll_out(
                suite,
                task,
                out,
                episodes=episodes,
                seed=seed,
                progress=lambda n, total: progress.update(bar, completed=n, total=total),
            )
        except RolloutFailed as error:
            _fail(str(error), FAILED)
    if as_json:
        print(json.dumps({"path": str(made.path), **made.counts(), "episodes": made.episodes}))
    else:
        _show.print_rollout(made)
        print(made.path)


def _open(where: str, key: str | None) -> Dataset:
    import robo4d
    from pipeline.retries import read_input
    from pipeline.store import cannot_open

    try:
        data = read_input(lambda: robo4d.open(where), where)
    except robo4d.FormatError as error:
        raise UsageError(str(error)) from error
    except (ImportError, ValueError) as error:
        raise UsageError(cannot_open(where, error)) from error
    if key is not None and key not in data.keys:
        raise UsageError(f"no sample {key!r} in {where}; `robo4d inspect {where}` lists them")
    return data


@contextmanager
def _explain(reads: str | None = None) -> Iterator[None]:
    """Turn errors into messages and exit codes.

    Args:
        reads: the build that a command reads; what its store raises is explained too.
    """
    from pipeline.retries import said, store_errors
    from pipeline.store import OutputError

    try:
        yield
    except UsageError as error:
        _fail(str(error), USAGE)
    except (InputError, OutputError) as error:
        _fail(str(error), FAILED)
    except store_errors() as error:
        if reads is None:
            raise
        _fail(f"{reads}: {said(error)}", FAILED)


def _fail(message: str, code: int) -> NoReturn:
    _show.say.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()

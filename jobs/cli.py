"""The `robo4d` command line.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 built, but with more in quarantine
than `quarantine.max_share` allows.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from schemas.reasons import UsageError

if TYPE_CHECKING:
    from robo4d.shard import ShardIndex
    from schemas.plan import BuildPlan, ShardTask

FAILED, USAGE, TOO_MUCH_QUARANTINE = 1, 2, 3

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Build metric 4D robot clips from published data sets. Start with `robo4d build "
    "--source droid`: with no data at hand it builds from a simulated twin.",
)
say = Console(stderr=True, highlight=False)

Source = Annotated[str, typer.Option("--source", "-s", help="droid or bridge")]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="folder or URL of the published data; none: a twin"),
]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML; see configs/")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="override a key: --set clip.frames=25")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output")]


@app.command()
def plan(
    source: Source,
    data: Data = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show which records go into which shard, without building anything."""
    with _explain():
        made = _make_plan(source, data, config, overrides)
    if as_json:
        print(made.model_dump_json())
        return
    table = Table("shard", "episodes", "source bytes", "unreadable")
    for task in made.shards:
        lost = sum(ref.defect is not None for ref in task.refs)
        size = sum(ref.length for ref in task.refs)
        table.add_row(task.name, str(len(task.refs)), _bytes(size), str(lost or ""))
    Console().print(table)
    _announce(made)


@app.command()
def build(
    source: Source,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="default out/<source>")] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1)] = 1,
    config: Config = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Build shards. Finished ones are kept, so an interrupted build goes on where it was."""
    from jobs.local import WorkerLost, run_local
    from pipeline.publish import OutputError

    with _explain():
        made = _make_plan(source, data, config, overrides)
        target = out or Path("out") / made.source
        _announce(made)
        began, skipped = time.monotonic(), 0
        with _progress() as progress:
            bar = progress.add_task("shards", total=len(made.shards))

            def done(task: ShardTask, index: ShardIndex, was_there: bool) -> None:
                nonlocal skipped
                skipped += was_there
                progress.advance(bar)

            try:
                indexes = run_local(made, target, workers, done)
            except (OutputError, WorkerLost) as error:
                _fail(str(error), FAILED)
    summary = _summary(made, indexes, skipped, time.monotonic() - began, target)
    if as_json:
        print(json.dumps(summary))
    else:
        _print_summary(summary)
    share = summary["episodes_quarantined"] / made.episodes
    if share > made.config.quarantine.max_share:
        say.print(
            f"[red]{share:.0%} of the episodes are in quarantine; quarantine.max_share allows "
            f"{made.config.quarantine.max_share:.0%}"
        )
        raise typer.Exit(TOO_MUCH_QUARANTINE)


@app.command()
def verify(out: Path, as_json: Json = False) -> None:
    """Check a finished build: hash every shard, decode every sample, account for every episode."""
    from pipeline.verify import verify as run

    with _explain(), _progress() as progress:
        bar = progress.add_task("verify", total=None)
        verdict = run(out, lambda n, total: progress.update(bar, completed=n, total=total))
    if as_json:
        print(json.dumps({"ok": not verdict.problems, **vars(verdict)}))
    else:
        for problem in verdict.problems:
            say.print(f"[red]{escape(problem)}")
        say.print(
            f"{verdict.shards} shards, {verdict.samples} samples, {_bytes(verdict.bytes)}; "
            f"{verdict.episodes_planned} episodes planned = {verdict.episodes_built} built + "
            f"{verdict.episodes_quarantined} quarantined: "
            + (f"[red]{len(verdict.problems)} problems" if verdict.problems else "[green]sound")
        )
    if verdict.problems:
        raise typer.Exit(FAILED)


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
    import robo4d

    with _explain():
        try:
            data = robo4d.open(where)
        except FileNotFoundError as error:
            raise UsageError(str(error)) from error
        if key is not None and key not in data.keys:
            raise UsageError(f"no sample {key!r} in {where}; `robo4d inspect {where}` lists them")
        if key is None and png is None:
            _list_samples(data, as_json)
            return
        sample = data[key if key is not None else 0]
        if as_json:
            print(json.dumps(sample.meta))
        else:
            _print_sample(sample)
        if png is not None:
            from qa.picture import save_picture

            save_picture(sample, png)
            say.print(f"wrote {png}")


@app.command()
def twin(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="new folder for the data set")],
    episodes: Annotated[int, typer.Option(min=1)] = 3,
    seed: int = 0,
) -> None:
    """Simulate a small data set in a source's published layout, with ground truth beside it."""
    from simulation.twin import make_twin

    with _explain(), _progress() as progress:
        bar = progress.add_task("episodes", total=episodes)
        path = make_twin(
            source,
            out,
            episodes=episodes,
            seed=seed,
            progress=lambda n, total: progress.update(bar, completed=n, total=total),
        )
    print(path)


def _make_plan(
    source: str, data: str | None, config: Path | None, overrides: list[str] | None
) -> BuildPlan:
    from converters import check_source
    from pipeline.plan import make_plan
    from schemas.config import load_config

    settings = load_config(config, overrides or ())
    check_source(source)  # an unknown source is said before a twin is made for it
    if data is None:
        from simulation.twin import default_twin

        with _progress() as progress:
            bar = progress.add_task("simulating a twin, once", total=None)
            made = default_twin(
                source,
                _cache() / "twins",
                progress=lambda n, total: progress.update(bar, completed=n, total=total),
            )
        data = str(made)
    return make_plan(source, data, settings, _cache() / "index")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ROBO4D_CACHE") or Path(base) / "robo4d")


@contextmanager
def _explain() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        _fail(str(error), USAGE)


def _fail(message: str, code: int) -> None:
    say.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=say,
        transient=True,
    )


def _announce(made: BuildPlan) -> None:
    kind = "a simulated TWIN, not published data" if made.twin else "published data"
    say.print(
        f"[bold]{made.source}[/]: {made.episodes} episodes of {made.dataset} in "
        f"{len(made.shards)} shard(s); the input is {kind}: {escape(made.data)}",
        soft_wrap=True,
    )
    for note in made.notes:
        say.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


def _summary(
    made: BuildPlan, indexes: list[ShardIndex], skipped: int, seconds: float, out: Path
) -> dict[str, Any]:
    from pipeline.manifest import merge

    rows, quarantine = merge(indexes)
    built = len({(row.file, row.record) for row in rows})
    return {
        "source": made.source,
        "twin": made.twin,
        "out": str(out),
        "shards": len(indexes),
        "shards_skipped": skipped,
        "episodes_planned": made.episodes,
        "episodes_built": built,
        "episodes_quarantined": len(quarantine),
        "quarantine_by_reason": dict(Counter(str(row.reason) for row in quarantine)),
        "samples": len(rows),
        "bytes": sum(index.size for index in indexes),
        "seconds": round(seconds, 2),
        "episodes_per_s": None if skipped else round(made.episodes / max(seconds, 1e-9), 3),
        "geometry": dict(Counter(row.depth_from for row in rows)),
        "notes": list(made.notes),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    rate = summary["episodes_per_s"]
    say.print(
        f"[green]built[/] {summary['episodes_built']} of {summary['episodes_planned']} episodes, "
        f"{summary['samples']} samples, {_bytes(summary['bytes'])} in {summary['shards']} shard(s) "
        f"({summary['shards_skipped']} were there already), {summary['seconds']} s"
        + (f", {rate} episodes/s" if rate else "")
    )
    for reason, count in sorted(summary["quarantine_by_reason"].items()):
        say.print(f"[yellow]quarantined[/] {count}: {reason}")
    if set(summary["geometry"]) == {"absent"}:
        say.print(
            "scene geometry is absent: this source ships no camera or depth; kinematics is in"
        )
    say.print(f"{summary['out']}: `robo4d verify {summary['out']}` checks it", soft_wrap=True)


def _list_samples(data: Any, as_json: bool) -> None:
    rows = [
        {"key": s.key, "id": s.meta["id"], "camera": s.meta["camera"], "frames": s.meta["frames"]}
        for s in data
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("key", "episode", "camera", "frames")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def _print_sample(sample: Any) -> None:
    meta = sample.meta
    out = Console(highlight=False)
    out.print(f"[bold]{escape(meta['id'])}[/] {meta['camera']}  key {sample.key}")
    out.print(
        f"{meta['frames']} frames of {meta['size']} at {meta['fps']:.3g} Hz, {meta['outcome']}"
    )
    out.print(f"instructions: {meta['instructions']}", markup=False)
    table = Table("field", "provenance", "why absent")
    for name, said in meta["fields"].items():
        table.add_row(name, said["provenance"], said.get("reason", ""))
    out.print(table)
    out.print(f"quality: {meta['quality']}", markup=False)


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


if __name__ == "__main__":
    app()

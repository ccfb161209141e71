"""Commands that look into built samples, and those that make source data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import _show
from jobs._options import FAILED, Json, Where, explained, fail
from schemas.reasons import UsageError

if TYPE_CHECKING:
    from robo4d import Dataset


def inspect(
    where: Where,
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="one sample; default: list")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="draw RGB, depth, robot to a PNG")
    ] = None,
    as_json: Json = False,
) -> None:
    """List samples, or show one: its fields, where each came from, and a picture of it."""
    with explained(where):
        data = open_build(where, key)
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


def explain(
    where: Where,
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

    with explained(where):
        found = explain_key(where, key, check=check, source_data=data)
    if as_json:
        print(json.dumps(found))
    else:
        print_chains(found)
    if not holds(found):
        raise typer.Exit(FAILED)


def overlay(
    where: Where,
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

    with explained(where), _show.progress() as progress:
        data = open_build(where, key)
        bar = progress.add_task("samples", total=min(limit, len(data)) if key is None else 1)
        done = draw_samples(data, key, out, limit, lambda n: progress.update(bar, completed=n))
    if as_json:
        print(json.dumps(done))
    else:
        print_drawn(done)


def twin(
    source: Annotated[str, typer.Option("--source", "-s", help="whose layout to imitate")],
    out: Annotated[Path, typer.Option("--out", "-o", help="new folder for the data set")],
    episodes: Annotated[int, typer.Option(min=1)] = 3,
    seed: int = 0,
) -> None:
    """Simulate a small data set in a source's published layout, with ground truth beside it."""
    from simulation.twin import make_twin

    with explained(), _show.progress() as progress:
        bar = progress.add_task("episodes", total=episodes)
        path = make_twin(
            source,
            out,
            episodes=episodes,
            seed=seed,
            progress=lambda n, total: progress.update(bar, completed=n, total=total),
        )
    print(path)


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

    with explained(), _show.progress() as progress:
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
            fail(str(error), FAILED)
    if as_json:
        print(json.dumps({"path": str(made.path), **made.counts(), "episodes": made.episodes}))
    else:
        _show.print_rollout(made)
        print(made.path)


def open_build(where: str, key: str | None = None) -> Dataset:
    """A build to read.

    Args:
        key: a sample that must be there.

    Raises:
        UsageError: it cannot be opened, or has no such sample.
    """
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

"""What a build reads: sources and data as the command line names them, or twins in their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jobs._show import progress
from schemas.reasons import UsageError

if TYPE_CHECKING:
    from pipeline.store import Store
    from schemas.config import RunConfig
    from schemas.plan import BuildPlan


class InputError(RuntimeError):
    """Data that a build was to read could not be made."""


def earlier_plan(store: Store) -> BuildPlan | None:
    """The plan that ``store`` holds, which the next one goes on from; None: there is none.

    Raises:
        UsageError: it is damaged.
    """
    from pipeline.verify import read_plan

    try:
        return read_plan(store)
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise UsageError(f"{error}; --replan lays out all shards anew") from error


def plan_inputs(
    sources: list[str],
    data: str | None,
    config: Path | None,
    overrides: list[str] | None,
    previous: BuildPlan | None = None,
) -> tuple[BuildPlan, RunConfig]:
    """The plan of a build, and where it is to run.

    A source without data gets its twin, made on first use.

    Args:
        sources: NAME or NAME=DATA, each.
        data: of the one source that is named without.
        previous: see `pipeline.plan.make_plan`.

    Raises:
        UsageError: the arguments, the configuration or the data are wrong.
        InputError: no stand-in could be made.
    """
    from converters import check_source
    from pipeline.plan import make_plan
    from schemas.config import load_config

    settings = load_config(config, overrides or ())
    inputs: dict[str, str] = {}
    for source in sources:
        name, _, place = source.partition("=")
        check_source(name)  # an unknown source is said before a twin is made for it
        if name in inputs:
            raise UsageError(f"--source {name} is given twice")
        inputs[name] = place
    if data is not None:
        if len(inputs) > 1 or any(inputs.values()):
            raise UsageError("--data goes with one --source NAME; else give --source NAME=DATA")
        inputs = dict.fromkeys(inputs, data)
    inputs = {
        name: place or default_data(name, twin=name != "libero") for name, place in inputs.items()
    }
    return make_plan(inputs, settings, cache_folder() / "index", previous), settings.run


def default_data(source: str, *, twin: bool) -> str:
    """The data set of the source's twin, or LIBERO's rollouts; made on first use.

    Raises:
        UsageError: there is no such twin, or no LIBERO here.
        InputError: the simulator died.
    """
    from simulation.twin import default_twin

    if not twin:
        return _rollouts()
    with progress() as shown:
        bar = shown.add_task(f"simulating a twin of {source}, once", total=None)
        made = default_twin(
            source,
            cache_folder() / "twins",
            progress=lambda n, total: shown.update(bar, completed=n, total=total),
        )
    return str(made)


def _rollouts() -> str:
    """LIBERO episodes in the place of a twin, made on first use."""
    from simulation.rollout import RolloutFailed, default_rollouts

    with progress() as shown:
        bar = shown.add_task("rolling out episodes in LIBERO, once", total=None)
        try:
            made = default_rollouts(
                cache_folder() / "twins",
                progress=lambda n, total: shown.update(bar, completed=n, total=total),
            )
        except RolloutFailed as error:
            raise InputError(str(error)) from error
    return str(made)


def cache_folder() -> Path:
    """Where stand-ins, and what is built of them, are kept: ROBO4D_CACHE, or ~/.cache/robo4d."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ROBO4D_CACHE") or Path(base) / "robo4d")

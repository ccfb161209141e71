"""What the accuracy board reads: builds as they are, or made of twins, rollouts, real data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from jobs._inputs import InputError, cache_folder, default_data, earlier_plan, plan_inputs
from jobs._show import progress
from schemas.reasons import UsageError

_TWIN = "twin:"


def bench_folder(data: str) -> str:
    """A build to judge depth on, made on first use.

    Args:
        data: ``libero[=DIR]``, LIBERO's demonstrations or fresh rollouts, with their simulator's
            depth; ``twin:SOURCE[=DIR]``, with the twin's truth; ``SOURCE=DIR``, real data with the
            cameras that a build finds, and no depth; or else a build's folder or URL.

    Raises:
        UsageError: a source without its data; as `jobs._inputs.plan_inputs`.
        InputError: nothing could be built.
        OutputError: the cache cannot be written.
    """
    from converters import SOURCES

    name, _, place = data.partition("=")
    simulated = name == "libero" or name.startswith(_TWIN)
    source = name.removeprefix(_TWIN)
    if not simulated and (source not in SOURCES or not place):
        if source in SOURCES and not Path(data).exists():
            raise UsageError(
                f"--data {source}: name the real data as {source}=DIR, or take "
                f"{_TWIN}{source}, its twin"
            )
        return data
    return _build(source, place or default_data(source, twin=name.startswith(_TWIN)), simulated)


def _build(source: str, place: str, simulated: bool) -> str:
    """Shards of that data, kept in the cache while configuration and code stay the same."""
    # Engines and their processes; a board of folders needs none.
    from jobs.build import TooMuchQuarantine, WorkerLost, run_build
    from pipeline.store import Store

    which = hashlib.sha256(place.encode()).hexdigest()[:12]
    out = str(cache_folder() / "bench" / f"{source}-{which}")
    # Real depth by a network is what the board judges, not what it judges by.
    backend = "simulator" if simulated else "none"
    settings = [f"depth.backend={backend}", "run.log=none"]
    store = Store.at(out)
    previous = earlier_plan(store)
    made, run = plan_inputs([f"{source}={place}"], None, None, settings, previous)
    with progress() as shown:
        bar = shown.add_task(f"building clips of {source}, once", total=len(made.shards))
        try:
            run_build(
                made,
                store,
                run,
                lambda status: shown.update(
                    bar, completed=status["shards_done"], total=status["shards"]
                ),
            )
        except (TooMuchQuarantine, WorkerLost) as error:
            raise InputError(f"clips of {source} cannot be built from {place}: {error}") from error
    return out

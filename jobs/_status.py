"""How a build is: its bar while it runs, and `robo4d status` from any machine."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobs._show import human_bytes, say
from jobs.monitor import COUNTS, FOLDER, Stopped
from pipeline.store import Store
from schemas.reasons import UsageError

# A build writes its status every 5 s, or every 15 on an object store.
_SILENT = 60.0
_STATES = ["failed", "stopped", "building", "merging", "done"]


@contextmanager
def build_bar() -> Iterator[Any]:
    """A bar of shards with clips a second, quarantine by reason and time left; gives what takes
    the status.
    """
    with Progress(
        TextColumn("shards"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=say,
        transient=True,
    ) as shown:
        bar = shown.add_task("", total=None)

        def tell(status: dict[str, Any]) -> None:
            shown.update(
                bar,
                description=_in_words(status),
                completed=status["shards_done"],
                total=status["shards"],
            )

        yield tell


@contextmanager
def stopping() -> Iterator[None]:
    """SIGTERM ends the build as Ctrl-C does: what is being built is given up, the rest is kept."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped("SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def read_status(where: str) -> dict[str, Any]:
    """What a build last said of itself. ``silent_s`` is how long ago that was.

    Raises:
        UsageError: there is no build, or none that says anything.
        OutputError: the store does not answer.
    """
    store = Store.at(where)
    names = sorted(name for name in store.names(FOLDER) if name.endswith(".json"))
    if not names:
        raise UsageError(f"{where} holds no build that tells its status")
    found = [_read(store, f"{FOLDER}/{name}") for name in names]
    newest = max(found, key=lambda status: float(status["began"]))
    if newest["part"] is None:
        return newest
    # Another array may have had another number of parts.
    count = newest["part"].partition("/")[2]
    return _together([s for s in found if s["part"] and s["part"].partition("/")[2] == count])


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One status of a build in parts: the least finished one's, with everybody's counts."""
    parts = sorted(parts, key=lambda part: (not part["lost"], _STATES.index(part["state"])))
    quarantine: Counter[str] = Counter()
    for part in parts:
        quarantine.update(part["quarantine"])
    rates = [part["clips_per_s"] for part in parts if part["clips_per_s"] is not None]
    left = [part["eta_s"] for part in parts if part["eta_s"] is not None]
    counts = {name: sum(part[name] for part in parts) for name in COUNTS}
    return (
        parts[0]
        | counts
        | {
            "quarantine": dict(quarantine),
            "workers": sum(part["workers"] for part in parts),
            "parts": Counter("lost" if part["lost"] else part["state"] for part in parts),
            "clips_per_s": sum(rates) if rates else None,
            "eta_s": max(left, default=None),
        }
    )


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        status = json.loads(store.read(name))
        silent = max(time.time() - float(status["updated"]), 0.0)
        running = status["state"] in ("building", "merging")
        _check(status)
    except OSError as error:
        raise UsageError(f"the status {store.path(name)} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the status {store.path(name)} is damaged: {error!r}") from error
    return {**status, "silent_s": round(silent, 1), "lost": running and silent > _SILENT}


def _check(status: dict[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError where it is not what a `Monitor` writes."""
    _STATES.index(status["state"])
    for name in (*COUNTS, "began", "workers", "seconds"):
        float(status[name])
    for name in ("clips_per_s", "eta_s"):
        float(status[name] or 0)
    for name in ("why", "engine", "host"):
        status[name].encode()
    sum(status["quarantine"].values())
    if status["part"] is not None:
        status["part"].partition("/")


def print_status(status: dict[str, Any]) -> None:
    """The status as a table."""
    table = Table(show_header=False)
    state = status["state"] + (f": {status['why']}" if status["why"] else "")
    if status["lost"]:
        state += (
            f", but nothing was heard for {status['silent_s']:.0f} s: it was killed, or cannot "
            "reach its store; the same command goes on from what is there"
        )
    table.add_row("state", escape(state))
    table.add_row(
        "where",
        escape(f"{status['engine']}, {status['workers']} workers, from {status['host']}"),
    )
    if "parts" in status:
        said = ", ".join(f"{count} {state}" for state, count in status["parts"].items())
        table.add_row("parts", f"{said}; the first line is of {status['part']}")
    table.add_row("shards", f"{status['shards_done']} of {status['shards']}")
    table.add_row("episodes", f"{status['episodes_done']} of {status['episodes']}")
    table.add_row("clips", f"{status['samples']}, {human_bytes(status['bytes'])}")
    for reason, count in sorted(status["quarantine"].items()):
        table.add_row("quarantined", escape(f"{count} {reason}"))
    if status["clips_per_s"] is not None:
        table.add_row("rate", f"{status['clips_per_s']:.3g} clips/s over {status['seconds']:.0f} s")
    if status["eta_s"] is not None and status["state"] == "building":
        table.add_row("left", _duration(status["eta_s"]))
    say.print(table)


def _in_words(status: dict[str, Any]) -> str:
    said = []
    if status["clips_per_s"] is not None:
        said.append(f"{status['clips_per_s']:.3g} clips/s")
    said += [
        f"[yellow]{n} {escape(reason)}[/]" for reason, n in sorted(status["quarantine"].items())
    ]
    if status["eta_s"] is not None:
        said.append(f"{_duration(status['eta_s'])} left")
    return ", ".join(said)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"

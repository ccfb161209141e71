"""What the commands share: their options, exit codes, and how errors are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from jobs._inputs import InputError
from jobs._show import say
from schemas.reasons import UsageError

FAILED, USAGE, TOO_MUCH_QUARANTINE = 1, 2, 3
INTERRUPTED, STOPPED = 130, 143  # 128 + the signal, as a shell says it

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
Out = Annotated[str, typer.Argument(help="a build's folder or URL")]
Where = Annotated[str, typer.Argument(help="a build, a shard (.tar), or their URL")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="shards built at once; default 1")
]
EngineName = Annotated[
    str | None, typer.Option("--engine", "-e", help="local (default), beam or ray")
]
MetricsPort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="loopback port where Prometheus may ask")
]


class Column(StrEnum):
    """What can be made anew alone. Its name is also that of its part of the configuration."""

    DEPTH = "depth"


@contextmanager
def explained(reads: str | None = None) -> Iterator[None]:
    """Turn errors into messages and exit codes.

    Args:
        reads: the build that a command reads; what its store raises is explained too.
    """
    from pipeline.retries import said, store_errors
    from pipeline.store import OutputError

    try:
        yield
    except UsageError as error:
        fail(str(error), USAGE)
    except (InputError, OutputError) as error:
        fail(str(error), FAILED)
    except store_errors() as error:
        if reads is None:
            raise
        fail(f"{reads}: {said(error)}", FAILED)


def fail(message: str, code: int) -> NoReturn:
    say.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code)

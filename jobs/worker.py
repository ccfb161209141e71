"""What every worker process does first, on any engine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from jobs.logs import begin_log
from pipeline.build import ShardBuilder
from schemas.config import RunConfig


def begin_worker(builder: ShardBuilder, run: RunConfig, parent: int | None = None) -> None:
    """Set up this process for building shards.

    Args:
        parent: process that this one ends with; None: whoever started it looks after it.
    """
    begin_log(builder.store, run.log)
    if parent is not None:
        end_with(parent, lambda: os._exit(1))


def end_with(process: int, end: Callable[[], object]) -> None:
    """Call ``end`` when ``process`` is gone, however it went, so that no orphan writes beside the
    next build.
    """

    def watch() -> None:
        while _is_there(process):
            time.sleep(0.2)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Dead, and not yet buried by its own parent."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return False

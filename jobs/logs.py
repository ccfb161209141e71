"""Structured logs: one JSON object a line, with the shard and the episode it is about."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Literal

from jobs.monitor import FOLDER
from pipeline.store import Store

LogTo = Literal["auto", "stderr", "none"]


class JsonLines(logging.Formatter):
    """``time`` is UTC; what a message carries as ``extra={"facts": {...}}`` stands beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "host": socket.gethostname(),
            "pid": record.process,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def begin_log(store: Store, to: LogTo) -> None:
    """Send what this process logs to a file of its own beside the shards, or to standard error.

    Args:
        to: auto takes a file where the store is a folder, else standard error, which every
            cluster collects.
    """
    logger = logging.getLogger("robo4d")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.propagate = False
    handler: logging.Handler
    if to == "none":
        handler = logging.NullHandler()
    elif to == "auto" and store.folder is not None:
        handler = logging.FileHandler(_file(store.folder), delay=True)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _file(folder: Path) -> Path:
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    return folder / FOLDER / f"{socket.gethostname()}-{os.getpid()}.jsonl"

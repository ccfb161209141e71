"""What a running build tells: a status that any machine can read, metrics, and its progress."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.store import OutputError, Store
from robo4d.shard import ShardIndex
from schemas.config import RunConfig
from schemas.plan import BuildPlan, ShardTask
from schemas.reasons import UsageError

# Beside the shards, in a folder that no reader looks into: it differs from run to run.
FOLDER, STATUS, METRICS = ".run", "status", "metrics"
# What a build in parts has the sum of.
COUNTS = (
    *("shards", "shards_done", "shards_skipped", "episodes", "episodes_done"),
    *("episodes_quarantined", "samples", "bytes"),
)
_EVERY = 5.0  # s between two writings; on object stores three times as much
Tell = Callable[[dict[str, Any]], None]


class Monitor:
    """Counts what a build has done and writes it down every few seconds, until it is left.

    Args:
        plan: what is built; of a part its shards alone.
        tell: called with the status after every shard.
        port: of loopback, where Prometheus may ask; None: no endpoint.
        part: (i, n) where it is one of n, each with files of its own.
    """

    def __init__(
        self,
        plan: BuildPlan,
        store: Store,
        run: RunConfig,
        tell: Tell | None = None,
        port: int | None = None,
        part: tuple[int, int] | None = None,
    ) -> None:
        self._store, self._tell, self._port = store, tell, port
        self._server: WSGIServer | None = None
        self._mark = "" if part is None else f"-{part[0]}-of-{part[1]}"
        self._episodes = plan.episodes
        self._began = time.monotonic()
        self._fresh: Counter[str] = Counter()  # of this run; the rest was there before
        self._reasons: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self._status: dict[str, Any] = {
            "part": None if part is None else f"{part[0]}/{part[1]}",
            "state": "building",
            "why": "",
            "engine": run.engine,
            "workers": run.workers,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "began": time.time(),
            "sources": [source.source for source in plan.sources],
            "code": plan.code,
            "shards": len(plan.shards),
            "shards_done": 0,
            "shards_skipped": 0,
            "episodes": plan.episodes,
            "episodes_done": 0,
            "episodes_quarantined": 0,
            "samples": 0,
            "bytes": 0,
        }
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(self.status))

    def __enter__(self) -> Self:
        if self._port is not None:
            # Loopback: whoever is to read it from elsewhere puts a proxy before it.
            try:
                self._server, _ = start_http_server(self._port, "127.0.0.1", self._registry)
            except OSError as error:
                raise UsageError(f"--metrics-port {self._port} cannot be used: {error}") from error
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        with self._lock:
            if error is None:
                self._status["state"] = "done"
            else:
                self._status |= {"state": "stopped" if _is_stop(error) else "failed"}
                self._status["why"] = str(error) or type(error).__name__
        self._write()

    def shard(self, task: ShardTask, index: ShardIndex, was_there: bool) -> None:
        """Count a shard that is there."""
        quarantine, samples = index.build["quarantine"], len(index.samples)
        with self._lock:
            status = self._status
            status["shards_done"] += 1
            status["shards_skipped"] += was_there
            status["episodes_done"] += len(task.refs)
            status["episodes_quarantined"] += len(quarantine)
            status["samples"] += samples
            status["bytes"] += index.size
            self._reasons.update(row["reason"] for row in quarantine)
            if not was_there:
                self._fresh.update(episodes=len(task.refs), samples=samples)
        if self._tell is not None:
            self._tell(self.status())

    def merging(self) -> None:
        """All shards are there; the tables are being written."""
        with self._lock:
            self._status["state"] = "merging"

    def status(self) -> dict[str, Any]:
        """What is known now, as JSON. ``eta_s`` is null until a shard of this run is done."""
        with self._lock:
            seconds = time.monotonic() - self._began
            episodes = self._fresh["episodes"]
            left = self._episodes - self._status["episodes_done"]
            return self._status | {
                "quarantine": dict(self._reasons),
                "updated": time.time(),
                "seconds": round(seconds, 1),
                "clips_per_s": round(self._fresh["samples"] / seconds, 4) if episodes else None,
                "eta_s": round(left * seconds / episodes, 1) if episodes else None,
            }

    def _write_on(self) -> None:
        every = _EVERY if self._store.folder is not None else 3 * _EVERY
        while not self._left.wait(every):
            self._write()

    def _write(self) -> None:
        try:
            self._store.publish_bytes(
                f"{FOLDER}/{STATUS}{self._mark}.json", json.dumps(self.status()).encode()
            )
            self._store.publish_bytes(
                f"{FOLDER}/{METRICS}{self._mark}.prom", generate_latest(self._registry)
            )
        except OutputError:
            # The build meets the same trouble with its shards and says so; a status that cannot
            # be written is no reason to end it.
            return


class Stopped(BaseException):
    """The build was asked to end (SIGTERM, Ctrl-C); no `Exception`, so that nothing swallows it."""


def _is_stop(error: BaseException) -> bool:
    return isinstance(error, Stopped | KeyboardInterrupt)


class _Gauges(Collector):
    """The status as Prometheus' gauges, read when they are asked for."""

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def collect(self) -> list[Metric]:
        status = self._status()
        out: list[Metric] = []
        for name, what in _HELP.items():
            if status[name] is not None:
                out.append(GaugeMetricFamily(f"robo4d_{name}", what, value=float(status[name])))
        reasons = GaugeMetricFamily(
            "robo4d_quarantine", "Episodes set aside, by reason", labels=["reason"]
        )
        for reason, count in status["quarantine"].items():
            reasons.add_metric([reason], count)
        state = GaugeMetricFamily("robo4d_state", "1 for the build's state", labels=["state"])
        state.add_metric([status["state"]], 1)
        return [*out, reasons, state]


_HELP = {
    "shards": "Shards planned",
    "shards_done": "Shards that are there",
    "shards_skipped": "Of these, there before this run",
    "episodes": "Episodes planned",
    "episodes_done": "Episodes in shards that are there, built or set aside",
    "episodes_quarantined": "Episodes set aside",
    "samples": "Clips in shards that are there",
    "bytes": "Bytes of shards that are there",
    "seconds": "Seconds since this run began",
    "clips_per_s": "Clips per second of this run",
    "eta_s": "Seconds that this run goes on if it keeps its rate",
    "updated": "Unix time of this reading",
}

"""One build by one engine, in a process of its own: ``python -m benchmarks._engine_worker JSON``.

The JSON has ``engine`` ("bare": the builder called in a loop, or local, beam, ray), ``workers``,
``inputs`` (source -> data), ``set`` (``a.b=c``), ``out``, ``log``, ``work`` and ``seconds`` (see
`MeasuredBuilder`). The last line of output is JSON: when the engine was called (``began``, s since
the epoch), the ``seconds`` until it gave back its last shard, and processor time of all of it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import jobs  # noqa: F401 -- before NumPy: it says how many threads that may start
from benchmarks._work import MeasuredBuilder
from pipeline.manifest import PLAN
from pipeline.plan import make_plan
from pipeline.store import Store
from schemas.config import load_config


def main() -> None:
    """Build and print."""
    said = json.loads(sys.argv[1])
    config = load_config(None, [*said["set"], f"run.workers={said['workers']}"])
    plan = make_plan(said["inputs"], config)
    store = Store.at(said["out"])
    store.prepare()
    store.publish_bytes(PLAN, plan.to_json())  # Beam's workers read it
    builder = MeasuredBuilder(
        *(plan.sources, plan.config, plan.code, plan.models, store),
        log=said["log"],
        work=said["work"],
        seconds=said["seconds"],
    )
    cpu, began, start = _cpu(), time.time(), time.perf_counter()
    if said["engine"] == "bare":
        built = [(task, builder(task)) for task in plan.shards]
    else:
        # Imported after the clock started: what an engine costs to load is its own.
        built = list(_engine(said["engine"])(plan.shards, builder, config.run))
    seconds = time.perf_counter() - start
    if len(built) != len(plan.shards):
        raise RuntimeError(f"{said['engine']} built {len(built)} of {len(plan.shards)} shards")
    print(json.dumps({"began": began, "seconds": seconds, "cpu": _cpu() - cpu}))


def _engine(name: str) -> Any:
    if name == "beam":
        from jobs.on_beam import run_beam

        return run_beam
    if name == "ray":
        from jobs.on_ray import run_ray

        return run_ray
    from jobs.local import run_local

    return run_local


def _cpu() -> float:
    """Of this process and of all that it started and that ended, s."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


if __name__ == "__main__":
    main()

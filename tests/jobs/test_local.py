"""The local engine and workers that die."""

import pytest
from dying_builder import DyingBuilder

from jobs.build import WorkerLost
from jobs.local import run_local
from pipeline.store import Store
from schemas.config import RunConfig
from schemas.plan import ShardTask

TASKS = [
    ShardTask(name=name, source="droid", split="train", refs=(), fingerprint="") for name in "ab"
]


def test_workers_that_always_die_end_the_build(tmp_path):
    builder = DyingBuilder(Store.at(tmp_path))
    with pytest.raises(WorkerLost, match="2 times in a row, with 2 shards to go"):
        list(run_local(TASKS, builder, RunConfig(workers=2, retries=1)))

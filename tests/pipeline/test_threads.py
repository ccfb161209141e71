"""A shard's numbers are computed by one thread, whatever the process allows."""

from dataclasses import dataclass, field, replace

from records import droid_values, example_bytes, write_droid
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.build import ShardBuilder
from pipeline.plan import make_plan
from pipeline.stages import Inline, Stages
from pipeline.store import Store
from schemas.config import load_config


@dataclass
class Asking(Inline):
    """Notes how many threads the loaded libraries would use where a stage is run."""

    found: list[int] = field(default_factory=list)

    def submit(self, fn, /, *args, **kwargs):
        self.found += [library["num_threads"] for library in threadpool_info()]
        return super().submit(fn, *args, **kwargs)


def test_linear_algebra_has_one_thread_while_a_shard_is_built(tmp_path):
    write_droid(tmp_path / "data", [example_bytes(droid_values(8))])
    plan = make_plan({"droid": str(tmp_path / "data")}, load_config(None, ["camera.solve=never"]))
    store, asking = Store.at(tmp_path / "out"), Asking()
    store.prepare()
    builder = replace(ShardBuilder.of(plan, store), stages=Stages(asking, asking))
    with threadpool_limits(2):
        before = [library["num_threads"] for library in threadpool_info()]
        builder(plan.shards[0])
        after = [library["num_threads"] for library in threadpool_info()]
    assert asking.found
    assert set(asking.found) == {1}
    assert after == before

"""A builder whose worker dies: of a module of its own, so that spawned workers find it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from pipeline.store import Store
from robo4d.shard import ShardIndex
from schemas.plan import ShardTask


@dataclass(frozen=True)
class DyingBuilder:
    """Kills its own process, unless the store tells that a shard was tried ``deaths`` times."""

    store: Store
    deaths: int

    def __call__(self, task: ShardTask) -> ShardIndex:
        assert self.store.folder is not None
        tried = len(list(self.store.folder.glob(f"{task.name}.tried*")))
        if tried < self.deaths:
            (self.store.folder / f"{task.name}.tried{tried}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ShardIndex(f"{task.name}.tar", 0, "", [])

"""A local Ray cluster of three nodes that loses some."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NODES = 3


class Nodes:
    """Raylets of this machine; drivers connect by ``address``."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        # The head, which drivers connect to, builds nothing.
        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._built: list[Any] = []
        self.fill()
        self.address: str = self._cluster.address

    def fill(self) -> None:
        """Up to as many as there were."""
        while len(self._built) < NODES - 1:
            self._built.append(self._cluster.add_node(num_cpus=1))
        self._cluster.wait_for_nodes()

    def remove(self, moments: random.Random) -> None:
        """Take one away, with what runs there, as if its machine had died."""
        node = self._built.pop(moments.randrange(len(self._built)))
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End them all."""
        self._cluster.shutdown()


@contextmanager
def cluster() -> Iterator[Nodes]:
    """A cluster for as long as it is needed."""
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.close()

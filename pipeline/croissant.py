"""The files of a data set in Croissant's vocabulary (mlcommons.org/croissant/1.0)."""

from __future__ import annotations

import json
from typing import Any

from pipeline.merge import ShardRows
from schemas.plan import BuildPlan


class Described:
    """What ``dataset.json`` says, gathered shard by shard."""

    def __init__(self) -> None:
        self._files: list[dict[str, Any]] = []
        self._licences: set[str] = set()
        self._clips = 0

    def add(self, shard: ShardRows) -> None:
        """One more shard."""
        self._licences.update(row.licence for row in shard.rows)
        self._clips += len(shard.rows)
        self._files.append(
            {
                "@type": "cr:FileObject",
                "@id": shard.index.shard,
                "name": shard.index.shard,
                "contentUrl": shard.index.shard,
                "contentSize": f"{shard.index.size} B",
                "encodingFormat": "application/x-tar",
                "sha256": shard.index.sha256,
            }
        )

    def croissant(self, plan: BuildPlan) -> bytes:
        """The file's bytes."""
        inputs = ", ".join(
            source.dataset + (" (simulated twin)" if source.twin else "") for source in plan.sources
        )
        tree = {
            "@context": {
                "@vocab": "https://schema.org/",
                "sc": "https://schema.org/",
                "cr": "http://mlcommons.org/croissant/",
                "conformsTo": "http://purl.org/dc/terms/conformsTo",
            },
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": "robo4d-" + "-".join(source.source for source in plan.sources),
            "description": f"{self._clips} clips built by robo4d from {inputs}",
            "license": sorted(self._licences),
            "distribution": self._files,
        }
        return json.dumps(tree, indent=1, sort_keys=True).encode()

"""Plans of sources that are nothing but lists of records."""

from dataclasses import dataclass

import pytest

import pipeline.plan
from pipeline.plan import make_plan
from schemas.config import load_config
from schemas.plan import BuildPlan, EpisodeRef


@dataclass(frozen=True)
class Listed:
    """A source that is nothing but its list of records."""

    by_split: dict[str, list[EpisodeRef]]
    facts: str = ""
    layout: str = "rlds"
    root: str = "/nowhere"
    name: str = "made/1.0.0"
    twin: bool = False
    joined: str = ""
    notes: tuple[str, ...] = ()

    def refs(self, cache):
        return self.by_split


def plan_of(by_split, overrides=(), previous=None, facts="") -> BuildPlan:
    """The plan of a source with these records."""
    with pytest.MonkeyPatch.context() as patch:
        opened = Listed(by_split, facts)
        patch.setattr(pipeline.plan, "open_source", lambda *_, **__: opened)
        return make_plan({"droid": "/nowhere"}, load_config(None, overrides), None, previous)

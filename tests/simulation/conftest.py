"""Twins as their records and their truth; DROID's has two episodes, placed and dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twin_files import Twin, read_twin

from simulation.twin import TWINS, make_twin


@pytest.fixture(scope="session")
def twin(droid_twin: Path) -> Twin:
    return read_twin(droid_twin)


@pytest.fixture(scope="session")
def bridge_twin(menagerie: Path, cli_twin: Callable[[str, int], Path]) -> Twin:
    """One episode on a table, placed."""
    return read_twin(cli_twin("bridge", 1))


@pytest.fixture(scope="session")
def rt1_twin(menagerie: Path, cli_twin: Callable[[str, int], Path]) -> Twin:
    """Two episodes: placed and dropped."""
    return read_twin(cli_twin("rt1", 2))


@pytest.fixture(scope="session")
def libero_twin(cli_twin: Callable[[str, int], Path]) -> Twin:
    """Two episodes: placed and dropped."""
    return read_twin(cli_twin("libero", 2))


@pytest.fixture(scope="session")
def spoilt_rt1_twin(menagerie: Path, made_once: Callable[..., Path]) -> Twin:
    """The same two, filmed late and with frames lost."""

    def make(out: Path) -> None:
        make_twin("rt1", out, episodes=2, latency=(1, 3), dropped=0.15)

    return read_twin(made_once("twin-rt1-2-spoilt", make) / TWINS["rt1"])

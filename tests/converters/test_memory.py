"""Reading many episodes takes no more memory than reading a few."""

import pytest

from benchmarks.converters import ENTRIES, in_fresh_process


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_memory_is_flat_over_episodes(name, menagerie):
    sizes = in_fresh_process(name, 200)
    # An episode of these holds 40 kB of frames and more of objects: one kept in ten would show.
    assert max(sizes[5:]) - sizes[4] < 4 << 20

"""A depth network of no weights, run by a server."""

from functools import partial
from multiprocessing import active_children

import pytest
from depth_stubs import Stub

from reconstruction.depth.served.process import serving


@pytest.fixture(scope="module")
def stub_and_server(tmp_path_factory):
    others = set(active_children())
    with serving(partial(Stub, tmp_path_factory.mktemp("meeting")), slots=2) as address:
        (server,) = set(active_children()) - others
        yield address, server.pid


@pytest.fixture
def stub(stub_and_server):
    """Address of a server whose network is a `Stub`."""
    return stub_and_server[0]


@pytest.fixture
def server(stub_and_server):
    """Its process."""
    return stub_and_server[1]

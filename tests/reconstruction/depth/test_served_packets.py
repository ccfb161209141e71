"""What strangers may send to a depth network's server: refused, and nothing of it stays."""

import json
import os
import socket
from contextlib import ExitStack
from multiprocessing import active_children

import pytest
from depth_stubs import clip, cramped, descriptors, in_time

from reconstruction.depth.served import PACKET
from reconstruction.depth.served.client import ServedDepth
from reconstruction.depth.served.process import serving
from reconstruction.depth.served.shared import sealed_file

pytestmark = pytest.mark.slow


def asked(address, packet, files=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(address)
        socket.send_fds(client, [packet], files)
        return json.loads(client.recv(PACKET))


@pytest.mark.parametrize(
    "arrays",
    [
        None,
        [],
        [["rgb", "|u1", [1, 8, 8, 3]], ["rgb", "|u1", [1, 8, 8, 3]]],
        [["rgb", "|u1", [1, 8, 8, 3]], ["robot", "<f4", [1, 8, 8]]],
        [["rgb", "|u1", [1, 8, 8, 3]], ["other", "<f4", [1]]],
        [["rgb", "|u1", [1, -8, 8, 3]]],
        [["rgb", "|u1", [1 << 31, 1 << 31, 8, 3]]],
        [["rgb", "|O", [1, 8, 8, 3]]],
        [["rgb", "nothing", [1, 8, 8, 3]]],
    ],
)
def test_odd_questions_are_refused(stub, arrays):
    with sealed_file(4096) as memory:
        answer = asked(stub, json.dumps({"arrays": arrays}).encode(), [memory])
    assert answer["error"] == "ValueError"
    assert "Traceback" not in answer["message"]


@pytest.mark.parametrize("packet", [b"{", b"[]", b"\xff" * 70_000])
def test_what_is_no_question_is_refused(stub, packet):
    assert "error" in asked(stub, packet)


def test_a_server_without_descriptors_goes_on_when_others_leave():
    others = set(active_children())
    with serving(cramped) as address, ExitStack() as stack:
        (server,) = (child.pid for child in set(active_children()) - others)
        for _ in range(50):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(client).connect(address)
        assert in_time(lambda: descriptors(server) >= 40)
        stack.close()
        # Until the others' are closed there may be none for its memory.
        assert in_time(lambda: descriptors(server) < 30)
        ServedDepth(address)(clip(), None)


def test_a_goodbye_with_a_file_leaves_no_descriptor(stub, server):
    before = descriptors(server)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client, sealed_file(4096) as file:
        client.connect(stub)
        socket.send_fds(client, [b""], [file])
        assert client.recv(PACKET) == b""
    assert in_time(lambda: descriptors(server) <= before)


def test_memory_that_could_shrink_is_refused(stub, tmp_path):
    question = json.dumps({"arrays": [["rgb", "|u1", [1, 8, 8, 3]]]}).encode()
    assert "shared memory" in asked(stub, question)["message"]
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    with path.open("rb") as file:
        assert "seals" in asked(stub, question, [file.fileno()])["message"]
    loose = os.memfd_create("loose")
    os.ftruncate(loose, 4096)
    assert "seals" in asked(stub, question, [loose])["message"]
    os.close(loose)

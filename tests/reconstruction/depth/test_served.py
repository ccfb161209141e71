"""A depth network that one process runs for others: same results, same errors, no leftovers."""

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from depth_stubs import (
    Signing,
    Stub,
    ask_and_die,
    begun,
    clip,
    descriptors,
    die,
    fail,
    in_time,
    meet_and_die,
    order,
    tiny,
)

from reconstruction.depth import RobotView
from reconstruction.depth.served import ServerLost
from reconstruction.depth.served.client import ServedDepth
from reconstruction.depth.served.process import serving
from robo4d import ShapeError
from robo4d.geometry import intrinsics
from schemas.reasons import UsageError

pytestmark = pytest.mark.slow
K = intrinsics(50.0, 50.0, 24.0, 20.0)
rng = np.random.default_rng(0)


def robot_of(rgb):
    depth = np.where(rng.random(rgb.shape[:3]) < 0.3, 0.7, 0).astype(np.float32)
    poses = np.repeat(np.eye(4)[None], len(rgb), 0)
    poses[:, 2, 3] = 0.5
    return RobotView(depth, poses)


def assert_same(served, direct):
    np.testing.assert_array_equal(served.depth, direct.depth)
    np.testing.assert_array_equal(served.confidence, direct.confidence)
    assert served.depth.dtype == np.float32
    assert served.confidence.dtype == np.uint8
    told = [(e.kind, e.provenance, e.told) for e in (served, direct)]
    assert told[0] == told[1]


def test_the_network_says_the_same_bit_by_bit(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    # Imported here: what takes seconds, and no other test needs.
    from reconstruction.depth.pointmap.checkpoint import save_checkpoint
    from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork

    config = NetworkConfig(width=32, blocks=1, heads=4, area=4096)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(PointmapNetwork(config), path, {})
    direct = tiny(path)
    with serving(partial(tiny, path)) as address:
        served = ServedDepth(address)
        for frames in (5, 1, 3):
            rgb = clip(frames)
            for how in ((None, None), (K, None), (K, robot_of(rgb))):
                assert_same(served(rgb, *how), direct(rgb, *how))


def test_several_clients_get_each_their_own(stub):
    def ask(number):
        served = ServedDepth(stub)
        for turn in range(10):
            rgb = clip(1 + (number + turn) % 4, 8 + number, 8)
            robot = robot_of(rgb) if turn % 2 else None
            assert_same(served(rgb, K, robot), Stub()(rgb, K, robot))
        served.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))


def test_the_same_few_threads_compute_for_all_clients(tmp_path):
    def ask(number):
        served = ServedDepth(address)
        for turn in range(3):
            rgb = clip(1 + turn, 8 + number, 8)
            assert_same(served(rgb, K), Stub()(rgb, K))
        served.close()

    with serving(partial(Signing, tmp_path), slots=2) as address:
        seen = []
        for _ in range(2):  # other clients, later
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(ask, range(16)))
            seen.append({path.name for path in tmp_path.iterdir()})
    assert len(seen[0]) == 2
    assert seen[1] == seen[0]


def test_clips_are_in_work_at_once(stub):
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(ServedDepth(stub), order("meet"), None) for _ in range(2)]
        for one in both:
            one.result()


def test_what_is_returned_stays_as_it_is(stub):
    served = ServedDepth(stub)
    first = served(clip(), None)
    before = first.depth.copy()
    served(clip(), None)
    np.testing.assert_array_equal(first.depth, before)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("memory", UsageError, "out of GPU memory for one frame"),
        ("shape", ShapeError, "rgb has another shape"),
        ("bug", RuntimeError, "KeyError: 'a bug'"),
    ],
)
def test_errors_of_the_network_are_raised_where_it_was_asked(stub, name, kind, message):
    served = ServedDepth(stub)
    with pytest.raises(kind, match=message) as raised:
        served(order(name), None)
    assert type(raised.value) is kind
    rgb = clip()
    assert_same(served(rgb, K), Stub()(rgb, K))  # and it goes on


def test_a_server_that_dies_is_told_of_to_all():
    with serving(Stub) as address:
        waiting, asking = ServedDepth(address), ServedDepth(address)
        waiting(clip(), None)
        with pytest.raises(ServerLost, match="fewer workers"):
            asking(order("die"), None)
        with pytest.raises(ServerLost):
            waiting(clip(), None)
        with pytest.raises(ServerLost):
            ServedDepth(address)(clip(), None)


@pytest.mark.parametrize(
    ("opener", "kind", "message"),
    [
        (partial(fail, UsageError, "depth.model is nowhere"), UsageError, "depth.model is nowhere"),
        (partial(fail, ValueError, "\N{ROBOT FACE}" * 100_000), ValueError, "\N{ROBOT FACE}"),
        (partial(fail, OSError, "a" * 100_000 + "end"), RuntimeError, "aend"),
        (die, ServerLost, "as it started"),
    ],
    ids=["usage", "long", "long-bug", "death"],
)
def test_a_server_that_does_not_start_says_why(opener, kind, message):
    before = set(active_children())
    with pytest.raises(kind, match=message) as raised, serving(opener):
        pass
    assert type(raised.value) is kind
    assert set(active_children()) <= before


def test_clients_that_die_leave_nothing(stub, server):
    served = ServedDepth(stub)
    served(clip(), None)
    before = descriptors(server)
    client = get_context("spawn").Process(target=ask_and_die, args=(stub,))
    client.start()
    client.join()
    assert client.exitcode == 1
    assert in_time(lambda: descriptors(server) <= before)
    served(clip(), None)


def test_a_long_path_to_temporary_files_is_no_hindrance(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with serving(Stub) as address:
        assert len(address) > 120
        ServedDepth(address)(clip(), None)


def test_what_is_shared_leaves_no_descriptors(stub):
    before = descriptors("self")
    served = ServedDepth(stub)
    for frames in (1, 9, 30):  # more memory each time
        served(clip(frames), None)
    served.close()
    assert descriptors("self") <= before


def test_a_client_that_dies_while_it_waits_takes_no_slot_with_it(tmp_path):
    others = set(active_children())
    with serving(partial(Stub, tmp_path), slots=2) as address:
        (server,) = (child.pid for child in set(active_children()) - others)
        served = ServedDepth(address)
        served(clip(), None)
        before = descriptors(server)
        # Each is in work until two are: the second one's client is alive.
        client = get_context("spawn").Process(target=meet_and_die, args=(address, tmp_path))
        client.start()
        client.join()
        assert client.exitcode == 1
        assert begun(tmp_path) == 1
        served(order("meet"), None)
        assert in_time(lambda: descriptors(server) <= before)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: ServedDepth(address)(clip(), None), range(4)))


def test_a_server_that_is_asked_to_end_begins_nothing_new(tmp_path):
    lost = []

    def ask():
        try:
            ServedDepth(address)(order("wait"), None)
        except ServerLost as error:
            lost.append(error)

    def let_go():
        for client in clients:
            client.join()
        (tmp_path / "go").touch()

    others = set(active_children())
    with serving(partial(Stub, tmp_path), slots=1) as address:
        (server,) = (child.pid for child in set(active_children()) - others)
        before = descriptors(server)
        clients = [Thread(target=ask) for _ in range(6)]
        for client in clients:
            client.start()
        # A socket and memory each: all have asked, and one is in work.
        assert in_time(lambda: descriptors(server) >= before + 2 * len(clients))
        assert in_time(lambda: begun(tmp_path))
        # They are told first, and what is in work ends later.
        letting = Thread(target=let_go)
        letting.start()
    letting.join()
    assert len(lost) == len(clients)
    assert begun(tmp_path) < len(clients)


PARENT = """
import sys, time
from depth_stubs import Stub
from reconstruction.depth.served.process import serving
from multiprocessing import active_children
if __name__ == "__main__":
    with serving(Stub) as address:
        print(address, active_children()[0].pid, flush=True)
        time.sleep(600)
"""


def test_a_server_ends_with_its_parent_and_leaves_nothing(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        address, server = parent.stdout.readline().split()
        ServedDepth(address)(clip(), None)
        parent.send_signal(signal.SIGKILL)
    assert in_time(lambda: not Path(f"/proc/{server}").exists())
    assert not Path(address).parent.exists()


LOADING = """
import signal, sys
from functools import partial
from pathlib import Path
from depth_stubs import open_late
from reconstruction.depth.served.process import serving
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with serving(partial(open_late, Path(sys.argv[1]))):
        pass
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_where_the_parent_ends_while_the_network_loads(tmp_path, how):
    script, temporary = tmp_path / "parent.py", tmp_path / "temporary"
    script.write_text(LOADING)
    temporary.mkdir()
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, script, tmp_path], env={**os.environ, **paths}
    ) as parent:
        assert in_time(lambda: begun(tmp_path))
        assert list(temporary.glob("robo4d-depth-*"))
        parent.send_signal(how)
        if how == signal.SIGINT:
            parent.wait(60)  # what loads is not let go
        else:
            (tmp_path / "go").touch()
    assert in_time(lambda: not list(temporary.glob("robo4d-depth-*")))

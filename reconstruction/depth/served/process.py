"""The side that answers: a process with the network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from reconstruction.depth import DepthEstimator, RobotView
from reconstruction.depth.served import PACKET, ServerLost, packed, short_path, unpacked
from reconstruction.depth.served.client import ERRORS, results_of
from reconstruction.depth.served.shared import SharedArrays, read_layout

Opener = Callable[[], DepthEstimator]
# Clips in work at once on a GPU: while one is computed, others are copied there and back, and
# their next kernels are launched.
SLOTS = 4
_POSES = "base_from_camera"
_ASKED = ("rgb", "K", "robot", _POSES)
_GOODBYE = 10.0  # s, for the server to end by itself
_PAUSE = 0.1  # s, until a client that there is no descriptor for is looked at again
# Characters of an error that are told; JSON takes 12 bytes for one at most.
_MOST_TOLD = PACKET // 16


@contextmanager
def serving(opener: Opener, slots: int = SLOTS) -> Iterator[str]:
    """A server while the context lasts; gives the address that `ServedDepth` takes.

    It ends with this process too, however that goes.

    Args:
        opener: called there, for the network; it has to be picklable.
        slots: clips in work at once, each by a thread and on a CUDA stream that last as long as the
            server; clients wait their turn in the order that they asked.

    Raises:
        UsageError, ShapeError, ValueError: the opener's own.
        RuntimeError: anything else that it raised, with its traceback.
        ServerLost: the server died as it started.
    """
    context = get_context("spawn")  # a fork after CUDA or OpenGL was used hangs
    # Only this user may enter the folder, so that nobody else connects.
    with tempfile.TemporaryDirectory(
        prefix="robo4d-depth-",
        ignore_cleanup_errors=True,  # the server may remove it too
    ) as folder:
        address = str(Path(folder) / "socket")
        here, there = context.Pipe()
        process = context.Process(target=_run, args=(opener, address, slots, there), daemon=True)
        process.start()
        there.close()
        try:
            try:
                _await_ready(here)
            except BaseException:
                process.kill()  # a network that still loads is not waited for
                raise
            yield address
        finally:
            here.close()
            process.join(_GOODBYE)
            process.kill()
            process.join()


def _await_ready(server: Connection) -> None:
    try:
        said = unpacked(server.recv_bytes(PACKET))
    except (EOFError, OSError) as error:
        raise ServerLost(
            "the process that was to run the depth network died as it started: out of memory?"
        ) from error
    if "error" in said:
        raise ERRORS.get(said["error"], RuntimeError)(said["message"])


def _run(opener: Opener, address: str, slots: int, parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; this ends with it
    try:
        # As a shard is built (`pipeline.build`): what a CPU computes must not depend on its cores.
        with threadpool_limits(limits=1):
            _serve(opener, address, slots, parent)
    finally:
        # Where the parent was killed nobody else does.
        shutil.rmtree(Path(address).parent, ignore_errors=True)


def _serve(opener: Opener, address: str, slots: int, parent: Connection) -> None:
    try:
        server = _Server(opener(), slots)
    except Exception as error:  # noqa: BLE001  told to whoever started this
        with suppress(OSError):  # it is dead
            parent.send_bytes(packed(_told(error)))
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        with short_path(address) as path:
            door.bind(path)
        door.listen(1024)
        with suppress(OSError):  # it is dead, which is seen below
            parent.send_bytes(packed({}))
        # The parent says nothing more: its end is closed when it is done, or dead.
        while parent not in wait([door, parent]):
            try:
                client, _ = door.accept()
            except OSError:  # no descriptor is left: it waits until another client goes
                parent.poll(_PAUSE)
            else:
                server.greet(client)
    server.close()


def _told(error: Exception) -> dict[str, Any]:
    """An error as a message; of what estimators do not raise, the traceback too."""
    for name, kind in ERRORS.items():
        if type(error) is kind:
            return {"error": name, "message": str(error)[:_MOST_TOLD]}
    text = "".join(traceback.format_exception(error))
    return {"error": type(error).__name__, "message": text[-_MOST_TOLD:]}


class _Server:
    """Answers clients: each is heard by a thread of its own, and ``slots`` others compute.

    These stay the same, whoever asks: cuDNN's handles and PyTorch's caches of its plans belong to
    a thread, so that each new one begins anew, with memory of its own on the GPU.
    """

    def __init__(self, network: DepthEstimator, slots: int) -> None:
        self._network = network
        torch = sys.modules.get("torch")  # where the network needs it, that is loaded by now
        if torch is not None and torch.cuda.is_available():
            torch.cuda.synchronize()  # weights were put there on another stream
        self._computing = ThreadPoolExecutor(slots, "depth", initializer=_begin_computing)
        self._clients: list[tuple[Thread, socket.socket]] = []

    def greet(self, client: socket.socket) -> None:
        """Answer a client from now on."""
        self._clients = [known for known in self._clients if known[0].is_alive()]
        thread = Thread(target=self._attend, args=(client,), daemon=True)
        self._clients.append((thread, client))
        thread.start()

    def close(self) -> None:
        """Let every thread finish what it computes: the interpreter may not end beneath it."""
        for _, client in self._clients:
            with suppress(OSError):  # gone already
                client.shutdown(socket.SHUT_RDWR)
        self._computing.shutdown(cancel_futures=True)  # nobody is there for what has not begun
        for thread, _ in self._clients:
            thread.join()

    def _attend(self, client: socket.socket) -> None:
        shared: SharedArrays | None = None  # the client's latest
        with client, suppress(OSError):  # it is gone, and nobody is there to be told
            while True:
                packet, files, _, _ = socket.recv_fds(client, PACKET, 1, socket.MSG_CMSG_CLOEXEC)
                try:
                    for file in files:
                        shared = _mapped(file)
                    if not packet:
                        break
                    answer = self._estimate(packet, shared)
                except Exception as error:  # noqa: BLE001  told to whoever asked
                    answer = _told(error)
                client.send(packed(answer))

    def _estimate(self, packet: bytes, shared: SharedArrays | None) -> dict[str, Any]:
        asked = read_layout(unpacked(packet).get("arrays"), _ASKED)
        shapes = {name: shape for name, _, shape in asked}
        if shared is None or "rgb" not in shapes or ("robot" in shapes) != (_POSES in shapes):
            raise ValueError(
                f"asked about {sorted(shapes)}; expected rgb, and robot with {_POSES} or neither, "
                "in shared memory"
            )
        views = shared.views([*asked, *results_of(shapes["rgb"])])
        robot = None
        if "robot" in views:
            robot = RobotView(views["robot"], views[_POSES])
        K = views.get("K")
        estimate = self._computing.submit(self._network, views["rgb"], K, robot).result()
        for name, array in (("depth", estimate.depth), ("confidence", estimate.confidence)):
            np.copyto(views[name], array, casting="no")
        return {
            "kind": estimate.kind,
            "provenance": str(estimate.provenance),
            "told": estimate.told,
        }


def _mapped(file: int) -> SharedArrays:
    try:
        return SharedArrays(file)
    finally:
        os.close(file)


def _begin_computing() -> None:
    """What a thread needs of its own, where torch is loaded.

    OpenMP keeps its limit for each thread that asks: the main one's does not hold here. And each
    thread has a current CUDA stream.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
        if torch.cuda.is_available():
            torch.cuda.set_stream(torch.cuda.Stream())

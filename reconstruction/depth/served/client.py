"""The side that asks."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconstruction.depth import DepthEstimate, RobotView
from reconstruction.depth.served import PACKET, ServerLost, packed, short_path, unpacked
from reconstruction.depth.served.shared import (
    MOST,
    Layout,
    SharedArrays,
    layout_of,
    sealed_file,
    size_of,
    told_layout,
)
from robo4d import ShapeError
from schemas.episode import Provenance
from schemas.reasons import UsageError

# What an estimator raises of its own; other errors of the server are RuntimeErrors here.
ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (UsageError, ShapeError, ValueError)
}


def results_of(rgb: tuple[int, ...]) -> Layout:
    """The arrays of an estimate for frames of shape ``rgb``."""
    return [
        ("depth", np.dtype(np.float32), rgb[:3]),
        ("confidence", np.dtype(np.uint8), rgb[:3]),
    ]


class ServedDepth:
    """A `DepthEstimator` that another process runs, see `process.serving`.

    It connects when it is first called. It may be called by several threads, one after another.

    Args:
        address: of the server's socket.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._shared: SharedArrays | None = None

    def __reduce__(self) -> Any:
        return type(self), (self.address,)

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        K: NDArray[np.floating] | None,
        robot: RobotView | None = None,
    ) -> DepthEstimate:
        """See `DepthEstimator`.

        Raises:
            UsageError, ShapeError, ValueError: the estimator's own.
            ServerLost: the server is not there, or ended before it had answered.
            RuntimeError: anything else that was raised there, with its traceback.
        """
        arrays: dict[str, NDArray] = {"rgb": np.asarray(rgb)}
        if K is not None:
            arrays["K"] = np.asarray(K)
        if robot is not None:
            arrays |= {"robot": robot.depth, "base_from_camera": robot.base_from_camera}
        with self._lock:
            try:
                return self._asked(arrays)
            except BaseException:
                # Whatever was on its way must not be taken for the next call's.
                self.close()
                raise

    def close(self) -> None:
        """Leave the server; a later call connects again."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._shared = None

    def _asked(self, arrays: dict[str, NDArray]) -> DepthEstimate:
        asked = layout_of(arrays)
        layout = [*asked, *results_of(arrays["rgb"].shape)]
        if (size := size_of(layout)) > MOST:
            raise UsageError(
                f"a clip of {arrays['rgb'].shape} needs {size} bytes of shared memory, "
                f"{MOST} at most: take shorter clips, or no server"
            )
        with ExitStack() as stack:
            files: list[int] = []
            if self._shared is None or self._shared.size < size:
                files = [stack.enter_context(sealed_file(size))]
                self._shared = SharedArrays(files[0])
            views = self._shared.views(layout)
            for name, array in arrays.items():
                views[name][...] = array
            answer = self._exchange(packed({"arrays": told_layout(asked)}), files)
        if "error" in answer:
            message = str(answer["message"])
            raise ERRORS.get(str(answer["error"]), RuntimeError)(message)
        return DepthEstimate(
            views["depth"].copy(),
            views["confidence"].copy(),
            answer["kind"],
            Provenance(answer["provenance"]),
            bool(answer["told"]),
        )

    def _exchange(self, packet: bytes, files: list[int]) -> dict[str, Any]:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with short_path(self.address) as path:
                    self._socket.connect(path)
            socket.send_fds(self._socket, [packet], files)
            answer = self._socket.recv(PACKET)
        except OSError as error:
            raise self._lost() from error
        if not answer:
            raise self._lost()
        return unpacked(answer)

    def _lost(self) -> ServerLost:
        return ServerLost(
            f"the process that runs the depth network ({self.address}) is gone: killed, or out of "
            "memory; run the same command again, with fewer workers where memory was short"
        )

"""Depth networks for tests of the server: picklable, and quick."""

from __future__ import annotations

import itertools
import logging
import os
import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from uuid import uuid4

import numpy as np

from reconstruction.depth import DepthEstimate
from reconstruction.depth.served.client import ServedDepth
from robo4d import ShapeError
from schemas.episode import Provenance
from schemas.reasons import UsageError

_rng = np.random.default_rng(1)


@dataclass(frozen=True)
class Stub:
    """Depth is the red channel over 100, and what the robot adds; confidence the green one.

    What frames of one pixel say by their blue channel is done instead: see ``ORDERS``.
    """

    folder: Path | None = None

    def __call__(self, rgb, K, robot=None):
        if rgb.shape[1:3] == (1, 1):
            self._obey(int(rgb[0, 0, 0, 2]))
        depth = rgb[..., 0].astype(np.float32) / 100
        if robot is not None:
            depth += robot.depth.astype(np.float32) + np.float32(robot.base_from_camera[0, 0, 3])
        if K is not None:
            depth += np.float32(K[0, 0])
        return DepthEstimate(
            depth, rgb[..., 1].copy(), "scaled", Provenance.ESTIMATED, robot is not None
        )

    def _obey(self, order):
        if order == ORDERS["die"]:
            os._exit(1)
        if order == ORDERS["memory"]:
            raise UsageError("out of GPU memory for one frame")
        if order == ORDERS["shape"]:
            raise ShapeError("rgb has another shape")
        if order == ORDERS["bug"]:
            raise KeyError("a bug")
        if order in (ORDERS["meet"], ORDERS["wait"]):
            (self.folder / f"begun-{uuid4()}").touch()
        # Another call that is in work at the same time.
        if order == ORDERS["meet"] and not in_time(lambda: begun(self.folder) >= 2):
            raise RuntimeError("alone")
        if order == ORDERS["wait"]:
            in_time((self.folder / "go").exists)


ORDERS = {name: k for k, name in enumerate(["die", "memory", "shape", "bug", "meet", "wait"], 1)}


def begun(folder):
    """How many of the orders "meet" and "wait" were begun."""
    return len(list(folder.glob("begun-*")))


def in_time(holds):
    """Wait until it does, for a minute at most; whether it did."""
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def ask_and_die(address):
    """A client that asks once."""
    ServedDepth(address)(np.zeros((5, 40, 48, 3), np.uint8), None)
    os._exit(1)


def meet_and_die(address, folder):
    """A client that is gone when what it asked for is in work."""
    Thread(target=ServedDepth(address), args=(order("meet"), None), daemon=True).start()
    in_time(lambda: begun(folder))
    os._exit(1)


@dataclass(frozen=True)
class Signing(Stub):
    """A stub that is slow, and leaves a file by the name of each thread that it is called in."""

    def __call__(self, rgb, K, robot=None):
        (self.folder / str(threading.get_native_id())).touch()
        time.sleep(0.02)
        return super().__call__(rgb, K, robot)


class Scene:
    """A network that sees a wall behind the robot, whose depth it says as it is told.

    Args:
        dies_at: the question that its process dies of, from 1; None: none.
    """

    def __init__(self, dies_at=None):
        self._dies_at, self._asked = dies_at, itertools.count(1)

    def __call__(self, rgb, K, robot=None):
        if next(self._asked) == self._dies_at:
            os._exit(1)
        depth = 1.5 + rgb[..., 0].astype(np.float32) / 1000
        if robot is not None:
            depth = np.where(robot.depth > 0, robot.depth, depth).astype(np.float32)
        return DepthEstimate(
            depth, np.full(depth.shape, 255, np.uint8), "scaled", Provenance.ESTIMATED, False
        )


def open_scene(opener, dies_at):
    """Call the local engine's opener where what it opens is a `Scene`; for a process of its own."""
    import jobs.local

    def opened(_):
        logging.getLogger("robo4d.tests").info("a scene is open")
        return Scene(dies_at)

    jobs.local.open_network = opened
    return opener()


def order(name):
    """The frames that say so."""
    rgb = np.zeros((1, 1, 1, 3), np.uint8)
    rgb[..., 2] = ORDERS[name]
    return rgb


def fail(kind, message):
    """An opener that raises."""
    raise kind(message)


def open_late(folder):
    """An opener of what takes a while to load."""
    (folder / "begun-loading").touch()
    in_time((folder / "go").exists)
    return Stub()


def die():
    """An opener that memory does not suffice for."""
    os._exit(1)


def cramped():
    """An opener that leaves its process 40 descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    return Stub()


def tiny(path):
    """The network of a checkpoint."""
    from reconstruction.depth.pointmap.estimator import open_pointmap

    return open_pointmap(path, batch=2)


def clip(frames=5, height=40, width=48):
    """Random frames (T, H, W, 3)."""
    return _rng.integers(0, 255, (frames, height, width, 3)).astype(np.uint8)


def descriptors(process):
    """How many a process has open."""
    return len(os.listdir(f"/proc/{process}/fd"))

"""A set of takes on disk: filmed by processes, each scene's on its own, and never twice.

::

    OUT/rgb.npy depth.npy robot.npy K.npy base_from_camera.npy    memory maps, a row a take
    OUT/takes.json                                       what the set is of
    OUT/done/UNIT                                        how many takes of a unit were kept
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from schemas.reasons import UsageError
from schemas.training import TwinsPart
from simulation.depth_scenes.take import FRAMES, HEIGHT, TAKES, WIDTH

# Scenes of LIBERO's bank, and of every hundred of a twin's, that only judge the training.
VALIDATION_SCENES = ("KITCHEN_SCENE7", "LIVING_ROOM_SCENE5", "STUDY_SCENE4")
_VALIDATION_TWINS = 3
_TOGETHER = 4  # units of one scene of LIBERO's, which is compiled once

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TakePlan:
    """Which takes make a set.

    Attributes:
        units: scenes, or looks of a scene, of `TAKES` takes each.
        libero: share of the units that are LIBERO's; the rest is twins of the four sources.
        seed: another seed, other scenes.
        twins: shares of each source's twins.
        hand_work: share of the takes of LIBERO's scenes that are of a hand at work, from its
            own camera; beside it a fifth of all takes are from a hand, wherever that is.
        bank: what `simulation.depth_scenes.libero_bank` wrote; None: no scenes of LIBERO.
        site: site-packages folder with LIBERO's and robosuite 1.4's assets.
    """

    units: int
    libero: float
    seed: int
    twins: dict[str, float] = field(default_factory=lambda: TwinsPart().model_dump())
    hand_work: float = 0.0
    bank: Path | None = None
    site: Path | None = None


@dataclass(frozen=True)
class Unit:
    """Takes of one scene: of LIBERO's bank (``kind`` "bank"), or of a twin, by its source."""

    number: int
    kind: str
    scene: int
    look: int
    validation: bool


def plan_units(plan: TakePlan, scenes: tuple[str, ...]) -> list[Unit]:
    """Every unit of a set; a function of the plan and of the names of the bank's scenes."""
    rng = np.random.default_rng([plan.seed, 2027])
    kinds, shares = list(plan.twins), np.array(list(plan.twins.values()), float)
    units = []
    for number in range(plan.units):
        if scenes and rng.uniform() < plan.libero:
            # Neighbours share a scene, so that a process compiles it once for some units.
            scene = (number // (2 * _TOGETHER)) % len(scenes)
            judge = scenes[scene] in VALIDATION_SCENES
            units.append(Unit(number, "bank", scene, plan.seed * 1_000_000 + number, judge))
        else:
            scene = plan.seed * 100_000 + number
            kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
            units.append(Unit(number, kind, scene, 0, number % 100 < _VALIDATION_TWINS))
    return units


class TakeSet:
    """An open set; see the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = json.loads((folder / "takes.json").read_text())
        self.rgb: NDArray[np.uint8] = np.load(folder / "rgb.npy", mmap_mode="r")
        self.depth: NDArray[np.float16] = np.load(folder / "depth.npy", mmap_mode="r")
        self.robot: NDArray[np.float16] = np.load(folder / "robot.npy", mmap_mode="r")
        self.K: NDArray[np.float32] = np.load(folder / "K.npy")
        self.base_from_camera: NDArray[np.float32] = np.load(folder / "base_from_camera.npy")
        kept = np.zeros(len(self.rgb), bool)
        judge = np.zeros(len(self.rgb), bool)
        for unit in self.facts["units"]:
            count = int((folder / "done" / str(unit["number"])).read_text())
            kept[unit["number"] * TAKES :][:count] = True
            judge[unit["number"] * TAKES :][:TAKES] = unit["validation"]
        self.training = np.flatnonzero(kept & ~judge)
        self.validation = np.flatnonzero(kept & judge)


def film_takes(
    plan: TakePlan, out: Path, *, workers: int, gpus: int = 1, progress: Progress | None = None
) -> TakeSet:
    """Film what is not there yet.

    Args:
        out: folder of the set; of the same plan, if it is there.
        workers: processes that film.
        gpus: that they share, where EGL renders on GPUs.
        progress: called with units done and in all.

    Raises:
        UsageError: the folder holds another plan's set, or LIBERO's scenes are not given.
    """
    scenes = _scene_names(plan)
    units = plan_units(plan, scenes)
    facts: dict[str, Any] = {"units": [asdict(unit) for unit in units], "scenes": list(scenes)}
    if plan.hand_work:  # else as it was told before there were any
        facts["hand_work"] = plan.hand_work
    _lay_out(out, facts, plan)
    done = {int(path.name) for path in (out / "done").iterdir()}
    left = [unit for unit in units if unit.number not in done]
    context = get_context("spawn")  # OpenGL does not survive a fork
    with ProcessPoolExecutor(workers, context, initializer=share_gpus, initargs=(gpus,)) as pool:
        waiting = {pool.submit(_film_units, plan, out, group): group for group in _groups(left)}
        count = len(done)
        try:
            for future in as_completed(waiting):
                future.result()
                count += len(waiting[future])
                if progress is not None:
                    progress(count, len(units))
        finally:
            pool.shutdown(cancel_futures=True)
    return TakeSet(out)


def _groups(units: list[Unit]) -> Iterator[list[Unit]]:
    """Units that are filmed one after the other by the same process."""
    waiting: dict[int, list[Unit]] = {}
    for unit in units:
        if unit.kind != "bank":
            yield [unit]
            continue
        group = waiting.setdefault(unit.scene, [])
        group.append(unit)
        if len(group) == _TOGETHER:
            yield waiting.pop(unit.scene)
    yield from waiting.values()


def _lay_out(out: Path, facts: dict, plan: TakePlan) -> None:
    described = out / "takes.json"
    text = json.dumps(facts)
    if described.exists():
        if described.read_text() != text:
            raise UsageError(f"{out} holds takes of another plan; choose another folder")
        return
    (out / "done").mkdir(parents=True, exist_ok=True)
    rows = plan.units * TAKES
    for name, shape, kind in (
        ("rgb", (rows, FRAMES, HEIGHT, WIDTH, 3), np.uint8),
        ("depth", (rows, FRAMES, HEIGHT, WIDTH), np.float16),
        ("robot", (rows, FRAMES, HEIGHT // 2, WIDTH // 2), np.float16),
        ("K", (rows, FRAMES, 3, 3), np.float32),
        ("base_from_camera", (rows, FRAMES, 4, 4), np.float32),
    ):
        open_memmap(out / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
    described.write_text(text)


def _scene_names(plan: TakePlan) -> tuple[str, ...]:
    if plan.libero == 0:
        return ()
    if plan.bank is None or plan.site is None:
        raise UsageError(
            f"takes.libero is {plan.libero:g}, which needs --bank and --site (see docs/depth.md); "
            "for twins alone, --set takes.libero=0"
        )
    from simulation.depth_scenes.libero import open_bank

    return tuple(scene["name"] for scene in open_bank(plan.bank, plan.site).scenes)


def share_gpus(gpus: int) -> None:
    """Choose a process' GPU, before it renders."""
    if gpus > 1:  # read when the first context is made
        os.environ["MUJOCO_EGL_DEVICE_ID"] = str(os.getpid() % gpus)


def _film_units(plan: TakePlan, out: Path, units: list[Unit]) -> None:
    import robots  # noqa: F401  chooses the OpenGL
    from simulation.depth_scenes.libero import film_libero, open_bank
    from simulation.depth_scenes.twins import film_twin

    maps = {
        name: open_memmap(out / f"{name}.npy", mode="r+")
        for name in ("rgb", "depth", "robot", "K", "base_from_camera")
    }
    for unit in units:
        if unit.kind == "bank":
            assert plan.bank is not None
            assert plan.site is not None
            bank = open_bank(plan.bank, plan.site)
            takes = film_libero(bank, unit.scene, unit.look, plan.hand_work)
        else:
            takes = film_twin(unit.kind, unit.scene)
        count = 0
        for take in takes:
            row = unit.number * TAKES + count
            for name, array in maps.items():
                array[row] = getattr(take, name)
            count += 1
        for array in maps.values():
            array.flush()
        (out / f".{unit.number}").write_text(str(count))
        (out / f".{unit.number}").rename(out / "done" / str(unit.number))

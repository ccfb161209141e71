"""A set of frames on disk: filmed by processes, each scene's on its own, and never twice.

::

    OUT/rgb.npy visible.npy whole.npy    memory maps, a row a frame
    OUT/frames.json                      what the set is of
    OUT/done/SCENE                       how many frames of a scene were kept
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import file_digest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from pipeline.depth_training.takes import Progress, share_gpus
from schemas.reasons import UsageError
from simulation.depth_scenes.take import FRAMES, HEIGHT, TAKES, WIDTH

OF_SCENE = FRAMES * TAKES  # rows
HELD_OUT = 25  # every so many scenes one that only judges
_SCENES_OF_A_SEED = 100_000
_MAPS = {"rgb": (HEIGHT, WIDTH, 3), "visible": (HEIGHT, WIDTH), "whole": (HEIGHT, WIDTH)}


@dataclass(frozen=True)
class FramePlan:
    """Which frames make a set.

    Attributes:
        scenes: of `OF_SCENE` frames each, less those that show nothing.
        droid: share of DROID's twins; the others are LIBERO's.
        seed: another seed, other scenes.
        photographs: of `simulation.mask_scenes.collect`; None: plain colours alone.
    """

    scenes: int = 1300
    droid: float = 0.85
    seed: int = 2
    photographs: Path | None = None


@dataclass(frozen=True)
class Scene:
    """One of a set: where its rows are, and what `film_masks` is told."""

    row: int
    source: str
    number: int


def plan_scenes(plan: FramePlan) -> list[Scene]:
    """Every scene of a set; a function of the plan."""
    rng = np.random.default_rng([plan.seed, 5])
    sources = np.where(rng.uniform(size=plan.scenes) < plan.droid, "droid", "libero")
    first = plan.seed * _SCENES_OF_A_SEED
    return [Scene(k * OF_SCENE, str(name), first + k) for k, name in enumerate(sources)]


class FrameSet:
    """An open set; see the module.

    Attributes:
        rgb: (N, H, W, 3) uint8.
        visible, whole: (N, H, W) uint8, of 255, as of `simulation.mask_scenes.film.MaskTake`.
        training, validation: rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = json.loads((folder / "frames.json").read_text())
        self.rgb: NDArray[np.uint8] = np.load(folder / "rgb.npy", mmap_mode="r")
        self.visible: NDArray[np.uint8] = np.load(folder / "visible.npy", mmap_mode="r")
        self.whole: NDArray[np.uint8] = np.load(folder / "whole.npy", mmap_mode="r")
        rows: tuple[list[int], list[int]] = [], []
        for k, scene in enumerate(facts["scenes"]):
            count = int((folder / "done" / str(scene["number"])).read_text())
            rows[k % HELD_OUT == 0].extend(range(scene["row"], scene["row"] + count))
        self.training, self.validation = (np.array(some, int) for some in rows)


def film_frames(
    plan: FramePlan, out: Path, *, workers: int, gpus: int = 1, progress: Progress | None = None
) -> FrameSet:
    """Film what is not there yet.

    Args:
        out: folder of the set; of the same plan, if it is there.
        workers: processes that film.
        gpus: that they share, where EGL renders on GPUs.
        progress: called with scenes done and in all.

    Raises:
        UsageError: the folder holds another plan's set, or the photographs cannot be read.
        BrokenProcessPool: a process died, of memory for one; what was filmed is kept.
    """
    scenes = plan_scenes(plan)
    _lay_out(out, scenes, plan.photographs)
    done = {int(path.name) for path in (out / "done").iterdir()}
    left = [scene for scene in scenes if scene.number not in done]
    context = get_context("spawn")  # OpenGL does not survive a fork
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(gpus,)) as pool:
        waiting = [pool.submit(_film_scene, plan.photographs, out, scene) for scene in left]
        try:
            for count, future in enumerate(as_completed(waiting), 1 + len(scenes) - len(left)):
                future.result()
                if progress is not None:
                    progress(count, len(scenes))
        finally:
            pool.shutdown(cancel_futures=True)
    return FrameSet(out)


def _lay_out(out: Path, scenes: list[Scene], photographs: Path | None) -> None:
    facts: dict[str, Any] = {"scenes": [asdict(scene) for scene in scenes], "photographs": None}
    if photographs is not None:
        from simulation.mask_scenes.photographs import open_photographs

        open_photographs(photographs)  # before processes are started for it
        with open(photographs, "rb") as file:
            facts["photographs"] = file_digest(file, "sha256").hexdigest()
    described, text = out / "frames.json", json.dumps(facts)
    if described.exists():
        if described.read_text() != text:
            raise UsageError(f"{out} holds frames of another plan; choose another folder")
        return
    (out / "done").mkdir(parents=True, exist_ok=True)
    rows = len(scenes) * OF_SCENE
    for name, shape in _MAPS.items():
        open_memmap(out / f"{name}.npy", mode="w+", dtype=np.uint8, shape=(rows, *shape))
    described.write_text(text)


def _begin(gpus: int) -> None:
    import cv2

    cv2.setNumThreads(1)  # there is a process a core
    share_gpus(gpus)


def _film_scene(photographs: Path | None, out: Path, scene: Scene) -> None:
    import robots  # noqa: F401  chooses the OpenGL
    from simulation.mask_scenes.film import film_masks
    from simulation.mask_scenes.photographs import open_photographs

    taken = None if photographs is None else open_photographs(photographs)
    maps = {name: open_memmap(out / f"{name}.npy", mode="r+") for name in _MAPS}
    count = 0
    for take in film_masks(scene.source, scene.number, taken):
        at = scene.row + count
        for name, array in maps.items():
            array[at : at + FRAMES] = getattr(take, name)
        count += FRAMES
    for array in maps.values():
        array.flush()
    (out / f".{scene.number}").write_text(str(count))
    (out / f".{scene.number}").rename(out / "done" / str(scene.number))

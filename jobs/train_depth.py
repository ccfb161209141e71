"""Train the depth network: film takes, train on them, write a checkpoint.

::

    python -m jobs.train_depth --takes /data/takes --out /data/run --bank bank.json.gz --site SITE

Started again, it goes on where it was; with `--gpus 4` four processes film and train, and a batch
is parted among them. `docs/depth.md` says how the embedded one came to be.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._options import explained
from schemas.reasons import UsageError
from schemas.training import DepthTraining, load_training

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    takes: Annotated[Path, typer.Option(help="folder of the filmed takes; made, or filled up")],
    out: Annotated[Path | None, typer.Option(help="folder of the run; none: film only")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML like configs/depth_training.yaml")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="a value, as loop.steps=2000; repeatable")
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="of simulation/depth_scenes/libero_bank.py; none: no LIBERO")
    ] = None,
    site: Annotated[
        Path | None, typer.Option(help="site-packages with LIBERO's assets, for --bank")
    ] = None,
    device: Annotated[str, typer.Option(help="cuda, cpu or auto")] = "auto",
    workers: Annotated[int, typer.Option(help="processes that film; 0: one a core")] = 0,
    gpus: Annotated[
        int, typer.Option(min=1, help="that film, by EGL, and train, a process on each")
    ] = 1,
    minutes: Annotated[float, typer.Option(help="stop, to go on later, after so long")] = 1e9,
    resident: Annotated[
        bool, typer.Option(help="hold the takes in the device's memory: 0.4 MB a frame")
    ] = True,
) -> None:
    """Film takes of random scenes, and train the depth network on them."""
    began = time.monotonic()
    with explained(str(takes)):
        training = load_training(config, settings or ())
        where = None if out is None else device_named(device, gpus)  # before hours of filming
        from pipeline.depth_training.takes import TakePlan, film_takes

        plan = TakePlan(bank=bank, site=site, **training.takes.model_dump())
        made = film_takes(
            plan,
            takes,
            workers=workers or os.cpu_count() or 1,
            gpus=gpus,
            progress=progress_since(began),
        )
        counts = {"training": len(made.training), "validation": len(made.validation)}
        tell({"takes": counts, "s": round(time.monotonic() - began, 1)})
        if out is None or where is None:
            return
        from pipeline.depth_training.crew import ALONE, run_crew
        from pipeline.depth_training.loop import check_training

        asked = (training, takes, out, began + 60 * minutes, resident)
        if gpus == 1:
            _train(ALONE, where, *asked)
        else:
            check_training(training, made, out, gpus)
            run_crew(gpus, where.type, _train, asked)


def _train(
    crew: Any,
    device: Any,
    training: DepthTraining,
    takes: Path,
    out: Path,
    until: float,
    resident: bool,
) -> None:
    from pipeline.depth_training.loop import train_network
    from pipeline.depth_training.takes import TakeSet

    checkpoint = train_network(
        training,
        TakeSet(takes),
        out,
        device=device,
        tell=tell,
        until=until,
        resident=resident,
        crew=crew,
    )
    if crew.leads:
        tell({"checkpoint": None if checkpoint is None else str(checkpoint)})


def device_named(name: str, count: int) -> Any:
    """A torch device by --device; refuses what is not here, and fewer than ``count`` GPUs."""
    try:
        import timm  # noqa: F401
        import torch
    except ModuleNotFoundError as error:
        raise UsageError(f"training needs {error.name}: pip install 'robo4d[train]'") from error
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"--device is {name!r}; expected cpu, auto, or cuda where there is a GPU")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if name == "auto" else name)
    if device.type == "cuda" and count > torch.cuda.device_count():
        raise UsageError(f"--gpus is {count}, and there are {torch.cuda.device_count()}")
    return device


def tell(line: dict[str, Any]) -> None:
    """One JSON object, at once."""
    print(json.dumps(line), flush=True)


def progress_since(began: float) -> Any:
    """Tells of units done, every ten seconds."""
    told = [began]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - told[0] > 10 or done == total:
            told[0] = time.monotonic()
            tell({"units": done, "of": total, "s": round(told[0] - began, 1)})

    return progress


if __name__ == "__main__":
    app()

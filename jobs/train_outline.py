"""Train the network that finds outlines to a fraction of a pixel (`reconstruction.camera`).

::

    python -m benchmarks._outline_film --out /data/strips --seeds 100 192 --workers 2
    python -m jobs.train_outline --strips /data/strips --out outline_net.safetensors

made the embedded network, when twins were filmed as they are (`_outline_looks` came later): 276
views (184 of DROID, 69 of Bridge, 23 of RT-1), 20 epochs, five minutes on one core. Of ten scenes
one, by its seed, is held back and judges: a loss of 0.370 (DROID 0.257, Bridge 0.484, RT-1 0.843)
and a median gap of 0.189 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import safetensors.torch
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs._outline_batches import VARIATIONS, Batch, features, varied
from reconstruction.camera.strips import Strips

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_RANGE = 8.0  # pixels over which offsets that cannot be told are spread
_CHUNK = 1 << 15  # lines judged at once
_RATE, _DECAY = 2e-3, 1e-2
_SOURCES = "droid", "bridge", "rt1"


@app.command()
def main(
    strips: Annotated[Path, typer.Option(help="folder of SOURCE-SEED-VIEW.npz")],
    out: Annotated[Path, typer.Option(help="file to write")],
    epochs: int = 20,
    seed: int = 0,
    batch: Annotated[int, typer.Option(help="lines a step")] = 2048,
    hidden: Annotated[tuple[int, int], typer.Option(help="widths of hidden layers")] = (192, 96),
    vary: Annotated[Literal["mild", "wide"], typer.Option(help="how much looks vary")] = "mild",
    device: Annotated[str, typer.Option(help="PyTorch's name, such as cuda")] = "cpu",
) -> None:
    """Train, and write the weights in half precision."""
    torch.set_num_threads(1)  # sums, and so the weights, would depend on how many
    if not out.parent.is_dir():
        raise typer.BadParameter(f"--out is {out}, whose folder is not there; make it first")
    torch.manual_seed(seed)
    draw = torch.Generator(device).manual_seed(seed)
    learnt, learnt_offset, _ = _read(strips, held_back=False, device=device)
    judged, judged_offset, source = _read(strips, held_back=True, device=device)
    turns = len(learnt) // batch
    if not turns:
        raise typer.BadParameter(f"--batch is {batch}, but {strips} holds {len(learnt)} lines")
    network = make_network(features(learnt.rows(slice(0, 1))).shape[1], hidden).to(device)
    best = torch.optim.AdamW(network.parameters(), _RATE / 2, weight_decay=_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(best, _RATE, epochs * turns, pct_start=0.1)
    for epoch in range(epochs):
        order = torch.randperm(len(learnt), generator=draw, device=device)
        total = torch.zeros((), device=device)
        for rows in order[: turns * batch].split(batch):
            offset = learnt_offset[rows]
            seen = varied(learnt.rows(rows), offset, VARIATIONS[vary], draw)
            loss = misfit(network(features(seen)), offset).mean()
            best.zero_grad()
            loss.backward()
            best.step()
            rate.step()
            total += loss.detach()
        told = _told(network, judged)
        loss, gap = misfit(told, judged_offset), (told[:, 0] - judged_offset).abs()
        each = ", ".join(f"{k} {loss[source == i].mean():.3f}" for i, k in enumerate(_SOURCES))
        typer.echo(
            f"{epoch} {total / turns:.4f} held back {loss.mean():.4f} ({each}), "
            f"median {gap.median():.3f} px"
        )
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    weights = {f"weight{i}": layer.weight.T for i, layer in enumerate(layers)}
    weights |= {f"bias{i}": layer.bias for i, layer in enumerate(layers)}
    half = {name: value.detach().cpu().half().contiguous() for name, value in weights.items()}
    safetensors.torch.save_file(half, out, {"views": str(len(list(strips.glob("*.npz"))))})


def make_network(inputs: int, hidden: tuple[int, int]) -> nn.Sequential:
    """As `reconstruction.camera.outline_net` runs it."""
    first, second = hidden
    return nn.Sequential(
        nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
        nn.Linear(second, 3),
    )  # fmt: skip


def misfit(told: Tensor, offset: Tensor) -> Tensor:
    """Minus the logarithm of a Laplace density, mixed with an even one for what is hidden."""
    near = -(offset - told[:, 0]).abs() / told[:, 1].exp() - told[:, 1] - np.log(2)
    holds = nn.functional.logsigmoid(-told[:, 2])
    other = nn.functional.logsigmoid(told[:, 2]) - np.log(_RANGE)
    return -torch.logaddexp(holds + near, other)


def _told(network: nn.Sequential, strips: Batch) -> Tensor:
    chunks = torch.arange(len(strips), device=strips["image"].device).split(_CHUNK)
    with torch.no_grad():
        return torch.cat([network(features(strips.rows(rows))) for rows in chunks])


def _read(folder: Path, held_back: bool, device: str) -> tuple[Batch, Tensor, Tensor]:
    """Strips, their offsets (N,), and the index (N,) of each one's source."""
    parts, source = [], []
    for path in sorted(folder.glob("*.npz")):
        name, seed, _ = path.stem.split("-")
        if (int(seed) % 10 == 9) == held_back:
            with np.load(path) as file:
                parts.append({name: file[name] for name in file})
            source.append(np.full(len(parts[-1]["offset"]), _SOURCES.index(name)))
    if not parts:
        raise typer.BadParameter(
            f"{folder} holds no strips of seeds that {'end' if held_back else 'do not end'} in 9; "
            "film them first"
        )

    def joined(name: str) -> NDArray:
        return np.concatenate([part[name] for part in parts])

    strips = Strips(**{name: joined(name) for name in Strips.__dataclass_fields__})
    offset = torch.from_numpy(joined("offset").astype(np.float32)).to(device)
    return Batch.of(strips, device), offset, torch.from_numpy(np.concatenate(source)).to(device)


if __name__ == "__main__":
    app()

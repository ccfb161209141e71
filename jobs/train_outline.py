r"""Train the network that finds outlines to a fraction of a pixel (`reconstruction.camera`).

::

    python -m benchmarks._outline_film --out /data/strips --seeds 100 1000 --workers 52
    python -m jobs.train_outline --strips /data/strips --out outline_net.safetensors \
        --workers 27 --device cuda

made the embedded network: 2,700 views (1,800 of DROID), 22 epochs; on one lent GPU beside 27 cores
some eight minutes, after five of filming on 52. Of ten scenes one, by its seed, is held back and
judges: a loss of 0.126 and a median gap of 0.148 pixels. A network of 192 and 96 numbers, learned
from a tenth as many views, came to 0.37 and 0.189.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import safetensors.torch
import torch
import typer
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from reconstruction.camera.strips import Strips, features

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_HIDDEN = 384, 192
_BATCH = 2048
_RANGE = 8.0  # pixels over which offsets that cannot be told are spread
_GAIN, _GAMMA, _NOISE = 0.12, 0.15, 2.0  # of colours: by channel, both ways, grey levels
_DRIFT = 0.03  # of exposure between the backdrop and the image
_UNKNOWN = 0.15  # share of strips whose backdrop is withheld


@app.command()
def main(
    strips: Annotated[Path, typer.Option(help="folder of SOURCE-SEED-VIEW.npz")],
    out: Annotated[Path, typer.Option(help="file to write")],
    epochs: int = 22,
    seed: int = 0,
    hidden: Annotated[tuple[int, int], typer.Option(help="widths of both hidden layers")] = _HIDDEN,
    workers: Annotated[int, typer.Option(help="processes that make batches; 0: this one")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Train, and write the weights in half precision."""
    torch.set_num_threads(1)  # sums, and so the weights, would depend on how many
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise typer.BadParameter(
            f"--device is {device}: there is none here; cpu, or cuda with a GPU"
        )
    if not out.parent.is_dir():
        raise typer.BadParameter(f"--out is {out}, whose folder is not there; make it first")
    torch.manual_seed(seed)
    learnt, learnt_offset = _read(strips, held_back=False)
    judged, judged_offset = _read(strips, held_back=True)
    if len(learnt) < _BATCH:
        raise typer.BadParameter(
            f"{strips} holds {len(learnt)} lines to learn from, a step takes {_BATCH}; film more"
        )
    network = make_network(features(learnt.part(slice(0, 1))).shape[1], hidden).to(device)
    best = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    batches = _Batches(learnt, learnt_offset, seed)
    rate = torch.optim.lr_scheduler.OneCycleLR(best, 2e-3, epochs * len(batches), pct_start=0.1)
    for epoch in range(epochs):
        batches.shuffle(epoch)
        total = 0.0
        network.train()
        for x, offset in _loaded(batches, workers):
            loss = misfit(network(x.to(device)), offset.to(device)).mean()
            best.zero_grad()
            loss.backward()
            best.step()
            rate.step()
            total += loss.item()
        network.eval()
        with torch.no_grad():
            told = torch.cat(
                [
                    network(
                        torch.from_numpy(features(judged.part(slice(i, i + _BATCH)))).to(device)
                    )
                    for i in range(0, len(judged), _BATCH)
                ]
            ).cpu()
            loss = misfit(told, torch.from_numpy(judged_offset)).mean()
        gap = np.abs(told[:, 0].numpy() - judged_offset)
        typer.echo(
            f"{epoch} {total / len(batches):.4f} held back {loss:.4f}, "
            f"median {np.median(gap):.3f} px"
        )
    network.cpu()
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    weights = {f"weight{i}": layer.weight.T for i, layer in enumerate(layers)}
    weights |= {f"bias{i}": layer.bias for i, layer in enumerate(layers)}
    half = {name: value.detach().half().contiguous() for name, value in weights.items()}
    safetensors.torch.save_file(half, out, {"views": str(len(list(strips.glob("*.npz"))))})


class _Batches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches of one epoch; what each holds is told by its number, whichever process makes it."""

    def __init__(self, strips: Strips, offset: NDArray[np.float32], seed: int) -> None:
        self.strips, self.offset, self.seed = strips, offset, seed
        self.shuffle(0)

    def shuffle(self, epoch: int) -> None:
        """Begin an epoch."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.strips))

    def __len__(self) -> int:
        return len(self.strips) // _BATCH

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        if i >= len(self):
            raise IndexError(i)
        rows = self.order[i * _BATCH : (i + 1) * _BATCH]
        rng = np.random.default_rng([self.seed, self.epoch, i])
        x = features(varied(self.strips.part(rows), rng))
        return torch.from_numpy(x), torch.from_numpy(self.offset[rows])


def _loaded(batches: _Batches, workers: int) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Of one epoch: processes are begun anew, or would keep the order of the one before.

    They are forked, as no other are here: gigabytes of strips are theirs without a copy, and they
    touch neither OpenGL nor a GPU.
    """
    context = "fork" if workers else None
    return DataLoader(batches, None, num_workers=workers, multiprocessing_context=context)


def make_network(inputs: int, hidden: tuple[int, int] = _HIDDEN) -> nn.Sequential:
    """As `reconstruction.camera.outline_net` runs it."""
    first, second = hidden
    return nn.Sequential(
        nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
        nn.Linear(second, 3),
    )  # fmt: skip


def misfit(told: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of a Laplace density, mixed with an even one for what is hidden."""
    near = -(offset - told[:, 0]).abs() / told[:, 1].exp() - told[:, 1] - np.log(2)
    holds = nn.functional.logsigmoid(-told[:, 2])
    other = nn.functional.logsigmoid(told[:, 2]) - np.log(_RANGE)
    return -torch.logaddexp(holds + near, other)


def varied(strips: Strips, rng: np.random.Generator) -> Strips:
    """As another camera might have seen it: colours, noise, exposure, from the other side."""
    count = len(strips)
    flip = rng.uniform(size=count) < 0.5
    order = np.argsort(rng.uniform(size=(count, 3)), 1)[:, None, None]
    gain = np.exp(rng.uniform(-_GAIN, _GAIN, (count, 1, 1, 3))).astype(np.float32)
    gamma = np.exp(rng.uniform(-_GAMMA, _GAMMA, (count, 1, 1, 1))).astype(np.float32)
    drift = np.exp(rng.uniform(-_DRIFT, _DRIFT, (count, 1, 1, 1))).astype(np.float32)
    noise = rng.uniform(0, _NOISE, (count, 1, 1, 1)).astype(np.float32)
    colours = []
    for values, change in ((strips.image, gain), (strips.backdrop, gain * drift)):
        light = np.take_along_axis(values, order, 3) * np.float32(1 / 255)
        light = 255 * light**gamma * change
        if values is strips.image:
            light += noise * rng.standard_normal(light.shape, np.float32)
        colours.append(_flipped(light.clip(0, 255).astype(np.uint8), flip))
    known = strips.known & (rng.uniform(size=(count, 1, 1)) > _UNKNOWN)
    known, own, robot = (_flipped(values, flip) for values in (known, strips.own, strips.robot))
    return Strips(colours[0], colours[1], known, own, robot, strips.relief, strips.facing)


def _flipped(values: NDArray, flip: NDArray[np.bool_]) -> NDArray:
    return np.where(flip.reshape(-1, *[1] * (values.ndim - 1)), values[:, ::-1], values)


def _read(folder: Path, held_back: bool) -> tuple[Strips, NDArray[np.float32]]:
    parts = []
    for path in sorted(folder.glob("*.npz")):
        if (int(path.stem.split("-")[1]) % 10 == 9) == held_back:
            with np.load(path) as file:
                parts.append({name: file[name] for name in file})
    if not parts:
        raise typer.BadParameter(f"{folder} holds no strips; film them first")
    fields = Strips.__dataclass_fields__
    joined = Strips(**{name: np.concatenate([part[name] for part in parts]) for name in fields})
    return joined, np.concatenate([part["offset"] for part in parts]).astype(np.float32)


if __name__ == "__main__":
    app()

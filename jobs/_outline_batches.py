"""Strips as tensors on a device, seen as other cameras might have seen them (`train_outline`)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from reconstruction.camera.strips import ALONG, ASIDE, Strips

_LEAST = 8.0  # as `reconstruction.camera.strips`, whose `features` these are
_EDGE = 0.7  # pixels over which shading of one side fades out


@dataclass(frozen=True)
class Variation:
    """By how much strips vary at most; colours by factors exp(+-x).

    Attributes:
        gain, gamma: of each channel and of all.
        noise: grey levels.
        drift: of exposure between the backdrop and the image.
        unknown: share of strips whose backdrop is withheld.
        shading: of what lies on one side of the true outline, changing along it.
        shift: pixels by which the backdrop is misplaced, in half of the strips.
        blur: share of a sample's neighbours that it takes, or gives where it is sharpened.
    """

    gain: float
    gamma: float
    noise: float
    drift: float
    unknown: float
    shading: float = 0.0
    shift: float = 0.0
    blur: float = 0.0


VARIATIONS = {
    "mild": Variation(gain=0.12, gamma=0.15, noise=2.0, drift=0.03, unknown=0.15),
    "wide": Variation(0.3, 0.4, 4.0, 0.06, 0.3, shading=0.4, shift=1.0, blur=0.15),
}


class Batch(dict[str, Tensor]):
    """The fields of `Strips` by name, as tensors on one device; as long as these are."""

    @classmethod
    def of(cls, strips: Strips, device: str) -> Batch:
        """All of them."""
        names = (field.name for field in fields(Strips))
        return cls({name: torch.from_numpy(getattr(strips, name)).to(device) for name in names})

    def __len__(self) -> int:
        return len(self["image"])

    def rows(self, rows: Tensor | slice) -> Batch:
        """Some of the lines."""
        return Batch({name: value[rows] for name, value in self.items()})


def features(batch: Batch) -> Tensor:
    """(N, D) as `reconstruction.camera.strips.features` gives them."""
    image = batch["image"].float()
    mean = image.mean((1, 2), keepdim=True)
    size = (image.var((1, 2), correction=0).sum(1) + _LEAST**2).sqrt()[:, None, None, None]
    known = batch["known"][..., None]
    behind = torch.where(known, (batch["backdrop"].float() - mean) / size, 0.0).clamp(-4, 4)
    parts = [
        (image - mean) / size,
        behind,
        known.float(),
        batch["own"].float() / 255,
        batch["robot"].float() / 255,
        batch["relief"].float() / 4,
        batch["facing"],
        mean / 128 - 1,
        torch.log(size / 30),
    ]
    return torch.cat([part.flatten(1) for part in parts], 1)


def varied(batch: Batch, offset: Tensor, how: Variation, draw: torch.Generator) -> Batch:
    """Strips in other colours, light and focus, from the other side; ``offset`` (N,) is true."""
    count, device = len(batch), offset.device

    def spread(size: float, *shape: int) -> Tensor:
        """(N, ...) even between -size and size."""
        return size * (2 * torch.rand((count, *shape), generator=draw, device=device) - 1)

    flip = spread(1.0) < 0
    order = spread(1.0, 3).argsort(1)[:, None, None].expand(batch["image"].shape)
    gain, gamma = spread(how.gain, 1, 1, 3).exp(), spread(how.gamma, 1, 1, 1).exp()
    drift, blur = spread(how.drift, 1, 1, 3).exp(), spread(how.blur, 1, 1, 1)
    noise = spread(how.noise, 1, 1, 1).abs()
    behind, known = batch["backdrop"].float(), batch["known"]
    if how.shift:
        behind, known = _shifted(behind, known, spread(how.shift, 2) * (spread(1.0, 1) > 0))

    def seen(values: Tensor, change: Tensor) -> Tensor:
        light = _softened(values.gather(3, order) / 255, blur)
        return 255 * light.clamp(0, 1) ** gamma * change

    image = seen(batch["image"].float(), gain)
    if how.shading:
        image = image * _shades(offset, spread(how.shading, 2), spread(how.shading, 2))
    image = image + noise * torch.randn(image.shape, generator=draw, device=device)
    behind = seen(behind, gain * drift)
    known = known & (spread(0.5, 1, 1) + 0.5 > how.unknown)
    sides = {
        "image": image.clamp(0, 255).byte(),
        "backdrop": behind.clamp(0, 255).byte(),
        "known": known,
        "own": batch["own"],
        "robot": batch["robot"],
    }
    turned = {name: _flipped(value, flip) for name, value in sides.items()}
    return Batch(turned | {"relief": batch["relief"], "facing": batch["facing"]})


def _softened(light: Tensor, share: Tensor) -> Tensor:
    """Each sample along a strip with ``share`` (N, 1, 1, 1) of each neighbour, or less that."""
    padded = torch.cat([light[:, :, :1], light, light[:, :, -1:]], 2)
    return light + share * (padded[:, :, 2:] + padded[:, :, :-2] - 2 * light)


def _shades(offset: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """(N, A, K, 1) factors: of both sides of the outline, from one end of each to the other."""
    along = torch.as_tensor(ALONG, dtype=torch.float32, device=offset.device)
    aside = torch.as_tensor(ASIDE, dtype=torch.float32, device=offset.device)
    beyond = torch.sigmoid((along - offset[:, None]) / (_EDGE / 2))[:, None]
    across, beside = along / along.max(), (aside / aside.max())[:, None]
    slopes = [
        (by[:, :1, None] * (0.5 + across.abs() / 2) + by[:, 1:, None] * beside / 2)
        for by in (inside, outside)
    ]
    return torch.exp((1 - beyond) * slopes[0] + beyond * slopes[1])[..., None]


def _shifted(behind: Tensor, known: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The backdrop from ``shift`` (N, 2) pixels along and aside of where it should be."""
    count, wide, long = known.shape
    size = torch.as_tensor([ALONG[-1], ASIDE[-1]], dtype=torch.float32, device=shift.device)
    turn = torch.eye(2, 3, device=shift.device).repeat(count, 1, 1)
    turn[:, :, 2] = shift / size
    grid = functional.affine_grid(turn, [count, 4, wide, long], align_corners=True)
    both = torch.cat([behind, known[..., None].float()], 3).permute(0, 3, 1, 2)
    moved = functional.grid_sample(both, grid, padding_mode="border", align_corners=True)
    moved = moved.permute(0, 2, 3, 1)
    return moved[..., :3], moved[..., 3] > 0.999


def _flipped(values: Tensor, flip: Tensor) -> Tensor:
    return torch.where(flip.reshape(-1, *[1] * (values.dim() - 1)), values.flip(1), values)

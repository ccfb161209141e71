"""The mask network: a small encoder of photographs, and a decoder that is told a silhouette."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reconstruction.depth.pointmap.checkpoint import load_body

ENCODER = "tf_efficientnet_lite0"
SIZE = (192, 320)  # (height, width) in pixels of what it is trained on and run at
TOLD = 2  # maps beside the picture: a silhouette, and where one is given
# Channels of the decoder at strides 16, 8, 4 and 2, and at the picture's own.
_WIDTHS, _LAST = (64, 40, 24, 16), 16
_NARROW = (16, 32, 48)  # of what brings the told maps down to a sixteenth
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class MaskNetwork(nn.Module):
    """Logits (N, 1, H, W) of the robot that is seen, of (N, 5, H, W); sides are multiples of 32.

    The five are red, green and blue in 0..1, the silhouette of a robot rendered near the truth in
    0..1, and ones; where none is given, both of the last are zeros.

    Args:
        weights: of the encoder, as `load_body` takes them; None: random ones.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.body = timm.create_model(ENCODER, pretrained=False, features_only=True)
        if weights is not None:
            load_body(self.body, ENCODER, weights)
        two, four, eight, sixteen, deepest = self.body.feature_info.channels()
        into = (sixteen, eight, four, two)
        self.lateral = nn.ModuleList(
            [nn.Conv2d(a, b, 1) for a, b in zip(into, _WIDTHS, strict=True)]
        )
        self.top = nn.Conv2d(deepest, _WIDTHS[0], 1)
        above = (_WIDTHS[0], *_WIDTHS[:-1])
        self.blocks = nn.ModuleList([_block(a + b, b) for a, b in zip(above, _WIDTHS, strict=True)])
        self.up = nn.Conv2d(_WIDTHS[-1], _LAST, 1)
        self.last = nn.Sequential(
            nn.Conv2d(_LAST // 4 + 3 + TOLD, _LAST, 3, padding=1),
            nn.BatchNorm2d(_LAST),
            nn.ReLU(),
            nn.Conv2d(_LAST, 1, 3, padding=1),
        )
        layers: list[nn.Module] = []
        for a, b in zip((TOLD, *_NARROW), (*_NARROW, _WIDTHS[0]), strict=True):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()]
        self.told_deep = nn.Sequential(*layers[:-1])
        self.told_fine = nn.Conv2d(TOLD, _WIDTHS[-1], 3, 2, 1)

    def forward(self, given: Tensor) -> Tensor:
        """See the class."""
        told = given[:, 3:]
        mean, spread = (given.new_tensor(v)[:, None, None] for v in (_MEAN, _SPREAD))
        picture = (given[:, :3] - mean) / spread
        *levels, deepest = self.body(picture)
        told_of = {0: self.told_deep, len(levels) - 1: self.told_fine}
        y = self.top(deepest)
        for k, (lateral, block) in enumerate(zip(self.lateral, self.blocks, strict=True)):
            z = lateral(levels[-1 - k])
            if k in told_of:
                z = z + told_of[k](told)
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = block(torch.cat([y, z], 1))
        y = F.pixel_shuffle(self.up(y), 2)
        return self.last(torch.cat([y, picture, told], 1))


def _block(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, width):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)

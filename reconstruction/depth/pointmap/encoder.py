"""A timm encoder as a pyramid: tokens for attention, and finer maps for sharp edges."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Pictures reach the network in ImageNet's units, which timm's encoders were trained in.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """A picture to tokens of one width, and two finer maps.

    Convolutional encoders give their levels of stride 16 and 32 as tokens and those of 8 and 4 as
    the finer maps; transformers give their last block, and two of their middle ones upsampled, as
    in Ranftl et al. 2021 (DPT).

    Args:
        name: of timm.
        width: channels of the tokens.
        fine: channels of the maps of half and of a quarter of the tokens' stride.
    """

    def __init__(self, name: str, width: int, fine: tuple[int, int]) -> None:
        super().__init__()
        convolutional = "dynamic_img_size" not in _arguments(name)
        if convolutional:
            self.body = timm.create_model(name, pretrained=False, features_only=True)
            strides = list(self.body.feature_info.reduction())
            if not {4, 8, 16, 32} <= set(strides):
                raise ValueError(
                    f"{name} has levels of stride {strides}; expected a convolutional encoder with "
                    "4, 8, 16 and 32 among them, or one of timm's vision_transformer"
                )
            wanted = [strides.index(s) for s in (4, 8, 16, 32)]
        else:
            with torch.device("meta"):
                depth = len(timm.create_model(name, pretrained=False).blocks)
            wanted = [depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1, depth - 1]
            self.body = timm.create_model(
                name,
                pretrained=False,
                features_only=True,
                out_indices=wanted,
                dynamic_img_size=True,
            )
            wanted = [0, 1, 2, 3]
        self.wanted = wanted
        channels = [self.body.feature_info.channels()[i] for i in wanted]
        # What a picture's sides must be multiples of.
        self.multiple = 32 if convolutional else int(self.body.feature_info.reduction()[0])
        self.stride = 16 if convolutional else self.multiple
        self.finest = _lateral(channels[0], fine[1], 1 if convolutional else 4)
        self.finer = _lateral(channels[1], fine[0], 1 if convolutional else 2)
        self.tokens = nn.Conv2d(channels[2] + channels[3], width, 1)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 3, H, W) to tokens (B, width, h, w), and maps of 2 and 4 times that size."""
        levels = self.body(picture)
        fine, middle, coarse, coarsest = (levels[i] for i in self.wanted)
        coarsest = F.interpolate(coarsest, coarse.shape[2:], mode="bilinear", align_corners=False)
        tokens = self.tokens(torch.cat([coarse, coarsest], 1))
        return tokens, self.finer(middle), self.finest(fine)


def _lateral(channels: int, out: int, up: int) -> nn.Module:
    if up == 1:
        return nn.Conv2d(channels, out, 1)
    return nn.ConvTranspose2d(channels, out, up, stride=up)


def _arguments(name: str) -> set[str]:
    """Which keyword arguments the class of a timm model takes."""
    import inspect

    from timm.models import is_model, model_entrypoint

    if not is_model(name):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:8]
        raise ValueError(f"timm has no model {name!r}; it has {', '.join(close)}, ...")
    module = inspect.getmodule(model_entrypoint(name))
    kind = getattr(module, "VisionTransformer", None)
    return set(inspect.signature(kind.__init__).parameters) if kind else set()

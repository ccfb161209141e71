"""The SAM family by `transformers`: real classes of random weights, real processors.

What needs torch and transformers skips without them: pip install 'robo4d[masks]'.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from reconstruction.camera.learned_masks import prompts_of
from reconstruction.camera.sam_masks import SamMasks, identity, open_sam
from schemas.reasons import UsageError

installed = find_spec("torch") is not None and find_spec("transformers") is not None
needs_torch = pytest.mark.skipif(not installed, reason="torch and transformers are not installed")
SIZE = (60, 100)
WIDE = 128  # pixels at which the small network looks


def part() -> np.ndarray:
    part = np.zeros((6, *SIZE), np.uint8)
    for i in range(6):
        part[i, 15:50, 20 + 3 * i : 60 + 3 * i] = 2
    return part


def frames() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 40, (6, *SIZE, 3))
    return (noise + 160 * (part() > 0)[..., None]).astype(np.uint8)


def save_sam(folder) -> None:
    import torch
    from transformers import SamConfig, SamModel, SamProcessor

    try:
        from transformers.models.sam.image_processing_sam import SamImageProcessor
    except ImportError:  # without torchvision
        from transformers.models.sam.image_processing_pil_sam import (
            SamImageProcessorPil as SamImageProcessor,
        )
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": WIDE,
            "output_channels": 32,
            "window_size": 4,
            "global_attn_indexes": [1],
            "mlp_dim": 64,
            "num_pos_feats": 16,
            "initializer_range": 0.02,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": WIDE, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    SamModel(config).save_pretrained(folder)
    size = {"height": WIDE, "width": WIDE}
    images = SamImageProcessor(size={"longest_edge": WIDE}, pad_size=size)
    SamProcessor(images).save_pretrained(folder)


def save_sam2(folder) -> None:
    pytest.importorskip("torchvision", exc_type=ImportError)
    import torch
    from transformers import Sam2Config, Sam2Model, Sam2Processor
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    torch.manual_seed(0)
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "image_size": [WIDE, WIDE],
                "blocks_per_stage": [1, 2, 2, 1],
                "embed_dim_per_stage": [16, 32, 64, 128],
                "num_attention_heads_per_stage": [1, 2, 2, 2],
                "window_size_per_stage": [8, 4, 4, 4],
                "global_attention_blocks": [4],
            },
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": WIDE, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    Sam2Model(config).save_pretrained(folder)
    size = {"height": WIDE, "width": WIDE}
    Sam2Processor(Sam2ImageProcessor(size=size)).save_pretrained(folder)


@pytest.fixture(params=[save_sam, save_sam2], ids=["sam", "sam2"])
def folder(request, tmp_path):
    open_sam.cache_clear()
    request.param(tmp_path)
    return tmp_path


@needs_torch
def test_a_saved_network_gives_a_share_a_pixel_whatever_comes_in_one_batch(folder):
    backend = open_sam(str(folder))
    prompts = prompts_of(part())
    shares = backend(frames(), prompts)
    assert (shares.shape, shares.dtype) == ((6, *SIZE), np.float32)
    assert shares.min() >= 0
    assert shares.max() <= 1
    alone = np.concatenate(
        [
            backend(
                frames()[i : i + 1],
                type(prompts)(*(values[i : i + 1] for values in vars(prompts).values())),
            )
            for i in range(6)
        ]
    )
    np.testing.assert_allclose(shares, alone, atol=1e-5)
    np.testing.assert_array_equal(shares, backend(frames(), prompts))


@needs_torch
def test_masks_lie_on_the_frames_as_they_came(folder):
    """A network that finds bright places, behind the real processor: pixels stay where they are."""
    import torch
    from torch.nn.functional import interpolate

    class Bright:
        device = "cpu"

        def __call__(self, pixel_values, input_boxes, input_points, input_labels, multimask_output):
            assert multimask_output is False
            self.boxes, self.points = input_boxes, input_points
            grey = pixel_values.mean(1, keepdim=True)
            logits = 9 * interpolate(grey, (WIDE // 2, WIDE // 2), mode="area")
            return SimpleNamespace(pred_masks=logits[:, None])

    network = Bright()
    shares = SamMasks(network, open_sam(str(folder)).processor)(frames(), prompts_of(part()))
    wanted = part() > 0
    iou = ((shares >= 0.5) & wanted).sum((1, 2)) / ((shares >= 0.5) | wanted).sum((1, 2))
    assert iou.min() > 0.93
    # Prompts are scaled as the frames are: the box' middle is the robot's. Last batch, last frame.
    across = float(network.boxes[-1, 0, [0, 2]].mean()) / WIDE * SIZE[1]
    assert across == pytest.approx(20 + 15 + 20 - 0.5, abs=0.6)
    assert isinstance(network.points, torch.Tensor)


@needs_torch
def test_a_checkpoint_without_all_its_weights_is_refused(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "mask_decoder" in name))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"1 weights are not there, mask_decoder"):
        open_sam(str(folder))


@needs_torch
@pytest.mark.parametrize("what", ["cut", "code"])
def test_a_broken_checkpoint_or_one_with_code_is_refused_in_words(folder, what):
    if what == "cut":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    else:
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "odd", "auto_map": {"AutoConfig": "code.Odd"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "code.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(UsageError, match="name a folder with config.json"):
        open_sam(str(folder))


@needs_torch
def test_a_folder_without_a_checkpoint_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match="name a folder with config.json"):
        open_sam(str(tmp_path))


@pytest.mark.skipif(installed, reason="torch and transformers are installed")
def test_without_transformers_the_build_says_what_to_install(tmp_path):
    with pytest.raises(UsageError, match=r"pip install 'robo4d\[masks\]'"):
        identity(str(tmp_path))

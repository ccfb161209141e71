"""Outlines of a depth map that is made larger."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from torch.nn import functional as F  # noqa: E402

from reconstruction.depth.pointmap.blocks import Sharpen  # noqa: E402


@pytest.fixture
def sharpen() -> Sharpen:
    torch.manual_seed(0)
    return Sharpen(4)


def test_until_trained_it_is_bilinear(sharpen):
    maps = torch.rand(2, 9, 12)
    larger = sharpen(maps, torch.rand(2, 4, 9, 12), torch.rand(2, 3, 18, 24))
    expected = F.interpolate(maps[:, None], scale_factor=2.0, mode="bilinear")[:, 0]
    assert larger.shape == (2, 18, 24)
    assert (larger - expected).abs().max() < 0.06
    assert (larger - expected).abs().mean() < 0.01


def test_it_learns_to_leave_a_step_where_the_picture_has_it(sharpen):
    """Columns at random; the map of half the size is near on one side and far on the other."""

    def batch() -> tuple[torch.Tensor, ...]:
        column = torch.randint(6, 26, (16,))
        near = (torch.arange(32) < column[:, None])[:, None].expand(16, 16, 32).float()
        picture = near[:, None].expand(16, 3, 16, 32) + 0.05 * torch.randn(16, 3, 16, 32)
        return 2 - near, F.avg_pool2d((2 - near)[:, None], 2)[:, 0].round(), picture

    optimizer = torch.optim.Adam(sharpen.parameters(), 3e-3)
    for _ in range(250):
        truth, coarse, picture = batch()
        error = (sharpen(coarse, torch.zeros(16, 4, 8, 16), picture) - truth).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    truth, coarse, picture = batch()
    found = sharpen(coarse, torch.zeros(16, 4, 8, 16), picture)
    bilinear = F.interpolate(coarse[:, None], scale_factor=2.0, mode="bilinear")[:, 0]
    assert (found - truth).abs().mean() < 0.25 * (bilinear - truth).abs().mean()
    # A mean of what is about it is never beyond it.
    assert found.min() > coarse.min() - 1e-5
    assert found.max() < coarse.max() + 1e-5

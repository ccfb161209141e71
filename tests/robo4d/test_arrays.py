"""The image-over-time codec: the depth bound, exact holes, lossless masks, damaged bytes."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs import blosc

from robo4d import FormatError, ShapeError, _arrays, depth_bound
from robo4d._arrays import decode_array, encode_bool, encode_depth, encode_uint8

shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=12)
depths = st.one_of(st.just(0.0), st.floats(float(np.float32(0.00101)), 1000.0, width=32))


@given(hnp.arrays(np.float32, shapes, elements=depths))
def test_depth_stays_within_the_bound_and_holes_are_exact(depth):
    decoded = decode_array(encode_depth(depth))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded == 0, depth == 0)
    assert (np.abs(decoded.astype(float) - depth) <= depth_bound(depth)).all()


def test_the_bound_is_the_formats():
    assert depth_bound(np.array(1.0)) <= 0.001
    assert depth_bound(np.array(2.0)) <= 0.0018


@given(hnp.arrays(np.uint8, shapes))
def test_part_ids_are_lossless(values):
    np.testing.assert_array_equal(decode_array(encode_uint8(values)), values)


@given(hnp.arrays(np.bool_, shapes))
def test_masks_are_lossless(mask):
    decoded = decode_array(encode_bool(mask))
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("bad", [-1.0, 1e-4, 2e3, np.nan, np.inf])
def test_depth_out_of_range_is_refused_not_clipped(bad):
    with pytest.raises(ShapeError, match="depth"):
        encode_depth(np.full((1, 2, 2), bad, np.float32))


def test_the_same_array_gives_the_same_bytes():
    depth = np.random.default_rng(0).uniform(0.3, 2, (5, 20, 30)).astype(np.float32)
    assert encode_depth(depth) == encode_depth(depth)


@given(st.data())
def test_damaged_bytes_are_an_error_never_a_crash(data):
    good = encode_depth(np.linspace(0.5, 2, 5 * 8 * 8, dtype=np.float32).reshape(5, 8, 8))
    cut = data.draw(st.integers(0, len(good)))
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    for bad in (good[: cut - 1] if cut else b"", flipped):
        with contextlib.suppress(FormatError):
            decode_array(bad)


def test_a_header_that_claims_terabytes_is_refused():
    good = bytearray(encode_uint8(np.zeros((1, 4, 4), np.uint8)))
    good[5:17] = b"\xff" * 12
    with pytest.raises(FormatError, match="claims shape"):
        decode_array(bytes(good))


@pytest.mark.parametrize("used", [None, True])
def test_the_bytes_are_the_same_whatever_threads_blosc_may_use(monkeypatch, used):
    monkeypatch.setattr(blosc, "use_threads", used)  # zarr, once imported, forbids them
    depth = np.random.default_rng(0).uniform(0.5, 2, (20, 256, 320)).astype(np.float32)
    allowed = blosc.set_nthreads(4)
    try:
        found = {encode_depth(depth) for _ in range(4)}
        blosc.set_nthreads(1)
        assert found == {encode_depth(depth)}
    finally:
        blosc.set_nthreads(allowed)
    assert blosc.use_threads is used


@pytest.mark.parametrize("frames", [1, 9, 20])
def test_depth_is_shuffled_as_makes_it_smaller(frames, monkeypatch):
    plane = np.linspace(0.5, 2, 96 * 96).reshape(96, 96)
    depth = plane * (1 + 0.01 * np.random.default_rng(0).standard_normal((frames, 96, 96)))
    chosen = len(encode_depth(depth))
    real = _arrays._blosc
    sizes = []
    for only in (blosc.SHUFFLE, blosc.BITSHUFFLE):
        monkeypatch.setattr(_arrays, "_blosc", lambda values, how, only=only: real(values, only))
        sizes.append(len(encode_depth(depth)))
    assert chosen == min(sizes)

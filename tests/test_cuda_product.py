"""The products of kernels/cuda by each of their tiles, on the CPU: the edges of tiles, parts of a reduction,
pieces of a batch, vectors and single numbers.

The bounds are those of rounding: `terms` products added in any order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.kernels.cuda import _products, conv, conv_pool, linear
from fastnn.kernels.reference import conv as reference
from fastnn.kernels.reference import conv_pool as reference_pool
from tests import emulation, parity
from tests.emulation import Toolkit, emulated

TILES = {tile.name: tile for tile in _products._TILES}
pytestmark = pytest.mark.skipif(emulation.WHY_NOT is not None, reason=str(emulation.WHY_NOT))


@pytest.fixture(scope="module")
def toolkit(built: Path) -> Iterator[Toolkit]:
    with emulated(Toolkit(built)) as toolkit:
        yield toolkit


@pytest.fixture(autouse=True)
def fresh_plans() -> Iterator[None]:
    _products.plan.cache_clear()
    yield
    _products.plan.cache_clear()
    fastnn.set_float32_precision("highest")


def force(monkeypatch: Any, tile: str, parts: int = 1) -> None:
    monkeypatch.setattr(_products, "_TILES", (TILES[tile],))
    monkeypatch.setattr(_products, "_PARTS", (parts,))
    _products.plan.cache_clear()


def numbers(seed: Any, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def images(seed: Any, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    return parity.arrange(numbers(seed, *shape, dtype=dtype), "channels_last")


def near(ours: Any, exact: Any, size: Any, terms: int, rounding: float = 0.0) -> None:
    """`size`: the sum of the products' absolute values."""
    bound = ((terms + 8) * np.finfo(ours.dtype).eps + rounding) * size + np.finfo(ours.dtype).tiny
    assert ours.shape == exact.shape
    np.testing.assert_array_less(np.abs(ours - exact), bound)


def check_linear(m: int, n: int, k: int, dtype: Any, rounding: float = 0.0) -> None:
    x, w, b, g = (numbers((m, n, k), *shape, dtype=dtype) for shape in ((m, k), (k, n), (n,), (m, n)))
    X, W, B, G = (a.astype(np.float64) for a in (x, w, b, g))
    near(linear.linear(x, w, b, None), X @ W + B, abs(X) @ abs(W) + abs(B), k, rounding)
    grad_x, grad_weight, grad_bias = linear.linear_backward(g, x, w, True)
    near(grad_x, G @ W.T, abs(G) @ abs(W.T), n, rounding)
    near(grad_weight, X.T @ G, abs(X.T) @ abs(G), m, rounding)
    near(grad_bias, G.sum(0), abs(G).sum(0), m)


def check_conv(x: np.ndarray, weight: np.ndarray, *geometry: Any, rounding: float = 0.0) -> None:
    """Both passes against the reference in float64."""
    X, W = (a.astype(np.float64) for a in (x, weight))
    bias = numbers(5, len(weight), dtype=x.dtype)
    B = bias.astype(np.float64)
    y = conv.conv2d(x, weight, bias, *geometry, None)
    exact, size = (reference.conv2d(*each, *geometry, None) for each in ((X, W, B), (abs(X), abs(W), abs(B))))
    near(y, exact, size, weight[0].size, rounding)
    grad = images(7, *y.shape, dtype=x.dtype)
    G = grad.astype(np.float64)
    ours = conv.conv2d_backward(grad, x, weight, *geometry, True)
    exact = reference.conv2d_backward(G, X, W, *geometry, True)
    size = reference.conv2d_backward(abs(G), abs(X), abs(W), *geometry, True)
    pixels = y.size // y.shape[1]
    near(ours[0], exact[0], size[0], weight[:, 0].size, rounding)
    near(ours[1], exact[1], size[1], pixels, rounding)
    near(ours[2], exact[2], size[2], pixels)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("tile", TILES)
def test_products_are_right_at_the_edges_of_a_tile(
    tile: str, dtype: Any, toolkit: Toolkit, monkeypatch: Any
) -> None:
    force(monkeypatch, tile)
    rows, columns, depth = TILES[tile].rows, TILES[tile].columns, TILES[tile].depth
    around = [(1, side - 1, side, side + 1) for side in (rows, columns, depth)]
    for i in range(4):
        check_linear(around[0][i], around[1][(i + 1) % 4], around[2][(i + 2) % 4], dtype)
    check_linear(2 * rows + 3, columns + 4, 2 * depth + 4, dtype)


@pytest.mark.parametrize("parts", [2, 3, 64])
@pytest.mark.parametrize("tile", TILES)
def test_parts_of_a_reduction_add_up(tile: str, parts: int, toolkit: Toolkit, monkeypatch: Any) -> None:
    force(monkeypatch, tile, parts)
    depth = TILES[tile].depth
    for terms in (1, depth, 3 * depth + 5):
        check_linear(terms, 20, terms, np.float32)
        check_linear(7, 13, terms, np.float64)
    check_conv(images(1, 3, 4, 9, 8), numbers(2, 6, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("tile", TILES)
def test_convolutions_are_right_by_every_tile(
    tile: str, dtype: Any, toolkit: Toolkit, monkeypatch: Any
) -> None:
    force(monkeypatch, tile)
    one, cases = (1, 1), itertools.count()
    for x, weight, geometry in (
        ((2, 3, 9, 8), (7, 3, 3, 3), (one, one, one, 1)),
        ((2, 4, 9, 8), (8, 4, 3, 2), (one, (0, 1), one, 1)),
        ((1, 8, 11, 7), (12, 4, 3, 3), ((2, 1), one, (1, 2), 2)),
        ((2, 6, 8, 9), (9, 2, 2, 3), ((3, 2), (2, 2), one, 3)),
        ((5, 1, 12, 12), (6, 1, 5, 5), (one, (0, 0), one, 1)),
        ((1, 36, 5, 5), (TILES[tile].columns + 4, 36, 1, 1), (one, (0, 0), one, 1)),
    ):
        i = next(cases)
        check_conv(images(i, *x, dtype=dtype), numbers(i + 9, *weight, dtype=dtype), *geometry)


def test_what_lies_off_16_bytes_or_channels_first_gives_the_same_bits(toolkit: Toolkit) -> None:
    x, w, b = (numbers(i, *shape) for i, shape in enumerate(((9, 12), (12, 8), (8,))))
    here = linear.linear(x, w, b, "relu")
    off = [np.empty(a.size + 1, a.dtype)[1:].reshape(a.shape) for a in (x, w, b)]
    for target, a in zip(off, (x, w, b), strict=True):
        target[...] = a
    np.testing.assert_array_equal(linear.linear(*off, "relu"), here)
    image, filters = numbers(3, 2, 4, 6, 6), numbers(4, 8, 4, 3, 3)
    geometry = ((1, 1), (1, 1), (1, 1), 1)
    here = conv.conv2d(image, filters, None, *geometry, None)
    there = conv.conv2d(parity.arrange(image, "channels_last"), filters, None, *geometry, None)
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("most", [128, 300])
def test_pieces_of_a_batch_give_what_the_whole_gives(most: int, toolkit: Toolkit, monkeypatch: Any) -> None:
    x, w, g = numbers(1, 700, 12), numbers(2, 12, 10), numbers(3, 700, 10)
    image, filters = images(4, 9, 4, 8, 6), numbers(5, 6, 4, 3, 3)
    geometry = ((1, 1), (1, 1), (1, 1), 1)
    slope = images(6, 9, 6, 8, 6)

    def results() -> list[Any]:
        return [
            linear.linear(x, w, None, "relu"),
            *linear.linear_backward(g, x, w, True),
            conv.conv2d(image, filters, None, *geometry, "relu"),
            *conv.conv2d_backward(slope, image, filters, *geometry, True),
        ]

    force(monkeypatch, "small")
    whole = results()
    monkeypatch.setattr(_products, "MOST", most)
    _products.plan.cache_clear()
    for i, (a, b) in enumerate(zip(results(), whole, strict=True)):
        if i in (0, 1, 4, 5):  # each row by itself
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, 1e-4, 1e-4)
    monkeypatch.setattr(_products, "MOST", 40)
    with pytest.raises(ValueError, match="an image of 48 pixels is more than a kernel can number, 40"):
        conv.conv2d(image, filters, None, *geometry, None)


def test_an_empty_batch_gives_gradients_of_zero(toolkit: Toolkit) -> None:
    x, weight, grad = (np.ones(shape, np.float32) for shape in ((0, 5), (5, 7), (0, 7)))
    for gradient in linear.linear_backward(grad, x, weight, True):
        assert not gradient.any()


@pytest.mark.parametrize("size", [4, 8])
def test_a_plan_covers_all_terms_once_and_every_block_of_the_result(size: int) -> None:
    draw = np.random.default_rng(size)
    for _ in range(300):
        M, N, terms = (int(2 ** draw.uniform(0, top)) for top in (24, 12, 22))
        plan = _products.plan(M, N, terms, 1, bool(draw.integers(2)), size)
        tile = TILES[plan.name]
        assert plan.blocks == -(-M // tile.rows) * -(-N // tile.columns)
        assert plan.chunk * (plan.parts - 1) < terms <= plan.chunk * plan.parts
        assert plan.chunk % 4 == 0


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("tile", TILES)
def test_pooled_convolutions_are_right_by_every_tile(
    tile: str, dtype: Any, toolkit: Toolkit, monkeypatch: Any
) -> None:
    force(monkeypatch, tile)
    one, none = (1, 1), (0, 0)
    for i, (x, weight, geometry, ceil_mode) in enumerate(
        (
            ((2, 3, 9, 8), (7, 3, 3, 3), (one, one, one, 1), False),
            ((2, 4, 10, 12), (TILES[tile].columns + 4, 4, 3, 3), (one, one, one, 1), True),
            ((1, 8, 11, 7), (12, 4, 3, 2), ((2, 1), one, (1, 2), 2), False),
            ((5, 1, 14, 12), (6, 1, 5, 5), (one, none, one, 1), False),
        )
    ):
        pooling = (2, 2), (2, 2), none, one, ceil_mode
        # few different numbers, so that windows have equal maxima: the sums are exact, and so is the place
        integers = np.random.default_rng(i).integers
        operands = [integers(-2, 3, shape).astype(dtype) for shape in (x, weight, weight[:1])]
        operands[0] = parity.arrange(operands[0], "channels_last")
        theirs = reference_pool.conv2d_max_pool2d(*operands, geometry, pooling, "relu")
        before = toolkit.launched.copy()
        both = conv_pool.conv2d_max_pool2d(*operands, geometry, pooling, "relu")
        for ours, exact in zip(both, theirs, strict=True):
            np.testing.assert_array_equal(ours, exact)
            assert ours.strides == exact.strides
        assert f"conv_pool.forward_{tile}" in toolkit.launched
        assert {name for name in toolkit.launched - before if name.startswith("pool.")} == set()


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_an_activation_s_gradient_goes_before_that_of_the_pooling(name: str, toolkit: Toolkit) -> None:
    x, weight, bias = numbers(0, 2, 3, 8, 8), numbers(1, 4, 3, 3, 3), numbers(2, 4)
    options = ((1, 1), (1, 1), (1, 1), 1), ((2, 2), (2, 2), (0, 0), (1, 1), False)
    out, indices = reference_pool.conv2d_max_pool2d(x, weight, bias, *options, name)
    arguments = numbers(3, *out.shape), indices, x, weight, options[0], True, None, options[1], (name, out)
    theirs = reference_pool.conv2d_max_pool2d_backward(*arguments)
    for ours, exact in zip(conv_pool.conv2d_max_pool2d_backward(*arguments), theirs, strict=True):
        np.testing.assert_allclose(ours, exact, 1e-5, 1e-5)


def test_of_nans_in_a_window_the_last_wins(toolkit: Toolkit) -> None:
    x = numbers(1, 1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 1, 0], x[0, 0, 2, 2] = np.nan, np.nan, np.inf
    operands = x, np.ones((3, 1, 1, 1), np.float32), None, ((1, 1), (0, 0), (1, 1), 1)
    pooling = (2, 2), (2, 2), (0, 0), (1, 1), False
    theirs = reference_pool.conv2d_max_pool2d(*operands, pooling, None)
    for ours, exact in zip(conv_pool.conv2d_max_pool2d(*operands, pooling, None), theirs, strict=True):
        np.testing.assert_array_equal(ours, exact)


@pytest.mark.parametrize("most", [_products.MOST, 1])
def test_columns_are_those_of_the_reference_counted_with_32_bits_and_with_64(
    most: int, toolkit: Toolkit, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_products, "MOST", most)
    x, geometry = numbers(1, 2, 3, 9, 8), ((3, 2), (2, 1), (1, 0), (1, 2))
    cols = reference.im2col(x, *geometry)
    np.testing.assert_array_equal(conv.im2col(x, *geometry), cols)
    ours = conv.col2im(cols, (9, 8), *geometry)
    np.testing.assert_allclose(ours, reference.col2im(cols, (9, 8), *geometry), 1e-5, 1e-5)

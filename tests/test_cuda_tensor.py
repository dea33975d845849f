"""Products of float32 on tensor cores, where they were asked for: by the same instructions on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.kernels.cuda import conv, linear
from tests import emulation, test_cuda_product
from tests.emulation import Toolkit
from tests.test_cuda_product import TILES, check_conv, check_linear, force, images, numbers

ROUNDING = 2**-10 + 2**-22  # of a product whose factors are rounded to 11 bits each
GEOMETRY = (1, 1), (1, 1), (1, 1), 1
toolkit, fresh_plans = test_cuda_product.toolkit, test_cuda_product.fresh_plans
pytestmark = pytest.mark.skipif(emulation.WHY_NOT is not None, reason=str(emulation.WHY_NOT))


def tf32(x: np.ndarray) -> np.ndarray:
    """`x` rounded to TF32, halves away from zero."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("tile", TILES)
def test_tensor_cores_are_within_the_rounding_of_their_operands(
    tile: str, toolkit: Toolkit, monkeypatch: Any
) -> None:
    force(monkeypatch, tile)
    fastnn.set_float32_precision("high")
    rows, columns, depth = TILES[tile].rows, TILES[tile].columns, TILES[tile].depth
    check_linear(rows + 1, columns - 1, depth + 4, np.float32, ROUNDING)
    check_linear(7, columns + 4, 5, np.float32, ROUNDING)
    check_conv(images(1, 2, 4, 8, 7), numbers(2, 12, 4, 3, 3), *GEOMETRY, rounding=ROUNDING)
    check_conv(images(3, 2, 3, 8, 7), numbers(4, 5, 3, 3, 3), *GEOMETRY, rounding=ROUNDING)
    assert f"linear_tf32.forward_{tile}" in toolkit.launched


@pytest.mark.parametrize("tile", TILES)
def test_what_tf32_holds_exactly_is_multiplied_exactly(tile: str, toolkit: Toolkit, monkeypatch: Any) -> None:
    force(monkeypatch, tile)
    draw = np.random.default_rng(1)
    x, w = (draw.integers(-9, 9, shape).astype(np.float32) for shape in ((40, 70), (70, 36)))
    fastnn.set_float32_precision("high")
    np.testing.assert_array_equal(linear.linear(x, w, None, None), x @ w)


def test_operands_are_rounded_and_the_bias_gradient_is_not(toolkit: Toolkit) -> None:
    x, w, g = numbers(1, 33, 20), numbers(2, 20, 9), numbers(3, 33, 9)
    plain = linear.linear(x, w, None, None)
    fastnn.set_float32_precision("high")
    rounded = linear.linear(x, w, None, None)
    assert np.abs(rounded - plain).max() > 1e-5
    np.testing.assert_array_equal(rounded, linear.linear(tf32(x), tf32(w), None, None))
    sums = linear.linear_backward(g, x, w, False)[2]
    np.testing.assert_allclose(sums, g.astype(np.float64).sum(0), 1e-6, 1e-5)


def test_nan_and_infinity_stay_what_they_are(toolkit: Toolkit) -> None:
    x, w = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    x[0, 1], x[1, 2] = np.nan, np.inf
    fastnn.set_float32_precision("high")
    y = linear.linear(x, w, None, None)
    np.testing.assert_array_equal(y, np.repeat(np.float32([[np.nan], [np.inf], [4]]), 5, axis=1))


def test_the_largest_number_rounds_to_infinity_and_the_smallest_stay(toolkit: Toolkit) -> None:
    x = np.array([[np.finfo(np.float32).max, 0], [0, 2.0**-126]], np.float32)
    fastnn.set_float32_precision("high")
    np.testing.assert_array_equal(linear.linear(x, np.eye(2, dtype=np.float32), None, None)[1], x[1])


def test_float64_is_the_same_whatever_the_precision_of_float32(toolkit: Toolkit) -> None:
    x, w = numbers(1, 19, 7, dtype=np.float64), numbers(2, 7, 5, dtype=np.float64)
    image, filters = images(3, 2, 3, 6, 6, dtype=np.float64), numbers(4, 4, 3, 3, 3, dtype=np.float64)

    def results() -> list[np.ndarray]:
        y = conv.conv2d(image, filters, None, *GEOMETRY, None)
        return [
            linear.linear(x, w, None, None),
            *linear.linear_backward(x @ w, x, w, True),
            y,
            *conv.conv2d_backward(y, image, filters, *GEOMETRY, True),
        ]

    before = results()
    fastnn.set_float32_precision("high")
    for a, b in zip(results(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_precision_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="unknown precision 'medium': choose 'highest' or 'high'"):
        fastnn.set_float32_precision("medium")
    assert fastnn.get_float32_precision() == "highest"

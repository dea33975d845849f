"""kernels/cpu/_winograd.py: the identity it rests on, exactly; its edges; and what it must leave to others.

That its results are right within rounding is tested with all convolutions, in test_parity_conv.py: the cases
that go this way are in the tables there, and `WINOGRAD` lists them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _transforms, _winograd, _winograd_weight, activation, conv, conv_pool, pool
from fastnn.kernels.cpu._conv_rows import filters_of
from fastnn.kernels.reference import conv as reference
from tests import cases, parity
from tests.test_parity_conv import assert_conv

LANES = int(_winograd.lanes(4))
SHAPES = [(11, 7, 9), (70, 4, 4), (9, 8, 13), (3, 16, 22), (23, 5, 6)]  # N, H, W: whole tiles and every rest
HALVING = ((2, 2), (2, 2), (0, 0), (1, 1), False)


def case_of(shape: tuple[int, int, int], padding: int = 1, channels: int = 1, outputs: int = 2) -> cases.Conv:
    n, height, width = shape
    image = (
        n,
        channels * LANES,
        height + 2 - 2 * padding,
        width + 2 - 2 * padding,
    )  # as large for any padding
    weight = (outputs * LANES, image[1], 3, 3)
    return cases.Conv("", image, weight, padding=(padding, padding))


def goes(case: cases.Conv, x: np.ndarray, weight: np.ndarray) -> bool:
    images, filters = x.transpose(0, 2, 3, 1).shape, filters_of(weight).shape
    options = (case.output[2:], case.stride, (1, 1), case.dilation, case.groups)
    return _winograd.pays(images, filters, x.itemsize, *options)


def test_the_matrices_give_a_convolution_exactly() -> None:
    A, B, G = (np.array(matrix, dtype=object) for matrix in _transforms.matrices())
    rng = np.random.default_rng(0)
    patch = rng.integers(-9, 10, (6, 6)).astype(object)
    taps = rng.integers(-9, 10, (3, 3)).astype(object)
    result = A @ ((G @ taps @ G.T) * (B @ patch @ B.T)) @ A.T
    direct = [[(patch[i : i + 3, j : j + 3] * taps).sum() for j in range(4)] for i in range(4)]
    assert (result == np.array(direct, dtype=object)).all()  # fractions: no rounding


def test_the_points_round_hardly_more_than_a_direct_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of((23, 16, 16), channels=64 // LANES, outputs=32 // LANES)
    x, weight, _, _ = case.operands()
    assert goes(case, x, weight)
    exact = reference.conv2d(x.astype(float), weight.astype(float), None, *case.geometry, 1, None)

    def error() -> float:
        return float(abs(conv.conv2d(x, weight, None, *case.geometry, 1, None) - exact).mean())

    ours = error()
    monkeypatch.setattr(_winograd, "pays", lambda *shapes: False)
    assert ours < 2.15 * error()  # 1.96; with -5/2 for the last point 2.3


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_edge_of_an_image_is_right(shape: tuple[int, int, int], padding: int) -> None:
    case = case_of(shape, padding, channels=2)
    x, weight, bias, _ = case.operands()
    assert goes(case, x, weight)
    assert_conv(case, x, weight, bias)
    assert_conv(case._replace(activation="sigmoid"), x, weight, None)


@pytest.mark.parametrize("padding", [(0, 2), (2, 1)])
def test_padding_may_differ_by_axis(padding: tuple[int, int]) -> None:
    case = case_of((11, 8, 9), padding=0)
    image = tuple(size - 2 * pad for size, pad in zip(case.x[2:], padding, strict=True))
    case = case._replace(x=(*case.x[:2], *image), padding=padding)
    x, weight, bias, _ = case.operands()
    assert goes(case, x, weight)
    assert_conv(case, x, weight, bias)


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_tiles_are_the_pooled_convolution_to_the_bit(shape: tuple[int, int, int]) -> None:
    case = case_of(shape)
    x, weight, bias, _ = case.operands()
    assert goes(case, x, weight)
    out, indices = conv_pool.conv2d_max_pool2d(x, weight, bias, (*case.geometry, 1), HALVING, "tanh")
    apart = conv.conv2d(x, weight, bias, *case.geometry, 1, None)
    maxima, places = pool.max_pool2d(apart, *HALVING)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(out, activation.tanh(maxima))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(value: float) -> None:
    case = case_of((9, 12, 12))
    x, weight, bias, _ = case.operands()
    x[3, 5, 4, 6], x[8, 0, 11, 11] = value, value
    assert goes(case, x, weight)
    out = conv.conv2d(x, weight, bias, *case.geometry, 1, None)
    touched = np.zeros(case.output, bool)
    touched[3, :, 3:6, 5:8] = touched[8, :, 10:, 10:] = True
    assert np.isfinite(out[~touched]).all()
    assert not np.isfinite(out[touched]).any()
    with np.errstate(all="ignore"):
        expected = reference.conv2d(x, weight, bias, *case.geometry, 1, None)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    fused = conv_pool.conv2d_max_pool2d(x, weight, bias, (*case.geometry, 1), HALVING, None)
    for result, expectation in zip(fused, pool.max_pool2d(out, *HALVING), strict=True):
        np.testing.assert_array_equal(result, expectation)


def test_only_images_with_a_doubtful_result_are_done_again() -> None:
    case = case_of((9, 12, 12))
    x, weight, bias, _ = case.operands()
    x[4, 0, 0, 0] = np.inf
    out = np.empty((9, 12, 12, case.weight[0]), np.float32)
    images, filters = np.ascontiguousarray(x.transpose(0, 2, 3, 1)), filters_of(weight)
    again = _winograd.run(images, filters, bias, out, None, (1, 1), (12, 12), 0)
    np.testing.assert_array_equal(again, np.arange(9) == 4)


WINOGRAD = {"cifar10-cnn conv2", "cifar10-cnn conv3"}


@pytest.mark.parametrize("case", cases.CONV_REAL + cases.CONV_ODD, ids=cases.by_name)
def test_only_what_pays_goes_this_way(case: cases.Conv) -> None:
    x, weight, *_ = case.operands()
    assert goes(case, x, weight) == (case.name in WINOGRAD)
    double = case.operands(np.float64)[:2]
    assert not goes(case, *double), "the rounding of float64 is not given away"


@pytest.mark.parametrize(
    "change",
    [
        {"stride": (2, 1)},
        {"dilation": (1, 2), "padding": (1, 2)},
        {"weight": (2 * LANES, LANES, 3, 1), "padding": (1, 0)},
        {"x": (11, LANES + 1, 7, 9), "weight": (2 * LANES, LANES + 1, 3, 3)},
        {"weight": (LANES + 1, LANES, 3, 3)},
        {"x": (11, 2 * LANES, 7, 9), "groups": 2},
        {"x": (1, LANES, 7, 9)},
    ],
    ids=lambda change: ", ".join(change),
)
def test_other_convolutions_are_left_alone_and_right(change: dict[str, Any]) -> None:
    case = case_of((11, 7, 9))._replace(**change)
    x, weight, bias, _ = case.operands()
    assert not goes(case, x, weight)
    assert_conv(case, x, weight, bias)


def test_the_gradient_of_the_input_goes_this_way_too() -> None:
    case = case_of((11, 9, 11), padding=0)
    x, weight, _, grad = case.operands()

    def one(*operands: Any) -> Any:
        return reference.conv2d_backward(*operands, *case.geometry, 1, True)[0]

    grad_x = conv.conv2d_backward(grad, x, weight, *case.geometry, 1, True)[0]
    parity.assert_sum_of_products(grad_x, one, [grad, x, weight], 9 * case.weight[0], "grad_x")


def weight_goes(case: cases.Conv) -> bool:
    options = (case.output[2:], case.stride, case.dilation, case.groups)
    return _winograd_weight.pays((case.x[0], case.x[1]), case.weight, *options, 4)


def test_the_matrices_give_the_gradient_of_a_filter_exactly() -> None:
    A, B, G = (np.array(matrix, dtype=object) for matrix in _transforms.matrices())
    rng = np.random.default_rng(0)
    patch = rng.integers(-9, 10, (6, 6)).astype(object)
    grad = rng.integers(-9, 10, (4, 4)).astype(object)
    result = G.T @ ((A.T @ grad @ A) * (B @ patch @ B.T)) @ G
    direct = [[(patch[i : i + 4, j : j + 4] * grad).sum() for j in range(3)] for i in range(3)]
    assert (result == np.array(direct, dtype=object)).all()


@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
@pytest.mark.parametrize("shape", [*SHAPES, (70, 8, 8)])  # the last in three parts
def test_the_gradient_of_the_weight_is_right_at_every_edge(shape: Any, padding: Any) -> None:
    case = case_of(shape, padding=0, channels=3, outputs=3)
    if padding:
        pads = (padding, padding) if isinstance(padding, int) else padding
        image = tuple(size - 2 * pad for size, pad in zip(case.x[2:], pads, strict=True))
        case = case._replace(x=(*case.x[:2], *image), padding=pads)
    x, weight, _, grad = case.operands()
    assert weight_goes(case) == (shape[0] >= _winograd_weight._FEWEST and LANES >= 16)

    def one(*operands: Any) -> Any:
        return reference.conv2d_backward(*operands, *case.geometry, 1, False)[1]

    _, grad_weight, grad_bias = conv.conv2d_backward(grad, x, weight, *case.geometry, 1, False)
    parity.assert_sum_of_products(grad_weight, one, [grad, x, weight], grad[:, 0].size, "grad_weight")
    np.testing.assert_allclose(grad_bias, grad.sum((0, 2, 3), np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_s_gradient_of_what_is_not_finite_is_computed_directly(value: float) -> None:
    case = case_of((9, 12, 12), channels=3, outputs=3)
    x, weight, _, grad = case.operands()
    x[3, 5, 0, 0] = value  # beside five of a filter's nine places there is none of its numbers
    assert weight_goes(case) or LANES < 16
    result = conv.conv2d_backward(grad, x, weight, *case.geometry, 1, False)[1]
    with np.errstate(all="ignore"):
        expected = reference.conv2d_backward(grad, x, weight, *case.geometry, 1, False)[1]
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(result[finite], expected[finite], rtol=1e-3, atol=1e-3)
    assert np.isfinite(result).any()
    assert not np.isfinite(result).all()

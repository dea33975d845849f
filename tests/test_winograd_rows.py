"""kernels/cpu/_winograd_rows.py: the identity it rests on, exactly; its edges; what it leaves to others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _transforms, _winograd_rows, conv_pool
from fastnn.kernels.reference import conv_pool as reference
from tests import cases
from tests.test_parity_conv_pool import assert_forward

LANES = int(_winograd_rows.lanes(4))
HALVING = ((2, 2), (2, 2), (0, 0), (1, 1), False)
# N, C, H, W; a filter's size, vectors of filters; padding
SHAPES = [
    ((3, 3, 32, 32), (3, 3), 2, (1, 1)),
    ((1, 3, 32, 32), (3, 3), 1, (1, 1)),  # rows of one image shared out
    ((9, 1, 28, 28), (3, 3), 1, (0, 0)),
    ((7, 4, 9, 13), (3, 3), 3, (1, 1)),
    ((12, 2, 6, 15), (5, 3), 1, (2, 0)),
    ((2, 1, 40, 7), (4, 3), 1, (0, 2)),
    ((50, 3, 2, 8), (1, 3), 1, (0, 0)),
    ((33, 10, 3, 4), (2, 3), 2, (1, 2)),
    ((1, 1, 4, 131), (3, 3), 1, (1, 0)),
    ((9, 6, 12, 12), (5, 5), 1, (0, 0)),
    ((9, 4, 12, 16), (3, 3), 1, (0, 0)),  # read where it lies
    ((1, 6, 72, 12), (5, 5), 1, (0, 0)),
    ((5, 2, 11, 15), (4, 5), 2, (2, 2)),
    ((40, 1, 7, 6), (3, 5), 1, (0, 1)),
]


def case_of(shape: Any) -> cases.ConvPool:
    x, size, vectors, padding = shape
    return cases.ConvPool("", cases.Conv("", x, (vectors * LANES, x[1], *size), padding=padding))


def goes(case: cases.ConvPool, itemsize: int = 4) -> bool:
    o, c, *kernel = case.conv.weight
    options = (case.output[2:], case.conv.stride, case.conv.dilation, case.conv.groups)
    return _winograd_rows.pays(case.conv.x[0], (1, *kernel, c, o), itemsize, *options)


@pytest.mark.parametrize("count", [3, 5])
def test_the_matrices_give_a_row_of_a_convolution_exactly(count: int) -> None:
    A, B, G = (np.array(matrix, dtype=object) for matrix in _transforms.matrices(count))
    rng = np.random.default_rng(0)
    pixels, taps = (rng.integers(-9, 10, n).astype(object) for n in (6, count))
    result = A @ ((G @ taps) * (B @ pixels))
    direct = [(pixels[i : i + count] * taps).sum() for i in range(7 - count)]
    assert list(result) == direct  # fractions: no rounding


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_edge_of_an_image_is_right(shape: Any) -> None:
    case = case_of(shape)
    x, weight, bias, _ = case.operands()
    assert goes(case)
    assert_forward(case, x, weight, bias)
    assert_forward(case._replace(conv=case.conv._replace(activation="tanh")), x, weight, None)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[9]], ids=str)
def test_it_rounds_hardly_more_than_a_direct_convolution(shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(shape)
    x, weight, bias, _ = case.operands()
    exact, _ = reference.conv2d_max_pool2d(
        *(a.astype(float) for a in (x, weight, bias)), case.convolution, HALVING, None
    )

    def error() -> float:
        conv_pool._plan.cache_clear()
        out, _ = conv_pool.conv2d_max_pool2d(x, weight, bias, case.convolution, HALVING, None)
        return float(abs(out - exact).mean())

    ours = error()
    monkeypatch.setattr(_winograd_rows, "pays", lambda *shapes: False)
    direct = error()
    conv_pool._plan.cache_clear()
    assert ours != direct
    assert ours < 1.5 * direct  # 1.1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(value: float) -> None:
    case = case_of(SHAPES[0])
    x, weight, bias, _ = case.operands()
    x[1, 2, 4, 6], x[2, 0, 31, 31] = value, value
    assert goes(case)
    results = conv_pool.conv2d_max_pool2d(x, weight, bias, case.convolution, HALVING, None)
    with np.errstate(all="ignore"):
        out, _ = reference.conv2d_max_pool2d(x, weight, bias, case.convolution, HALVING, None)
    np.testing.assert_allclose(results[0], out, rtol=1e-4, atol=1e-4)
    untouched = np.ones(case.output, bool)
    untouched[1, :, 1:3, 2:4] = untouched[2, :, 15, 15] = False
    assert np.isfinite(results[0][untouched]).all()


def test_only_images_with_a_doubtful_result_are_done_again() -> None:
    case = case_of(((9, 3, 13, 12), (3, 3), 1, (1, 1)))
    x, weight, bias, _ = case.operands()
    x[4, 0, 0, 0], x[6, 2, 12, 11] = np.inf, np.nan  # this in the second of two pooled rows only
    n, o, h, w = case.output
    results = np.empty((n, h, w, o), np.float32), np.empty((n, h, w, o), np.int32)
    images, filters = (np.ascontiguousarray(x.transpose(0, 2, 3, 1)), weight.transpose(2, 3, 1, 0))
    again = _winograd_rows.run(images, np.ascontiguousarray(filters)[None], bias, results, (1, 1), 12, 0)
    np.testing.assert_array_equal(np.flatnonzero(again), [4, 6])


@pytest.mark.parametrize(
    "change",
    [
        {"stride": (2, 1)},
        {"dilation": (1, 2), "padding": (1, 2)},
        {"weight": (LANES, 3, 3, 4)},
        {"weight": (LANES + 1, 3, 3, 3)},
        {"x": (4, 11, 12, 12), "weight": (LANES, 11, 3, 3)},
        {"x": (1, 3, 12, 12)},
        {"weight": (LANES, 1, 3, 3), "groups": 3},
    ],
    ids=lambda change: ", ".join(change),
)
def test_other_convolutions_are_left_alone_and_right(change: dict[str, Any]) -> None:
    whole = {"x": (4, 3, 12, 12), "weight": (LANES, 3, 3, 3), "padding": (1, 1), **change}
    if "groups" in change:
        whole["weight"] = (3 * LANES, 1, 3, 3)
    case = cases.ConvPool("", cases.Conv("", **whole))
    x, weight, bias, _ = case.operands()
    assert not goes(case)
    assert_forward(case, x, weight, bias)


def test_the_rounding_of_float64_is_not_given_away() -> None:
    assert not goes(case_of(SHAPES[0]), itemsize=8)

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
# N, C, H, W; rows of a filter, vectors of them; padding
SHAPES = [
    ((3, 3, 32, 32), 3, 2, (1, 1)),
    ((1, 3, 32, 32), 3, 1, (1, 1)),  # rows of one image shared out
    ((9, 1, 28, 28), 3, 1, (0, 0)),
    ((2, 4, 9, 13), 3, 3, (1, 1)),
    ((2, 2, 6, 15), 5, 1, (2, 0)),
    ((1, 1, 40, 7), 4, 1, (0, 2)),
    ((5, 3, 2, 6), 1, 1, (0, 0)),
    ((2, 4, 3, 4), 2, 2, (1, 2)),
    ((1, 1, 4, 131), 3, 1, (1, 0)),
]


def case_of(shape: Any) -> cases.ConvPool:
    x, height, vectors, padding = shape
    return cases.ConvPool("", cases.Conv("", x, (vectors * LANES, x[1], height, 3), padding=padding))


def goes(case: cases.ConvPool, itemsize: int = 4) -> bool:
    o, c, *kernel = case.conv.weight
    options = (case.output[2:], case.conv.stride, case.conv.dilation, case.conv.groups)
    return _winograd_rows.pays((1, *kernel, c, o), itemsize, *options)


def test_the_matrices_give_a_row_of_a_convolution_exactly() -> None:
    A, B, G = (np.array(matrix, dtype=object) for matrix in _transforms.matrices())
    rng = np.random.default_rng(0)
    pixels, taps = (rng.integers(-9, 10, count).astype(object) for count in (6, 3))
    result = A @ ((G @ taps) * (B @ pixels))
    assert list(result) == [(pixels[i : i + 3] * taps).sum() for i in range(4)]  # fractions: no rounding


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_edge_of_an_image_is_right(shape: Any) -> None:
    case = case_of(shape)
    x, weight, bias, _ = case.operands()
    assert goes(case)
    assert_forward(case, x, weight, bias)
    assert_forward(case._replace(conv=case.conv._replace(activation="tanh")), x, weight, None)


def test_it_rounds_hardly_more_than_a_direct_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(SHAPES[0])
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
    case = case_of(((9, 3, 12, 12), 3, 1, (1, 1)))
    x, weight, bias, _ = case.operands()
    x[4, 0, 0, 0], x[6, 2, 11, 11] = np.inf, np.nan
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
        {"x": (2, 5, 12, 12), "weight": (LANES, 5, 3, 3)},
        {"x": (2, 4, 12, 12), "weight": (LANES, 4, 5, 3)},
        {"weight": (LANES, 1, 3, 3), "groups": 3},
    ],
    ids=lambda change: ", ".join(change),
)
def test_other_convolutions_are_left_alone_and_right(change: dict[str, Any]) -> None:
    whole = {"x": (2, 3, 12, 12), "weight": (LANES, 3, 3, 3), "padding": (1, 1), **change}
    if "groups" in change:
        whole["weight"] = (3 * LANES, 1, 3, 3)
    case = cases.ConvPool("", cases.Conv("", **whole))
    x, weight, bias, _ = case.operands()
    assert not goes(case)
    assert_forward(case, x, weight, bias)


def test_the_rounding_of_float64_is_not_given_away() -> None:
    assert not goes(case_of(SHAPES[0]), itemsize=8)

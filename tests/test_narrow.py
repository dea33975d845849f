"""Pooled convolutions with few filters: what kernels/cpu/_narrow.py gives is the tile's, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _narrow, conv, conv_pool, pool
from tests import cases, parity

HALVING = ((2, 2), (2, 2), (0, 0), (1, 1), False)
# (N, C, H, W), (O, KH, KW), padding
SHAPES = [
    ((64, 1, 28, 28), (6, 5, 5), (0, 0)),
    ((1, 1, 28, 28), (6, 5, 5), (0, 0)),
    ((3, 2, 29, 45), (7, 3, 4), (1, 2)),
    ((2, 3, 12, 97), (4, 3, 3), (1, 1)),
    ((3, 1, 40, 44), (6, 5, 5), (2, 2)),  # tasks with several blocks of rows, above and below the image too
    ((1, 1, 200, 50), (5, 3, 3), (0, 1)),
    ((19, 1, 7, 36), (1, 2, 5), (0, 2)),
    ((2, 1, 5, 33), (2, 4, 1), (1, 0)),
    ((2, 2, 2, 24), (8, 1, 1), (0, 0)),
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def operands(shape: Any, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    (n, c, h, w), (o, *kernel), _ = shape
    x = parity.arrange(cases.draw((n, c, h, w), 1, dtype), "channels_last")
    return x, cases.draw((o, c, *kernel), 2, dtype), cases.draw((o,), 3, dtype)


def goes(shape: Any, dtype: Any) -> bool:
    (_, c, h, w), (o, *kernel), padding = shape
    pooled = tuple((n + 2 * p - k + 1) // 2 for n, p, k in zip((h, w), padding, kernel, strict=True))
    return _narrow.pays((1, *kernel, c, o), np.dtype(dtype).itemsize, pooled, (1, 1), (1, 1), 1)


def apart(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, padding: Any) -> tuple:
    return pool.max_pool2d(conv.conv2d(x, weight, bias, (1, 1), padding, (1, 1), 1, None), *HALVING)


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", parity.DTYPES)
@each_shape
def test_results_are_those_of_convolution_then_pooling_to_the_bit(
    shape: Any, dtype: Any, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, bias = operands(shape, dtype)
    calls = []
    run = _narrow.run
    monkeypatch.setattr(_narrow, "run", lambda *arguments: calls.append(1) or run(*arguments))
    options = ((1, 1), shape[2], (1, 1), 1), HALVING, None
    results = conv_pool.conv2d_max_pool2d(x, weight, bias if biased else None, *options)
    assert len(calls) == goes(shape, dtype)
    for actual, expected in zip(results, apart(x, weight, bias if biased else None, shape[2]), strict=True):
        np.testing.assert_array_equal(actual, expected)
    alone, _ = conv_pool.conv2d_max_pool2d(x, weight, bias if biased else None, *options, places="none")
    np.testing.assert_array_equal(alone, results[0])


def test_the_shapes_here_go_this_way_where_vectors_have_sixteen_lanes() -> None:
    if _narrow.lanes(4) == 16:
        assert all(goes(shape, np.float32) for shape in SHAPES)
    assert any(goes(shape, np.float32) for shape in SHAPES) or _narrow.lanes(4) < 8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_passes_as_through_the_two(value: float) -> None:
    shape = SHAPES[2]
    x, weight, bias = operands(shape, np.float32)
    x[1, 0, 4, 6], x[2, 1, 0, 0], x[0, 0, 28, 32] = value, value, -value
    options = ((1, 1), shape[2], (1, 1), 1), HALVING, None
    results = conv_pool.conv2d_max_pool2d(x, weight, bias, *options)
    for actual, expected in zip(results, apart(x, weight, bias, shape[2]), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_of_the_real_networks_only_lenets_first_layer_goes_this_way() -> None:
    for case in cases.CONV_POOL_REAL:
        weight = case.operands()[1]
        filters = (1, *weight.shape[2:], *weight.shape[1::-1])
        size = tuple(n // 2 for n in case.conv.output[2:])
        narrow = _narrow.pays(filters, 4, size, case.conv.stride, case.conv.dilation, case.conv.groups)
        assert narrow == (case.name == "mnist-lenet conv1 and pool" and _narrow.lanes(4) == 16), case.name

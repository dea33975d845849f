"""The gradient of a first convolution's input, by kernels/cpu/_few_outputs.py: who sees what of dY."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _few_outputs
from fastnn.kernels.cpu._conv_rows import TASKS
from tests import parity
from tests.rooms import CPU, REFERENCE

# channels, filters, height, width, filters' rows and columns, padding: none, some, as much as there can be,
# and more; with whole vectors of floats in a window's row, and without
SHAPES = [
    (1, 6, 28, 28, 5, 5, (0, 0)),
    (3, 32, 9, 22, 3, 3, (1, 1)),
    (3, 16, 5, 33, 1, 2, (0, 1)),
    (2, 21, 7, 24, 3, 4, (2, 1)),
    (4, 17, 6, 21, 2, 3, (1, 2)),
    (3, 19, 4, 20, 2, 2, (2, 3)),
]


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_infinity_reaches_those_pixels_whose_windows_see_it_and_no_others(shape: Any, dtype: Any) -> None:
    C, filters, H, W, KH, KW, padding = shape
    weight_shape, ones = (filters, C, KH, KW), (1, 1)
    assert _few_outputs.pays(weight_shape, W, ones, padding, ones, 1, np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    GH, GW = H + 2 * padding[0] - KH + 1, W + 2 * padding[1] - KW + 1
    count = TASKS + 1  # images, so that each is a task's whole one
    grad = rng.standard_normal((count, GH, GW, filters)).astype(dtype).transpose(0, 3, 1, 2)
    x = np.zeros((count, C, H, W), dtype)
    weight = rng.standard_normal(weight_shape).astype(dtype)
    for n in range(count):
        grad[n, n % filters, rng.integers(GH), rng.integers(GW)] = np.inf
    got = CPU.conv.conv2d_backward(grad, x, weight, ones, padding, ones, 1, True)[0]
    with np.errstate(invalid="ignore"):
        expected = REFERENCE.conv.conv2d_backward(
            *parity.wide(grad, x, weight), ones, padding, ones, 1, True
        )[0]
    assert np.isfinite(expected).any()
    parity.assert_close(got, expected, 64 * np.finfo(dtype).eps * filters, "grad_input")

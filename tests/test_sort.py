"""Lists of gradients by filter: by vectors in kernels/cpu/_sort.py, one by one in kernels/cpu/_lists.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _lists, _sort
from fastnn.kernels.cpu._jit import from_python
from fastnn.kernels.cpu.tile import lanes, widest
from tests import parity

STEP, ROW = 3, 1000  # in the image, of a pixel and of a row of the convolution


def by_vectors(grad: np.ndarray, indices: np.ndarray, across: int, lists: Any) -> None:
    places, values, counts, sums = lists
    multiplier, shift = _sort.divided_by(across)
    jump = ROW - STEP * across
    from_python(_sort.compiled(grad.itemsize, False), 13)(
        grad.ctypes.data, indices.ctypes.data, *grad.shape, multiplier, shift, STEP, jump, places.ctypes.data,
        values.ctypes.data, places.shape[1], counts.ctypes.data, sums.ctypes.data,
    )  # fmt: skip


def within_windows(grad: np.ndarray, indices: np.ndarray, corners: np.ndarray, lists: Any) -> None:
    """By vectors, of places that are bytes."""
    places, values, counts, sums = lists
    from_python(_sort.compiled(grad.itemsize, True), 12)(
        grad.ctypes.data, indices.ctypes.data, *grad.shape, corners.ctypes.data, STEP, ROW,
        places.ctypes.data, values.ctypes.data, places.shape[1], counts.ctypes.data, sums.ctypes.data,
    )  # fmt: skip


def number_by_number(grad: np.ndarray, indices: np.ndarray, across: int, lists: Any) -> None:
    pixels = np.arange(indices.max() + 1)
    begins = (pixels // across * ROW + pixels % across * STEP).astype(np.int32)
    places, values, counts, sums = lists
    _lists._lists.py_func(grad, indices, begins, places, values, counts[: grad.shape[1]], sums)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("sort", [by_vectors, within_windows, number_by_number])
@pytest.mark.parametrize(("pixels", "filters"), [(1, 1), (16, 16), (25, 7), (64, 33), (5, 48)])
def test_a_list_has_what_is_not_zero_in_order_and_where_it_belongs(
    sort: Any, pixels: int, filters: int, dtype: Any
) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    if sort is not number_by_number and not widest():
        pytest.skip("no vectors that can be compressed")
    rng = np.random.default_rng(pixels)
    grad = rng.integers(-2, 3, (pixels, filters)).astype(dtype)  # a fifth of them zeros
    grad[0, 0] = 7
    across = 37
    indices = rng.integers(0, 40 * across, grad.shape).astype(np.int32)
    given: Any = across
    begin_of = indices // across * ROW + indices % across * STEP
    if sort is within_windows:
        given = corners = rng.integers(0, 1000, -(-pixels // width) * width).astype(np.int32)
        indices = rng.integers(0, 4, grad.shape).astype(np.uint8)
        begin_of = corners[:pixels, None] + indices // 2 * np.int64(ROW) + indices % 2 * np.int64(STEP)
    rows = -(-filters // width) * width
    lists = (
        np.full((rows, pixels + width + 1), -1, np.int32),
        np.full((rows, pixels + width + 1), np.nan, dtype),
        np.full(rows, -1, np.int64),
        np.ones(filters, dtype),
    )
    sort(grad, indices, given, lists)
    places, values, counts, sums = lists
    np.testing.assert_array_equal(sums, 1 + grad.sum(0))
    for o in range(filters):
        there = np.flatnonzero(grad[:, o])
        assert counts[o] == there.size
        np.testing.assert_array_equal(values[o, : there.size], grad[there, o])
        np.testing.assert_array_equal(places[o, : there.size], begin_of[there, o])


def test_a_nan_is_in_its_list() -> None:
    grad = np.zeros((3, 2), np.float32)
    grad[1, 1] = np.nan
    for sort in (by_vectors, number_by_number):
        if sort is by_vectors and not widest():
            continue
        lists = (
            np.zeros((16, 20), np.int32),
            np.zeros((16, 20), np.float32),
            np.zeros(16, np.int64),
            grad[0].copy(),
        )
        sort(grad, np.zeros((3, 2), np.int32), 5, lists)
        assert lists[2].tolist()[:2] == [0, 1]
        assert np.isnan(lists[1][1, 0])


@pytest.mark.parametrize("d", [1, 2, 3, 7, 32, 33, 1000, 46341, 2**31 - 1])
def test_the_multiplier_divides_exactly(d: int) -> None:
    multiplier, shift = _sort.divided_by(d)
    assert multiplier < 1 << 32
    numbers = {0, 1, d - 1, d, d + 1, 2**31 - 1, *range(0, 1 << 31, 99_999_989)}
    numbers |= {k * d + r for k in (1, 12345, (2**31 - 1) // d) for r in (-1, 0)}
    for n in numbers:
        if 0 <= n < 1 << 31:
            assert n * multiplier >> shift == n // d

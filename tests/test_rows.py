"""Rows folded to a number each and combined with one by kernels/cpu/_rows.py, for any count of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu.tile import lanes
from tests import parity
from tests.drawn_parts import room_for_rows, run_columns, run_rows

MARK = 77


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_every_row_meets_its_own_maximum_and_sum_and_nothing_beside_is_written(dtype: Any) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    for columns in range(1, 4 * width + 3):
        x = np.random.default_rng(columns).integers(-50, 50, (width, columns)).astype(dtype)
        memory = np.full(x.size + 2 * width, MARK, dtype)
        inner = memory[width : width + x.size].reshape(x.shape)
        largest, sums, held = room_for_rows(x)
        run_rows(x, largest, sums, held, inner)
        np.testing.assert_array_equal(largest, x.max(1))
        np.testing.assert_array_equal(sums, x.sum(1), "integers: exact in any order")
        np.testing.assert_array_equal(held[:, :columns], x - x.max(1, keepdims=True))
        np.testing.assert_array_equal(held[:, columns:].T - held[:, 0], np.zeros_like(held[:, columns:].T))
        np.testing.assert_array_equal(inner, held[:, :columns] * sums[:, None])
        np.testing.assert_array_equal(np.delete(memory, np.s_[width : width + x.size]), MARK)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_a_rows_sum_does_not_depend_on_which_row_it_is(dtype: Any) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    for columns in (width, 3 * width - 1):
        row = np.random.default_rng(columns).standard_normal(columns).astype(dtype)
        x = np.tile(row, (width, 1))
        largest, sums, held = room_for_rows(x)
        run_rows(x, largest, sums, held, np.empty_like(x))
        assert len(set(sums.tolist())) == 1


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_columns_are_added_to_what_is_there_and_nothing_beside_is_written(dtype: Any) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    for rows in (0, 1, 3, 4, 5, 63, 64, 65, 71, 130):
        for columns in (1, width - 1, width, width + 1, 3 * width + 2):
            x = rng.integers(-50, 50, (rows, columns)).astype(dtype)
            memory = np.full(columns + 2 * width, MARK, dtype)
            run_columns(x, memory[width : width + columns])
            np.testing.assert_array_equal(memory[width : width + columns], MARK + x.sum(0))
            np.testing.assert_array_equal(np.delete(memory, np.s_[width : width + columns]), MARK)

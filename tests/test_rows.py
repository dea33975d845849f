"""Groups of short rows and sums of columns by kernels/cpu/_rows.py, for any count of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu._rows import longest
from fastnn.kernels.cpu.tile import lanes
from tests import parity
from tests.drawn_parts import room_for_rows, run_columns

MARK = 77


def group(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """What a group makes of `rows`: softmax, its logarithm, maxima and sums. NaN lie behind the last row,
    which must not be seen, and nothing behind the room for whole vectors may be written."""
    dtype, columns = rows.dtype.type, rows.shape[1]
    run, height, reach = room_for_rows(dtype, columns)
    assert len(rows) == height
    x = np.full(reach, np.nan, dtype)
    x[: rows.size] = rows.ravel()
    peaks, totals, *memories = (np.full(n + 8, MARK, dtype) for n in (height, height, reach, reach))
    run(x, columns, *(memory[:reach] for memory in memories), peaks[:height], totals[:height])
    for memory, used in ((peaks, height), (totals, height), (memories[0], reach), (memories[1], reach)):
        np.testing.assert_array_equal(memory[used:], MARK)
    out, logs = (memory[: rows.size].reshape(rows.shape) for memory in memories)
    return out, logs, peaks[:height], totals[:height]


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_every_row_meets_its_own_maximum_and_sum_and_nothing_beside_is_written(dtype: Any) -> None:
    width, most = lanes(np.dtype(dtype).itemsize), longest(np.dtype(dtype).itemsize)
    height = room_for_rows(dtype, 1)[1]
    for columns in (*range(1, 2 * width + 3), most - 1, most):
        rows = (20 * np.random.default_rng(columns).standard_normal((height, columns))).astype(dtype)
        out, logs, peaks, totals = group(rows)
        top = rows.max(1)
        np.testing.assert_array_equal(peaks, top)
        wide = (rows - top[:, None]).astype(np.float64)
        powers = np.exp(wide)
        unit = 16 * np.finfo(dtype).eps
        np.testing.assert_allclose(totals, powers.sum(1), rtol=unit)
        share = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose(out, share, rtol=8 * unit, atol=np.finfo(dtype).tiny)
        np.testing.assert_allclose(logs, wide - np.log(powers.sum(1, keepdims=True)), rtol=unit, atol=unit)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_the_powers_of_a_row_are_within_two_and_a_half_ulp_of_each_other_s_ratio(dtype: Any) -> None:
    """Beside the largest number, whose power is one: the power's own rounding, and those of two shares."""
    columns, height = longest(np.dtype(dtype).itemsize), room_for_rows(dtype, 1)[1]
    x = np.concatenate([np.linspace(-1, 0, 24 * height), np.linspace(-80, -1, 38 * height)]).astype(dtype)
    x.resize(-(-x.size // (height * (columns - 1))), height, columns - 1)
    for rows in x:
        shares = group(np.concatenate([np.zeros((height, 1), dtype), rows], 1))[0].astype(np.longdouble)
        ratio = shares[:, 1:] / shares[:, :1] / np.exp(rows.astype(np.longdouble)) - 1
        assert np.abs(ratio).max() <= 2.5 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_a_rows_results_do_not_depend_on_which_row_it_is(dtype: Any) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    for columns in (width, 2 * width - 1):
        row = np.random.default_rng(columns).standard_normal(columns).astype(dtype)
        out, logs, _, totals = group(np.tile(row, (room_for_rows(dtype, columns)[1], 1)))
        assert len(set(totals.tolist())) == 1
        for results in (out, logs):
            np.testing.assert_array_equal(results, np.broadcast_to(results[0], results.shape))


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

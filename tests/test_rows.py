"""Groups of short rows and sums of columns by kernels/cpu/_rows.py, for any count of columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn.kernels.cpu._rows import KINDS, PEAKS, TOTALS, longest
from fastnn.kernels.cpu.tile import lanes
from tests import parity
from tests.drawn_parts import room_for_rows, run_columns

MARK = 77


class Group(NamedTuple):
    """What a group makes of its rows."""

    shares: np.ndarray
    gradient: np.ndarray
    logs: np.ndarray
    numbers: np.ndarray
    after: np.ndarray


def group(rows: np.ndarray, labels: Any = 0) -> Group:
    """NaN lie behind the last of the `rows`, which must not be seen, and nothing behind the room for whole
    vectors may be written."""
    dtype, columns = rows.dtype.type, rows.shape[1]
    run, height, reach, more = room_for_rows(dtype, columns)
    assert len(rows) == height
    x = np.full(reach, np.nan, dtype)
    x[: rows.size] = rows.ravel()
    numbers = np.full((2, len(KINDS) + 1, height), MARK, dtype)
    memories = [np.full(reach + 8, MARK, dtype) for _ in range(3)]
    labels = np.broadcast_to(labels, height).astype(np.int64)
    run(x, columns, *(memory[:reach] for memory in memories), labels, *numbers, np.empty(more, dtype))
    for memory in memories:
        np.testing.assert_array_equal(memory[reach:], MARK)
    np.testing.assert_array_equal(numbers[:, len(KINDS) :], MARK)
    return Group(*(memory[: rows.size].reshape(rows.shape) for memory in memories), *numbers)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_every_row_meets_its_own_maximum_and_sum_and_nothing_beside_is_written(dtype: Any) -> None:
    width, most = lanes(np.dtype(dtype).itemsize), longest(np.dtype(dtype).itemsize)
    height = room_for_rows(dtype, 1)[1]
    for columns in (*range(1, 2 * width + 3), most - 1, most):
        rng = np.random.default_rng(columns)
        rows = (20 * rng.standard_normal((height, columns))).astype(dtype)
        labels = rng.integers(0, columns, height)
        results = group(rows, labels)
        top = rows.max(1)
        np.testing.assert_array_equal(results.numbers[PEAKS], top)
        wide = (rows - top[:, None]).astype(np.float64)
        powers = np.exp(wide)
        unit = 16 * np.finfo(dtype).eps
        np.testing.assert_allclose(results.numbers[TOTALS], powers.sum(1), rtol=unit)
        np.testing.assert_array_equal(results.after[TOTALS], results.numbers[TOTALS])
        share = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose(results.shares, share, rtol=8 * unit, atol=np.finfo(dtype).tiny)
        logs = wide - np.log(powers.sum(1, keepdims=True))
        np.testing.assert_allclose(results.logs, logs, rtol=unit, atol=unit)
        at_labels = np.arange(height), labels
        np.testing.assert_array_equal(results.after[PEAKS], rows[at_labels] - top)
        elsewhere = np.delete(results.gradient.ravel(), np.arange(height) * columns + labels)
        shares = np.delete(results.shares.ravel(), np.arange(height) * columns + labels)
        np.testing.assert_array_equal(elsewhere, shares)
        share[at_labels] -= 1
        np.testing.assert_allclose(results.gradient[at_labels], share[at_labels], rtol=0, atol=unit)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_the_powers_of_a_row_are_within_two_and_a_half_ulp_of_each_other_s_ratio(dtype: Any) -> None:
    """Beside the largest number, whose power is one: the power's own rounding, and those of two shares."""
    columns, height = longest(np.dtype(dtype).itemsize), room_for_rows(dtype, 1)[1]
    x = np.concatenate([np.linspace(-1, 0, 24 * height), np.linspace(-80, -1, 38 * height)]).astype(dtype)
    x.resize(-(-x.size // (height * (columns - 1))), height, columns - 1)
    for rows in x:
        whole = np.concatenate([np.zeros((height, 1), dtype), rows], 1)
        shares = group(whole).shares.astype(np.longdouble)
        ratio = shares[:, 1:] / shares[:, :1] / np.exp(rows.astype(np.longdouble)) - 1
        assert np.abs(ratio).max() <= 2.5 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_a_rows_results_do_not_depend_on_which_row_it_is(dtype: Any) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    for columns in (width, 2 * width - 1):
        row = np.random.default_rng(columns).standard_normal(columns).astype(dtype)
        of = group(np.tile(row, (room_for_rows(dtype, columns)[1], 1)))
        assert len(set(of.numbers[TOTALS].tolist())) == 1
        for results in (of.shares, of.gradient, of.logs):
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

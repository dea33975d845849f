"""The transposition of kernels/cpu/_turn.py, over all shapes about a vector's width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu.tile import lanes
from tests import parity
from tests.drawn_parts import run_turn

MARK = 77


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_every_number_gets_to_its_place_and_nothing_beside_is_written(dtype: Any) -> None:
    width = lanes(np.dtype(dtype).itemsize)
    for rows in range(2 * width + 2):
        for columns in range(2 * width + 2):
            x = np.arange(rows * columns, dtype=dtype).reshape(rows, columns)
            memory = np.full(x.size + 2 * width, MARK, dtype)
            run_turn(x, memory[width : width + x.size].reshape(columns, rows))
            np.testing.assert_array_equal(memory[width : width + x.size], x.T.ravel(), f"{rows} x {columns}")
            np.testing.assert_array_equal(np.delete(memory, np.s_[width : width + x.size]), MARK)

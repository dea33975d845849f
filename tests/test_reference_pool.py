"""kernels/reference/pool.py against loops over every window and pixel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fastnn.kernels.reference import pool


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


def windows(
    length: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> list[range]:
    """The positions of each window along one axis, by counting windows one at a time."""
    found: list[range] = []
    while True:
        start = len(found) * stride - padding
        span = (kernel - 1) * dilation + 1
        fits = start + span <= length + padding
        overhangs = (
            ceil_mode and start < length and (start - stride) + span < length + padding and bool(found)
        )
        if not (fits or overhangs):
            return found
        found.append(range(start, start + kernel * dilation, dilation))


def pooling_cases(dilations: tuple[int, ...]) -> list[tuple]:
    """Pairs (rows, columns) of what :func:`windows` takes: every axis once, beside another of its mode."""
    cases = []
    for ceil_mode in (False, True):
        axes = [
            (length, kernel, stride, padding, dilation, ceil_mode)
            for length, kernel, stride, dilation in itertools.product(
                (4, 5, 8), (1, 2, 3), (1, 2, 3, 4), dilations
            )
            for padding in range(kernel // 2 + 1)
            if length + 2 * padding >= dilation * (kernel - 1) + 1
        ]
        cases += zip(axes, axes[7:] + axes[:7], strict=True)
    return cases


@pytest.mark.parametrize(("rows", "columns"), pooling_cases((1, 2)))
def test_max_pool2d_and_its_gradient_are_what_loops_find(rows: tuple, columns: tuple) -> None:
    shape = (2, 3, rows[0], columns[0])
    x = np.random.default_rng(0).integers(0, 4, shape).astype(np.float64)  # many equal maxima
    x[0, 0, 1, 2], x[1, 1, 3, 1], x[1, 2] = np.nan, np.inf, -np.inf
    taps = list(itertools.product(windows(*rows), windows(*columns)))
    options = [tuple(option) for option in zip(rows[1:5], columns[1:5], strict=True)]
    out, indices = pool.max_pool2d(x, *options, rows[5])
    grad = normal(*out.shape)
    grad_x = np.zeros(shape)
    for n, c in np.ndindex(2, 3):
        for flat, (vertical, horizontal) in enumerate(taps):
            best, place = -math.inf, None
            for row, column in itertools.product(vertical, horizontal):
                if not (row in range(shape[2]) and column in range(shape[3])):
                    continue
                value = x[n, c, row, column]
                if place is None or value > best or math.isnan(value):
                    best, place = value, (row, column)
            i, j = divmod(flat, len(windows(*columns)))
            np.testing.assert_equal(out[n, c, i, j], best)
            assert place is not None
            assert indices[n, c, i, j] == place[0] * shape[3] + place[1]
            grad_x[n, c, *place] += grad[n, c, i, j]
    assert out.shape[2] * out.shape[3] == len(taps)
    assert indices.dtype == np.int32
    np.testing.assert_allclose(pool.max_pool2d_backward(grad, indices, shape), grad_x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("rows", "columns"), pooling_cases((1,)))
def test_avg_pool2d_and_its_gradient_are_what_loops_find(
    rows: tuple, columns: tuple, count_include_pad: bool
) -> None:
    shape = (2, 3, rows[0], columns[0])
    x = normal(*shape)
    horizontals = windows(*columns)
    options = [tuple(option) for option in zip(rows[1:4], columns[1:4], strict=True)]
    out = pool.avg_pool2d(x, *options, rows[5], count_include_pad)
    grad = normal(*out.shape)
    expected, grad_x = np.zeros(out.shape), np.zeros(shape)
    for (i, vertical), (j, horizontal) in itertools.product(
        enumerate(windows(*rows)), enumerate(horizontals)
    ):
        inside = [
            (r, c)
            for r, c in itertools.product(vertical, horizontal)
            if 0 <= r < shape[2] and 0 <= c < shape[3]
        ]
        in_padding = [
            (r, c)
            for r, c in itertools.product(vertical, horizontal)
            if r < shape[2] + rows[3] and c < shape[3] + columns[3]
        ]
        count = len(in_padding if count_include_pad else inside)
        for r, c in inside:
            expected[:, :, i, j] += x[:, :, r, c] / count
            grad_x[:, :, r, c] += grad[:, :, i, j] / count
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-13)
    back = pool.avg_pool2d_backward(grad, shape, *options, rows[5], count_include_pad)
    np.testing.assert_allclose(back, grad_x, rtol=0, atol=1e-13)

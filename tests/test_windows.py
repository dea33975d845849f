"""The micro-kernel of kernels/cpu/_windows.py: whole windows by every pass, each called at its address.

All numbers are small integers, whose sums are exact in any order: results are compared for equality. Around
each operand lies NaN and around the result a mark, so what is read or written beside them shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _windows
from fastnn.kernels.cpu._windows import passes
from fastnn.kernels.cpu.tile import lanes
from tests import parity
from tests.drawn_parts import run_window

MARK = 77.0
RUNS = (1, 3, 4, 5, 7, 9, 26)
VECTORS = (1, 2, 3, 5, 8, 13, 26, 27, 53)  # a run; some are more than any registers hold
COUNTS = (0, 1, 2, 7)
each_dtype = pytest.mark.parametrize("dtype", parity.DTYPES)
each_direction = pytest.mark.parametrize("scatter", [False, True], ids=["gather", "scatter"])


def framed(values: np.ndarray, frame: float) -> np.ndarray:
    """`values` as a part of memory that is `frame` before and after it."""
    memory = np.full(values.size + 128, frame, values.dtype)
    inside = memory[64:-64].reshape(values.shape)
    inside[...] = values
    return inside


def check(dtype: Any, runs: int, length: int, count: int, add: bool, scatter: bool, back: bool) -> None:
    """Run a window of which the runs lie apart in the image, and compare all memory with the formula's."""
    rng = np.random.default_rng([runs, length, count])
    begins = (length + rng.integers(1, 9)) * np.arange(runs)
    places, values = rng.integers(0, 20, count), rng.integers(-4, 5, count).astype(dtype)  # they overlap
    index = places[:, None, None] + begins[:, None] + np.arange(length)
    span = 20 + int(begins[-1]) + length
    image = np.full(span, MARK if scatter else np.nan, dtype)
    image[index] = rng.integers(-4, 5, index.shape)
    w = rng.integers(-4, 5, (runs, length)).astype(dtype)
    expected_w, expected_image = w.copy(), image.copy()
    if scatter:
        np.add.at(expected_image, index, values[:, None, None] * w)
    else:
        expected_w = w * add + (values[:, None, None] * image[index]).sum(0)
        if not add:
            w[...] = np.nan  # is not read
    w, image = framed(w, np.nan if scatter else MARK), framed(image, MARK if scatter else np.nan)
    expected_w = framed(expected_w, np.nan if scatter else MARK)
    expected_image = framed(expected_image, MARK if scatter else np.nan)
    one_more = np.append(places, 1 << 30).astype(np.int32), np.append(values, dtype(np.nan))
    run_window(w, image, begins, *one_more, count, add, scatter, back)
    label = f"{runs} runs of {length}, {count} entries, {add=}, {back=}"
    np.testing.assert_array_equal(w.base, expected_w.base, label)
    np.testing.assert_array_equal(image.base, expected_image.base, label)


def lengths(dtype: Any) -> Iterator[int]:
    """With a whole last vector, and with masked ones."""
    width = lanes(dtype().itemsize)
    for vectors in VECTORS:
        yield from sorted({width * vectors, width * vectors - 1, width * (vectors - 1) + 1})


@each_dtype
@each_direction
@pytest.mark.parametrize("runs", RUNS)
def test_window_computes_its_formula_whatever_passes_it_takes(runs: int, scatter: bool, dtype: Any) -> None:
    for length in lengths(dtype):
        for count in COUNTS:
            for add in (True,) if scatter else (False, True):
                check(dtype, runs, length, count, add, scatter, back=(count + length) % 2 == 0)


@each_dtype
@each_direction
def test_every_width_of_the_mask_is_respected(scatter: bool, dtype: Any) -> None:
    for length in range(1, 2 * lanes(dtype().itemsize) + 1):
        for back in (False, True):
            check(dtype, 2, length, 40, True, scatter, back)


@each_dtype
@each_direction
def test_what_is_not_finite_stays_with_its_float(scatter: bool, dtype: Any) -> None:
    length, begins = 2 * lanes(dtype().itemsize) - 1, np.array([0, 100])
    places, values = np.array([0, 3, 0], np.int32), np.ones(3, dtype)
    w, image = np.ones((2, length), dtype), np.ones(200, dtype)
    for v, value in enumerate((np.nan, np.inf, -np.inf)):
        (w[1] if scatter else image[100:])[v] = value
    run_window(w, image, begins, places, values, 3, True, scatter, back=False)
    expected = image if scatter else w[1]
    if scatter:  # NaN + 1, Inf and -Inf for the windows at 0 and 3
        touched = 100 + np.arange(6)
        np.testing.assert_array_equal(expected[touched], [np.nan, np.inf, -np.inf] * 2)
        assert np.isfinite(np.delete(expected, touched)).all()
    else:
        np.testing.assert_array_equal(expected[:3], [np.nan, np.inf, -np.inf])
        assert np.isfinite(expected[3:]).all()
        assert np.isfinite(w[0]).all()


@pytest.mark.parametrize(("width", "registers"), [(64, 32), (32, 16), (16, 16), (16, 32)])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_passes_take_each_float_once_and_keep_their_sums_in_registers(
    width: int, registers: int, itemsize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(_windows, "_target", lambda: {"registers": registers})
    monkeypatch.setattr(_windows, "lanes", lambda size: width // size)
    monkeypatch.setattr(_windows, "_compiled", lambda *variant: asked.append(variant) or len(asked) - 1)
    wide = width // itemsize
    for runs in (*range(1, 12), 25, 49):
        for length in (
            *range(1, 5 * wide),
            11 * wide,
            11 * wide + 1,
            26 * wide,
            26 * wide + 1,
            100 * wide - 1,
        ):
            taken = np.zeros((runs, length), int)
            for code, run, first, last in passes.__wrapped__(itemsize, runs, length, False).tolist():
                size, height, vectors, masked, scatter = asked[code]
                assert (size, scatter) == (itemsize, False)
                assert height * vectors + 2 < registers  # and a factor, and an operand
                assert masked == (last < wide)
                assert 0 < last <= wide
                end = first + (vectors - 1) * wide + last
                assert run + height <= runs
                assert end <= length
                taken[run : run + height, first:end] += 1
            assert (taken == 1).all(), (runs, length)

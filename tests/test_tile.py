"""The register tile of kernels/cpu/tile.py: every panel, called at its address, and the products made of it.

All numbers are small integers, whose sums are exact in any order: results are compared for equality. Around
each operand lies NaN and around the result a mark, so what is read or written beside them shows.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn.kernels.cpu import conv, linear
from fastnn.kernels.cpu._jit import from_python
from fastnn.kernels.cpu.tile import _SHAPES, WORDS, _target, describe, panels
from fastnn.kernels.reference import conv as reference_conv
from tests import cases, parity

ROOT = Path(__file__).resolve().parents[1]
MARK = 77.0
HEIGHTS = _SHAPES[_target()["registers"]]


class Panel(NamedTuple):
    """A compiled panel: `nv` vectors wide, `height` rows at a time, for any last vector or for one of `few`
    columns at most."""

    dtype: Any
    nv: int
    height: int
    few: bool

    @property
    def lanes(self) -> int:
        return int(panels(self.dtype().itemsize)[0])

    @property
    def call(self) -> Any:
        table = panels(self.dtype().itemsize)
        return from_python(int(table[2 + self.nv + (len(HEIGHTS) if self.few else 0)]), WORDS)

    @property
    def lasts(self) -> range:
        """How many columns of the last vector it may be asked for."""
        masked = self.few or _target()["cheap_masks"]
        most = int(panels(self.dtype().itemsize)[2]) if self.few else self.lanes
        return range(1 if masked else self.lanes, most + 1)

    @property
    def whole(self) -> bool:
        """Whether it leaves no rows over."""
        return not (self.few and _target()["cheap_masks"] and self.nv > 2)

    def __str__(self) -> str:
        return f"{self.dtype.__name__}-{self.nv}x{self.lanes}{'-few' if self.few else ''}"


PANELS = [
    Panel(dtype, nv, height, few)
    for dtype in (np.float32, np.float64)
    for nv, height in enumerate(HEIGHTS, 1)
    for few in (False, True)
]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=str)


class Strides(NamedTuple):
    """Element strides of a product; rows and parts of A are `row` and `part` apart."""

    row: int
    part: int
    a_k: int
    b_k: int
    c_i: int


def address(a: np.ndarray, index: int) -> int:
    return a.ctypes.data + index * a.itemsize


def buffer(used: np.ndarray, rng: np.random.Generator, dtype: Any) -> tuple[np.ndarray, int]:
    """NaN, with small integers at the `used` indices; and where index 0 is in it."""
    low, high = int(min(used.min(initial=0), 0)), int(used.max(initial=0))
    memory = np.full(high - low + 1, np.nan, dtype)
    memory[used.ravel() - low] = rng.integers(-4, 5, used.size)
    return memory, -low


def check(panel: Panel, rng: Any, M: int, S: int, K: int, last: int, at: Strides, flags: tuple) -> None:
    """Run `panel` on an M-row product, or as many of its rows as it does, and compare all of its memory with
    the formula's. Meanwhile it asks for rows of A, or for memory that is not there."""
    add, with_bias, relu = flags
    N = (panel.nv - 1) * panel.lanes + last
    table, offsets = at.row * np.arange(M), at.part * np.arange(S)
    a_index = (table[:, None, None] + offsets[:, None] + at.a_k * np.arange(K)).reshape(M, S * K)
    b_index = at.b_k * np.arange(S * K)[:, None] + np.arange(N)
    c_index = at.c_i * np.arange(M)[:, None] + np.arange(N)
    (a, a_zero), (b, b_zero) = buffer(a_index, rng, panel.dtype), buffer(b_index, rng, panel.dtype)
    low = int(c_index.min(initial=0))
    c = np.full(int(c_index.max(initial=0)) - low + 1 + 2 * panel.lanes, MARK, panel.dtype)
    c_zero = panel.lanes - low
    bias = rng.integers(-4, 5, N).astype(panel.dtype)
    if add:
        c[c_index + c_zero] = rng.integers(-9, 10, (M, N))
    expected = c.copy()
    start = c[c_index + c_zero] if add else bias * with_bias
    value = start + a[a_index + a_zero] @ b[b_index + b_zero]
    rest = 0 if panel.whole else M % panel.height
    here = (c_index + c_zero)[: M - rest]
    expected[here] = (np.maximum(value, 0) if relu else value)[: M - rest]
    needed = ((0, 0, 0), (a.ctypes.data, 64, a.ctypes.data + a.nbytes), (4096, 4096, 1 << 30))[M % 3]
    left = panel.call(
        address(c, c_zero), at.c_i, address(a, a_zero), table.ctypes.data, at.a_k, offsets.ctypes.data, S, K,
        address(b, b_zero), at.b_k, bias.ctypes.data if with_bias else 0, M, last, add, relu,
        *needed,
    )  # fmt: skip
    assert left == rest
    np.testing.assert_array_equal(c, expected, f"{panel}: {M=} {S=} {K=} {last=} {at} {flags}")


def all_flags() -> Iterator[tuple[int, int, int]]:
    yield from np.ndindex(2, 2, 2)


@each_panel
def test_panel_computes_its_formula_for_every_height_and_edge(panel: Panel) -> None:
    rng = np.random.default_rng(0)
    width = panel.nv * panel.lanes
    for M in range(2 * panel.height + 2):  # every remainder, through tiles of 8, 4, 2 and 1 rows
        for last in panel.lasts:
            for flags in all_flags() if last in (1, panel.lasts[-1]) else [(0, 1, 1)]:
                check(panel, rng, M, 2, 3, last, Strides(6, 3, 1, width, width), flags)


@each_panel
def test_panel_follows_any_strides_also_negative_ones(panel: Panel) -> None:
    rng = np.random.default_rng(1)
    width = panel.nv * panel.lanes
    for _ in range(300):
        S, K, M = (int(n) for n in rng.integers(0, (4, 6, 2 * panel.height + 2)))
        row, part, a_k = (int(n) for n in rng.integers(-9, 10, 3))
        b_k, c_i = (
            int(sign * n)
            for sign, n in zip(rng.choice([-1, 1], 2), width + rng.integers(0, 9, 2), strict=True)
        )
        flags = tuple(int(flag) for flag in rng.integers(0, 2, 3))
        check(panel, rng, M, S, K, int(rng.choice(panel.lasts)), Strides(row, part, a_k, b_k, c_i), flags)


@each_panel
def test_panel_with_nothing_to_sum_gives_the_start_value(panel: Panel) -> None:
    rng = np.random.default_rng(2)
    width = panel.nv * panel.lanes
    for S, K in ((0, 3), (3, 0), (0, 0)):
        for flags in all_flags():
            check(panel, rng, panel.height + 1, S, K, panel.lasts[-1], Strides(5, 1, 1, width, width), flags)


@each_panel
def test_panel_keeps_nan_and_infinities_in_their_rows(panel: Panel) -> None:
    last = panel.lasts[-1]
    width, M, K = (panel.nv - 1) * panel.lanes + last, panel.height + (3 if panel.whole else 0), 5
    a, b, c = (np.ones(shape, panel.dtype) for shape in ((M, K), (K, width), (M, width)))
    a[0, 2], a[M - 1, 3], a[1, 4] = np.nan, np.inf, -np.inf
    table, offsets = K * np.arange(M), np.zeros(1, np.int64)
    for relu in (0, 1):
        panel.call(c.ctypes.data, width, a.ctypes.data, table.ctypes.data, 1, offsets.ctypes.data, 1, K,
                   b.ctypes.data, width, 0, M, last, 0, relu, 0, 0, 0)  # fmt: skip
        expected = np.full(M, K, panel.dtype)
        expected[[0, 1, M - 1]] = np.nan, 0 if relu else -np.inf, np.inf
        np.testing.assert_array_equal(c, np.repeat(expected[:, None], width, 1))


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return rng.integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_linear_is_exact_for_every_number_of_columns(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    lanes, widest = (int(n) for n in panels(np.dtype(dtype).itemsize)[:2])
    for N in (*range(1, 2 * lanes * widest + 2), 5 * lanes * widest - 1):
        for M, K in ((7, 3), (29, 1)):
            x, weight, bias = (
                integers(rng, (M, K), dtype),
                integers(rng, (K, N), dtype),
                integers(rng, (N,), dtype),
            )
            out = linear.linear(x, weight, bias, "relu")
            np.testing.assert_array_equal(out, np.maximum(x @ weight + bias, 0), f"{M=} {K=} {N=}")


# past the sizes from which on B is packed, a transposed A copied, the reduction cut
@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize(
    "shape", [(97, 513, 65), (300, 1030, 97), (95, 512, 130), (257, 255, 96), (1, 1025, 1)]
)
def test_linear_and_its_gradients_are_exact_where_operands_are_packed(shape: tuple, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    M, K, N = shape
    x, weight, grad = integers(rng, (M, K), dtype), integers(rng, (K, N), dtype), integers(rng, (M, N), dtype)
    np.testing.assert_array_equal(linear.linear(x, weight, None, None), x @ weight)
    grad_x, grad_weight, grad_bias = linear.linear_backward(grad, x, weight, True)
    np.testing.assert_array_equal(grad_x, grad @ weight.T)
    np.testing.assert_array_equal(grad_weight, x.T @ grad)
    np.testing.assert_array_equal(grad_bias, grad.sum(0))


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", [case for case in cases.CONV_ODD if case.x[0]], ids=cases.by_name)
def test_convolution_and_its_gradients_are_exact(case: cases.Conv, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x, weight = (
        cases.channels_last(integers(rng, case.x, dtype)),
        cases.hwio(integers(rng, case.weight, dtype)),
    )
    bias, grad = integers(rng, case.weight[:1], dtype), cases.channels_last(integers(rng, case.output, dtype))
    out = conv.conv2d(x, weight, bias, *case.geometry, case.groups, "relu")
    expected = reference_conv.conv2d(x, weight, bias, *case.geometry, case.groups, "relu")
    np.testing.assert_array_equal(out, expected)
    actual = conv.conv2d_backward(grad, x, weight, *case.geometry, case.groups, True)
    gradients = reference_conv.conv2d_backward(grad, x, weight, *case.geometry, case.groups, True)
    for ours, theirs in zip(actual, gradients, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# The suite runs on the vectors of this machine; here, in children, the panels run on those of lesser ones.
# soak/test_tile_modes.py runs more there: nearly all that takes time is to compile it.
IN_CHILD = "FASTNN_TESTED_VECTOR_BITS"
LESSER = {"haswell": 256, "x86-64": 128}
CHILD = f"""
import os, sys, pytest
from fastnn.kernels.cpu.tile import describe
assert describe()["vector_bits"] == int(os.environ["{IN_CHILD}"]), describe()
sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def run_as(cpu: str, cache: Path, *tests: str) -> None:
    """Those tests in a process whose kernels are made for `cpu`; a skip if its vectors are the wider ones."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{cpu} is a CPU of x86-64, this one is {platform.machine()}")
    if LESSER[cpu] > describe()["vector_bits"]:
        pytest.skip("this CPU has narrower vectors")
    env = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", IN_CHILD: str(LESSER[cpu])}
    env = {**os.environ, **env, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", CHILD, *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]


@pytest.mark.skipif(IN_CHILD in os.environ, reason="this is the child")
@pytest.mark.parametrize("cpu", LESSER)
def test_panels_of_lesser_cpus_hold_the_same_promises(cpu: str, tmp_path: Path) -> None:
    run_as(cpu, tmp_path, "tests/test_tile.py", "-k", "panel")

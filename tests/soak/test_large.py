"""All the calls of ``tests/large.py``; and products, updates and convolutions of 8 GiB in real memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastnn.kernels.cpu import conv_pool, linear, update
from tests.large import BEYOND, CALLS
from tests.test_numbers_large import linux, run_large

NEEDED = 12 << 30  # bytes, of which 8.25 GiB are one array
SIZE, CHANNELS = 8192, 33


@linux
@pytest.mark.parametrize("name", CALLS)
def test_indices_reach_beyond_2_to_the_31(name: str) -> None:
    done = run_large([name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    """More than 2³¹ float32, all of them written: small integers, in a pattern as long as a prime."""
    meminfo = Path("/proc/meminfo")
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines()) if meminfo.exists() else {}
    free = 1024 * int(lines.get("MemAvailable", "0 kB").split()[0])
    if free < NEEDED:
        pytest.skip(f"needs {NEEDED >> 30} GiB of available memory, there are {free / 2**30:.1f}")
    array = np.empty(CHANNELS * SIZE * SIZE, np.float32)
    assert array.size > BEYOND
    for part, expected in chunks(array):
        part[:] = expected
    return array


def chunks(array: np.ndarray, length: int = 8191 * 4096) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The parts of an array, and what lies there: number i holds i mod 8191 - 4095."""
    pattern = np.tile(np.arange(8191, dtype=np.float32) - 4095, length // 8191)
    for begin in range(0, array.size, length):
        part = array[begin : begin + length]
        yield part, pattern[: part.size]


def test_a_product_of_real_memory(numbers: np.ndarray) -> None:
    x, weight = numbers.reshape(-1, 4224), np.zeros((4224, 2), np.float32)
    weight[[0, -1], [0, 1]] = 1
    out = linear.linear(x, weight, None, None)
    np.testing.assert_array_equal(out, x[:, [0, -1]])


def test_a_pooled_convolution_of_real_memory(numbers: np.ndarray) -> None:
    x = numbers.reshape(1, SIZE, SIZE, CHANNELS).transpose(0, 3, 1, 2)
    weight = np.zeros((2, CHANNELS, 1, 1), np.float32)
    weight[0, 0], weight[1, -1] = 1, 1
    plain = (7, 7), (0, 0), (1, 1), 1
    out, indices = conv_pool.conv2d_max_pool2d(
        x, weight, None, plain, ((2, 2), (2, 2), (0, 0), (1, 1), False), None
    )
    between = x[:, [0, -1], ::7, ::7]
    rows = between.shape[2] // 2 * 2
    windows = between[:, :, :rows, :rows].reshape(1, 2, rows // 2, 2, rows // 2, 2)
    np.testing.assert_array_equal(out, windows.max((3, 5)))
    flat = between.reshape(1, 2, -1)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, indices.reshape(1, 2, -1), 2), out.reshape(1, 2, -1)
    )


def test_an_update_of_real_memory(numbers: np.ndarray) -> None:
    update.sgd(
        update.bind([numbers], [numbers]), 0.5, 0.0, 0.0, 0.0, False, True
    )  # the last test to read them
    for part, before in chunks(numbers):
        np.testing.assert_array_equal(part, before / 2)

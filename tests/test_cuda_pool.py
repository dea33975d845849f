"""Pooling of kernels/cuda on the CPU: gradients gathered and looked for anywhere, in fours of channels and
one by one, counted with 32 bits and with 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cuda import _products, pool
from fastnn.kernels.reference import pool as reference
from tests import emulation, parity
from tests.emulation import Toolkit, emulated

pytestmark = pytest.mark.skipif(emulation.WHY_NOT is not None, reason=str(emulation.WHY_NOT))
POOLINGS = {  # kernel_size, stride, padding, dilation, ceil_mode
    "2 x 2": ((2, 2), (2, 2), (0, 0), (1, 1), False),
    "odd sizes, the last windows partly outside": ((2, 3), (2, 3), (0, 0), (1, 1), True),
    "overlapping": ((3, 3), (2, 1), (1, 1), (1, 1), False),
    "dilated": ((3, 2), (1, 2), (1, 0), (2, 3), False),
    "with gaps": ((1, 2), (3, 4), (0, 1), (1, 1), False),
}


@pytest.fixture(scope="module")
def toolkit(built: Path) -> Iterator[Toolkit]:
    with emulated(Toolkit(built)) as toolkit:
        yield toolkit


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4, 8])
@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_pooling_both_ways_is_that_of_the_reference(
    pooling: Any, channels: int, dtype: Any, toolkit: Toolkit, monkeypatch: Any
) -> None:
    draw = np.random.default_rng(channels)
    # few different numbers: windows have equal maxima
    x = parity.arrange(draw.integers(-3, 4, (3, channels, 11, 9)).astype(dtype), "channels_last")
    out, indices = reference.max_pool2d(x, *pooling)
    grad = parity.arrange(draw.standard_normal(out.shape).astype(dtype), "channels_last")
    slope = reference.max_pool2d_backward(grad, indices, x.shape)
    kernel_size, stride, padding, _, ceil_mode = pooling
    average = kernel_size, stride, padding, ceil_mode, True
    means = reference.avg_pool2d(x, *average)
    for most in (_products.MOST, 1):
        monkeypatch.setattr(_products, "MOST", most)
        for ours, exact in zip(pool.max_pool2d(x, *pooling), (out, indices), strict=True):
            np.testing.assert_array_equal(ours, exact)
        for known in (pooling, None):
            ours = pool.max_pool2d_backward(grad, indices, x.shape, known)
            np.testing.assert_allclose(ours, slope, 1e-6, 1e-6)
        np.testing.assert_allclose(pool.avg_pool2d(x, *average), means, 1e-6, 1e-6)
        ours = pool.avg_pool2d_backward(means, x.shape, *average)
        np.testing.assert_allclose(ours, reference.avg_pool2d_backward(means, x.shape, *average), 1e-6, 1e-6)


def test_gradients_go_to_pixels_that_no_window_would_name(toolkit: Toolkit, monkeypatch: Any) -> None:
    monkeypatch.setattr(pool, "_THREADS", 64)  # bands of several pixels
    draw = np.random.default_rng(1)
    indices = draw.integers(0, 80, (2, 3, 4, 4)).astype(np.int32)
    grad = draw.standard_normal(indices.shape).astype(np.float32)
    exact = reference.max_pool2d_backward(grad, indices, (2, 3, 10, 8))
    np.testing.assert_allclose(pool.max_pool2d_backward(grad, indices, (2, 3, 10, 8)), exact, 1e-6, 1e-6)

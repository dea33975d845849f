"""What a training step does beside the network, on the CPU: it gathers its batch from the rows of the set."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn.backend import get_backend
from fastnn.kernels.cpu import step
from fastnn.training import feed

SHAPES = ((784,), (3, 32, 32), (), (1,), (5, 7))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gather_is_indexing(shape, dtype, threads):
    rng = np.random.default_rng(0)
    rows, before = rng.integers(200, size=(50, *shape)).astype(dtype), fastnn.get_num_threads()
    fastnn.set_num_threads(threads)
    try:
        for count in (0, 1, 7, 300):
            order = rng.integers(50, size=count)
            out = np.empty((count, *shape), dtype)
            if count:
                step.gather(rows, order, out)
            np.testing.assert_array_equal(out, rows[order])
    finally:
        fastnn.set_num_threads(before)


@pytest.mark.parametrize("wrong", [-1, 3, 2**62, -(2**63)])
def test_gather_stays_within_the_rows(wrong):
    rows, out = np.arange(6.0).reshape(3, 2), np.empty((1, 2))
    step.gather(rows, np.array([wrong]), out)
    np.testing.assert_array_equal(out[0], rows[0 if wrong < 0 else 2])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("count", [4, 400])
def test_a_batch_is_the_same_on_every_backend_and_of_every_size(backend, count):
    rng = np.random.default_rng(0)
    images = rng.random((500, 3, 16, 16), dtype=np.float32)
    order = rng.permutation(500)[:count]
    with fastnn.use_backend(backend):
        for layout in (images, images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)):
            batch = feed.Rows(get_backend(), layout).take(order)
            assert (batch.nbytes >= feed._SHARED) == (count == 400)
            np.testing.assert_array_equal(batch, images[order])

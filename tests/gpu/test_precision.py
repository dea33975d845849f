"""``set_float32_precision("high")``: products on tensor cores, as exact as TF32 is, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from tests import layouts
from tests.gpu.moving import to_gpu, to_host
from tests.gpu.test_kernels import EACH
from tests.rooms import CUDA, REFERENCE, made

pytestmark = pytest.mark.gpu
TF32 = 2**-11  # what a factor is rounded by at most, relative


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    fastnn.set_float32_precision("highest")


def products(dtype: Any, images: int = 2) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Calls whose results are products of matrices, and their operands."""
    x, weight, grad = (layouts.floats(i, s, dtype) for i, s in enumerate(((150, 90), (90, 70), (150, 70))))
    image = layouts.floats(4, (images, 16, 9, 9), dtype, "channels_last")
    filters = layouts.floats(5, (24, 16, 3, 3), dtype)
    slope = layouts.floats(6, (images, 24, 9, 9), dtype, "channels_last")
    padded = {"padding": 1}
    return [
        (lambda *a: [F.linear(*a)], (x, weight)),
        (lambda *a: list(F.linear_backward(*a))[:2], (grad, x, weight)),
        (lambda *a: [F.conv2d(*a, **padded)], (image, filters)),
        (lambda *a: list(F.conv2d_backward(*a, **padded))[:2], (slope, image, filters)),
    ]


def far(ours: list[Any], theirs: list[Any]) -> list[float]:
    return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(ours, theirs, strict=True)]


def test_products_are_as_exact_as_their_factors_rounded_to_tf32_and_repeat_their_bits() -> None:
    for call, operands in products(np.float32):
        with fastnn.use_backend("numpy"):
            exact = call(*[a.astype(np.float64) for a in operands])
        highest = to_host(call(*to_gpu(operands)))
        fastnn.set_float32_precision("high")
        high, again = (to_host(call(*to_gpu(operands))) for _ in range(2))
        fastnn.set_float32_precision("highest")
        assert max(far(highest, exact)) < 1e-6
        assert max(far(high, exact)) < TF32
        assert min(far(high, exact)) > 1e-6  # or they were not made on tensor cores
        for a, b in zip(high, again, strict=True):
            np.testing.assert_array_equal(a, b)


def test_double_precision_is_not_affected() -> None:
    for call, operands in products(np.float64):
        expected = to_host(call(*to_gpu(operands)))
        fastnn.set_float32_precision("high")
        found = to_host(call(*to_gpu(operands)))
        fastnn.set_float32_precision("highest")
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["linear", "linear_backward", "conv2d", "conv2d_backward"])
def test_drawn_products_on_tensor_cores_match_the_reference(name: str) -> None:
    for i in range(EACH):
        seed = [i, 3, *name.encode()]
        theirs = made(REFERENCE, name, seed, np.float32)
        fastnn.set_float32_precision("high")
        ours = to_host(made(CUDA, name, seed, np.float32, to_gpu))
        fastnn.set_float32_precision("highest")
        for a, b in zip(ours, theirs, strict=True):  # of numbers that are all positive: nothing cancels
            if b is not None and b.size:
                np.testing.assert_allclose(a, b, 4 * TF32, 4 * TF32 * np.abs(b).max(), err_msg=f"{name} {i}")

"""One drawn call made in two rooms of kernels, and what they gave compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend import Backend
from tests.drawn import KERNELS, Draw

# Of their own, so that a test can have a room that the switch would not let it have.
REFERENCE, CPU, CUDA = Backend("numpy", "reference"), Backend("numba", "cpu"), Backend("cupy", "cuda")


def same(x: Any) -> Any:
    return x


def made(
    backend: Backend, name: str, seed: list[int], dtype: Any, move: Callable[[Any], Any] = same
) -> list[Any]:
    """What an operation of that backend gives for the operands that belong to `seed`, moved by `move`."""
    function, operands = KERNELS[name](Draw(seed, dtype, backend))
    with np.errstate(all="ignore"):
        returned = function(*move(operands))
    return list(returned) if isinstance(returned, tuple) else [returned]


def agree(ours: list[Any], theirs: list[Any], dtype: Any, label: str) -> None:
    """AssertionError unless host arrays `ours` are `theirs`, up to rounding in `dtype`."""
    assert len(ours) == len(theirs), label
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if b is None:
            assert a is None, label
            continue
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, (label, i)
        if b.dtype.kind == "i":
            np.testing.assert_array_equal(a, b, f"{label}, result {i}")
        else:
            size = np.abs(b).max(initial=0)
            bound = 64 * np.finfo(dtype).eps
            np.testing.assert_allclose(a, b, bound, bound * size, err_msg=f"{label}, result {i}")

"""How a room of kernels is held against the reference: operands in every memory, and a bound on rounding.

Every result is compared with the reference's, computed in float64 from the same numbers. The bound is no
guess: a sum of products has an error of a few eps times the sum of the *absolute* products, and that is the
reference itself run on absolute values. A sum of n terms gets a factor sqrt(n), whatever its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.layouts import DTYPES, LAYOUTS, arrange, floats, plant

__all__ = ["DTYPES", "LAYOUTS", "arrange", "floats", "plant"]  # and what is below

layouts = st.sampled_from(LAYOUTS)
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)


def wide(*operands: Any) -> list[Any]:
    return [
        x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in operands
    ]


def absolute(*operands: Any) -> list[Any]:
    """The operands' magnitudes; what is not finite counts 1, since its results are compared exactly."""
    return [
        np.where(np.isfinite(x), np.abs(x), 1) if isinstance(x, np.ndarray) else x for x in wide(*operands)
    ]


def assert_close(actual: Any, expected: np.ndarray, bound: Any, label: str = "") -> None:
    """`actual` holds NaN and ±Inf exactly where `expected` does, and elsewhere is off by at most `bound`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (
        f"{label}: shape {actual.shape}, the reference has {expected.shape}"
    )
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), f"{label}: NaN kept")
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(
        np.where(infinite, actual, 0), np.where(infinite, expected, 0), f"{label}: Inf kept"
    )
    finite = np.isfinite(expected)
    error = np.abs(np.where(finite, actual, 0).astype(np.float64) - np.where(finite, expected, 0))
    over = error > np.where(finite, bound, np.inf)
    if over.any():
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(over, error, 0)), error.shape))
        raise AssertionError(
            f"{label}: {over.sum()} of {error.size} entries are off; at {worst} {actual[worst]} should be "
            f"{expected[worst]} within {np.broadcast_to(bound, error.shape)[worst]:.3g}"
        )


def assert_sum_of_products(
    actual: Any, reference: Callable[..., Any], operands: list[Any], terms: int, label: str, slack: float = 8
) -> None:
    """`actual` is ``reference(*operands)``, each entry a sum of `terms` products, to within rounding."""
    with np.errstate(all="ignore"):
        expected = reference(*wide(*operands))
        magnitude = reference(*absolute(*operands))
    eps = np.finfo(actual.dtype).eps
    assert_close(actual, expected, (slack + 4 * max(1, terms) ** 0.5) * eps * magnitude, label)


def activated_bound(activation: str | None, terms: int, magnitude: Any, expected: np.ndarray) -> np.ndarray:
    """The rounding, in eps, of a sum of `terms` products with this `magnitude`, then an activation or none.

    None is steeper than 1.13, so the sum's error passes; its own, a few eps, is of its result: a sigmoid
    of a tiny sum is 0.5.
    """
    bound = (8 + 5 * max(1, terms) ** 0.5) * magnitude
    if activation:
        bound = bound + 8 * (magnitude + np.where(np.isfinite(expected), np.abs(expected), 0))
    return bound


def call(kernel: Callable[..., Any], *operands: Any) -> Any:
    """``kernel(*operands)``, held to the rules: inputs untouched, results fresh, dtype kept."""
    arrays = [x for x in operands if isinstance(x, np.ndarray)]
    before = [x.copy() for x in arrays]
    result = kernel(*operands)
    for x, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, was, f"{kernel.__name__} wrote to an input")
    for out in result if isinstance(result, tuple) else (result,):
        if isinstance(out, np.ndarray):
            assert out.flags.writeable, f"{kernel.__name__}: read-only result"
            assert not any(np.shares_memory(out, x) for x in arrays), f"{kernel.__name__}: an alias"
            assert out.dtype.kind != "f" or out.dtype == arrays[0].dtype, f"{kernel.__name__}"
    return result


def assert_same_order(result: np.ndarray, x: np.ndarray) -> None:
    """`result` lies in memory as NumPy's own elementwise result for `x` would (order "K")."""
    expected = np.empty_like(x)
    if x.size:
        for size, ours, theirs in zip(x.shape, result.strides, expected.strides, strict=True):
            assert size == 1 or ours == theirs, f"strides {result.strides}, expected {expected.strides}"

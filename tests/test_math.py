"""The elementary functions of kernels/cpu/_math.py against more precise arithmetic, over every exponent.

The error is counted in ulp: in gaps between neighbouring floats at the exact value. Each function runs
in a loop under the kernels' own flags, as it does in a kernel: the compiler turns that into vector code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from fastnn.kernels.cpu import _math
from fastnn.kernels.cpu._jit import FAST
from fastnn.kernels.cpu.tile import describe

EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "exp_nonpositive": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x))),
    "log": np.log,
    "log1p": np.log1p,
}
# ulp. The exponential is half a rounding from the best; what is made of it, or of a quotient, has two more.
BOUND: dict[Any, dict[str, float]] = {
    np.float32: {"exp": 1.0, "exp_nonpositive": 1.0, "tanh": 1.35, "sigmoid": 2.0, "log": 1.0, "log1p": 1.3},
    np.float64: {"exp": 1.1, "exp_nonpositive": 1.1, "tanh": 2.75, "sigmoid": 2.5, "log": 2.1, "log1p": 2.5},
}
if not describe()["fma"]:  # a product is rounded before it is added to
    BOUND[np.float32] |= {"exp": 1.25, "exp_nonpositive": 1.25, "log": 1.1, "log1p": 1.4}
EVERYWHERE = ("exp", "exp_nonpositive", "tanh", "sigmoid")
wide_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 2**-60, reason="long double is no more precise than double here"
)


def over(name: str) -> Callable[[np.ndarray], np.ndarray]:
    function = getattr(_math, name)

    @numba.njit(fastmath=FAST, error_model="numpy")
    def loop(x: Any, out: Any) -> None:
        for i in range(x.size):
            out[i] = function(x[i])

    def call(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        loop(x, out)
        return out

    return call


LOOPS = {name: over(name) for name in EXACT}


def ulps(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How far `actual` is off; infinitely, where one of both overflows and the other does not."""
    with np.errstate(over="ignore", under="ignore"):
        nearest = exact.astype(actual.dtype)
    same = (nearest == actual) & np.isinf(nearest)
    gap = np.spacing(np.abs(np.where(np.isfinite(nearest), nearest, 1)))
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype(exact.dtype) - exact) / gap
    return np.where(same, 0, np.where(np.isfinite(error), error, np.inf)).astype(np.float64)


def assert_within_bound(name: str, x: np.ndarray, precise: Any) -> None:
    x = x[np.isfinite(x)]
    if name == "log":
        x = x[x >= np.finfo(x.dtype).tiny]
    if name == "exp_nonpositive":
        x = x[x <= 0]
    if name == "log1p":
        x = x[(x >= 0) & (x <= 1)]
    with np.errstate(over="ignore", under="ignore"):
        exact = EXACT[name](x.astype(precise))
    actual = LOOPS[name](x)
    error = ulps(actual, exact)
    worst = int(np.argmax(error))
    assert error[worst] <= BOUND[x.dtype.type][name], (
        f"{name}({x[worst]!r}) is {actual[worst]!r}, exactly {exact[worst]!r}: {error[worst]:.2f} ulp"
    )


@pytest.mark.parametrize("name", EXACT)
def test_float32_is_accurate_over_all_exponents(name: str) -> None:
    for part in range(8):  # together every 257th bit pattern
        bits = np.arange(part * 257, 2**32, 8 * 257, dtype=np.uint64)
        assert_within_bound(name, bits.astype(np.uint32).view(np.float32), np.float64)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_float32_is_accurate_where_the_curve_bends(name: str) -> None:
    first, end = np.array([2**-8, 32], np.float32).view(np.uint32)
    for sign in (0, 1 << 31) if name != "exp_nonpositive" else (1 << 31,):  # every 23rd number
        bits = np.arange(first, end, 23, dtype=np.uint32) | np.uint32(sign)
        assert_within_bound(name, bits.view(np.float32), np.float64)


@wide_longdouble
@pytest.mark.parametrize("name", EXACT)
def test_float64_is_accurate_over_all_exponents(name: str) -> None:
    rng = np.random.default_rng(0)
    for x in (
        rng.integers(0, 2**64, 200_000, dtype=np.uint64).view(np.float64),
        rng.uniform(-746, 711, 200_000),
        np.exp(rng.uniform(-40, 3, 200_000)) * rng.choice([-1, 1], 200_000),
    ):
        assert_within_bound(name, x, np.longdouble)


@pytest.mark.parametrize(("dtype", "precise"), [(np.float32, np.float64), (np.float64, np.longdouble)])
@pytest.mark.parametrize("name", ["exp", "exp_nonpositive", "sigmoid"])
def test_results_reach_down_through_the_denormals_to_zero(name: str, dtype: Any, precise: Any) -> None:
    info = np.finfo(dtype)
    x = np.linspace(np.log(info.tiny), np.log(info.tiny * info.eps) - 2, 30_001).astype(dtype)
    actual = LOOPS[name](x)
    assert_within_bound(name, x, precise)
    assert actual[0] > 0.9 * info.tiny
    assert actual[-1] == 0
    assert (actual[np.abs(actual) < info.tiny] > 0).sum() > 20_000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_overflows_just_where_the_exact_value_does(dtype: Any) -> None:
    last = dtype(np.log(np.longdouble(np.finfo(dtype).max)))
    while np.exp(np.longdouble(last)) > np.finfo(dtype).max:  # the rounding of log may have gone up
        last = np.nextafter(last, dtype(0))
    x = np.array([last, last + last * 4 * np.finfo(dtype).eps, 2 * last, np.finfo(dtype).max], dtype)
    actual = LOOPS["exp"](x)
    assert np.isfinite(actual[0])
    np.testing.assert_array_equal(actual[1:], np.inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "at_minus_infinity", "at_zero", "at_infinity"),
    [("exp", 0, 1, np.inf), ("tanh", -1, 0, 1), ("sigmoid", 0, 0.5, 1)],
)
def test_limits_and_zeros_are_exact(
    name: str, at_minus_infinity: float, at_zero: float, at_infinity: float, dtype: Any
) -> None:
    x = np.array([-np.inf, np.finfo(dtype).min, -0.0, 0.0, np.finfo(dtype).max, np.inf] * 7, dtype)
    expected = [at_minus_infinity] * 2 + [at_zero] * 2 + [at_infinity] * 2
    actual = LOOPS[name](x)
    np.testing.assert_array_equal(actual, np.array(expected * 7, dtype))
    if at_zero == 0:
        np.testing.assert_array_equal(np.signbit(actual), np.signbit(x), "the sign of a zero is kept")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_nan_stays_nan_in_its_own_lane(name: str, dtype: Any) -> None:
    x = np.linspace(-3, 3, 67, dtype=dtype)
    clean = LOOPS[name](x)
    x[::7] = np.nan
    x[1::7] = -np.float64(np.nan)
    actual = LOOPS[name](x)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(x))
    np.testing.assert_array_equal(actual[~np.isnan(x)], clean[~np.isnan(x)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_stay_in_range_and_keep_their_symmetry(dtype: Any) -> None:
    x = np.abs(np.random.default_rng(1).standard_normal(200_003).astype(dtype)) * dtype(9)
    tanh, sigmoid = LOOPS["tanh"](x), LOOPS["sigmoid"](x)
    assert tanh.max() <= 1
    assert sigmoid.max() <= 1
    np.testing.assert_array_equal(LOOPS["tanh"](-x), -tanh)
    np.testing.assert_allclose(LOOPS["sigmoid"](-x) + sigmoid, 1, rtol=0, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_of_the_smallest_numbers_is_the_number(dtype: Any) -> None:
    info = np.finfo(dtype)
    x = np.array([info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, info.tiny * 5], dtype)
    x = np.concatenate([x, -x])
    np.testing.assert_array_equal(LOOPS["tanh"](x), x)

"""The normal distribution of kernels/cpu/_normal.py against the C library's error function in float64."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest

from fastnn.kernels.cpu._jit import FAST
from fastnn.kernels.cpu._normal import bell, normal_cdf, normal_density
from tests import parity


@numba.njit(fastmath=FAST, error_model="numpy")
def both(x: Any, density: Any, share: Any) -> None:
    for i in range(x.size):
        height = bell(x[i])
        density[i] = normal_density(x[i], height)
        share[i] = normal_cdf(x[i], height)


def of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    density, share = np.empty_like(x), np.empty_like(x)
    both(x, density, share)
    return density, share


def numbers(dtype: Any) -> np.ndarray:
    around, tiny = np.linspace(-15, 15, 300_001), np.exp(np.linspace(-80, 1, 20_001))
    return np.concatenate([around, tiny, -tiny, [0, -0.0]]).astype(dtype)


# In units of eps. Two products are rounded, and the exponent, and with it the density by as many times.
@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_the_density_is_within_two_eps_and_what_its_exponents_rounding_makes(dtype: Any) -> None:
    x = numbers(dtype)
    exact = np.exp(-(x.astype(np.float64) ** 2) / 2) / math.sqrt(2 * math.pi)
    limits = np.finfo(dtype)
    bound = limits.eps * exact * (2 + x.astype(np.float64) ** 2) + limits.tiny
    assert (abs(of(x)[0] - exact) <= bound).all()


@pytest.mark.parametrize(("dtype", "units"), [(np.float32, 0.75), (np.float64, 0.5)])
def test_the_share_is_as_close_to_the_exact_one(dtype: Any, units: float) -> None:
    x = numbers(dtype)
    exact = np.array([math.erfc(-value * math.sqrt(0.5)) / 2 for value in x.tolist()])
    error = abs(of(x)[1] - exact) / np.finfo(dtype).eps
    worst = int(np.argmax(error))
    assert error[worst] <= units, (x[worst], error[worst])


def test_in_float32_the_share_far_below_zero_has_some_correct_digits() -> None:
    x = np.linspace(-9, -1, 100_001, dtype=np.float32)
    exact = np.array([math.erfc(-value * math.sqrt(0.5)) / 2 for value in x.tolist()])
    np.testing.assert_allclose(of(x)[1], exact, rtol=3e-5)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_limits_are_exact_and_nan_stays(dtype: Any) -> None:
    x = np.array([-np.inf, -1e30, 0, 1e30, np.inf, np.nan], dtype)
    density, share = of(x)
    np.testing.assert_array_equal(density[[0, 1, 3, 4, 5]], [0, 0, 0, 0, np.nan])
    assert density[2] == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-7)
    np.testing.assert_array_equal(share[[0, 1, 3, 4, 5]], [0, 0, 1, 1, np.nan])
    assert share[2] == pytest.approx(0.5, abs=1e-7)

"""One way to time everything: each contender runs each case, checked against plain NumPy before it is timed.

To add a contender (another library, say), name it in ``CONTENDERS`` and let ``time_it`` find what it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn

CONTENDERS = ("numpy", "numba")  # the first is the baseline of the table

LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before there is any of our own

Build = Callable[[], Callable[[], Any]]


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["load"] = LOAD


def assert_same(actual: Any, expected: Any) -> None:
    """Two results, however nested, agree to what float32 sums of any order agree to."""
    if isinstance(expected, tuple | list):
        for a, e in zip(actual, expected, strict=True):
            assert_same(a, e)
    elif expected is None:
        assert actual is None
    else:
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape
        error = np.abs(actual - expected).max(initial=0)
        assert error <= (0 if expected.dtype.kind == "i" else 1e-4 * np.abs(expected).max(initial=0))


@pytest.fixture(params=CONTENDERS)
def time_it(request: pytest.FixtureRequest, benchmark: Any) -> Callable[[str, str, Build], None]:
    """``time_it(operation, case, build)``: build() prepares, under this contender, the call to be timed."""

    def time_it(operation: str, case: str, build: Build) -> None:
        with fastnn.use_backend("numpy"):
            expected = build()()
        with fastnn.use_backend(request.param):
            run = build()
            assert_same(run(), expected)
            benchmark.group = f"{operation}, {case}"
            benchmark.extra_info.update(operation=operation, case=case, contender=request.param)
            benchmark(run)

    return time_it

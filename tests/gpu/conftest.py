"""Tests that need a GPU: ``make test-gpu``. Without one each is skipped, with the reason.

They need pytest, NumPy and CuPy and nothing else: no Numba, and no installation of fastnn.
``tests/test_gpu_scripts.py`` runs all but the slowest on a GPU that is only pretended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fastnn


@pytest.fixture(scope="session")
def cupy() -> Any:
    """The module, on a machine with a GPU."""
    reason = fastnn.available_backends()["cupy"]
    if reason is not None:
        pytest.skip(reason)
    import cupy

    return cupy


@pytest.fixture(autouse=True)
def _on_the_gpu(cupy: Any) -> Iterator[None]:
    with fastnn.use_backend("cupy"):
        fastnn.seed(0)
        yield

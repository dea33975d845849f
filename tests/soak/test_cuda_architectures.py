"""As ``tests/test_cuda_compile.py``, for the other architectures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.test_cuda_compile import (
    ARCHITECTURE,
    ARCHITECTURES,
    MODULES,
    Compilations,
    check,
    compilations,
    nvrtc,
)

__all__ = ["nvrtc"]  # the fixture
OTHERS = tuple(name for name in ARCHITECTURES if name != ARCHITECTURE)


@pytest.fixture(scope="module")
def started(nvrtc: tuple[int, int]) -> Iterator[Compilations]:
    with compilations(OTHERS) as started:
        yield started


@pytest.mark.parametrize("architecture", OTHERS)
@pytest.mark.parametrize(("stem", "real"), MODULES)
def test_kernels_compile_without_spilling_to_what_the_table_says(
    stem: str, real: str, architecture: str, nvrtc: tuple[int, int], started: Compilations
) -> None:
    check(started, stem, real, architecture, nvrtc)

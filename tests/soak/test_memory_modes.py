"""The calls of ``tests/test_memory_edges.py`` with the vectors of three CPUs, all results compared with the
reference's: code is generated for each as if this machine were one.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from fastnn.kernels.cpu.tile import describe
from tests.edges import run_child
from tests.test_memory_edges import TABLES, posix

pytestmark = posix
MODES = {"host": describe()["vector_bits"], "haswell": 256, "x86-64": 128}


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each mode's compiled kernels."""
    return {mode: tmp_path_factory.mktemp(mode) for mode in MODES}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("mode", MODES)
def test_kernels_stay_inside_their_operands_and_are_right(
    mode: str, table: str, tmp_path: Path, caches: dict[str, Path]
) -> None:
    calls, each = TABLES[table]
    environment = {"NUMBA_CACHE_DIR": str(caches[mode])}
    if mode != "host":
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip(f"{mode} is a CPU of x86-64, this one is {platform.machine()}")
        if MODES[mode] > MODES["host"]:
            pytest.skip(f"this CPU has vectors of {MODES['host']} bits, {mode} has {MODES[mode]}")
        environment |= {"NUMBA_CPU_NAME": mode, "NUMBA_CPU_FEATURES": ""}
    report = run_child(list(calls), each, tmp_path, compared=table != "parts", environment=environment)
    assert report.code == 0, f"exit code {report.code} in {report.calls[-1:]}\n{report.errors}"
    assert len(report.calls) == each * len(calls)
    assert report.found["vector_bits"] == MODES[mode]


def test_two_thousand_calls_are_made_in_each_mode() -> None:
    assert sum(each * len(calls) for calls, each in TABLES.values()) >= 2000

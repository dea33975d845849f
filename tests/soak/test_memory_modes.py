"""The calls of ``tests/test_memory_edges.py`` with the vectors of three CPUs, all results compared with the
reference's: code is generated for each as if this machine were one.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from fastnn.kernels.cpu.tile import describe
from tests.edges import COUNTS, run_child
from tests.test_memory_edges import posix

pytestmark = posix
MODES = {"host": describe()["vector_bits"], "haswell": 256, "x86-64": 128}


@pytest.mark.parametrize("mode", MODES)
def test_kernels_stay_inside_their_operands_and_are_right(mode: str, tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    if mode != "host":
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip(f"{mode} is a CPU of x86-64, this one is {platform.machine()}")
        if MODES[mode] > MODES["host"]:
            pytest.skip(f"this CPU has vectors of {MODES['host']} bits, {mode} has {MODES[mode]}")
        environment |= {"NUMBA_CPU_NAME": mode, "NUMBA_CPU_FEATURES": ""}
    report = run_child(COUNTS, tmp_path, compared=True, environment=environment)
    assert report.code == 0, f"exit code {report.code} in {report.calls[-1:]}\n{report.errors}"
    assert len(report.calls) == sum(COUNTS.values()) >= 2000
    assert report.found["vector_bits"] == MODES[mode]

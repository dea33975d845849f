"""The calls of ``tests/test_memory_edges.py`` with the vectors of three CPUs, all results compared with the
reference's: code is generated for each as if this machine were one. Two run at a time, on a core each.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fastnn.kernels.cpu.tile import describe
from tests.edges import COUNTS, Report, run_child
from tests.test_memory_edges import posix

pytestmark = posix
MODES = {"haswell": 256, "x86-64": 128, "host": describe()["vector_bits"]}  # the longest first


def impossible(mode: str) -> str | None:
    """Why this machine cannot be taken for such a CPU."""
    if mode == "host":
        return None
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"{mode} is a CPU of x86-64, this one is {platform.machine()}"
    if MODES[mode] > MODES["host"]:
        return f"this CPU has vectors of {MODES['host']} bits, {mode} has {MODES[mode]}"
    return None


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Report]]]:
    def run(mode: str) -> Report:
        folder = tmp_path_factory.mktemp(mode)
        cpu = {"NUMBA_CPU_NAME": mode, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder / "cache")}
        environment = {} if mode == "host" else cpu  # this CPU's kernels are mostly compiled already
        return run_child(COUNTS, folder, compared=True, environment=environment)

    with ThreadPoolExecutor(2) as children:
        yield {mode: children.submit(run, mode) for mode in MODES if not impossible(mode)}


@pytest.mark.parametrize("mode", MODES)
def test_kernels_stay_inside_their_operands_and_are_right(
    mode: str, reports: dict[str, Future[Report]]
) -> None:
    if reason := impossible(mode):
        pytest.skip(reason)
    report = reports[mode].result()
    assert report.code == 0, f"exit code {report.code} in {report.calls[-1:]}\n{report.errors}"
    assert len(report.calls) == sum(COUNTS.values()) >= 2000
    assert report.found["vector_bits"] == MODES[mode]

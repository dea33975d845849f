"""Products, windows, convolutions and functions on the vectors of lesser CPUs, where ``tests/test_tile.py``
runs no more than the panels.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_tile import run_as

# Both run the panels and windows; only one then convolves, which is addressing them, and only x86-64 has no
# multiply-add.
TESTS = {
    "haswell": ["tests/test_tile.py", "tests/test_windows.py", "-k", "not float64 or panel"],
    "x86-64": ["tests/test_tile.py", "tests/test_windows.py", "tests/test_math.py", "-k", "not convolution"],
}


@pytest.mark.parametrize("cpu", TESTS)
def test_tiles_of_lesser_cpus_hold_the_same_promises(cpu: str, tmp_path: Path) -> None:
    run_as(cpu, tmp_path, *TESTS[cpu])

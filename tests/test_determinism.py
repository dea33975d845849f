"""The same numbers give the same bits: for any number of threads, in any process, for kernels compiled
or loaded.

``soak/test_determinism_modes.py`` does this for the larger networks too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastnn
from tests.trained import NETWORKS, digest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = fastnn.get_num_threads()
    yield
    fastnn.set_num_threads(before)


def digest_of_another_process(network: str, cache: Path) -> str:
    """:func:`digest` in a process whose compiled kernels lie in the folder `cache`."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "tests.trained", network]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_do_not_depend_on_the_number_of_threads(network: str) -> None:
    digests = {}
    for threads in (1, 2, 3, 8):
        fastnn.set_num_threads(threads)
        digests[threads] = digest(network)
    assert len(set(digests.values())) == 1, digests


def test_kernels_loaded_from_a_cache_give_the_bits_of_freshly_compiled_ones(tmp_path: Path) -> None:
    compiled = digest_of_another_process("small", tmp_path)
    kernels = list(tmp_path.rglob("*.nbc"))
    assert kernels, "the first process had nothing to load, and left what it compiled"
    stamps = {path: path.stat().st_mtime_ns for path in kernels}
    loaded = digest_of_another_process("small", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == stamps, "it compiled again"
    assert compiled == loaded == digest("small")

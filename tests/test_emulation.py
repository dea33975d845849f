"""The emulation of CUDA finds the mistakes it is there for: each kernel here has one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import emulation
from tests.emulation import Toolkit

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("-DREAL=float",)
pytestmark = pytest.mark.skipif(emulation.WHY_NOT is not None, reason=str(emulation.WHY_NOT))

REVERSE = """
extern "C" __global__ void reverse(const float* x, float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    SYNC
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
"""
ROTATE = """
extern "C" __global__ void rotate(const float* x, float* out) {
    unsigned lane = threadIdx.x % 32;
    float value = x[threadIdx.x];
    out[threadIdx.x] = __shfl_sync(MASK, value, (lane + 1) % 32);
}
"""
SOME_WAIT = """
extern "C" __global__ void some_wait(float* out) {
    if (threadIdx.x < 3) __syncthreads();
    out[threadIdx.x] = 1;
}
"""


def run(folder: Path, source: str, name: str, *arguments: np.ndarray, threads: int = 64) -> None:
    module = Toolkit(folder).compile(name, source, OPTIONS)
    module.get_function(name)((1,), (threads,), arguments)


def test_a_barrier_lets_all_threads_see_what_all_wrote(tmp_path):
    x, out = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    run(tmp_path, REVERSE.replace("SYNC", "__syncthreads();"), "reverse", x, out)
    np.testing.assert_array_equal(out, x[::-1])


def test_a_missing_barrier_shows_as_nan(tmp_path):
    x, out = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    run(tmp_path, REVERSE.replace("SYNC", ""), "reverse", x, out)
    assert np.isnan(out).any()


def test_a_shuffle_takes_what_the_other_lane_holds(tmp_path):
    x, out = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    run(tmp_path, ROTATE.replace("MASK", "0xffffffffu"), "rotate", x, out)
    np.testing.assert_array_equal(out.reshape(2, 32), np.roll(x.reshape(2, 32), -1, axis=1))


def test_a_shuffle_under_a_mask_without_the_lane_is_named(tmp_path):
    x, out = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    with pytest.raises(RuntimeError, match="not in its own mask"):
        run(tmp_path, ROTATE.replace("MASK", "0x0000ffffu"), "rotate", x, out)


def test_a_shuffle_that_a_part_of_a_warp_waits_for_is_a_deadlock(tmp_path):
    x, out = np.arange(40, dtype=np.float32), np.empty(40, np.float32)
    with pytest.raises(RuntimeError, match=r"deadlock: 0 threads wait at __syncthreads.*8 at a shuffle"):
        run(tmp_path, ROTATE.replace("MASK", "0xffffffffu"), "rotate", x, out, threads=40)


def test_a_barrier_that_some_threads_never_reach_is_a_deadlock(tmp_path):
    with pytest.raises(RuntimeError, match="deadlock: 3 threads wait at __syncthreads"):
        run(tmp_path, SOME_WAIT, "some_wait", np.empty(64, np.float32))


def test_a_kernel_given_too_few_arguments_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="another number of arguments"):
        run(tmp_path, SOME_WAIT, "some_wait")


def sanitized(*arguments: str) -> subprocess.CompletedProcess:
    """``python -m tests.sanitized`` under the address and the undefined-behaviour sanitizer."""
    libraries = [
        subprocess.check_output([emulation.COMPILER, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("g++ has no sanitizers here")
    # Leaks: the interpreter has some. Use after return: fibers have stacks of their own
    settings = {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    command = [sys.executable, "-m", "tests.sanitized", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=1200
    )


def test_no_kernel_reads_or_writes_past_an_array_or_does_what_is_undefined():
    child = sanitized()
    assert child.returncode == 0, child.stdout + child.stderr[-4000:]
    assert "calls" in child.stdout


def test_the_sanitizer_sees_a_read_past_the_end():
    child = sanitized("--past-the-end")
    assert child.returncode != 0
    assert "heap-buffer-overflow" in child.stderr

"""The thread pool and the life of a process: its end, a fork as workers start, idleness, the environment.

Each test runs a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fastnn.kernels.cpu import threads

ROOT = Path(__file__).resolve().parents[1]


START = """
import os, sys, threading, time
import numpy as np
import fastnn, fastnn.functional as F
x = np.ones((300, 400), np.float32)
def call_forever():
    threading.Thread(target=lambda: [F.relu(x) for _ in iter(int, 1)], daemon=True).start()
"""


def run(code: str, **env: str) -> tuple[int, str, float]:
    """Exit code, standard error, and how long the process lived on after its one printed line."""
    child = subprocess.Popen(
        [sys.executable, "-c", START + textwrap.dedent(code)], cwd=ROOT, env={**os.environ, **env}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    printed = time.monotonic()
    _, errors = child.communicate(timeout=60)
    return child.returncode, errors, time.monotonic() - printed


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("F.relu(x); F.relu(x)", id="while workers spin"),
        pytest.param("F.relu(x); time.sleep(0.5)", id="while workers sleep"),
        pytest.param("fastnn.set_num_threads(8)", id="while workers start"),
        pytest.param("call_forever(); time.sleep(0.3)", id="while a daemon thread calls"),
    ],
)
def test_interpreter_ends_promptly_and_cleanly(last: str) -> None:
    code, errors, seconds = run(f"{last}; print(flush=True)", FASTNN_NUM_THREADS="4")
    assert (code, errors) == (0, "")
    assert seconds < 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_child_forked_while_workers_start_gets_its_results() -> None:
    code, errors, _ = run("""
        fastnn.set_num_threads(8)
        child = os.fork()
        if child == 0:
            import signal
            signal.alarm(10)
            os._exit(int((F.relu(x) != 1).any()))
        assert os.waitpid(child, 0)[1] == 0, "the child never came back"
    """)
    assert code == 0, errors


def test_idle_process_uses_no_processor() -> None:
    code, errors, _ = run("""
        fastnn.set_num_threads(4)
        F.relu(x)
        time.sleep(1)
        used = time.process_time()
        time.sleep(1)
        assert time.process_time() - used < 0.05
    """)
    assert code == 0, errors


def test_retired_workers_use_no_processor_while_others_work() -> None:
    share = """
        time.sleep(1)
        used = time.process_time()
        for _ in range(100):
            F.relu(x)
            time.sleep(0.005)
        print(time.process_time() - used, file=sys.stderr)
    """
    always = float(run("        fastnn.set_num_threads(2)" + share)[1])
    retired = float(run("        fastnn.set_num_threads(8); fastnn.set_num_threads(2)" + share)[1])
    assert retired < 3 * always + 0.1


def test_calls_at_the_very_end_of_the_process_are_right() -> None:
    code, errors, _ = run("""
        import atexit
        def last():
            weight = np.random.default_rng(0).standard_normal((700, 30)).astype(np.float32)
            y = np.random.default_rng(1).standard_normal((310, 700)).astype(np.float32)
            assert np.allclose(F.linear(y, weight), y @ weight, atol=1e-3)
            print("right", file=sys.stderr)
        atexit.register(last)  # before the pool's own handler, so called after it
        F.linear(x, x.T.copy())
    """)
    assert (code, errors) == (0, "right\n")


@pytest.mark.parametrize(("text", "n"), [("1", 1), ("5", 5)])
def test_environment_sets_the_number_of_threads(text: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_NUM_THREADS", text)
    assert threads._default_threads() == n


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "two", " ", "0x4", "²"])
def test_environment_that_is_no_number_of_threads_is_an_error_that_names_it(text: str) -> None:
    code, errors, _ = run("fastnn.get_num_threads()", FASTNN_NUM_THREADS=text)
    assert code == 1
    assert f"ValueError: FASTNN_NUM_THREADS must be a positive integer, got {text!r}" in errors

"""The thread pool of kernels/cpu/threads.py inside one process: each task once, the same bits for any number
of threads; and no harm done by Python threads, forks, interrupts or a busy machine.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest

import fastnn
from fastnn.kernels.cpu import _atomics, _memory, linear, threads
from fastnn.kernels.cpu._jit import inline
from tests import cases
from tests.operations import OPERATIONS, bits

Results = dict[str, list[bytes]]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = fastnn.get_num_threads()
    yield
    fastnn.set_num_threads(before)


@pytest.fixture(scope="module")
def serial() -> Results:
    """The results of one thread."""
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(1)
    results = {name: bits(call()) for name, call in OPERATIONS.items()}
    fastnn.set_num_threads(before)
    return results


@inline
def _count(t, counts):
    counts[t] += 1


@numba.njit(nogil=True)
def count_tasks(pool, counts):
    threads.parallel_for(pool, counts.size, _count, (counts,))


@inline
def _meet(t, arrived, count, met):
    _atomics.add(arrived, 0, 1)
    for _ in range(2_000_000):
        if _atomics.load(arrived, 0) == count:
            met[t] = True
            return
        _atomics.yield_core()


@numba.njit(nogil=True)
def meet(pool, arrived, met):
    threads.parallel_for(pool, met.size, _meet, (arrived, met.size, met))


def threads_that_meet(count: int) -> int:
    """How many of `count` tasks, each waiting for the others, met them: all, if so many threads work."""
    arrived, met = np.zeros(1, np.int64), np.zeros(count, np.bool_)
    meet(threads.pool(), arrived.ctypes.data, met)
    return int(met.sum())


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_each_task_runs_exactly_once(n: int) -> None:
    fastnn.set_num_threads(n)
    for count in (0, 1, 2, 3, 7, 64, 1000):
        counts = np.zeros(count, np.int64)
        for _ in range(200):
            count_tasks(threads.pool(), counts)
        np.testing.assert_array_equal(counts, 200)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_as_many_threads_work_as_were_asked_for(n: int) -> None:
    fastnn.set_num_threads(n)
    assert threads_that_meet(n) == n


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_results_are_the_same_bits_for_any_number_of_threads(n: int, serial: Results) -> None:
    fastnn.set_num_threads(n)
    for name, call in OPERATIONS.items():
        for _ in range(3):
            assert bits(call()) == serial[name], name


def test_python_threads_calling_at_once_get_the_serial_results(serial: Results) -> None:
    fastnn.set_num_threads(3)
    wrong: list[str] = []
    end = time.monotonic() + 2

    def work(seed: int) -> None:
        names = np.random.default_rng(seed).permutation(list(OPERATIONS)).tolist()
        try:
            while time.monotonic() < end:
                wrong.extend(name for name in names if bits(OPERATIONS[name]()) != serial[name])
        except Exception as error:
            wrong.append(repr(error))

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for caller in callers:
        caller.start()
    for _ in range(50):  # and all the while the number of threads changes
        fastnn.set_num_threads(int(np.random.default_rng().integers(1, 6)))
        time.sleep(0.02)
    for caller in callers:
        caller.join()
    assert not wrong


def test_number_of_threads_can_go_up_and_down_again_and_again(serial: Results) -> None:
    for n in [1, 4, 2, 6, 1, 3] * 5:
        fastnn.set_num_threads(n)
        assert fastnn.get_num_threads() == n
        assert threads_that_meet(n) == n
        assert bits(OPERATIONS["linear"]()) == serial["linear"]
    workers = [thread for thread in threading.enumerate() if thread.name == "fastnn-worker"]
    assert len(workers) <= 7  # the most that any test here asked for: none is left behind and started anew


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_thread_is_an_error(n: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fastnn.set_num_threads(n)


def test_interrupts_between_calls_leave_the_pool_usable(serial: Results) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    fastnn.set_num_threads(2)
    interrupts = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-3 + 1e-5 * i)
                while True:
                    for name in ("linear", "softmax", "relu", "conv2d"):
                        OPERATIONS[name]()
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts == 100
    assert threads_that_meet(2) == 2
    for name, call in OPERATIONS.items():
        assert bits(call()) == serial[name]


def seconds_of_calls(n: int) -> float:
    fastnn.set_num_threads(n)
    x, weight = cases.draw((64, 784)), cases.draw((784, 64))
    linear.linear(x, weight, None, None)
    begin = time.perf_counter()
    for _ in range(300):
        linear.linear(x, weight, None, None)
    return time.perf_counter() - begin


def test_two_threads_on_a_busy_machine_slow_down_in_proportion() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(0.2)
        assert min(seconds_of_calls(2) for _ in range(3)) < 10 * seconds_of_calls(1)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def status_of_fork(call: Callable[[], bool]) -> int:
    """How a forked child ends that makes `call`: 0 if it returned True, 14 (SIGALRM) if it never returned."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(10)
    try:
        os._exit(0 if call() else 1)
    finally:
        os._exit(2)


@forks
def test_forked_child_gets_right_results_and_parent_keeps_its_pool(serial: Results) -> None:
    fastnn.set_num_threads(2)
    for _ in range(3):
        OPERATIONS["linear"]()
        assert (
            status_of_fork(lambda: all(bits(call()) == serial[name] for name, call in OPERATIONS.items()))
            == 0
        )
        assert threads_that_meet(2) == 2


@forks
def test_child_forked_while_other_threads_are_in_calls_gets_right_results(
    serial: Results,
) -> None:
    fastnn.set_num_threads(2)
    stop = threading.Event()
    names = ("linear", "max_pool2d", "relu")

    def work() -> None:
        while not stop.is_set():
            for name in names:
                OPERATIONS[name]()

    callers = [threading.Thread(target=work) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(20):
            assert status_of_fork(lambda: all(bits(OPERATIONS[n]()) == serial[n] for n in names)) == 0
    finally:
        stop.set()
        for caller in callers:
            caller.join()


@forks
def test_child_forked_while_another_thread_takes_memory_gets_right_results(
    serial: Results,
) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with _memory._guard:  # as a thread does that is inside `empty` at the moment of the fork
            held.set()
            release.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    threading.Timer(0.2, release.set).start()  # a fork may wait for the memory to be let go
    assert status_of_fork(lambda: bits(OPERATIONS["relu"]()) == serial["relu"]) == 0
    holder.join()


def call_in_child(name: str) -> list[bytes]:
    return bits(OPERATIONS[name]())


@pytest.mark.parametrize(
    "method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]
)
def test_multiprocessing_workers_get_the_same_results(method: str, serial: Results) -> None:
    names = list(OPERATIONS)
    with multiprocessing.get_context(method).Pool(2) as workers:
        results = workers.map_async(call_in_child, names).get(timeout=60)
    assert dict(zip(names, results, strict=True)) == serial

"""The desks of kernels/cpu/_desks.py: one task at each, none kept, and no task without one."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import pytest

import fastnn
from fastnn.kernels.cpu import _atomics, threads
from fastnn.kernels.cpu._desks import desks, leave, sit_down
from fastnn.kernels.cpu._jit import inline


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = fastnn.get_num_threads()
    yield
    fastnn.set_num_threads(before)


@inline
def _work(t, free, papers, done, disturbed):
    desk = sit_down(free)
    papers[desk] = t
    for _ in range(20):
        _atomics.yield_core()
        if papers[desk] != t:
            disturbed[t] = True
    leave(free, desk)
    done[t] += 1


@numba.njit(nogil=True)
def work(pool, free, papers, done, disturbed):
    threads.parallel_for(pool, done.size, _work, (free, papers, done, disturbed))


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("fewer", [0, 1, 7])
def test_each_task_has_a_desk_to_itself_and_leaves_it(n: int, fewer: int) -> None:
    """Also where the number of threads has risen since the desks were counted: then tasks wait."""
    fastnn.set_num_threads(max(n - fewer, 1))
    free = desks(100)
    assert len(free) == max(n - fewer, 1)
    fastnn.set_num_threads(n)
    papers, done = np.zeros(len(free), np.int64), np.zeros(100, np.int64)
    disturbed = np.zeros(100, np.bool_)
    for _ in range(20):
        work(threads.pool(), free, papers, done, disturbed)
        assert not free.any()
    np.testing.assert_array_equal(done, 20)
    assert not disturbed.any()


def test_there_are_no_more_desks_than_tasks() -> None:
    fastnn.set_num_threads(4)
    assert [len(desks(tasks)) for tasks in (1, 3, 4, 9)] == [1, 3, 4, 4]


def test_desks_lie_on_cache_lines_of_their_own() -> None:
    fastnn.set_num_threads(3)
    assert desks(3).strides[0] >= 64

"""Scratch memory for the tasks of a kernel: a desk for each thread, not one for each task.

A task sits down at a desk that is free and leaves it when it is done, so that the next task of a thread finds
its scratch in the thread's cache. Were there one for each task, each would begin in memory that the caches
have long let go of, and would push out what is still needed.
"""

from __future__ import annotations

import numpy as np

from ._atomics import APART, store, take, yield_core
from ._jit import inline
from .threads import get_num_threads


def desks(tasks):
    """A word for each desk that so many tasks can sit at, on a cache line of its own: 0 while it is free."""
    return np.zeros((min(tasks, get_num_threads()), APART), np.int64)


@inline
def sit_down(free):
    """The number of a desk that was free. There is one for each thread, unless these have become more since
    the desks were counted: then whoever sits at one is at work, and will leave it."""
    while True:
        for desk in range(len(free)):
            if take(free.ctypes.data, desk * APART):
                return desk
        yield_core()


@inline
def leave(free, desk):
    store(free.ctypes.data, desk * APART, 0)

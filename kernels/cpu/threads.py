"""The threads that kernels share: `parallel_for` inside a kernel, and the pool behind it.

A kernel cuts its work into tasks by the *shape* alone and calls ``parallel_for(pool, n, block, args)``,
which runs ``block(t, *args)`` once for each task t < n. Which thread runs which task is open, what a task
computes is not: results do not depend on the number of threads.

Why a pool of our own and not ``prange``: with a pool, kernels are plain functions (a ``parallel=True``
function takes a second or more to compile); a launch costs a few atomic operations under every threading
layer (workqueue: over 100 µs); tasks are claimed one by one, so a core taken away by another process delays
one task and not the whole call; and a forked child or a second Python thread finds the pool busy or empty
and simply works alone (GNU OpenMP aborts a forked child).

Each thread first runs its own contiguous share of the tasks, then what is left of the others'. So a core
meets again, in the next kernel, the part of an array that it has in its cache: with tasks handed out in the
order of asking, half the weights would travel from core to core between gradient, update and forward.

The workers are Python threads inside a function that has released the GIL. They wait for a job by spinning
for a short while (the gap between two kernels of a training step), then by yielding the core, then asleep
in the kernel on a futex.

The pool's state is one block of 64-bit words, each on a cache line of its own, in memory that is never
freed, since workers may look at it until the process ends. A launch: the caller takes LOCK (or works
alone), writes FUNCTION, ARGS, COUNT and PARTS, sets the shares' NEXT counters, then OPEN. A worker adds
itself to INSIDE *before* it looks at OPEN; the caller clears OPEN *before* it waits for INSIDE to be zero.
Both orders are sequentially consistent, so no worker can touch a job after its caller has left.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import threading
import time

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _cpus
from ._atomics import APART, add, load, pause, ring, sleep_on, store, take, yield_core
from ._jit import inline, jit

LOCK, OPEN, FUNCTION, ARGS, COUNT, PARTS, INSIDE, LIMIT, SLEEPERS, BELL, STOP, ALIVE, RECALL = (
    APART * i for i in range(13)
)
NEXT = APART * 13  # and on: a counter for each share
MOST_THREADS = 256

_SPINS = 400  # of ~0.05-0.1 µs: the gap between two kernels of one step
_YIELDS = 2000  # of ~0.3-1 µs: the gap between two steps
_i64 = ir.IntType(64)


@intrinsic
def _run(typingctx, function, task, arguments):
    """Call the function at that address, which :func:`_task_function` made."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_i64, _i64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@inline
def _help(pool, me, function, arguments):
    """Run this thread's share of the tasks, then what is left of the others'."""
    count, parts = load(pool, COUNT), load(pool, PARTS)
    for turn in range(parts):
        share = (me + turn) % parts
        end = (share + 1) * count // parts
        task = add(pool, NEXT + APART * share, 1)
        while task < end:
            _run(function, task, arguments)
            task = add(pool, NEXT + APART * share, 1)


@jit
def _work(pool, me):
    """A worker's life: wait for a job with a share for it, help with that job, repeat until STOP."""
    idle = 0
    add(pool, ALIVE, 1)
    while load(pool, STOP) == 0:
        recall = load(pool, RECALL)
        if me >= load(pool, LIMIT):  # one thread too many, until the limit rises
            sleep_on(pool, RECALL, recall)
            continue
        if load(pool, OPEN) != 0 and me < load(pool, PARTS):
            add(pool, INSIDE, 1)
            if load(pool, OPEN) != 0 and me < load(pool, PARTS):
                _help(pool, me, load(pool, FUNCTION), load(pool, ARGS))
            add(pool, INSIDE, -1)
            idle = 0
        idle += 1
        if idle < _SPINS:
            pause()
        elif idle < _SPINS + _YIELDS:
            yield_core()
        else:
            bell = load(pool, BELL)
            add(pool, SLEEPERS, 1)
            # whoever opens a job after this look sees the sleeper and rings; the futex refuses to sleep past
            # a rung bell
            if (load(pool, OPEN) == 0 or me >= load(pool, PARTS)) and load(pool, STOP) == 0:
                sleep_on(pool, BELL, bell)
            add(pool, SLEEPERS, -1)
            idle = 0


@inline
def _launch(pool, function, count, arguments):
    parts = load(pool, LIMIT)  # once: it may change meanwhile
    if count > 1 and parts > 1 and take(pool, LOCK):
        store(pool, FUNCTION, function)
        store(pool, ARGS, arguments)
        store(pool, COUNT, count)
        store(pool, PARTS, parts)
        for share in range(parts):
            store(pool, NEXT + APART * share, share * count // parts)
        store(pool, OPEN, 1)
        if load(pool, SLEEPERS) > 0:
            add(pool, BELL, 1)
            ring(pool, BELL)
        _help(pool, 0, function, arguments)
        store(pool, OPEN, 0)
        waited = 0
        while load(pool, INSIDE) != 0:
            waited += 1
            if waited < _SPINS:
                pause()
            else:  # more runnable threads than cores: the worker that holds the last task needs this one
                yield_core()
        store(pool, LOCK, 0)
    else:
        for task in range(count):
            _run(function, task, arguments)


def _unowned(builder, kind, value):
    """`value`, of Numba type `kind`, with no array in it owning its memory.

    The caller of a kernel keeps all arrays alive. Did a task's own hold references too, Numba would count
    them, atomically, at every slice: two cores that read one array would then fight over its counter.
    """
    if isinstance(kind, types.Array):
        nobody = ir.Constant(value.type.elements[0], None)
        return builder.insert_value(value, nobody, 0)
    if isinstance(kind, types.BaseTuple):
        for i, inner in enumerate(kind.types):
            value = builder.insert_value(value, _unowned(builder, inner, builder.extract_value(value, i)), i)
    return value


@intrinsic
def _task_function(typingctx, block, arguments):
    """The address of a C function (task, address of the tuple `arguments`) that calls ``block(task,
    *arguments)``."""
    signature = block.get_call_type(typingctx, (types.int64, *arguments.types), {})

    def codegen(context, builder, sig, args):
        compiled = block.dispatcher.get_compile_result(signature)
        context.active_code_library.add_linking_library(compiled.library)
        module = builder.module
        kind = ir.FunctionType(ir.VoidType(), [_i64, _i64])
        function = ir.Function(module, kind, module.get_unique_name("task"))
        function.linkage = "internal"
        inner = ir.IRBuilder(function.append_basic_block())
        tuple_type = context.get_data_type(arguments)
        packed = inner.load(inner.inttoptr(function.args[1], tuple_type.as_pointer()))
        values = [
            _unowned(inner, t, context.data_model_manager[t].from_data(inner, inner.extract_value(packed, i)))
            for i, t in enumerate(arguments.types)
        ]
        # A block cannot raise (nothing in this room does, and error_model="numpy" has no arithmetic
        # errors): the status is dropped.
        context.call_internal_no_propagate(inner, compiled.fndesc, signature, [function.args[0], *values])
        inner.ret_void()
        return builder.ptrtoint(function, _i64)

    return types.int64(block, arguments), codegen


@intrinsic
def _spill(typingctx, arguments):
    """Put the tuple `arguments` on the stack of the calling kernel; its address."""

    def codegen(context, builder, sig, args):
        model = context.data_model_manager[arguments]
        slot = cgutils.alloca_once(builder, model.get_data_type())
        builder.store(model.as_data(builder, args[0]), slot)
        return builder.ptrtoint(slot, _i64)

    return types.int64(arguments), codegen


@numba.njit(inline="always")
def parallel_for(pool, count, block, arguments):
    """Run ``block(t, *arguments)`` for every t in ``range(count)``, on the pool's threads and this one.

    `block` returns nothing, raises nothing, and writes nothing that another task reads or writes. (Inlined
    by Numba itself: were `block` passed as a value, its kernel would hold an address of this process and
    could not be cached.)
    """
    _launch(pool, _task_function(block, arguments), count, _spill(arguments))


@inline
def share_out(pool, items, work, least, each=8):
    """How many tasks to cut `items` items with this much `work` into, for results that no cut changes.

    One where a second task would have less than `least` to do; else as many for each thread as leave it tasks
    to take over from a thread that fell behind, `each` at most, but no smaller than twenty times `least`.
    """
    threads = max(1, load(pool, LIMIT))  # 0 once the pool has stopped
    if work < 2 * least:
        return min(items, 1)
    return min(items, threads * max(1, min(each, int(work / (threads * 20 * least)))))


_ROW_BLOCKS = 8


def row_blocks(images: int, rows: int) -> int:
    """Into how many parts to cut an image of so many `rows`: one, unless images are too few to share out."""
    return 1 if images >= _ROW_BLOCKS else min(rows, _ROW_BLOCKS)


class _Pool:
    """The state and the workers of this process; `address` is what kernels take."""

    def __init__(self, threads: int) -> None:
        memory = mmap.mmap(-1, 8 * (NEXT + APART * MOST_THREADS))
        # Never freed: a worker may read it while the process ends
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
        self.words = np.frombuffer(memory, np.int64)
        self.address = self.words.ctypes.data
        self.threads = threads
        self.workers: list[threading.Thread] = []
        self._guard = threading.Lock()
        self.resize(threads)

    def resize(self, threads: int) -> None:
        with self._guard:
            self.threads = threads
            work = _work.compiled
            work.compile((types.int64, types.int64))  # here, not in each worker under Numba's lock
            while len(self.workers) < threads - 1:
                arguments = (self.address, len(self.workers) + 1)
                worker = threading.Thread(
                    target=_work.compiled, args=arguments, name="fastnn-worker", daemon=True
                )
                worker.start()
                self.workers.append(worker)
            while self.words[ALIVE] < len(self.workers):
                # A process forked before they are all at work could find a lock held that nobody will release
                time.sleep(1e-5)
            self.words[LIMIT] = threads
            self.words[RECALL] += 1
            _wake.compiled(self.address)

    def stop(self) -> None:
        self.words[LIMIT] = 0
        self.words[STOP] = 1
        self.words[BELL] += 1
        self.words[RECALL] += 1
        _wake.compiled(self.address)
        for worker in self.workers:
            worker.join(timeout=1.0)


@jit
def _wake(pool):
    ring(pool, BELL)
    ring(pool, RECALL)


def _default_threads() -> int:
    """FASTNN_NUM_THREADS, else the CPUs that affinity and the cgroup's quota leave to this process."""
    text = os.environ.get("FASTNN_NUM_THREADS", "")
    if text:
        if not (text.isascii() and text.isdigit()) or int(text) < 1:
            raise ValueError(f"FASTNN_NUM_THREADS must be a positive integer, got {text!r}")
        return min(int(text), MOST_THREADS)
    return min(_cpus.available(), MOST_THREADS)


_pool: _Pool | None = None
_threads: int | None = None  # what was asked for; outlives a fork
_creating = threading.Lock()


def pool() -> int:
    """The address of the pool's state, with its workers running: what a kernel passes to `parallel_for`."""
    return _pool.address if _pool is not None else _create().address


def _create() -> _Pool:
    global _pool
    with _creating:
        if _pool is None:
            _pool = _Pool(_threads or _default_threads())
        return _pool


def set_num_threads(n: int) -> None:
    """Let `n` threads at most, the caller's included, work on one kernel call; no more than
    `MOST_THREADS`."""
    global _threads
    _threads = min(n, MOST_THREADS)
    _create().resize(_threads)


def get_num_threads() -> int:
    """How many threads at most work on one kernel call."""
    return _create().threads


def _stop() -> None:
    if _pool is not None:
        _pool.stop()


def _after_fork() -> None:
    """In a child no worker lives, and the parent's pool may have been in mid-job: the first call makes a
    new one."""
    global _pool, _creating
    _pool, _creating = None, threading.Lock()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
